"""The list of commands, and what is said to somebody who names none of them."""

from __future__ import annotations

import difflib
import os
import re
import sys
from typing import Any

from restorecli.commands.help import Group
from restorecli.commands.settings import Defaults
from restorecli.errors import OutputError, UsageError

PICTURE = re.compile(
    r"\.(png|jpe?g|jpe|jfif|webp|tiff?|avif|bmp|heic|heif|hif|gif|jxl|p[bgp]m)$", re.IGNORECASE
)
TASK_OF_WORD = {
    "rain": "derain", "snow": "desnow", "haze": "dehaze", "fog": "dehaze", "noise": "denoise",
    "grain": "denoise", "dark": "lowlight", "bright": "lowlight", "light": "lowlight",
    "night": "lowlight", "motion": "deblur", "blur": "deblur", "sharp": "deblur", "shak": "deblur",
    "focus": "defocus", "score": "metrics", "psnr": "metrics", "ssim": "metrics",
    "download": "models download", "import": "models import", "list": "models list",
    "wrong": "check", "fault": "check", "diagnos": "check", "fix": "auto", "mend": "auto",
    "version": "--version",
}  # fmt: skip
COMPLETION = ("--install-completion", "--show-completion")
SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
ALIKE = 0.75  # of the letters of a command that is meant; less would mislead


class Commands(Group):
    """Commands by name; ``restore help derain`` is ``restore derain --help``."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """A context whose defaults are those of variables and of the file of settings."""
        extra.setdefault("default_map", Defaults.below(self))
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer's; a completion that cannot be shown or installed is one sentence."""
        wanted = next((word for word in args[:1] if word in COMPLETION), None)
        if wanted is None or ctx.resilient_parsing:
            return list(super().parse_args(ctx, args))
        import shellingham

        try:
            shell = shellingham.detect_shell()[0]
        except shellingham.ShellDetectionFailure:
            shell = "unknown"
        if shell not in SHELLS:
            raise UsageError(
                f"{wanted} does not know this shell ({shell}).",
                hint=f"Call it from {', '.join(SHELLS)}.",
            )
        try:
            return list(super().parse_args(ctx, args))
        except (OSError, RuntimeError) as error:  # the latter: no home folder
            reason = getattr(error, "strerror", None) or error
            raise OutputError(
                f"Cannot install completion: {reason}.",
                hint="`restore --show-completion` prints it.",
            ) from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` begins with; raises ``UsageError`` where there is none."""
        name = args[0]
        if ctx.resilient_parsing:  # a shell completes: `help` is followed by a command
            return (name, self, args[1:]) if name == "help" else super().resolve_command(ctx, args)
        if self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        if name == "help":
            if not args[1:]:
                sys.stdout.write(ctx.get_help() + "\n")
                ctx.exit()
            return self.resolve_command(ctx, [*args[1:], "--help"])
        if os.path.lexists(name) or PICTURE.search(name) or "://" in name:
            raise UsageError(
                f"No task is named: what is to be done with {name}?",
                hint=f"For example: restore derain {name} (rain; also desnow, dehaze, denoise, "
                f"lowlight, deblur, defocus). `restore check {name}` says which fits.",
            )
        raise UsageError(f"There is no command {name!r}.", hint=self._meant(ctx, name))

    def _meant(self, ctx: Any, name: str) -> str:
        known = self.list_commands(ctx)
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=ALIKE)
        found = near or [task for word, task in TASK_OF_WORD.items() if word in name.lower()]
        hint = f"Did you mean `restore {found[0]}`? " if found else ""
        return f"{hint}`restore --help` shows all."
