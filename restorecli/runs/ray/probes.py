"""Before work starts: does a worker see the files that the driver sees, and may it write?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from restorecli.errors import InputError, OutputError
from restorecli.files.atomic import partial_name
from restorecli.runs.items import Item

MOST_FOLDERS = 32  # of inputs and of results: the first ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Files that the driver sees; a worker that does not see them has another file system."""

    inputs: Sequence[Path]
    written: Sequence[Path]  # by the driver, one in each folder of results
    created: Sequence[Path]  # folders of results that were not there

    @classmethod
    def write(cls, items: Iterable[Item]) -> Probes:
        """Choose inputs of different folders, and write a file into each folder of results."""
        inputs: dict[Path, Path] = {}
        folders: dict[Path, None] = {}
        for item in items:
            inputs.setdefault(item.source.parent, item.source)
            folders.setdefault(item.root or item.target.parent)
            if min(len(inputs), len(folders)) >= MOST_FOLDERS:
                break
        written, created = [], []
        for folder in list(folders)[:MOST_FOLDERS]:
            path = folder / partial_name()
            try:
                if not folder.is_dir():
                    folder.mkdir(parents=True)
                    created.append(folder)
                path.write_bytes(b"")
            except OSError as error:
                raise OutputError(
                    f"Cannot write {folder}: {error.strerror or error}.",
                    hint="Choose another place with -o.",
                ) from error
            written.append(path)
        return cls(inputs=list(inputs.values())[:MOST_FOLDERS], written=written, created=created)

    def check(self, node: str) -> None:
        """Raise ``OutputError`` or ``InputError`` for what ``node``, where we are, cannot do."""
        for path in self.written:
            if not path.exists():
                raise OutputError(
                    f"The worker on {node} does not see the folder {path.parent} that is here.",
                    hint="Choose an -o on a file system that all nodes share, or in a bucket.",
                )
            own = path.with_name(partial_name())
            try:
                own.write_bytes(b"")
                own.unlink()
            except OSError as error:
                raise OutputError(
                    f"The worker on {node} cannot write {path.parent}: {error.strerror or error}.",
                    hint="Let its user write there, or choose another place with -o.",
                ) from error
        for path in self.inputs:
            if not path.exists():
                raise InputError(
                    f"The worker on {node} does not see {path}, which is here.",
                    hint="Give paths on a file system that all nodes share, or in a bucket.",
                )

    def remove(self) -> None:
        """Remove what was written, and new folders in which nothing has been made."""
        for path in self.written:
            path.unlink(missing_ok=True)
        for folder in self.created:
            with suppress(OSError):
                folder.rmdir()
