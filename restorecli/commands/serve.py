"""``restore serve``: a page on this machine to try the tool with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restorecli.commands import options as of
from restorecli.commands.asking import asks
from restorecli.commands.help import TOLD, WHAT, guided
from restorecli.commands.parsing import parse_memory
from restorecli.errors import EXIT_INTERRUPTED, EXIT_OK, UsageError

if TYPE_CHECKING:
    from restorecli.serve.settings import Settings

LIBRARIES = ("starlette", "uvicorn")

Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        rich_help_panel=WHAT,
        help="Write results into DIR. Default: a folder of your own, which is named.",
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        min=1,
        max=65535,
        metavar="N",
        rich_help_panel=WHAT,
        help="Listen at this port. Default: 8770, or another one if that is taken.",
    ),
]
Open = Annotated[
    bool | None,
    typer.Option(
        "--open/--no-open",
        rich_help_panel=WHAT,
        help="Open the page in the browser. Default: if somebody sits at this machine.",
    ),
]
Host = Annotated[
    str,
    typer.Option("--host", metavar="ADDRESS", rich_help_panel=WHAT, help="Listen at this address."),
]
Expose = Annotated[
    bool,
    typer.Option(
        "--expose",
        rich_help_panel=WHAT,
        help="Let --host be an address that other machines reach. Nothing is encrypted then.",
    ),
]
MaxSize = Annotated[
    str,
    typer.Option(
        "--max-size", metavar="SIZE", rich_help_panel=WHAT, help="Refuse files that are larger."
    ),
]
MaxFiles = Annotated[
    int,
    typer.Option(
        "--max-files",
        min=1,
        metavar="N",
        rich_help_panel=WHAT,
        help="Take at most N photographs at one time.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", rich_help_panel=TOLD, help="Print the address alone.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call of the command, as it was typed."""

    output: Output = None
    port: Port = None
    open_page: Open = None
    host: Host = "127.0.0.1"
    expose: Expose = False
    max_size: MaxSize = "250MB"
    max_pixels: of.MaxPixels = 150_000_000
    max_files: MaxFiles = 200
    metadata: of.Metadata = "keep"
    device: of.Device = "auto"
    max_memory: of.MaxMemory = None
    threads: of.Threads = None
    quiet: Quiet = False
    verbose: of.Verbose = False
    log: of.Log = None


@guided(
    ("restore serve", "Opens a page to drop photographs on; Ctrl-C ends it."),
    ("restore serve -o ~/Pictures/restored", "Writes results into a folder of your choice."),
    ("restore serve --no-open --port 9000", "Prints the address only, at a port of your choice."),
    codes=(0, 2, 130),
)
@asks(Asked)
def serve(**options: Any) -> None:
    """Open a page to drop photographs on; nothing leaves this machine."""
    refuse_without_libraries()
    asked = Asked(**options)
    settings = settings_of(asked)

    from restorecli import console
    from restorecli.machine.browser import somebody_sits_here
    from restorecli.serve.server import serve as answer

    tell_before(settings, quiet=asked.quiet)
    opens = somebody_sits_here() if asked.open_page is None else asked.open_page
    cut_off = answer(settings, opens=opens, tell=console.show_line)
    if not asked.quiet:
        left = f" {cut_off} had not been finished." if cut_off else ""
        console.show_note(f"Ended. Results are in {settings.folder}.{left}")
    raise typer.Exit(EXIT_INTERRUPTED if cut_off else EXIT_OK)


def refuse_without_libraries() -> None:
    """Raise ``UsageError`` if what a server needs is not installed."""
    from importlib.util import find_spec

    from restorecli.machine.extras import install_hint

    if missing := [name for name in LIBRARIES if find_spec(name) is None]:
        raise UsageError(f"The page needs {' and '.join(missing)}.", hint=install_hint("serve"))


def settings_of(asked: Asked) -> Settings:
    """All that was asked for, checked; raises a ``RestoreError``."""
    size_bytes = parse_memory(asked.max_size, name="--max-size")
    max_bytes = parse_memory(asked.max_memory)

    from restorecli.images import FileOptions
    from restorecli.serve.addresses import check_host
    from restorecli.serve.folders import results_folder
    from restorecli.serve.settings import Limits, Settings

    assert size_bytes is not None
    limits = Limits(file_bytes=size_bytes, pixels=asked.max_pixels, photos=asked.max_files)
    return Settings(
        host=check_host(asked.host, exposed=asked.expose),
        folder=results_folder(asked.output),
        port=asked.port,
        limits=limits,
        files=FileOptions(metadata=asked.metadata),
        device=asked.device,
        max_bytes=max_bytes,
        threads=asked.threads,
    )


def tell_before(settings: Settings, *, quiet: bool) -> None:
    """What a person ought to know before the page answers."""
    from restorecli import console

    if not settings.is_private:
        console.show_note(
            f"Warning: other machines can reach {settings.host}. Whoever has the page's address "
            "sees every photograph on it, and nothing is encrypted."
        )
    if not quiet:
        console.show_note(f"Results go to {settings.folder}. Ctrl-C ends it.")
