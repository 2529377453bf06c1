"""What was added to smooth regions is found and measured; what more contrast does is not."""

import numpy as np
import pytest
from skimage.color import lab2rgb

from restorecli.scoring.metrics import stains

SIDE = 160
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float64)


def picture(light, a=0.0, b=0.0):
    """Uint16 RGB of L*, a*, b*: fine enough for closed forms."""
    lab = np.stack(np.broadcast_arrays(light, a, b, ROWS)[:3], axis=-1)
    return np.round(lab2rgb(lab) * 65535).astype(np.uint16)


SKY = 70 + ROWS / 40  # a gradient from 70 to 74
GRAIN = np.random.default_rng(0).normal(0, 0.6, (SIDE, SIDE))


def test_a_picture_is_not_stained_by_itself():
    found = stains(picture(SKY), picture(SKY))
    assert found.smooth_share == 1
    assert found.mottle == pytest.approx(0, abs=1e-3)
    assert found.roughness == pytest.approx(0, abs=1e-3)
    assert found.tint == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("period_px", [8, 40])
def test_mottle_has_the_standard_deviation_of_what_was_added(period_px):
    wave = 2 * np.sin(2 * np.pi * COLUMNS / period_px)
    found = stains(picture(SKY), picture(SKY + wave))
    assert found.mottle == pytest.approx(2 / np.sqrt(2), rel=0.15)
    assert found.roughness == pytest.approx(2 / np.sqrt(2), rel=0.15)


def test_banding_has_the_standard_deviation_of_a_step():
    gradient = 60 + ROWS / 10
    banded = np.floor(gradient / 2) * 2 + 1
    found = stains(picture(gradient), picture(banded))
    assert found.mottle == pytest.approx(2 / np.sqrt(12), rel=0.25)


def test_tint_is_the_distance_that_colours_moved():
    moved = picture(SKY, 3, 4)
    assert stains(picture(SKY), moved).tint == pytest.approx(5, rel=0.02)
    assert stains(moved, picture(SKY)).tint == pytest.approx(0, abs=0.05)  # to become gray is none
    assert stains(picture(SKY, 0, -4), picture(SKY, 0, 4)).tint == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("gain", [0.5, 1.5, 3.0])
def test_more_or_less_contrast_stains_nothing(gain):
    grained = SKY + GRAIN
    before = picture(grained, 1, -3)
    after = picture(40 + gain * (grained - 70), gain * 1, gain * -3)
    found = stains(before, after)
    assert found.mottle == pytest.approx(0, abs=0.02)
    assert found.tint == pytest.approx(0, abs=0.05)
    assert (found.roughness > 0.5) == (gain > 1)  # that it shows more is said, not blamed


def test_smoothing_stains_nothing():
    found = stains(picture(SKY + GRAIN), picture(SKY))
    assert found.mottle < 0.25 * 0.6  # of the grain that went
    assert found.roughness == 0


def test_what_happens_where_there_is_detail_does_not_count():
    detail = np.where(COLUMNS < SIDE / 2, 20 * np.sin(COLUMNS) * np.sin(ROWS), 0)
    changed = np.where(COLUMNS < SIDE / 2 - 45, 25 * np.cos(ROWS), 0)
    found = stains(picture(60 + detail), picture(60 + detail + changed))
    assert 0.2 < found.smooth_share < 0.6
    assert found.mottle < 0.05
    assert found.tint < 0.05


def test_the_dark_is_not_judged():
    night = 8 + ROWS / 40
    brightened = stains(picture(night), picture(4 * night + GRAIN, 6, 6))
    assert (brightened.smooth_share, brightened.mottle) == (0, None)


def test_a_picture_without_anything_smooth_has_no_figures():
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    found = stains(noise, noise)
    assert (found.mottle, found.roughness, found.tint) == (None, None, None)


def test_gray_pictures_are_compared_and_sizes_must_agree():
    gray = np.full((40, 40), 128, np.uint8)
    assert stains(gray, gray).mottle == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="sizes differ"):
        stains(gray, gray[:-1])
