"""``-v`` and ``--log``: they hold from the moment they are read to the end of the command."""

from __future__ import annotations

import platform
import shlex
import sys
from pathlib import Path

import typer

from restorecli import __version__


def be_verbose(context: typer.Context, wanted: bool) -> bool:
    """Show reasons on stderr, unless they were set in advance and quiet is typed."""
    sources = [context.get_parameter_source(name) for name in ("verbose", "quiet")]
    if [source and source.name for source in sources] == ["DEFAULT_MAP", "COMMANDLINE"]:
        return False
    if wanted and not context.resilient_parsing:
        from restorecli import console
        from restorecli.machine import log

        log.say_why(console.show_why)
    return wanted


def keep(context: typer.Context, path: Path | None) -> Path | None:
    """Keep all that is said in a file, which begins with the call."""
    if path is not None and not context.resilient_parsing:
        from restorecli.files.addresses import redacted
        from restorecli.machine import log

        log.keep_in(path)
        log.told(f"restore {__version__}, Python {platform.python_version()}, {sys.platform}")
        log.told(f"$ restore {redacted(shlex.join(sys.argv[1:]))}")
    return path


def stop() -> None:
    """Close the file, if there is one."""
    if "restorecli.machine.log" in sys.modules:
        from restorecli.machine import log

        log.stop()
