"""All results as one zip file, made while it is sent: neither memory nor disk holds it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from io import RawIOBase
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 18


class _Passing(RawIOBase):
    """What is written here waits until it is taken."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.waiting.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        data, self.waiting = b"".join(self.waiting), []
        return data


def zipped(paths: Sequence[Path]) -> Iterator[bytes]:
    """The bytes of a zip file of ``paths``, stored as they are: pictures are packed already.

    What has been taken away meanwhile is left out.
    """
    passing = _Passing()
    with zipfile.ZipFile(passing, "w", zipfile.ZIP_STORED) as archive:
        for path in paths:
            try:
                entry = zipfile.ZipInfo.from_file(path, path.name, strict_timestamps=False)
                file = path.open("rb")
            except OSError:
                continue
            with file, archive.open(entry, "w", force_zip64=True) as stored:
                while data := file.read(CHUNK_BYTES):
                    stored.write(data)
                    yield passing.taken()
    yield passing.taken()
