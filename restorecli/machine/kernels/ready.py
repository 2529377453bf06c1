"""Makes kernels beside what takes time before a network runs: torch has not been imported yet."""

from __future__ import annotations

import importlib.util
import sys
from threading import Thread

from restorecli.machine.kernels import Kind


def make_kernels(*, half: bool) -> None:
    """Begin to make those that a network in the wheel needs; in bfloat16 if ``half`` may be used.

    Whether they are needed is seen later: what was made is not lost, only the time of one core.
    """
    if sys.platform == "linux" and importlib.util.find_spec("llvmlite") is not None:
        Thread(target=_make, args=(half,)).start()


def _make(half: bool) -> None:
    import llvmlite.binding as llvm

    has = llvm.get_host_cpu_features()
    if has.get("avx512f") and has.get("avx512bw") and has.get("avx512dq"):
        from restorecli.machine.kernels.forms import make_usual

        tiles = half and has.get("avx512bf16") and has.get("amx-bf16")
        make_usual(Kind.BFLOAT if tiles else Kind.FLOAT)
