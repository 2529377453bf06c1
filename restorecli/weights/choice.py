"""Which network a run uses: an entry of the registry, a file of the user's own, or both."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from restorecli.errors import WeightsError
from restorecli.files.addresses import redacted
from restorecli.files.regular import TooLargeError, read_regular
from restorecli.weights.registry import WeightEntry, registry

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # paths lose one of the slashes
LARGEST_BYTES = 2**30  # ten times the largest published checkpoint


class CheckpointFile:
    """A checkpoint file of the user's own, read once and hashed once.

    The content is kept from then on until it is taken. A copy in another process, perhaps on
    another machine, reads it anew, and refuses another content.
    """

    def __init__(self, path: Path) -> None:
        """Raise ``WeightsError`` when the file is missing, too large or cannot be read."""
        self.path = path
        self._data: bytes | None = read_bytes(path)
        self.sha256 = hashlib.sha256(self._data).hexdigest()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_data": None}

    def take(self) -> bytes:
        """The content; raises ``WeightsError`` when it is not the one that was hashed."""
        data, self._data = self._data, None
        if data is not None:
            return data
        data = read_bytes(self.path)
        if (found := hashlib.sha256(data).hexdigest()) != self.sha256:
            raise WeightsError(
                f"{self.path} is not the same file any more: its sha256 is {found[:12]}…, "
                f"expected {self.sha256[:12]}….",
                hint="Give every process and every machine the same file.",
            )
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenModel:
    """The network of a run: one of the two is always given."""

    entry: WeightEntry | None = None
    file: CheckpointFile | None = None  # of which ``entry``, if given, says the architecture
    former_id: str = ""  # by which it was asked for, of a network that it replaced

    @property
    def id(self) -> str:
        """What rows and reports call it: its id, or the file's name."""
        return self.file.path.name if self.file else self._entry.id

    @property
    def stem(self) -> str:
        """What names of results call it: its id, or the file's name without the ending."""
        return self.file.path.stem if self.file else self._entry.id

    @property
    def sha256(self) -> str:
        """Of the file as published, or empty if that is not known."""
        return self.file.sha256 if self.file else self._entry.sha256 or ""

    @property
    def _entry(self) -> WeightEntry:
        assert self.entry is not None
        return self.entry


def choose_model(
    task: str, model_id: str | None = None, weights: Path | None = None
) -> ChosenModel:
    """The network that ``model_id`` or ``weights`` names, else the default of ``task``.

    Raises ``WeightsError`` for an unknown id, one of another task, or a file that cannot be read.
    """
    file = CheckpointFile(weights) if weights is not None else None
    if model_id is None:
        return ChosenModel(file=file, entry=None if file else registry().default(task))
    entry = registry()[model_id]
    if task not in entry.tasks:
        raise WeightsError(
            f"{model_id} is for {', '.join(entry.tasks)}, not for {task}.",
            hint="`restore models list` shows which model does what.",
        )
    return ChosenModel(file=file, entry=entry, former_id="" if model_id == entry.id else model_id)


def read_bytes(path: Path) -> bytes:
    """Content of a file that can be a checkpoint; raises ``WeightsError``.

    Its size is looked at before it is read; a pipe or a device is not read at all.
    """
    if ADDRESS.match(str(path)):
        raise WeightsError(
            f"{redacted(str(path))} is an address; weights are read from a file.",
            hint="Download it first; `restore models download` knows published ones.",
        )
    try:
        return read_regular(path, most_bytes=LARGEST_BYTES)
    except TooLargeError as error:
        raise WeightsError(
            f"{path} has {path.stat().st_size / 1e6:,.0f} MB; a checkpoint may have "
            f"{LARGEST_BYTES / 1e6:,.0f} MB at most.",
            hint="Export the network alone, without the state of its training.",
        ) from error
    except FileNotFoundError as error:
        raise WeightsError(f"There is no weights file {path}.", hint="Check the name.") from error
    except OSError as error:
        raise WeightsError(f"Cannot read weights {path}: {error.strerror or error}.") from error
