from __future__ import annotations

import numpy as np
import pytest

from restorecli.degradations import blur, darkness, haze, noise, snow
from restorecli.degradations.common import from_linear, jpeg, smooth_field, to_linear


@pytest.fixture
def clean(picture):
    return picture(64, 72).astype(np.float32) / np.float32(255)


@pytest.fixture
def flat():
    return np.full((64, 72, 3), 0.5, np.float32)


def samples(degrade, photograph, count=60):
    return [degrade(photograph, np.random.default_rng(seed)) for seed in range(count)]


ALL = {
    "snow": snow.Snow(maps=4),
    "haze": haze.haze,
    "darkness": darkness.darkness,
    "camera noise": noise.camera,
    "motion": blur.motion_blur,
    "defocus": blur.defocus_blur,
}


@pytest.mark.parametrize("name", ALL)
def test_the_result_is_a_picture_of_the_same_size(name, clean):
    for sample in samples(ALL[name], clean, 25):
        assert sample.shape == clean.shape
        assert sample.dtype == np.float32
        assert 0 <= sample.min() <= sample.max() <= 1


def test_gaussian_noise_has_every_level_up_to_the_largest(flat):
    deviations = [float((s - flat).std()) * 255 for s in samples(noise.gaussian, flat, 1000)]
    assert min(deviations) < 3
    assert 50 < max(deviations) < noise.LARGEST_SIGMA * 1.03
    low, high = noise.USUAL_SIGMAS
    usual = np.mean([low <= deviation <= high for deviation in deviations])
    others = (high - low) / noise.LARGEST_SIGMA  # of those of any level, as many are usual
    expected = noise.USUAL_SHARE + (1 - noise.USUAL_SHARE) * others
    assert usual == pytest.approx(expected, abs=0.05)


def test_half_of_the_gaussian_samples_are_not_clipped():
    white = np.ones((32, 32, 3), np.float32)
    beyond = [s.max() > 1.001 for s in samples(noise.gaussian, white, 200)]
    assert np.mean(beyond) == pytest.approx(0.5, abs=0.1)


def test_camera_noise_has_unit_variance_before_it_is_scaled():
    planes = [darkness.spread((96, 96), np.random.default_rng(seed)) for seed in range(40)]
    assert np.mean([p.var() for p in planes]) == pytest.approx(1, abs=0.05)
    left, right = (np.concatenate([p[:, part, 0].ravel() for p in planes])
                   for part in (slice(None, -1), slice(1, None)))  # fmt: skip
    assert np.corrcoef(left, right)[0, 1] > 0.15  # neighbours are correlated


def test_shot_noise_grows_with_light():
    ramp = np.tile(np.array([0.2, 0.8], np.float32).repeat(64)[None, :, None], (64, 1, 3))
    linear = to_linear(ramp)
    made = [to_linear(s) - linear for s in samples(noise.camera, ramp, 80)]
    dark = np.mean([m[:, :60].var() for m in made])
    bright = np.mean([m[:, 68:].var() for m in made])
    assert bright > 3 * dark


def test_haze_is_the_atmospheric_model(clean, monkeypatch):
    depth = np.ones(clean.shape[:2], np.float32)
    monkeypatch.setattr(haze, "random_depth", lambda clean, rng: depth)
    hazy = haze.haze(clean, np.random.default_rng(1))
    # one transmission and one airlight for all pixels: a straight line in each channel
    for channel in range(3):
        slope, offset = np.polyfit(clean[..., channel].ravel(), hazy[..., channel].ravel(), 1)
        line = slope * clean[..., channel] + offset
        np.testing.assert_allclose(hazy[..., channel], line, atol=1e-5)
        assert 0 < slope < 0.8
        assert 0.55 < offset / (1 - slope) < 1.1  # the airlight


def test_depth_is_positive_and_varied(clean):
    depths = [haze.random_depth(clean, np.random.default_rng(seed)) for seed in range(60)]
    assert min(d.min() for d in depths) > 0
    assert np.mean([d.std() / d.mean() > 0.1 for d in depths]) > 0.7


def test_darkness_darkens(clean):
    assert max(s.mean() for s in samples(darkness.darkness, clean)) < 0.6 * clean.mean()


@pytest.mark.parametrize("degrade", [blur.motion_blur, blur.defocus_blur])
def test_blur_keeps_a_flat_picture_but_for_noise(degrade, flat):
    for sample in samples(degrade, flat, 30):
        assert sample.mean() == pytest.approx(0.5, abs=0.003)
        assert sample.std() < 0.02


@pytest.mark.parametrize("degrade", [blur.motion_blur, blur.defocus_blur])
def test_blur_removes_detail(degrade, clean):
    def detail(image):
        return np.abs(np.diff(image, axis=0)).mean() + np.abs(np.diff(image, axis=1)).mean()

    assert np.median([detail(s) for s in samples(degrade, clean)]) < 0.9 * detail(clean)


def test_kernels_sum_to_one_and_stay_inside_the_margin():
    for seed in range(200):
        kernel = blur.motion_kernel(np.random.default_rng(seed))
        assert kernel.shape == (2 * blur.MARGIN_PX - 1,) * 2
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("radius_px", [2.5, 4, 7])
def test_the_disc_has_the_area_of_its_radius(radius_px):
    kernel = blur.aperture(radius_px, 0, 0)
    # 1 / Σk² is the area of a uniform kernel; the soft edge adds a little
    assert 1 / (kernel**2).sum() == pytest.approx(np.pi * radius_px**2, rel=0.15)


def test_a_path_is_shared_by_the_four_pixels_around_it():
    kernel = blur.splat(np.array([[0.25, 0.5]]))
    centre = blur.MARGIN_PX - 1
    found = kernel[centre : centre + 2, centre : centre + 2]
    np.testing.assert_allclose(found, [[0.375, 0.375], [0.125, 0.125]], atol=1e-6)


def test_snow_brightens_what_is_dark():
    dark = np.full((48, 48, 3), 0.2, np.float32)
    made = samples(ALL["snow"], dark, 100)
    assert min(s.min() for s in made) >= 0.2 - 1e-6
    assert np.mean([s.max() > 0.5 for s in made]) > 0.7


def test_snow_larger_than_its_maps_is_refused():
    with pytest.raises(ValueError, match="snow maps"):
        ALL["snow"](np.zeros((snow.MAP_PX + 1, 8, 3), np.float32), np.random.default_rng(1))


def test_gamma_goes_there_and_back(clean):
    np.testing.assert_allclose(from_linear(to_linear(clean, 2.1), 2.1), clean, atol=1e-5)


def test_jpeg_costs_more_at_lower_quality(clean):
    losses = [
        float(np.abs(jpeg(clean, q, np.random.default_rng(0)) - clean).mean()) for q in (95, 30)
    ]
    assert 0 < losses[0] < losses[1]


def test_a_smooth_field_stays_between_its_bounds():
    for seed in range(20):
        field = smooth_field((30, 40), 0.2, 0.7, np.random.default_rng(seed))
        assert field.shape == (30, 40)
        assert 0.2 <= field.min() <= field.max() <= 0.7
