"""Everything that spoils pictures on request: repeatable, in range, and as strong as asked."""

import numpy as np
import pytest
import skimage.data

from restorecli.degradations.blur import MARGIN_PX, motion_kernel
from restorecli.degradations.kinds import KINDS, SEVERITIES, degraded, resized


@pytest.fixture(scope="module")
def clean():
    return skimage.data.coffee()[100:228, 200:360].astype(np.float32) / np.float32(255)


def error(one, other):
    return float(np.mean((one - other) ** 2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_values_and_another_one_others(kind, clean):
    first, again, other = (degraded(kind, clean, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == clean.shape
    assert first.dtype == np.float32
    assert 0 <= first.min() <= first.max() <= 1
    assert not np.array_equal(first, clean)


@pytest.mark.parametrize("kind", KINDS)
def test_more_severity_is_further_from_the_clean_picture(kind, clean):
    for seed in range(3):
        errors = [error(degraded(kind, clean, seed, f), clean) for f in (*SEVERITIES[:1], 0.5, 2)]
        assert errors == sorted(errors), seed
        assert errors[0] < 0.5 * errors[2], seed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (3, 90), (70, 2)])
def test_any_size_can_be_spoiled(kind, size):
    picture = np.full((*size, 3), 0.5, np.float32)
    made = degraded(kind, picture, 1)
    assert made.shape == picture.shape
    assert np.isfinite(made).all()


@pytest.mark.parametrize("severity", [0, 0.01, 5, float("nan")])
def test_a_severity_out_of_range_is_refused(severity, clean):
    with pytest.raises(ValueError, match=r"severity must be from 0\.05 to 4"):
        degraded("rain", clean, 1, severity)


@pytest.mark.parametrize("factor", [0.1, 0.5, 1, 1.7, 3])
def test_a_resized_kernel_reaches_as_far_as_asked_and_keeps_its_sum(factor):
    kernel = motion_kernel(np.random.default_rng(2))
    made = resized(kernel, factor)
    assert made.shape[0] % 2 == 1
    assert made.sum() == pytest.approx(1, abs=1e-5)
    assert made.min() >= 0

    def spread(plane):
        offsets = np.arange(plane.shape[0]) - (plane.shape[0] - 1) / 2
        weights = plane.sum(axis=1)
        centre = (offsets * weights).sum()
        return centre, np.sqrt(((offsets - centre) ** 2 * weights).sum())

    (centre, width), (made_centre, made_width) = spread(kernel), spread(made)
    assert made_centre == pytest.approx(factor * centre, abs=0.15)
    assert made_width == pytest.approx(factor * width, abs=0.5)
    assert kernel.shape[0] == 2 * MARGIN_PX - 1
