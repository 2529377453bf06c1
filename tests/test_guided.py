"""The guided filter of the affine head: by its definition, and what it cannot do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restorecli.networks import HINT, guided
from restorecli.networks.guided import EPS, guided_filter, window_mean
from tests.conftest import TINY


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def by_definition(single, guide, radius):
    """Window by window: least squares of the map on the guide, then the mean of all windows.

    single: (h, w); guide: (G, h, w).
    """
    count, height, width = guide.shape
    slopes, offsets, found = (np.zeros((n, height, width)) for n in (count, 1, 1))

    def window(i, j):
        return np.s_[..., max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1]

    for i, j in np.ndindex(height, width):
        x = guide[window(i, j)].reshape(count, -1)
        y = single[window(i, j)].ravel()
        covariance = np.cov(x, bias=True).reshape(count, count) + EPS * np.eye(count)
        with_map = ((x - x.mean(1, keepdims=True)) * (y - y.mean())).mean(1)
        slopes[:, i, j] = np.linalg.solve(covariance, with_map)
        offsets[0, i, j] = y.mean() - slopes[:, i, j] @ x.mean(1)
    for i, j in np.ndindex(height, width):
        mean = [part[window(i, j)].mean((-2, -1)) for part in (slopes, offsets)]
        found[0, i, j] = mean[0] @ guide[:, i, j] + mean[1][0]
    return found[0].clip(single.min(), single.max())


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("size", "radius"), [((9, 12), 2), ((5, 4), 7), ((1, 6), 1)])
def test_it_is_what_the_paper_says(monkeypatch, size, radius, channels):
    monkeypatch.setattr(guided, "COARSER", 1)
    maps, guide = random(2, 2, *size), random(2, channels, *size, seed=1)
    found = guided_filter(maps, guide, radius)
    for i, c in np.ndindex(2, 2):
        expected = by_definition(maps[i, c].numpy(), guide[i].numpy(), radius)
        np.testing.assert_allclose(found[i, c].numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(64, 96), (50, 39)])
def test_the_coarser_grid_gives_about_the_same(monkeypatch, size):
    coarse = torch.nn.functional.interpolate(random(1, 3, 6, 8), size=size, mode="bilinear")
    guide = (coarse + 0.02 * random(1, 3, *size, seed=1)).clamp(0, 1)
    maps = guide[:, :1] * 0.5 - guide[:, 2:] + 0.1 * random(1, 1, *size, seed=2)
    fast = guided_filter(maps, guide, 16)
    monkeypatch.setattr(guided, "COARSER", 1)
    assert (fast - guided_filter(maps, guide, 16)).abs().max() < 0.02 * maps.std()


@pytest.mark.parametrize("radius", [16, 100])
def test_what_is_linear_in_the_guide_stays(radius):
    guide = torch.nn.functional.interpolate(random(1, 3, 6, 8), size=(48, 64), mode="bilinear")
    maps = torch.cat([guide[:, :1] - 2 * guide[:, 1:2] + 3, torch.full_like(guide[:, :1], -7)], 1)
    found = guided_filter(maps, guide, radius)
    torch.testing.assert_close(found[:, 1:], maps[:, 1:], rtol=0, atol=1e-10)
    assert (found - maps).abs().max() < 0.03 * maps[:, 0].std()  # ε takes a little of a slope


def test_a_lamp_in_a_smooth_sky_is_not_beyond_all_measure():
    guide = 0.5 + 0.001 * random(1, 1, 32, 32)
    maps = (guide - 0.5) * 1000
    guide[..., 16, 16] = 1
    found = guided_filter(maps, guide, 8)
    assert found.max() <= maps.max()


def test_windows_end_at_the_edges():
    x = torch.arange(12, dtype=torch.float64).reshape(1, 1, 3, 4)
    expected = [[2.5, 3.0, 4.0, 4.5], [4.5, 5.0, 6.0, 6.5], [6.5, 7.0, 8.0, 8.5]]
    assert window_mean(x, 1)[0, 0].tolist() == expected


def test_no_edge_arises_where_the_guide_is_smooth_and_none_is_lost_where_it_has_one():
    step = torch.zeros(1, 1, 40, 40, dtype=torch.float64)
    step[..., 20:] = 1
    smooth = torch.full_like(step, 0.7)
    blotched = guided_filter(step, smooth, 8)  # an edge that the picture has not
    assert blotched.diff(dim=-1).abs().max() < 0.1
    kept = guided_filter(step, step, 8)
    assert kept.diff(dim=-1).abs().max() > 0.8


def test_nothing_is_lost_in_large_pictures():
    maps, guide = random(1, 1, 8, 20_000), random(1, 3, 8, 20_000, seed=1)
    exact = guided_filter(maps, guide, 64)
    found = guided_filter(maps.float(), guide.float(), 64)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-6)


def test_a_network_with_it_gives_what_the_filtered_maps_give():
    plain = HINT(**TINY, packing=2, head="affine").double()
    guided = HINT(**TINY, packing=2, head="affine", guided_radius=2).double()
    guided.load_state_dict(plain.state_dict())
    x = random(1, 3, 32, 48)
    with torch.inference_mode():
        maps = torch.cat(plain.maps(x), 1)
        guide = torch.nn.functional.avg_pool2d(x, 2)
        a, b = guided_filter(maps, guide, 2).chunk(2, dim=1)
        expected = plain.ends.corrected(x, a, b)
        torch.testing.assert_close(guided(x), expected, rtol=0, atol=1e-12)
        assert (guided(x) - plain(x)).abs().max() > 1e-3


@pytest.mark.parametrize("options", [{"guided_radius": -1}, {"guided_radius": 4}])
def test_it_is_for_an_affine_head_and_has_a_size(options):
    with pytest.raises(ValueError, match="guided_radius must be 0, or positive with head 'affine'"):
        HINT(**TINY, **options)
