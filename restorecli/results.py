"""What a run did, as data: one result for each input, and a summary that decides the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from restorecli.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_SOME_FAILED, InputError, RestoreError

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """One input: what became of it, and how."""

    input: Path
    output: Path | None
    status: Status
    error: RestoreError | None = None
    size: tuple[int, int] | None = None  # (height, width) in pixels
    exact: bool | None = None  # restored whole, not in tiles
    tile_px: int | None = None
    elapsed_s: float = 0.0
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "input": str(self.input),
            "output": str(self.output) if self.output else None,
            "status": self.status,
            "error": self.error.message if self.error else None,
            "hint": (self.error.hint or None) if self.error else None,
            "height": self.size[0] if self.size else None,
            "width": self.size[1] if self.size else None,
            "exact": self.exact,
            "tile_px": self.tile_px,
            "elapsed_s": round(self.elapsed_s, 4),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A whole run."""

    task: str
    model: str
    model_sha256: str
    device: str
    precision: str
    results: Sequence[FileResult]
    ignored: int = 0  # files in folders that are not pictures
    interrupted: bool = False
    elapsed_s: float = 0.0

    def count(self, status: Status) -> int:
        """How many inputs ended so."""
        return sum(result.status == status for result in self.results)

    @property
    def exit_code(self) -> int:
        """0 all done; 1 some failed; if nothing was done, the failures' own code."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        errors = [result.error for result in self.results if result.error]
        if not errors:
            return EXIT_OK if self.results else InputError.exit_code
        codes = {error.exit_code for error in errors}
        if len(errors) == len(self.results) and len(codes) == 1:
            return codes.pop()
        return EXIT_SOME_FAILED

    def as_json(self) -> dict[str, Any]:
        """Plain data for the last line of ``--json``."""
        return {
            "summary": {
                "task": self.task,
                "model": self.model,
                "model_sha256": self.model_sha256,
                "device": self.device,
                "precision": self.precision,
                "done": self.count("done"),
                "skipped": self.count("skipped"),
                "failed": self.count("failed"),
                "ignored": self.ignored,
                "interrupted": self.interrupted,
                "elapsed_s": round(self.elapsed_s, 4),
                "exit_code": self.exit_code,
            }
        }
