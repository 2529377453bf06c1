"""Why pictures of a wide gamut are worked on in their own encoding: decisions/0008."""

from __future__ import annotations

import numpy as np
from PIL import Image
from skimage.color import deltaE_ciede2000, xyz2lab

from restorecli.images import read_photo
from tests.matrix import ICC

# Linear RGB → XYZ for D65, SMPTE RP 431-2 / EG 432-1 and IEC 61966-2-1; the curve is the same.
P3 = np.array(
    [[0.486571, 0.265668, 0.198217], [0.228975, 0.691739, 0.079287], [0, 0.045113, 1.043944]]
)
SRGB = np.array(
    [[0.412391, 0.357584, 0.180481], [0.212639, 0.715169, 0.072192], [0.019331, 0.119195, 0.950532]]
)
DETOUR_MAX, DETOUR_MEAN = 9.9, 1.55


def linear(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encoded(values):
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def lab(pixels):
    return xyz2lab(linear(pixels / 255) @ P3.T)


def display_p3():
    """The whole gamut in steps of 15: uint8 (18, 324, 3)."""
    axis = np.arange(0, 256, 15)
    return np.stack(np.meshgrid(axis, axis, axis), -1).astype(np.uint8).reshape(18, 324, 3)


def test_own_encoding_keeps_every_colour_and_a_detour_by_srgb_does_not(
    cli, tmp_path, identity_weights
):
    pixels = display_p3()
    path, out = tmp_path / "p3.png", tmp_path / "out.png"
    Image.fromarray(pixels).save(path, icc_profile=ICC)  # any profile: only its bytes matter here
    assert cli("derain", path, "--weights", identity_weights, "-o", out).exit_code == 0
    restored = read_photo(out)
    assert restored.carried.icc_profile == ICC
    assert deltaE_ciede2000(lab(pixels), lab(restored.pixels)).max() == 0

    in_srgb = np.clip(linear(pixels / 255) @ P3.T @ np.linalg.inv(SRGB).T, 0, 1)
    back = np.clip(in_srgb @ SRGB.T @ np.linalg.inv(P3).T, 0, 1)
    detour = deltaE_ciede2000(lab(pixels), lab(np.rint(encoded(back) * 255)))
    assert round(float(detour.max()), 1) == DETOUR_MAX
    assert round(float(detour.mean()), 2) == DETOUR_MEAN
