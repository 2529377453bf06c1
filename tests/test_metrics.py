import math
import subprocess
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from restorecli.errors import InputError, UsageError
from restorecli.report.words import score_label
from restorecli.scoring.metrics import (
    EXTRA_METRICS,
    PROTOCOLS,
    delta_e2000,
    extra_metric,
    find_protocol,
    luma_full_range,
    luma_studio_range,
    psnr,
    score,
    ssim,
)

TEN_LEVELS_DB = 20 * math.log10(255 / 10)  # 28.1308


@pytest.fixture
def noisy(rng):
    """A smooth colour picture and the same with noise: uint8 (48, 64, 3)."""
    rows, columns = np.mgrid[0:48, 0:64]
    clean = np.stack([rows * 4, columns * 3, 250 - rows - columns], axis=2).astype(np.uint8)
    noise = rng.normal(0, 12, clean.shape)
    return np.clip(clean + noise, 0, 255).round().astype(np.uint8), clean


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def published_ssim(x, y, data_range):
    """Wang et al. 2004, Eq. 13, one window at a time, in float64, for one channel."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a = x[top : top + 11, left : left + 11].astype(np.float64)
            b = y[top : top + 11, left : left + 11].astype(np.float64)
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a = (weights * (a - mean_a) ** 2).sum()
            var_b = (weights * (b - mean_b) ** 2).sum()
            cov = (weights * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * cov + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return np.mean(values)


@pytest.mark.parametrize("shape", [(32, 40), (32, 40, 3)])
def test_ten_grey_levels_apart_is_28_13_db(shape):
    dark, light = np.full(shape, 100, np.uint8), np.full(shape, 110, np.uint8)
    assert psnr(light, dark, data_range=255) == pytest.approx(TEN_LEVELS_DB, abs=1e-9)
    assert pytest.approx(28.1308, abs=5e-5) == TEN_LEVELS_DB
    scores = score(light, dark, PROTOCOLS["rgb"])
    assert scores["psnr_rgb"] == pytest.approx(TEN_LEVELS_DB, abs=1e-9)


def test_ten_levels_on_matlab_y_span_219_of_255():
    dark, light = np.full((32, 40, 3), 100, np.uint8), np.full((32, 40, 3), 110, np.uint8)
    expected = 20 * math.log10(255 / (10 * 219 / 255))
    assert score(light, dark, PROTOCOLS["rain"])["psnr_y"] == pytest.approx(expected, abs=1e-9)
    rounded = 20 * math.log10(255 / 8)  # 101.88 → 102 and 110.47 → 110
    assert score(light, dark, PROTOCOLS["rain_matlab"])["psnr_y"] == pytest.approx(rounded)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=str)
def test_identical_pictures_score_infinity_and_one(protocol, noisy):
    psnr_key, ssim_key = protocol.keys
    assert score(noisy[0], noisy[0], protocol) == {psnr_key: math.inf, ssim_key: 1.0}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=str)
def test_sixteen_bits_score_like_the_eight_bits_they_hold(protocol, noisy):
    wide = [image.astype(np.uint16) * 257 for image in noisy]
    expected = score(*noisy, protocol)
    tolerance = 0.1 if protocol.y_rounded else 1e-9  # 16-bit Y is rounded 257 times finer
    assert score(*wide, protocol) == pytest.approx(expected, abs=tolerance)
    assert score(wide[0], noisy[1], protocol) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=str)
def test_gray_scores_as_the_same_gray_stored_in_three_channels(protocol, noisy):
    gray = [image[..., 0] for image in noisy]
    colour = [np.repeat(image[..., None], 3, axis=2) for image in gray]
    assert score(*gray, protocol) == pytest.approx(score(*colour, protocol), abs=1e-9)
    assert score(gray[0], colour[1], protocol) == pytest.approx(score(*colour, protocol), abs=1e-9)


def test_ssim_is_the_published_formula_on_y(noisy):
    y = [luma_studio_range(image, rounded=False) for image in noisy]
    assert score(*noisy, PROTOCOLS["rain"])["ssim_y"] == pytest.approx(
        published_ssim(*y, 255), abs=1e-10
    )


def test_ssim_is_the_published_formula_averaged_over_channels(noisy):
    expected = np.mean([published_ssim(noisy[0][..., c], noisy[1][..., c], 255) for c in range(3)])
    assert ssim(*noisy, data_range=255) == pytest.approx(expected, abs=1e-10)


def test_agrees_with_scikit_image(noisy):
    from skimage.color import rgb2ycbcr
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    restored, reference = noisy
    rgb = score(restored, reference, PROTOCOLS["sots"])
    assert rgb["psnr_rgb"] == pytest.approx(peak_signal_noise_ratio(reference, restored), abs=1e-6)
    assert rgb["ssim_rgb"] == pytest.approx(
        structural_similarity(reference, restored, channel_axis=2, data_range=255, **wang), abs=1e-6
    )
    y = [rgb2ycbcr(image)[..., 0] for image in noisy]
    on_y = score(restored, reference, PROTOCOLS["rain"])
    assert on_y["psnr_y"] == pytest.approx(
        peak_signal_noise_ratio(y[1], y[0], data_range=255), abs=1e-6
    )
    assert on_y["ssim_y"] == pytest.approx(
        structural_similarity(y[1], y[0], data_range=255, **wang), abs=1e-6
    )


def test_agrees_with_torchmetrics(noisy):
    import torch
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    tensors = [torch.from_numpy(x).double().permute(2, 0, 1)[None] for x in noisy]
    scores = score(*noisy, PROTOCOLS["denoise"])
    assert scores["psnr_rgb"] == pytest.approx(
        float(peak_signal_noise_ratio(*tensors, data_range=255.0)), abs=1e-6
    )
    _, everywhere = structural_similarity_index_measure(
        *tensors, sigma=1.5, data_range=255.0, return_full_image=True
    )  # their mean takes in a reflected border; Wang et al. leave it out
    theirs = everywhere[..., 5:-5, 5:-5].mean()
    assert scores["ssim_rgb"] == pytest.approx(float(theirs), abs=1e-6)


def test_luma_of_white_and_black():
    ends = np.array([[[255, 255, 255], [0, 0, 0]]], np.uint8)
    assert luma_studio_range(ends, rounded=False)[0] == pytest.approx([235, 16])
    assert luma_studio_range(ends.astype(np.uint16) * 257, rounded=False)[0] == pytest.approx(
        [235 * 257, 16 * 257]
    )
    assert luma_full_range(ends)[0] == pytest.approx([255, 0])


@given(arrays(np.uint8, (12, 13, 3)), arrays(np.uint8, (12, 13, 3)), st.sampled_from("xy"))
def test_psnr_is_symmetric_and_unchanged_by_flips(one, two, axis):
    forward = psnr(one, two, data_range=255)
    flip = np.fliplr if axis == "x" else np.flipud
    assert psnr(two, one, data_range=255) == pytest.approx(forward)
    assert psnr(flip(one), flip(two), data_range=255) == pytest.approx(forward)


def test_a_border_left_out_does_not_count(noisy):
    import dataclasses

    cropped = dataclasses.replace(PROTOCOLS["rgb"], crop_border_px=4)
    inside = [image[4:-4, 4:-4] for image in noisy]
    assert score(*noisy, cropped) == score(*inside, PROTOCOLS["rgb"])


def test_different_sizes_are_an_error_that_names_both(noisy):
    with pytest.raises(InputError, match=r"64×48 against a reference of 60×48"):
        score(noisy[0], noisy[1][:, :60], PROTOCOLS["rgb"])


def test_too_small_for_the_window_is_an_error(noisy):
    with pytest.raises(InputError, match="at least 11×11 pixels, got 10×48"):
        score(noisy[0][:, :10], noisy[1][:, :10], PROTOCOLS["rgb"])


@pytest.mark.parametrize("image", [np.zeros((20, 20)), np.zeros((20, 20, 4), np.uint8)])
def test_other_arrays_are_the_callers_mistake(image):
    with pytest.raises(ValueError, match="pixels must be"):
        score(image, image, PROTOCOLS["rgb"])


def test_delta_e_of_two_greys_is_their_weighted_lightness_difference():
    def lightness(level):  # CIE 1976 L* of a gray sRGB level
        linear = ((level / 255 + 0.055) / 1.055) ** 2.4
        return 116 * linear ** (1 / 3) - 16

    one, two = (np.full((12, 12, 3), level, np.uint8) for level in (90, 140))
    middle = (lightness(90) + lightness(140)) / 2 - 50
    weight = 1 + 0.015 * middle**2 / math.sqrt(20 + middle**2)  # S_L of CIEDE2000
    expected = (lightness(140) - lightness(90)) / weight
    assert delta_e2000(two, one) == pytest.approx(expected, abs=1e-3)
    assert delta_e2000(one, one) == 0


def test_aliases_name_the_same_protocol_and_typos_get_a_suggestion():
    assert find_protocol("Rain100L") is PROTOCOLS["rain"]
    with pytest.raises(UsageError, match="Did you mean 'rain100l'"):
        find_protocol("rain10l")


def test_no_two_protocols_share_a_name():
    names = [name for p in PROTOCOLS.values() for name in (p.name, *p.aliases)]
    assert len(names) == len(set(names))


def test_labels_carry_unit_and_channel():
    assert score_label("psnr_y") == "PSNR-Y, dB"
    assert score_label("ssim_rgb") == "SSIM-RGB"
    assert score_label("psnr_y_full") == "PSNR-Y full range, dB"
    assert score_label("delta_e2000") == "ΔE2000"


@pytest.mark.parametrize(("name", "package"), [("niqe", "pyiqa"), ("lpips", "torchmetrics")])
def test_a_missing_package_is_said_in_one_sentence(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", None)
    with pytest.raises(UsageError, match=f"needs {package}"):
        extra_metric(name).load()


def test_a_score_without_reference_sees_the_restored_picture_only(monkeypatch, noisy):
    from restorecli.scoring.metrics import perceptual

    fake = types.ModuleType("pyiqa")
    fake.create_metric = lambda name, device: lambda x: x.mean() + x.shape[1]
    monkeypatch.setitem(sys.modules, "pyiqa", fake)
    perceptual._pyiqa.cache_clear()
    try:
        value = extra_metric("maniqa").load()(*noisy)
    finally:
        perceptual._pyiqa.cache_clear()
    assert value == pytest.approx(3 + noisy[0].mean() / 255, abs=1e-5)


def test_unknown_extra_scores_are_refused():
    with pytest.raises(UsageError, match=r"Unknown score 'fid'\. Known: delta_e2000"):
        extra_metric("fid")
    assert all(metric.licence for metric in EXTRA_METRICS.values())


def test_loading_the_package_loads_no_heavy_library():
    heavy = "torch", "skimage", "cv2", "scipy"
    code = (
        "import sys; import restorecli.scoring.metrics, restorecli.report,"
        " restorecli.commands.metrics,"
        f" restorecli.commands.compare; print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
