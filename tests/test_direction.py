"""A network that removes more from a turned picture is given it turned; all else stays."""

from dataclasses import replace

import numpy as np
import pytest
import skimage.data

import restorecli
from restorecli.engine import direction
from restorecli.weights import registry


def rows_change(crop):
    """How much a network would change that acts on what differs from row to row."""
    return float(np.abs(np.diff(crop.astype(np.float64), axis=0)).sum())


def test_the_way_up_that_removes_more_is_found_but_not_for_a_trifle(picture):
    stripes = np.repeat(np.arange(300)[None] * 5 % 256, 200, 0).astype(np.uint8)
    assert direction.is_better_turned(stripes, rows_change)
    assert not direction.is_better_turned(np.ascontiguousarray(stripes.T), rows_change)
    assert not direction.is_better_turned(picture(200, 300), lambda crop: 1.0)
    assert not direction.is_better_turned(picture(200, 300), lambda crop: 0.0)


def test_crops_lie_inside_whatever_the_size():
    for size, count in (((1, 1), 1), ((100, 900), 1), ((640, 700), 5), ((3000, 4000), 5)):
        found = direction.crops(np.zeros((*size, 3), np.uint8))
        assert len(found) == count
        assert {part.shape[:2] for part in found} == {tuple(min(160, side) for side in size)}


@pytest.fixture(scope="module")
def engine():
    return restorecli.load(registry().default("derain").id, device="cpu", precision="fp32")


def turning(engine, *, turns):
    return replace(engine, model=replace(engine.model, turns=turns))


def test_rain_from_the_side_is_removed_as_if_it_fell(engine, monkeypatch):
    monkeypatch.setattr(direction, "is_better_turned", lambda pixels, change: len(pixels) > 120)
    clean = skimage.data.coffee()[100:220, 150:298].astype(np.float32) / np.float32(255)
    streaks = np.zeros(clean.shape[:2], np.float32)
    rng = np.random.default_rng(3)
    for top, left in zip(rng.integers(0, 100, 120), rng.integers(0, 147, 120), strict=True):
        streaks[top : top + 18, left] = 0.35
    rainy = np.round(np.clip(clean + streaks[..., None], 0, 1) * 255).astype(np.uint8)
    sideways = np.ascontiguousarray(np.rot90(rainy, -1))
    upright, _ = turning(engine, turns=True).restore(rainy)
    turned, plan = turning(engine, turns=True).restore(sideways)
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))
    assert turned.shape == sideways.shape
    assert turned.flags.c_contiguous
    assert plan.tile_px is None
    plain, _ = turning(engine, turns=False).restore(rainy)
    np.testing.assert_array_equal(upright, plain)
    as_it_is, _ = turning(engine, turns=False).restore(sideways)
    assert not np.array_equal(as_it_is, turned)
