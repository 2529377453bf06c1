"""What was made of what, in a hidden file of the results' folder: the base of ``--resume``.

Each line of ``.restore.jsonl`` is one result: hash of the input, hash of the model, options, hash
of the output. It is written, and flushed to the disk, *before* the result gets its name. So a file
under its name is ours exactly if its hash is recorded, and whatever ends a run, nothing half-done
can be taken for finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from restorecli.errors import OutputError
from restorecli.files.addresses import files, is_remote
from restorecli.files.atomic import flush
from restorecli.files.locks import locked
from restorecli.files.regular import open_regular

MANIFEST, LOCK = ".restore.jsonl", ".restore.lock"
SEGMENTS, SEGMENT_RECORDS = ".restore", 256  # at an address: 40 KB a record on average, for resume
LONGEST_LINE_BYTES = 2**16  # ours have some hundred; paths have 4,096 at most
LARGEST_MANIFEST_BYTES = 2**31  # nine million results
LOCK_TIMEOUT_S = 60
LOCK_POLL_S = 0.002  # it is held for as long as one flush takes
State = Literal["free", "finished", "outdated", "foreign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What, apart from the input, decides the bytes of a result."""

    model_sha256: str
    options: Mapping[str, str]


class Known(NamedTuple):
    """A record in a tenth of the memory: a folder may have a million."""

    input_sha256: bytes
    output_sha256: bytes
    is_this_job: bool


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The manifests of a run; several processes and threads may append to one of them."""

    fingerprint: Fingerprint
    _known: dict[Path, dict[str, list[Known]]] = field(default_factory=dict)
    _segments: dict[Path, Segment] = field(default_factory=dict)

    def state(self, source: Path, target: Path, root: Path) -> State:
        """What ``target`` is: not there, this result, a result of ours by other means, or foreign.

        Raises ``OSError`` when a file cannot be read.
        """
        try:
            digest = _digest(target)
        except FileNotFoundError:
            if target.is_symlink():
                raise
            return "free"
        known = self._known.get(root)  # which another thread may `forget`
        if known is None:
            known = self._known[root] = self._read(root)
        ours = [r for r in known.get(_name(target, root), []) if r.output_sha256 == digest]
        if not ours:
            return "foreign"
        same_job = [known for known in ours if known.is_this_job]
        if source == target:  # in place: the input is gone
            return "finished" if same_job else "outdated"
        if same_job:
            digest = _digest(source)
            if any(known.input_sha256 == digest for known in same_job):
                return "finished"
        return "outdated"

    def _read(self, root: Path) -> dict[str, list[Known]]:
        known: dict[str, list[Known]] = {}
        for record in read_manifest(root):
            is_this_job = (
                record.get("model_sha256") == self.fingerprint.model_sha256
                and record.get("options") == self.fingerprint.options
            )
            known.setdefault(record["output"], []).append(
                Known(
                    bytes.fromhex(record["input_sha256"]),
                    bytes.fromhex(record["output_sha256"]),
                    is_this_job,
                )
            )
        return known

    def forget(self, root: Path) -> None:
        """Read the manifest of ``root`` anew when it is needed again."""
        self._known.pop(root, None)

    def record(self, target: Path, root: Path, *, input_sha256: str, output_sha256: str) -> None:
        """Append one result to the manifest and flush it; raises ``OSError`` or ``OutputError``."""
        line = json.dumps(
            {
                "output": _name(target, root),
                "input_sha256": input_sha256,
                "model_sha256": self.fingerprint.model_sha256,
                "options": dict(self.fingerprint.options),
                "output_sha256": output_sha256,
            }
        )
        if is_remote(root):
            if root not in self._segments:
                self._segments[root] = Segment(root)
            self._segments[root].append(line)
            return
        try:
            with locked(root / LOCK, timeout_s=LOCK_TIMEOUT_S, poll_s=LOCK_POLL_S):
                _append(root / MANIFEST, line)
        except TimeoutError as error:
            raise OutputError(
                f"Another process has held {root / LOCK} for {LOCK_TIMEOUT_S} s.",
                hint="End it, or choose another -o.",
            ) from error


class Segment:
    """One writer's part of the manifest of a folder at an address, where nothing can be appended.

    Each record uploads the part anew, so a part is closed before that becomes much.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._begin()

    def append(self, line: str) -> None:
        """Add one record; it is stored when this returns. Raises ``OSError``."""
        if len(self.lines) == SEGMENT_RECORDS:
            self._begin()
        self.lines.append(line)
        self.address.write_bytes("".join(line + "\n" for line in self.lines).encode())

    def _begin(self) -> None:
        self.lines: list[str] = []
        self.address = self.root / SEGMENTS / f"{secrets.token_hex(8)}.jsonl"


def segments(root: Path) -> list[Path]:
    """The parts of the manifest of ``root``."""
    return [part for part, _ in files(root / SEGMENTS, recursive=False)]


def read_manifest(folder: Path) -> Iterator[dict[str, Any]]:
    """Its records; lines that are damaged, cut off or longer than any of ours count for nothing."""
    for line in _lines(folder):
        try:
            record = json.loads(line.decode())
            of_input, of_output = record["input_sha256"], record["output_sha256"]
            is_whole = len(bytes.fromhex(of_input)) == len(bytes.fromhex(of_output)) == 32
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        if is_whole and isinstance(record.get("output"), str):
            yield record


def _lines(folder: Path) -> Iterator[bytes]:
    with suppress(OSError):
        if is_remote(folder):
            for segment in segments(folder):
                yield from segment.read_bytes().splitlines()
        else:
            yield from _lines_of(folder / MANIFEST)


def _lines_of(path: Path) -> Iterator[bytes]:
    """Lines of a manifest that anybody may have written: no line and no sum is without end."""
    with open_regular(path) as file:
        left, begins = LARGEST_MANIFEST_BYTES, True
        while left > 0 and (line := file.readline(LONGEST_LINE_BYTES)):
            left -= len(line)
            ends = line.endswith(b"\n") or len(line) < LONGEST_LINE_BYTES
            if begins and ends:
                yield line
            begins = ends


class OwnResults:
    """The files in a folder that ``task`` made of pictures in that folder.

    A manifest may be anybody's: a name in it hides nothing. A file counts when its content is the
    recorded one, and the picture that it was made of is still there.
    """

    def __init__(self, folder: Path, task: str) -> None:
        self.folder = folder
        self.made: dict[str, list[tuple[bytes, bytes]]] = {}  # name → hashes of result and input
        for record in read_manifest(folder):
            options = record.get("options")
            if isinstance(options, dict) and options.get("task") == task:
                hashes = (
                    bytes.fromhex(record["output_sha256"]),
                    bytes.fromhex(record["input_sha256"]),
                )
                self.made.setdefault(record["output"], []).append(hashes)
        self._digests: dict[Path, bytes] = {}

    def __contains__(self, path: Path) -> bool:
        made = self.made.get(_name(path, self.folder))
        if not made:
            return False
        digest = self._digest(path)
        inputs = {of_input for of_output, of_input in made if of_output == digest}
        return bool(inputs) and any(self._digest(file) in inputs for file in self._others(path))

    def _others(self, path: Path) -> Iterator[Path]:
        """Files of the folder, first those that have the beginning of the name of ``path``."""
        if is_remote(self.folder):
            found = [file for file, _ in files(self.folder, recursive=False)]
        else:
            found = [file for file in path.parent.iterdir() if file.is_file()]
        yield from sorted(found, key=lambda file: not path.name.startswith(file.stem))

    def _digest(self, path: Path) -> bytes:
        if path not in self._digests:
            try:
                self._digests[path] = _digest(path)
            except OSError:
                self._digests[path] = b""
        return self._digests[path]


def sha256(data: bytes) -> str:
    """Hash as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _digest(path: Path) -> bytes:
    with open_regular(path) as file:
        return hashlib.sha256(file.read()).digest()


def _name(target: Path, root: Path) -> str:
    folder, name = os.path.split(target)
    if folder == str(root):  # the usual case, in a tenth of the time
        return name
    if target.is_relative_to(root):
        return target.relative_to(root).as_posix()
    return Path(os.path.relpath(target, root)).as_posix()


def _append(path: Path, line: str) -> None:
    """Add ``line`` whole or not at all, on a line of its own even after a torn one.

    Raises ``OutputError`` when something else than a file of ours has the name of the manifest.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputError(
            f"Cannot write {path}: it is a link or no file, and the manifest of results is one.",
            hint="Remove it, or choose another -o.",
        )
    with path.open("a+b") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        torn = False
        if size_bytes:
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        try:
            file.write(b"\n" * torn + line.encode() + b"\n")
            file.flush()
            flush(file.fileno())
        except OSError:
            file.truncate(size_bytes)
            raise
