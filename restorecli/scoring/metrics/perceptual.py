"""Scores beyond PSNR and SSIM; the learned ones need packages that are not installed by default."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restorecli.errors import UsageError
from restorecli.machine.extras import install_hint, installer
from restorecli.scoring.metrics.pixels import comparable, delta_e2000

Image = NDArray[Any]
Compute = Callable[[Image, Image], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraMetric:
    """A score asked for by name, besides those of the protocol."""

    name: str
    summary: str
    licence: str
    higher_is_better: bool
    load: Callable[[], Compute]  # raises UsageError when its package is missing
    learned: bool = True  # runs a network: kept in one process


def extra_metric(name: str) -> ExtraMetric:
    """Look an extra score up; `UsageError` names those that exist."""
    try:
        return EXTRA_METRICS[name]
    except KeyError:
        raise UsageError(
            f"Unknown score {name!r}.", hint=f"Known: {', '.join(EXTRA_METRICS)}."
        ) from None


@cache
def _lpips() -> Compute:
    """Zhang et al., CVPR 2018, AlexNet, by torchmetrics; pictures go in as RGB in [-1, 1]."""
    try:
        module = importlib.import_module("torchmetrics.image.lpip")
        network = module.LearnedPerceptualImagePatchSimilarity(net_type="alex").eval()
    except (ImportError, AttributeError) as error:  # torchmetrics hides it without torchvision
        raise UsageError(
            "LPIPS needs torchmetrics and torchvision, and one of them is not installed.",
            hint=install_hint("perceptual"),
        ) from error
    import torch

    def compute(restored: Image, reference: Image) -> float:
        restored, reference = comparable(restored, reference)
        with torch.inference_mode():
            return float(network(*(_tensor(x) * 2 - 1 for x in (restored, reference))))

    return compute


@cache
def _pyiqa(name: str) -> Compute:
    """A score without reference, by pyiqa, of the restored picture alone."""
    try:
        pyiqa = importlib.import_module("pyiqa")
    except ImportError as error:
        raise UsageError(
            f"{name.upper()} needs pyiqa, which is not installed.",
            hint=f"Install it: {installer()} pyiqa. Its licence is non-commercial (PolyForm "
            "Noncommercial and NTU S-Lab), which is why restore does not bring it along.",
        ) from error
    import torch

    network = pyiqa.create_metric(name, device="cpu")

    def compute(restored: Image, reference: Image) -> float:
        del reference  # these judge one picture by itself
        with torch.inference_mode():
            return float(network(_tensor(restored)))

    return compute


def _tensor(image: Image) -> Any:
    """(H, W) or (H, W, 3) integers → float32 (1, 3, H, W) in [0, 1]."""
    import torch

    unit = image.astype(np.float32) / np.iinfo(image.dtype).max
    rgb = unit if unit.ndim == 3 else np.repeat(unit[..., None], 3, axis=2)
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]  # (1, 3, H, W)


EXTRA_METRICS: dict[str, ExtraMetric] = {
    metric.name: metric
    for metric in (
        ExtraMetric(
            name="delta_e2000",
            summary="mean CIEDE2000 colour difference (sRGB, D65)",
            licence="part of restore",
            higher_is_better=False,
            load=lambda: delta_e2000,
            learned=False,
        ),
        ExtraMetric(
            name="lpips",
            summary="learned perceptual distance, AlexNet (torchmetrics)",
            licence="Apache-2.0",
            higher_is_better=False,
            load=_lpips,
        ),
        ExtraMetric(
            name="niqe",
            summary="naturalness without a reference (pyiqa)",
            licence="non-commercial",
            higher_is_better=False,
            load=lambda: _pyiqa("niqe"),
        ),
        ExtraMetric(
            name="maniqa",
            summary="learned quality without a reference (pyiqa)",
            licence="non-commercial",
            higher_is_better=True,
            load=lambda: _pyiqa("maniqa"),
        ),
    )
}
