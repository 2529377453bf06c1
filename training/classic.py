"""Classic methods, without any training: what a network has to beat on the same pictures.

Each takes and gives RGB (H, W, 3) float32 in [0, 1]; those that need to know what was done to the
picture are given it (the noise's σ, the blur's kernel), which no network is.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from restorecli.degradations.common import Image, Plane, from_linear, to_linear
from restorecli.degradations.haze import follow_edges
from training.testsets import Levels, Pair, TestSet

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
TARGET_LUMA = 0.45  # mean that the exposure curve aims at
NOT_INSTALLED = "not installed"


def dark_channel_prior(hazy: Image) -> Image:
    """He, Sun and Tang, Single Image Haze Removal Using Dark Channel Prior, CVPR 2009.

    Patch 15, ω 0.95, t at least 0.1, as in the paper; the transmission is refined by the guided
    filter (He, Sun and Tang, TPAMI 2013) in place of the paper's matting.
    """
    patch = np.ones((15, 15), np.uint8)
    dark = cv2.erode(hazy.min(axis=2), patch)
    count = max(1, dark.size // 1000)
    haziest = np.argpartition(dark.ravel(), -count)[-count:]
    candidates = hazy.reshape(-1, 3)[haziest]
    airlight = np.maximum(candidates[candidates.sum(axis=1).argmax()], 1e-3)
    transmission = 1 - 0.95 * cv2.erode((hazy / airlight).min(axis=2), patch)
    refined = follow_edges(transmission.astype(np.float32), hazy, 60, 1e-3)
    t = np.maximum(refined, 0.1)[..., None]
    return np.clip((hazy - airlight) / t + airlight, 0, 1).astype(np.float32)


def exposure_curve(dark: Image) -> Image:
    """``y = g·x / (1 + (g − 1)·x)`` with the g for which the mean luma becomes 0.45."""

    def brightened(gain: float) -> Image:
        return (gain * dark / (1 + (gain - 1) * dark)).astype(np.float32)

    low, high = 1.0, 1e4
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        if float((brightened(middle) @ LUMA).mean()) < TARGET_LUMA:
            low = middle
        else:
            high = middle
    return brightened(low)


def clahe(picture: Image) -> Image:
    """Contrast-limited adaptive histogram equalisation of L* (Zuiderveld 1994), limit 2, 8×8."""
    lab = cv2.cvtColor(np.round(picture * 255).astype(np.uint8), cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.float32) / np.float32(255)


def median(picture: Image) -> Image:
    """The median of 5×5 in each channel: what is thin and bright goes, and fine detail with it."""
    levels = np.round(picture * 255).astype(np.uint8)
    return cv2.medianBlur(levels, 5).astype(np.float32) / np.float32(255)


def unsharp_mask(soft: Image) -> Image:
    """``x + (x − G·x)`` with a Gaussian of σ 1.5."""
    blurred = cv2.GaussianBlur(soft, (0, 0), 1.5, borderType=cv2.BORDER_REFLECT_101)
    return np.clip(2 * soft - blurred, 0, 1).astype(np.float32)


def non_local_means(noisy: Image, sigma: float) -> Image:
    """Buades, Coll and Morel, CVPR 2005, by scikit-image; ``sigma`` of [0, 1]."""
    from skimage.restoration import denoise_nl_means

    smooth = denoise_nl_means(
        noisy,
        h=0.7 * sigma,
        sigma=sigma,
        patch_size=5,
        patch_distance=6,
        fast_mode=True,
        channel_axis=2,
    )
    return np.clip(smooth, 0, 1).astype(np.float32)


def cbm3d(noisy: Image, sigma: float) -> Image:
    """Dabov et al., IEEE TIP 2007, by its authors' package bm3d; ``sigma`` of [0, 1]."""
    import bm3d

    return np.clip(bm3d.bm3d_rgb(noisy.astype(np.float64), sigma), 0, 1).astype(np.float32)


def estimated_sigma(noisy: Image) -> float:
    """σ of [0, 1] by the median of the finest wavelet details (Donoho and Johnstone 1994), Haar."""
    height, width = (side // 2 * 2 for side in noisy.shape[:2])
    a, b, c, d = (noisy[i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
    return float(np.median(np.abs(a - b - c + d)) / 2 / 0.6745)


def richardson_lucy(soft: Image, kernel: Plane) -> Image:
    """20 steps of Richardson (1972) and Lucy (1974) in linear light, with the blur's ``kernel``."""
    linear = np.maximum(to_linear(soft), np.float32(1e-4))
    turned = np.ascontiguousarray(kernel[::-1, ::-1])
    estimate = linear
    for _ in range(20):
        blurred = np.maximum(filtered(estimate, kernel), np.float32(1e-4))
        ratio = (linear / blurred).astype(np.float32, copy=False)
        estimate = (estimate * filtered(ratio, turned)).astype(np.float32, copy=False)
    return from_linear(np.clip(estimate, 0, 1))


def wiener(soft: Image, kernel: Plane) -> Image:
    """Wiener's filter in linear light, with the ``kernel`` and a noise-to-signal ratio of 0.01."""
    reach = kernel.shape[0] // 2 + 16
    edge = ((reach, reach), (reach, reach), (0, 0))
    linear = np.pad(to_linear(soft), edge, mode="reflect")
    height, width = linear.shape[:2]
    spread = np.zeros((height, width), np.float32)
    side = kernel.shape[0]
    spread[:side, :side] = kernel[::-1, ::-1]  # blurring correlates, spectra convolve
    spread = np.roll(spread, (-(side // 2), -(side // 2)), axis=(0, 1))
    response = np.fft.rfft2(spread)[..., None]
    inverse = np.conj(response) / (np.abs(response) ** 2 + 0.01)
    restored = np.fft.irfft2(np.fft.rfft2(linear, axes=(0, 1)) * inverse, (height, width), (0, 1))
    inner = restored[reach:-reach, reach:-reach]
    return from_linear(np.clip(inner, 0, 1).astype(np.float32))


def filtered(linear: Image, kernel: Plane) -> Image:
    """Each channel correlated with ``kernel``: (H, W, 3) → the same."""
    soft = cv2.filter2D(linear, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return soft.astype(np.float32, copy=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A classic method and its name in the table."""

    name: str
    apply: Callable[[Image, Pair], Image]
    slow: bool = False  # seconds a picture rather than a fraction of one
    package: str = ""  # that has to be installed

    @property
    def is_installed(self) -> bool:
        """Whether it can run here."""
        return not self.package or importlib.util.find_spec(self.package) is not None

    def __call__(self, pair: Pair, cache: Path | None = None) -> Levels:
        """The restored picture, uint8; found in ``cache`` if it was made there before."""
        if cache is None or not self.slow:
            return self._made(pair)
        kept = cache / f"{self._key(pair)}.png"
        if kept.exists() and (found := cv2.imread(str(kept))) is not None:
            return np.ascontiguousarray(found[..., ::-1], np.uint8)
        restored = self._made(pair)
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(".part.png")
        cv2.imwrite(str(unfinished), restored[..., ::-1])
        unfinished.replace(kept)
        return restored

    def all(self, pairs: Sequence[Pair], cache: Path | None = None) -> list[Levels]:
        """All of ``pairs``, restored."""
        return [self(pair, cache) for pair in pairs]

    def _made(self, pair: Pair) -> Levels:
        restored = self.apply(pair.degraded.astype(np.float32) / np.float32(255), pair)
        return np.round(np.clip(restored, 0, 1) * 255).astype(np.uint8)

    def _key(self, pair: Pair) -> str:
        pixels = np.ascontiguousarray(pair.degraded)
        text = f"{self.name} {pixels.shape}".encode()
        return hashlib.sha256(text + pixels.tobytes()).hexdigest()[:32]


def plain(name: str, apply: Callable[[Image], Image]) -> Method:
    """A method that needs the picture alone."""
    return Method(name=name, apply=lambda picture, pair: apply(picture))


def with_sigma(name: str, apply: Callable[[Image, float], Image], sigma: float | None) -> Method:
    """A denoiser with the true ``sigma`` of 255 levels, or an estimate of it."""
    how = "estimated σ" if sigma is None else f"true σ {sigma:g}"

    def denoise(picture: Image, pair: Pair) -> Image:
        return apply(picture, estimated_sigma(picture) if sigma is None else sigma / 255)

    package = "bm3d" if apply is cbm3d else ""
    return Method(name=f"{name}, {how}", apply=denoise, slow=apply is cbm3d, package=package)


def with_kernel(name: str, apply: Callable[[Image, Plane], Image]) -> Method:
    """A method that is told the blur's kernel."""

    def sharpen(picture: Image, pair: Pair) -> Image:
        assert pair.kernel is not None
        return apply(picture, pair.kernel)

    return Method(name=f"{name}, known kernel", apply=sharpen)


def methods_for(chosen: TestSet) -> list[Method]:
    """The classic methods for a test set, in the order of the table."""
    if chosen.is_clean:
        return []
    blur = [plain("unsharp mask", unsharp_mask)]
    if chosen.kernel:
        blur += [with_kernel("Wiener", wiener), with_kernel("Richardson–Lucy", richardson_lucy)]
    return {
        "derain": [plain("median 5×5", median)],
        "desnow": [plain("median 5×5", median)],
        "dehaze": [plain("dark channel prior", dark_channel_prior), plain("CLAHE", clahe)],
        "lowlight": [plain("exposure curve", exposure_curve), plain("CLAHE", clahe)],
        "denoise": [
            with_sigma("non-local means", non_local_means, chosen.sigma),
            with_sigma("CBM3D", cbm3d, chosen.sigma),
        ],
        "deblur": blur,
        "defocus": blur,
    }[chosen.task]
