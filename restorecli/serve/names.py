"""Names from a browser become names of files: plain ones, or they are refused."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from restorecli.errors import UsageError

LONGEST_BYTES = 180  # of the 255 that file systems take, as endings are added
FORBIDDEN = re.compile(r'[<>:"|?*\x7f]')  # on some file system
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # in Windows


def plain_name(name: str) -> str:
    """``name`` as a file can be called everywhere; ``UsageError`` for a way to another folder."""
    if any(part in name for part in "/\\\0") or name.strip() in {"", ".", ".."}:
        raise UsageError(
            f"{name!r} is no plain file name.", hint="Give the name alone, without folders."
        )
    name = unicodedata.normalize("NFC", name)
    name = "".join("_" if unicodedata.category(c)[0] in "CZ" and c != " " else c for c in name)
    name = FORBIDDEN.sub("_", name).lstrip(". ").rstrip(". ") or "photograph"
    if RESERVED.match(name):
        name = f"_{name}"
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 (a name, not a path)
    suffix = suffix if len(suffix) <= 8 else ""
    stem = name.removesuffix(suffix) if suffix else name
    while len(f"{stem}{suffix}".encode()) > LONGEST_BYTES:
        stem = stem[:-1]
    return f"{stem}{suffix}"


def free_path(folder: Path, stem: str, suffix: str) -> Path:
    """``stem`` in ``folder``, with a number behind it where that is taken."""
    path = folder / f"{stem}{suffix}"
    number = 2
    while os.path.lexists(path):
        path = folder / f"{stem}-{number}{suffix}"
        number += 1
    return path
