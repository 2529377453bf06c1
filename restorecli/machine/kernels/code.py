"""Machine code of kernels: made by LLVM once, and kept in the user's cache for later processes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from threading import RLock
from typing import Any, ParamSpec

import llvmlite
import llvmlite.binding as llvm

from restorecli.machine.folders import cache_folder

Kernel = Any  # a function of ctypes, of addresses and counts, all of them integers
P = ParamSpec("P")
DIGEST_BYTES = 32
OTHERS_MAY_WRITE = 0o022

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
_ENGINES: list[Any] = []  # which own the code of the kernels
_LLVM = RLock()


def made_once(make: Callable[P, tuple[bytes, int]]) -> Callable[P, Kernel]:
    """A kernel from its machine code, for which threads wait for one another; loaded once each.

    ``make`` returns what `Writer.finished` gives, and is called if nobody has kept that.
    """

    @cache
    def known(*form: Any, **named: Any) -> Kernel:
        folder = cache_folder()
        if folder is None:  # the system knows no home
            return loaded(*make(*form, **named))
        words = make.__qualname__, *map(repr, form), *map(repr, sorted(named.items())), origin()
        name = hashlib.sha256(" ".join(words).encode()).hexdigest()
        place = folder / "kernels" / f"{name}.o"
        return loaded(*(kept(place) or keep(place, *make(*form, **named))))

    @wraps(make)
    def kernel(*form: P.args, **named: P.kwargs) -> Kernel:
        with _LLVM:
            return known(*form, **named)  # type: ignore[arg-type]  # all forms can be looked up

    return kernel


@cache
def origin() -> str:
    """Everything else that machine code depends on: how it is written, by what, and for what."""
    folder = Path(__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    made_by = llvmlite.__version__, llvm.get_host_cpu_name(), features()
    return " ".join([hashlib.sha256(sources).hexdigest(), *made_by])


def features() -> str:
    """Those of this processor; with vectors as wide as written, not half, as LLVM prefers."""
    return f"{llvm.get_host_cpu_features().flatten()},-prefer-256-bit"


def kept(place: Path) -> tuple[bytes, int] | None:
    """What `keep` has written there, if it is whole and nobody else could have written it."""
    with suppress(OSError):
        facts, folder = place.stat(), place.parent.stat()
        if any(f.st_uid != os.geteuid() or f.st_mode & OTHERS_MAY_WRITE for f in (facts, folder)):
            return None
        content = place.read_bytes()
        digest, count, code = content[:DIGEST_BYTES], content[DIGEST_BYTES:][:1], content[33:]
        if count and hashlib.sha256(count + code).digest() == digest:
            return code, count[0]
    return None


def keep(place: Path, code: bytes, count: int) -> tuple[bytes, int]:
    """Write a kernel's code for later processes, where that is possible; returns it as it is."""
    counted = bytes([count]) + code
    with suppress(OSError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=place.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(counted).digest() + counted)
            Path(name).replace(place)
        except OSError:
            Path(name).unlink(missing_ok=True)
    return code, count


@cache
def machine() -> Any:
    """What makes code for this processor."""
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features(), opt=1
    )


def code_of(module: str) -> bytes:
    """Machine code of what is written in LLVM's language."""
    return machine().emit_object(llvm.parse_assembly(module))


def loaded(code: bytes, count: int) -> Kernel:
    """The kernel as a function of so many integers; its ``address`` is where it begins."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address("kernel")
    kernel: Any = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)(address)
    kernel.address = address
    _ENGINES.append(engine)
    return kernel
