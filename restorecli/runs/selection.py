"""Which files are restored, and where each result goes. Nothing is written here."""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import has_magic
from pathlib import Path
from string import Formatter

from natsort import os_sorted

from restorecli.errors import InputError, OutputError, RestoreError, UsageError
from restorecli.files.addresses import Existing, files, is_remote, matching, path_of
from restorecli.images import FORMAT_OF_SUFFIX, HEIC_SUFFIXES, identify, suffix_for
from restorecli.images.formats import HEAD_BYTES, foreign
from restorecli.images.reading import identify_data
from restorecli.limits import STREAM
from restorecli.runs.manifest import recorded_outputs

STDIN = Path("<stdin>")
PICTURE_SUFFIXES = {*FORMAT_OF_SUFFIX, *HEIC_SUFFIXES}
BESIDE, IN_FOLDER = "{stem}.{task}{suffix}", "{stem}{suffix}"
NAME_FIELDS = ("stem", "task", "model", "suffix")
LONGEST_NAME_BYTES = 255  # on every common file system


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One picture to restore. ``error`` is set when it is known to be unusable already."""

    source: Path
    target: Path
    root: Path | None = None  # folder whose manifest knows the result
    data: bytes | None = None  # of a picture that came through standard input
    to_stdout: bool = False
    error: RestoreError | None = None
    finished: bool = False  # the target is there and is to be kept
    replaces: bool = False  # the target is there and may be replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All items of a run, in natural order within each folder."""

    items: Sequence[Item]
    ignored: int = 0  # files in folders that are not pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How results are named: ``-o``, ``--name``, ``--in-place``."""

    task: str
    output: str | None = None
    template: str | None = None
    model: str = ""
    in_place: bool = False
    fields: Mapping[str, str] = field(init=False)
    folder: Path | None = field(init=False)  # what ``-o`` names, unless it is standard output

    def __post_init__(self) -> None:
        folder = path_of(self.output) if self.output and self.output != STREAM else None
        object.__setattr__(self, "folder", folder)
        object.__setattr__(self, "fields", {"task": self.task, "model": self.model})
        if self.in_place and (self.output or self.template):
            raise UsageError("--in-place goes with neither -o nor --name.")
        for _, name, spec, conversion in Formatter().parse(self.template or ""):
            if name is not None and (name not in NAME_FIELDS or spec or conversion):
                raise UsageError(
                    f"--name has an unknown field {{{name}}}.",
                    hint=f"Known: {', '.join(f'{{{known}}}' for known in NAME_FIELDS)}.",
                )
        if self.template is not None:
            self.name(Path("photo.png"), "PNG", self.template)  # path tricks end here

    def name(self, path: Path, kind: str | None, default: str) -> str:
        """File name of the result of ``path``; ``UsageError`` if it would leave its folder."""
        values = {"stem": path.stem, "suffix": suffix_for(path.suffix, kind), **self.fields}
        name = (self.template or default).format_map(values)
        if name in {"", ".", ".."} or any(c in name for c in "/\\\0"):
            raise UsageError(
                f"--name would call a result {name!r}, which is no plain file name.",
                hint="Choose the folder with -o.",
            )
        return name


def expand(arguments: Sequence[str]) -> list[Path]:
    """Patterns, ``@list`` and ``-`` → paths, in the order given.

    A list has one path in each line, relative to the current folder; a list with NUL bytes is
    divided there instead, so that names may have line breaks (``find -print0``). ``@-`` is a list
    from standard input. Names in lists are taken as they are.
    """
    paths: list[Path] = []
    for argument in arguments:
        if argument == STREAM:
            paths.append(STDIN)
        elif argument.startswith("@") and not os.path.lexists(argument):
            paths += _listed(argument[1:])
        elif has_magic(argument) and not os.path.lexists(argument):
            found = os_sorted(matching(argument))
            paths += [path_of(name) for name in found] or [path_of(argument)]
        else:
            paths.append(path_of(argument))
    return paths


def _listed(name: str) -> list[Path]:
    try:
        data = sys.stdin.buffer.read() if name == STREAM else path_of(name).read_bytes()
    except OSError as error:
        raise InputError(
            f"Cannot read the list {name}: {error.strerror or error}.",
            hint=f"For a file that is called @{name} give ./@{name}.",
        ) from error
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [path_of(os.fsdecode(line)) for line in lines if line.strip()]


def select(
    inputs: Sequence[Path],
    naming: Naming,
    *,
    recursive: bool,
    overwrite: bool,
    skip_existing: bool,
    resume: bool = False,
) -> Selection:
    """Pair every input with its target and refuse what would lose something.

    One file goes beside itself as ``photo.<task>.png``, a folder beside itself as
    ``photos.<task>/`` with its tree and names; ``-o`` names a file (for one input file) or a
    folder instead. Raises ``OutputError`` for two inputs with one target, for targets that exist
    (unless ``overwrite``, ``skip_existing`` or ``resume``) and for targets that are inputs.
    """
    if overwrite + skip_existing + resume > 1:
        given = [
            name
            for name, on in zip(
                ("--overwrite", "--skip-existing", "--resume"),
                (overwrite, skip_existing, resume),
                strict=True,
            )
            if on
        ]
        raise UsageError(f"{' and '.join(given)} contradict each other.")
    output = naming.folder
    names_a_file = output is not None and _names_a_file(output)
    one_result = naming.output == STREAM or names_a_file
    if one_result and (len(inputs) != 1 or inputs[0].is_dir()):
        raise UsageError(
            f"-o {naming.output} names one file, but there may be several results.",
            hint="Name a folder.",
        )
    items: list[Item] = []
    ignored = 0
    keeps_manifest = len(inputs) > 1 or resume or naming.in_place or (not names_a_file and output)
    looks_back = resume and not naming.in_place
    root = None if names_a_file else output
    for path in inputs:
        if path is STDIN:
            items.append(_stream(naming))
        elif _is_folder(path):
            found, others = _in_folder(path, naming, recursive=recursive, resume=looks_back)
            items += found
            ignored += others
        else:
            item = _single(path, naming, root, names_a_file=names_a_file, resume=looks_back)
            if keeps_manifest and root is None:
                item = replace(item, root=item.target.parent)
            items.append(item)
    items = [_checked(item) for item in items]
    taken = Existing()

    def is_there(item: Item) -> bool:
        return item.error is None and not item.to_stdout and taken(item.target)

    _refuse_collisions(items, in_place=naming.in_place)
    if naming.in_place:
        items = [replace(item, replaces=True) for item in items]
    elif skip_existing:
        items = [replace(item, finished=is_there(item)) for item in items]
    elif overwrite:
        items = [replace(item, replaces=is_there(item)) for item in items]
    elif not resume:
        refuse_existing([item.target for item in items if is_there(item)])
    return Selection(items=items, ignored=ignored)


def refuse_existing(targets: Sequence[Path]) -> None:
    """Raise ``OutputError`` if there is anything in ``targets``."""
    if targets:
        more = f" and {len(targets) - 1} more" if len(targets) > 1 else ""
        raise OutputError(
            f"{targets[0]}{more} would be overwritten.",
            hint="Give --overwrite to replace, --skip-existing to go on, or another -o.",
        )


def _is_folder(path: Path) -> bool:
    """A request for each picture of a long list would take hours: at an address names decide."""
    if is_remote(path) and path.suffix.lower() in PICTURE_SUFFIXES:
        return False
    return path.is_dir()


def _kind(path: Path, result: Path | None) -> str | None:
    """`identify`, or the format that the name tells, where looking inside is left to reading.

    A look into each of a million files takes minutes, at addresses hours: it is spared there, and
    where a run goes on and the ``result`` is there already.
    """
    kind = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if kind and (is_remote(path) or (result is not None and os.path.lexists(result))):
        return kind
    return identify(path)


def _checked(item: Item) -> Item:
    """A result whose name no file system takes fails before it costs any work."""
    size_bytes = len(os.fsencode(item.target.name))
    if item.error or size_bytes <= LONGEST_NAME_BYTES:
        return item
    error = OutputError(
        f"Cannot write {item.target}: the name has {size_bytes} bytes, at most "
        f"{LONGEST_NAME_BYTES} are possible.",
        hint="Keep the names with -o FOLDER, or shorten them with --name.",
    )
    return replace(item, error=error)


def _names_a_file(output: Path) -> bool:
    return output.suffix.lower() in FORMAT_OF_SUFFIX and not output.is_dir()


def _stream(naming: Naming) -> Item:
    """The picture on standard input, which goes to ``-o`` or to standard output."""
    data = sys.stdin.buffer.read()
    kind = identify_data(io.BytesIO(data))
    output = naming.folder
    if naming.in_place or (output is not None and not _names_a_file(output)):
        raise UsageError(
            "A picture from standard input has no name for its result.",
            hint="Give -o FILE, or nothing for standard output.",
        )
    target = output or Path(f"<stdout>{suffix_for('', kind)}")
    return Item(source=STDIN, target=target, data=data, to_stdout=output is None)


def _single(
    path: Path, naming: Naming, root: Path | None, *, names_a_file: bool, resume: bool
) -> Item:
    """A file that was named: whatever is wrong with it is an error."""
    error: RestoreError | None = None
    kind = None
    target = _result(path, None, naming, names_a_file)
    try:
        kind = _kind(path, target if resume else None)
        if kind is None:
            error = _not_an_image(path)
    except RestoreError as problem:
        error = problem
    if naming.output == STREAM:
        target = Path(f"<stdout>{suffix_for(path.suffix, kind)}")
        return Item(source=path, target=target, to_stdout=True, error=error)
    if naming.in_place:
        return _in_place(path, kind, error)
    if kind != FORMAT_OF_SUFFIX.get(path.suffix.lower()):
        target = _result(path, kind, naming, names_a_file)
    return Item(source=path, target=target, root=root, error=error)


def _result(path: Path, kind: str | None, naming: Naming, names_a_file: bool) -> Path:
    """Where the result of a single file goes; ``kind`` matters where its suffix cannot stay."""
    output = naming.folder
    if output is None:
        return path.with_name(naming.name(path, kind, BESIDE))
    return output if names_a_file else output / naming.name(path, kind, IN_FOLDER)


def _in_place(path: Path, kind: str | None, error: RestoreError | None) -> Item:
    """A picture that is replaced by its result: the format has to stay what it is."""
    named = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if error is None and named != {"MPO": "JPEG"}.get(kind or "", kind):
        error = OutputError(
            f"Cannot restore {path} in place: it is {kind}, which its name does not say "
            "or which cannot be written.",
            hint="Choose a new name with -o.",
        )
    return Item(source=path, target=path, error=error)


def _not_an_image(path: Path) -> InputError:
    if not path.stat().st_size:
        return InputError(f"Cannot read {path}: the file is empty (0 bytes).")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if kind := foreign(head):
        return InputError(f"Cannot restore {path}: it is {kind}, not a picture.")
    start = head[:12].decode("latin-1")
    return InputError(f"Cannot read {path}: not an image (starts with {start!r}).")


def _in_folder(
    folder: Path, naming: Naming, *, recursive: bool, resume: bool
) -> tuple[list[Item], int]:
    """Pictures in ``folder`` by content; other files are counted, broken pictures are items."""
    if is_remote(folder) and len(folder.parts) == 2 and not (naming.output or naming.in_place):
        raise UsageError(f"{folder} is a whole bucket: no folder is beside it.", hint="Give -o.")
    beside = folder.with_name(f"{folder.resolve().name}.{naming.task}")
    root = folder if naming.in_place else naming.folder or beside
    own = set() if naming.in_place else recorded_outputs(folder)
    items = []
    ignored = 0

    def target_of(path: Path, kind: str | None) -> Path:
        name = naming.name(path, kind, IN_FOLDER)
        return (root / path.relative_to(folder)).with_name(name)

    for path in _files(folder, root, recursive=recursive, seen=set()):
        if path in own or (not naming.in_place and _is_result(path, naming.task)):
            continue
        kind, error = None, None
        try:
            kind = _kind(path, target_of(path, None) if resume else None)
        except RestoreError as problem:
            error = problem
        if kind is None and error is None:
            if path.suffix.lower() not in PICTURE_SUFFIXES:
                ignored += 1
                continue
            error = InputError(f"Cannot read {path}: not an image, or damaged at its beginning.")
        if naming.in_place:
            items.append(replace(_in_place(path, kind, error), root=root))
            continue
        items.append(Item(source=path, target=target_of(path, kind), root=root, error=error))
    return items, ignored


def _is_result(path: Path, task: str) -> bool:
    """Whether ``path`` is what an earlier run made of a picture beside it."""
    stem, dot, made_by = path.stem.rpartition(".")
    if not dot or made_by != task:
        return False
    return any(path.with_name(stem + s).exists() for s in (path.suffix, *HEIC_SUFFIXES))


def _files(folder: Path, root: Path, *, recursive: bool, seen: set[Path]) -> Iterator[Path]:
    """Files of ``folder`` in natural order; hidden ones and the results' folder are left out.

    Folders that were ``seen`` are not entered again: links may lead in circles.
    """
    if is_remote(folder):
        yield from _remote_files(folder, root, recursive=recursive)
        return
    seen.add(folder.resolve())
    for path in os_sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if recursive and path.resolve() not in {root.resolve(), *seen}:
                yield from _files(path, root, recursive=True, seen=seen)
        elif path.is_file() or not path.exists():  # a broken link is told, a pipe is left alone
            yield path


def _remote_files(folder: Path, root: Path, *, recursive: bool) -> Iterator[Path]:
    found = os_sorted(path for path, size_bytes in files(folder, recursive=recursive) if size_bytes)
    for path in found:
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and (root == folder or root not in path.parents):
            yield path


def _key(path: Path, folders: dict[str, str]) -> str:
    """The same for two names of one file, also where case or composition make no difference.

    ``folders`` remembers where folders really are: asking for each picture takes a minute for a
    million.
    """
    if is_remote(path):
        return str(path)
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


def _refuse_collisions(items: Sequence[Item], *, in_place: bool) -> None:
    folders: dict[str, str] = {}
    sources = {_key(item.source, folders) for item in items}
    targets: dict[str, Path] = {}
    for item in items:
        if item.to_stdout:
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
