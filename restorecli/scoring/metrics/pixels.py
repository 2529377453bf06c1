"""PSNR, SSIM and colour difference of two pictures, computed in float64.

scikit-image does the arithmetic; what is here is the protocol: range, channel, border and window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from restorecli.errors import InputError
from restorecli.scoring.metrics.protocols import Protocol

SSIM_SIGMA = 1.5
SSIM_WINDOW_PX = 11  # 2 · round(3.5 · 1.5) + 1: where scikit-image cuts the Gaussian off
_STUDIO_WEIGHTS = np.array([65.481, 128.553, 24.966]) / 255
_FULL_WEIGHTS = np.array([0.299, 0.587, 0.114])

Image = NDArray[Any]


def score(restored: Image, reference: Image, protocol: Protocol) -> dict[str, float]:
    """PSNR in dB and SSIM under ``protocol``, named after its channel.

    Args:
        restored: uint8 or uint16, (H, W, 3) RGB or (H, W) gray.
        reference: the same height and width; gray and colour may be mixed, 8 and 16 bits too.
        protocol: which channel and border.

    Returns:
        ``{"psnr_y": 30.14, "ssim_y": 0.86}``, with the channel of the protocol. PSNR is ``inf``
        for identical pictures.

    Raises:
        InputError: the sizes differ, or less than 11×11 pixels remain for SSIM.
    """
    restored, reference = comparable(restored, reference)
    data_range = float(np.iinfo(restored.dtype).max)
    if border := protocol.crop_border_px:
        restored, reference = (x[border:-border, border:-border] for x in (restored, reference))
    if protocol.channel == "y":
        rounded = protocol.y_rounded
        restored, reference = (luma_studio_range(x, rounded=rounded) for x in (restored, reference))
    elif protocol.channel == "y_full":
        restored, reference = luma_full_range(restored), luma_full_range(reference)
    psnr_key, ssim_key = protocol.keys
    return {
        psnr_key: psnr(restored, reference, data_range=data_range),
        ssim_key: ssim(restored, reference, data_range=data_range),
    }


def comparable(restored: Image, reference: Image) -> tuple[Image, Image]:
    """Two pictures in one depth and one number of channels; nothing is rounded.

    8-bit values meet 16-bit ones as ``257 · value`` (255 → 65535), gray meets colour as R = G = B.

    Raises:
        InputError: height or width differ.
    """
    if restored.shape[:2] != reference.shape[:2]:
        raise InputError(
            f"Sizes differ: {_size(restored)} against a reference of {_size(reference)} (W×H).",
            hint="Scores need the same pixels; neither picture is scaled.",
        )
    for image in (restored, reference):
        if image.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"pixels must be uint8 or uint16, got {image.dtype}")
        if image.ndim != 2 and (image.ndim != 3 or image.shape[2] != 3):
            raise ValueError(f"pixels must be (H, W) or (H, W, 3), got {image.shape}")
    if restored.dtype != reference.dtype:
        restored, reference = _as_16_bit(restored), _as_16_bit(reference)
    if restored.ndim != reference.ndim:
        restored, reference = _as_rgb(restored), _as_rgb(reference)
    return restored, reference


def luma_studio_range(image: Image, *, rounded: bool) -> NDArray[np.float64]:
    """Y of MATLAB's ``rgb2ycbcr``: (H, W), 16…235 for 8 bits.

    ``16 + (65.481 R + 128.553 G + 24.966 B) / 255``, and 257 times that for 16 bits. Gray counts
    as R = G = B. ``rounded`` gives the integers that MATLAB returns for a picture of integers.
    """
    offset = 16 * np.iinfo(image.dtype).max / 255
    y = _weighted(image, _STUDIO_WEIGHTS) + offset
    return np.floor(y + 0.5) if rounded else y


def luma_full_range(image: Image) -> NDArray[np.float64]:
    """``0.299 R + 0.587 G + 0.114 B`` (BT.601): (H, W), full range, not rounded."""
    return _weighted(image, _FULL_WEIGHTS)


def psnr(restored: Image, reference: Image, *, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB: ``10·log10(data_range² / MSE)``, in float64.

    ``data_range`` (255 for 8 bits, 65535 for 16) has no default: guessed from the pixels it is
    48 dB off as soon as a float picture overshoots 1. ``inf`` for identical pictures. All
    channels share one mean square error.
    """
    from skimage.metrics import peak_signal_noise_ratio

    if np.array_equal(restored, reference):
        return float("inf")
    return float(
        peak_signal_noise_ratio(
            reference.astype(np.float64), restored.astype(np.float64), data_range=data_range
        )
    )


def ssim(restored: Image, reference: Image, *, data_range: float) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004), in float64; at most 1.

    11×11 Gaussian window of σ 1.5, K1 = 0.01, K2 = 0.03, population covariance, averaged over the
    positions where the whole window lies inside the picture. (H, W, C) is computed channel by
    channel and averaged.

    Raises:
        InputError: the picture is smaller than the window.
    """
    from skimage.metrics import structural_similarity

    height, width = reference.shape[:2]
    if min(height, width) < SSIM_WINDOW_PX:
        raise InputError(
            f"SSIM needs at least {SSIM_WINDOW_PX}×{SSIM_WINDOW_PX} pixels, got {width}×{height}."
        )
    return float(
        structural_similarity(
            reference.astype(np.float64),
            restored.astype(np.float64),
            data_range=data_range,
            channel_axis=2 if reference.ndim == 3 else None,
            gaussian_weights=True,
            sigma=SSIM_SIGMA,
            use_sample_covariance=False,
            K1=0.01,
            K2=0.03,
        )
    )


def delta_e2000(restored: Image, reference: Image) -> float:
    """Mean CIEDE2000 colour difference; about 1 is just visible. sRGB, D65 white, 2° observer.

    Args:
        restored: as for `score`.
        reference: as for `score`.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    restored, reference = comparable(restored, reference)
    scale = float(np.iinfo(restored.dtype).max)
    lab = [
        rgb2lab(_as_rgb(x) / scale, illuminant="D65", observer="2") for x in (restored, reference)
    ]
    return float(np.mean(deltaE_ciede2000(lab[1], lab[0])))


def _weighted(image: Image, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    if image.ndim == 2:
        return image.astype(np.float64) * weights.sum()
    return image.astype(np.float64) @ weights


def _as_16_bit(image: Image) -> Image:
    return image if image.dtype == np.uint16 else image.astype(np.uint16) * np.uint16(257)


def _as_rgb(image: Image) -> Image:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _size(image: Image) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"
