"""What one picture of a run is: where it comes from, where its result goes, what will be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from restorecli.errors import RestoreError
from restorecli.images.finding import Found, Picture, relative_to

STDIN = Path("<stdin>")
# ``new``: a result is written where none may be; ``replace``: what is there may be replaced;
# ``keep``: a result is there, and nothing is done; an error: nothing can be done.
Fate = Literal["new", "replace", "keep"] | RestoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One picture to restore."""

    source: Path
    target: Path
    folder: Path | None = None  # that was named, and in which the picture was found
    root: Path | None = None  # folder whose manifest knows the result
    data: bytes | None = None  # of a picture that came through standard input
    to_stdout: bool = False
    fate: Fate = "new"

    @property
    def error(self) -> RestoreError | None:
        """Why nothing can be done, if that is known already."""
        return self.fate if isinstance(self.fate, RestoreError) else None

    @property
    def finished(self) -> bool:
        """The target is there and is to be kept."""
        return self.fate == "keep"

    @property
    def replaces(self) -> bool:
        """The target may be there, and may be replaced."""
        return self.fate == "replace"

    @property
    def in_place(self) -> bool:
        """The result takes the place of the input."""
        return self.source == self.target

    @property
    def relative(self) -> PurePosixPath:
        """The way to the picture from the folder that was named, or its name."""
        return relative_to(self.source, self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All items of a run, in natural order within each folder."""

    items: Sequence[Item]
    ignored: int = 0  # files in folders that are not pictures
    left_out: int = 0  # files in folders that an earlier run of this task made

    def found(self) -> Found:
        """The inputs that can be restored, as those are found that are scored or compared."""
        usable = [item for item in self.items if item.error is None]
        return Found(
            pictures=tuple(Picture(path=i.source, relative=i.relative) for i in usable),
            ignored=self.ignored,
            from_folder=any(item.folder for item in usable),
        )
