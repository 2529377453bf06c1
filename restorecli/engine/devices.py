"""Which device, which precision, and how much memory there is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil
import torch

from restorecli.errors import DeviceError, UsageError
from restorecli.machine.cgroups import memory_left_bytes, memory_limit_bytes

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` → a device that is there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (index and not (kind == "cuda" and index.isdigit())):
        raise UsageError(
            f"--device {name!r} is unknown.", hint="Use auto, cpu, cuda, cuda:N or mps."
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("There is no MPS device here.", hint="Use --device auto or cpu.")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if int(index or 0) >= count:
            raise DeviceError(
                f"There is no CUDA device {index or 0} here: PyTorch {torch.__version__} "
                f"finds {count}.",
                hint="Use --device auto or cpu; `restore doctor` shows what is there.",
            )
        return torch.device("cuda", int(index or 0))
    return torch.device(kind)


def choose_precision(name: str, device: torch.device, *, half_is_close: bool) -> torch.dtype:
    """``auto``, ``fp32``, ``bf16`` or ``fp16`` → the dtype of the features.

    ``auto`` is bfloat16 where ``device`` is faster in it and the network was found to give the same
    pictures (``half_is_close``), else float32.
    """
    if name == "auto":
        return torch.bfloat16 if half_is_close and multiplies_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise UsageError(f"--precision {name!r} is unknown.", hint="Use auto, fp32, bf16 or fp16.")
    return PRECISIONS[name]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` has instructions that multiply bfloat16 faster than float32.

    ``torch.backends.cpu.get_cpu_capability()`` says AVX512 even where AMX is there.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def free_bytes(device: torch.device) -> int:
    """Memory that can be had now on ``device``, in bytes; of a processor's, what its group may."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(min(psutil.virtual_memory().available, memory_left_bytes()))


def total_bytes(device: torch.device) -> int:
    """Memory of ``device`` that its users share; of a processor's, what its group may hold."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return int(min(psutil.virtual_memory().total, memory_limit_bytes()))


def held_bytes(device: torch.device) -> int:
    """Memory in use now: on ``device`` if it is CUDA, else by this process."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def peak_bytes(device: torch.device) -> int:
    """Most memory that this process has held so far: of ``device`` if it is CUDA, else its own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    # Of Linux: what the system counts besides includes all that the process which started this one
    # held at that moment.
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
