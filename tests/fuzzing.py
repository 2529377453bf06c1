"""Mutated pictures of every format, from a seed; and the reader under a watch."""

from __future__ import annotations

import random
import signal
import struct
import time

import psutil

from restorecli.errors import InputError
from restorecli.images import decode_photo
from tests import carrying, kinds, matrix

TIME_LIMIT_S = 10
MEMORY_LIMIT_BYTES = 2 << 30
LARGE_BYTES = 100_000
SIZES = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def originals(folder):
    """One small file of each format and kind, and some HEIC if it can be written."""
    for case in matrix.cases(every=False):
        if case.orientation in {1, 6}:
            matrix.write_case(case, folder)
    try:
        import pillow_heif

        pillow_heif.from_pillow(matrix.Image.new("RGB", (64, 64), "teal")).save(folder / "a.heic")
    except ImportError:
        pass
    whole = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    more = kinds.kinds() | carrying.sources()
    small = {name: data for name, data in more.items() if len(data) < LARGE_BYTES}
    return whole | small


def mutated(data, rng):
    """Bits flipped, bytes overwritten with sizes, parts cut, repeated, exchanged or made random."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data)) if len(data) > 1 else 0
        if rng.random() < 0.5:  # headers are small, and where lies are told
            at = min(at, rng.randrange(200))
        match rng.randrange(7):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at] = rng.randrange(256)
            case 2:
                size = struct.pack(rng.choice(("<I", ">I")), rng.choice(SIZES))
                data[at : at + 4] = size
            case 3:
                del data[at : at + rng.choice((1, 4, 100, 10_000))]
            case 4:
                data[at:at] = data[at : at + rng.choice((1, 12, 500))]
            case 5:
                data = data[: max(at, 1)]
            case 6:
                data[at : at + 64] = rng.randbytes(min(64, len(data) - at))
    return bytes(data)


def watched_read(data, name):
    """How reading ended: ``read``, ``refused``, or a description of what must not happen."""
    started = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT_S)
    try:
        photo = decode_photo(data, name)
        ending = "read" if photo.pixels.size else "an empty picture"
    except InputError as error:
        ending = "refused" if name in error.message else f"no name in {error.message!r}"
    except BaseException as error:
        ending = f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if time.monotonic() - started > TIME_LIMIT_S:
        ending = f"more than {TIME_LIMIT_S} s"
    if psutil.Process().memory_info().rss > MEMORY_LIMIT_BYTES:
        ending = "more than 2 GB of memory"
    return ending


def _too_slow(*_):
    raise TimeoutError


def fuzz(folder, count, *, seed=0):
    """Read ``count`` mutations; what must not happen by name, how many ended how, slowest, peak."""
    signal.signal(signal.SIGALRM, _too_slow)
    files = originals(folder)
    names = sorted(files)
    rng = random.Random(seed)
    endings = {"read": 0, "refused": 0}
    wrong = {}
    slowest_s, peak_bytes = 0.0, 0
    for i in range(count):
        name = names[i % len(names)]
        data = mutated(files[name], rng)
        (folder / ".last").write_bytes(data)  # what to look at after a crash of the process
        started = time.monotonic()
        ending = watched_read(data, name)
        slowest_s = max(slowest_s, time.monotonic() - started)
        peak_bytes = max(peak_bytes, psutil.Process().memory_info().rss)
        if ending in endings:
            endings[ending] += 1
        else:
            wrong[f"seed {seed}, number {i}, {name}"] = ending
    return wrong, endings, slowest_s, peak_bytes
