"""Where each result goes, and what would be lost there."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import cast

from restorecli.errors import OutputError, UsageError
from restorecli.files.addresses import Address, is_remote, path_of
from restorecli.files.regular import is_directory
from restorecli.images import FORMAT_OF_SUFFIX, suffix_for
from restorecli.limits import STREAM
from restorecli.runs.items import Item
from restorecli.runs.preview import MARK, Preview

BESIDE, IN_FOLDER = "{stem}.{task}{suffix}", "{stem}{suffix}"
NAME_FIELDS = ("stem", "task", "model", "suffix")
FOREIGN_SUFFIXES = {  # of pictures, none of which a folder would be called
    ".arw", ".cr2", ".cr3", ".dng", ".eps", ".exr", ".gif", ".hdr", ".heic", ".heif", ".hif",
    ".icns", ".ico", ".j2k", ".jp2", ".jpf", ".jpx", ".jxl", ".nef", ".orf", ".pam", ".pbm",
    ".pdf", ".pfm", ".pgm", ".pnm", ".ppm", ".psd", ".raf", ".raw", ".rw2", ".svg", ".tga", ".wmf",
}  # fmt: skip
LONGEST_NAME_BYTES = 255  # on every common file system


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How results are named: ``-o``, ``--name``, ``--in-place``."""

    task: str
    output: str | None = None
    template: str | None = None
    model: str = ""
    in_place: bool = False
    format: str | None = None  # of every result, as in `images.formats.WRITABLE`
    preview: Preview | None = None  # instead of results

    def __post_init__(self) -> None:
        if self.in_place and (self.output or self.template):
            raise UsageError("--in-place goes with neither -o nor --name.")
        if self.in_place and self.preview:
            raise UsageError("--preview shows a detail and replaces nothing: not --in-place.")
        for _, name, spec, conversion in Formatter().parse(self.template or ""):
            if name is not None and (name not in NAME_FIELDS or spec or conversion):
                raise UsageError(
                    f"--name has an unknown field {{{name}}}.",
                    hint=f"Known: {', '.join(f'{{{known}}}' for known in NAME_FIELDS)}.",
                )
        if self.template is not None:
            self.name(Path("photo.png"), "PNG", self.template)  # path tricks end here
        self._refuse_other_format()
        self._refuse_foreign_ending()  # and an address that nothing can use

    def _refuse_foreign_ending(self) -> None:
        """A picture's ending that no result can have is no folder's name."""
        place = self.place
        if place is None or self._is_meant_as_folder or is_remote(place) or is_directory(place):
            return
        suffix = place.suffix.lower()
        if suffix in FOREIGN_SUFFIXES and suffix not in FORMAT_OF_SUFFIX:
            raise UsageError(
                f"-o {self.output}: results cannot be written as {suffix[1:].upper()}.",
                hint=f"Name a file that ends with one of {', '.join(sorted(FORMAT_OF_SUFFIX))}, or "
                "a folder with a slash behind it.",
            )

    @property
    def _is_meant_as_folder(self) -> bool:
        return bool(self.output) and str(self.output).endswith(("/", os.sep))

    def _refuse_other_format(self) -> None:
        """``--format`` goes neither with another ending nor with a name that has to stay."""
        if self.format is None:
            return
        if self.in_place:
            raise UsageError(
                "--in-place keeps the format of each picture; it goes without --format."
            )
        name = self.name(Path("photo.png"), None, BESIDE)
        if self.names_a_file and self.place is not None:
            name = self.place.name
        if FORMAT_OF_SUFFIX.get(Path(name).suffix.lower()) != self.format:
            raise UsageError(
                f"--format {self.format.lower()} contradicts the ending of {name}.",
                hint="Leave out one of them.",
            )

    def suffix(self, path: Path, kind: str | None) -> str:
        """The ending of the result of ``path``, in which there is a picture of ``kind``."""
        if self.preview and not self.format:
            return ".png"
        return suffix_for(path.suffix, self.format or kind)

    @property
    def mark(self) -> str:
        """What names of results say of how they were made: the task, or that of a preview."""
        return f"{self.task}.{MARK}" if self.preview else self.task

    @property
    def to_stdout(self) -> bool:
        """``-o -``: the result is written to standard output."""
        return self.output == STREAM

    @cached_property
    def place(self) -> Path | None:
        """What ``-o`` names, unless it is standard output: a folder, or a file."""
        return path_of(self.output) if self.output and not self.to_stdout else None

    @cached_property
    def names_a_file(self) -> bool:
        """``-o`` has a picture's ending, and no folder has that name."""
        if self.place is None or self._is_meant_as_folder:
            return False
        return self.place.suffix.lower() in FORMAT_OF_SUFFIX and not is_directory(self.place)

    @property
    def folder(self) -> Path | None:
        """The folder that ``-o`` names."""
        return None if self.names_a_file else self.place

    def name(self, path: Path, kind: str | None, default: str) -> str:
        """File name of the result of ``path``; ``UsageError`` if it would leave its folder."""
        suffix = self.suffix(path, kind)
        fields = {"stem": path.stem, "suffix": suffix, "task": self.mark, "model": self.model}
        name = (self.template or default).format_map(fields)
        if name in {"", ".", ".."} or any(c in name for c in "/\\\0"):
            if "\\" in path.name:
                raise OutputError(
                    f"Cannot restore {path}: its name has a backslash, which parts folders on "
                    "other systems.",
                    hint="Rename it, or give it alone with -o FILE.",
                )
            raise UsageError(
                f"--name would call a result {name!r}, which is no plain file name.",
                hint="Choose the folder with -o.",
            )
        return name

    def of_file(self, path: Path, kind: str | None) -> Path:
        """Where the result of a file goes that was named: ``photo.<task>.png``, or by ``-o``.

        ``kind`` is the format of the picture, which matters where its suffix cannot stay.
        """
        if self.place is None:
            return path.with_name(self.name(path, kind, BESIDE))
        if self.names_a_file:
            return self.place
        return self.place / self.name(path, kind, IN_FOLDER)

    def of_stream(self, kind: str | None) -> Path:
        """Where the result of standard input goes: to the file of ``-o``, or to stdout."""
        if self.in_place or (self.place is not None and not self.names_a_file):
            raise UsageError(
                "A picture from standard input has no name for its result.",
                hint="Give -o FILE, or nothing for standard output.",
            )
        return self.place or Path(f"<stdout>{self.suffix(Path(), kind)}")

    def of_folder(self, folder: Path) -> Path:
        """Where the tree of results of ``folder`` begins: ``photos.<task>/``, or by ``-o``."""
        if self.in_place:
            return folder
        if self.place is not None:
            return self.place
        if is_remote(folder) and len(folder.parts) == 2:
            raise UsageError(
                f"{folder} is a whole bucket: no folder is beside it.", hint="Give -o."
            )
        return _beside(folder, self.mark)


def _beside(folder: Path, task: str) -> Path:
    """The folder of results beside ``folder``; raises ``UsageError`` where nothing is beside it."""
    if folder.name not in {"", ".."}:
        return folder.with_name(f"{folder.resolve().name}.{task}")
    whole = folder.resolve()  # of . and .., which say nothing of their own name
    if not whole.name:
        raise UsageError(f"{folder} is a whole drive: no folder is beside it.", hint="Give -o.")
    place = whole.with_name(f"{whole.name}.{task}")
    return place if folder.is_absolute() else Path(os.path.relpath(place))


def in_place_error(path: Path, kind: str | None) -> OutputError | None:
    """Why ``path`` cannot be replaced by its result: the format has to stay what it is."""
    if kind == "MPO":
        return OutputError(
            f"Cannot restore {path} in place: the further pictures in it would be lost.",
            hint="Choose a new name with -o.",
        )
    if FORMAT_OF_SUFFIX.get(path.suffix.lower()) == kind:
        return None
    return OutputError(
        f"Cannot restore {path} in place: it is {kind}, which its name does not say "
        "or which cannot be written.",
        hint="Choose a new name with -o.",
    )


def too_long(target: Path) -> OutputError | None:
    """A result whose name no file system takes fails before it costs any work."""
    size_bytes = len(os.fsencode(target.name))
    if size_bytes <= LONGEST_NAME_BYTES:
        return None
    return OutputError(
        f"Cannot write {target}: the name has {size_bytes} bytes, at most "
        f"{LONGEST_NAME_BYTES} are possible.",
        hint="Keep the names with -o FOLDER, or shorten them with --name.",
    )


def refuse_existing(targets: Sequence[Path], *, resuming: bool = False) -> None:
    """Raise ``OutputError`` if there is anything in ``targets``."""
    if targets:
        more = f" and {len(targets) - 1} more" if len(targets) > 1 else ""
        resume = "" if resuming else "--resume to go on where an earlier run ended, "
        raise OutputError(
            f"{targets[0]}{more} would be overwritten"
            f"{': no earlier run says that it is finished' if resuming else ''}.",
            hint=f"Give --overwrite to replace, --skip-existing to keep, {resume}or another -o.",
        )


def told_apart(items: Sequence[Item]) -> list[Item]:
    """``items`` where a result whose format changes keeps the old ending before the new one.

    Only where another result has its name: ``logo.gif`` beside ``logo.png`` becomes
    ``logo.gif.png``.
    """
    folders: dict[str, str] = {}
    usable = [item for item in items if item.error is None and not item.to_stdout]
    taken = Counter(_key(item.target, folders) for item in usable)
    found = []
    for item in items:
        old, new = item.source.suffix, item.target.suffix
        changes = item.target.name == f"{item.source.stem}{new}" and old.lower() != new.lower()
        if changes and taken[_key(item.target, folders)] > 1:
            item = replace(item, target=item.target.with_name(f"{item.source.name}{new}"))
        found.append(item)
    return found


def refuse_collisions(items: Sequence[Item], *, in_place: bool) -> None:
    """Raise ``OutputError`` for two inputs with one target, and for targets that are inputs."""
    folders: dict[str, str] = {}
    sources = {_key(item.source, folders) for item in items}
    targets: dict[str, Path] = {}
    for item in items:
        if item.to_stdout or item.error:
            continue
        key = _key(item.target, folders)
        if key in targets:
            raise OutputError(
                f"{targets[key]} and {item.source} would both become {item.target}.",
                hint="Restore them in two runs, with different -o.",
            )
        if key in sources and not in_place:
            raise OutputError(
                f"{item.target} is an input and would be replaced by a result.",
                hint="Choose another place with -o.",
            )
        targets[key] = item.source


def _key(path: Path, folders: dict[str, str]) -> str:
    """The same for two names of one file, also where case or composition make no difference.

    ``folders`` remembers where folders really are: asking for each picture takes a minute for a
    million.
    """
    if is_remote(path):
        return cast("Address", path).address
    folder, name = os.path.split(path)
    if os.path.islink(path) or name == "..":  # noqa: PTH114 (a Path is slower)
        folder, name = os.path.split(os.path.realpath(path))
    if folder not in folders:
        folders[folder] = _folded(os.path.realpath(folder))
    return f"{folders[folder]}{os.sep}{_folded(name)}"


def _folded(name: str) -> str:
    if name.isascii():
        return os.path.normcase(name).lower()
    return unicodedata.normalize("NFC", os.path.normcase(name)).casefold()
