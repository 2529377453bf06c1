"""Scores of a restored picture against its reference, each with every choice spelt out.

A score without its protocol is not a number that can be compared: the same pair of pictures has a
PSNR of 28.6 dB on RGB and 33.3 dB on MATLAB's Y. So `score` takes a named `Protocol`, and the keys
of what it returns (``psnr_y``, ``ssim_rgb``) say which channel they were computed on.

Loading this package loads neither scikit-image nor torch; the functions do when they are called.
"""

from restorecli.scoring.metrics.perceptual import EXTRA_METRICS, ExtraMetric, extra_metric
from restorecli.scoring.metrics.pixels import (
    delta_e2000,
    luma_full_range,
    luma_studio_range,
    psnr,
    score,
    ssim,
)
from restorecli.scoring.metrics.protocols import PROTOCOLS, Channel, Protocol, find_protocol
from restorecli.scoring.metrics.smooth import Stains, stains

__all__ = [
    "EXTRA_METRICS",
    "PROTOCOLS",
    "Channel",
    "ExtraMetric",
    "Protocol",
    "Stains",
    "delta_e2000",
    "extra_metric",
    "find_protocol",
    "luma_full_range",
    "luma_studio_range",
    "psnr",
    "score",
    "ssim",
    "stains",
]
