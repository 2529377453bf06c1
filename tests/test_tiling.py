from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from restorecli.tiling import blend_weights, restore_tiled, tile_slices


@given(length=st.integers(1, 500), tile=st.integers(8, 128), overlap=st.integers(0, 127))
def test_slices_cover_the_axis_and_overlap_enough(length, tile, overlap):
    assume(overlap < tile)
    slices = tile_slices(length, tile, overlap)
    assert (slices[0].start, slices[-1].stop) == (0, length)
    assert {s.stop - s.start for s in slices} == {min(tile, length)}
    assert all(left.stop - right.start >= overlap for left, right in pairwise(slices))


def test_weights_of_two_windows_that_share_the_overlap_add_up_to_one():
    left = blend_weights(slice(0, 64), 112, 16)
    right = blend_weights(slice(48, 112), 112, 16)
    torch.testing.assert_close(left[48:] + right[:16], torch.ones(16))
    assert (left[:48] == 1).all()
    assert (right[16:] == 1).all()
    assert (left > 0).all()


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    tile=st.sampled_from([16, 24, 32]),
    overlap=st.integers(0, 15),
)
def test_a_pointwise_function_in_tiles_is_the_function(height, width, tile, overlap):
    x = torch.rand(1, 3, height, width)
    done = []
    y = restore_tiled(
        lambda part: 0.5 * part + 0.1, x, tile_px=tile, overlap_px=overlap, on_tile=done.append
    )
    torch.testing.assert_close(y, 0.5 * x + 0.1)
    assert sum(done) == pytest.approx(1)


def test_blending_leaves_no_seam_where_tiles_disagree():
    x = torch.zeros(1, 1, 32, 112)
    constants = iter([0.0, 1.0])
    y = restore_tiled(
        lambda part: torch.full_like(part, next(constants)), x, tile_px=64, overlap_px=16
    )
    steps = y[0, 0, 0].diff()
    assert (steps >= 0).all()
    assert steps.max() < 0.11  # half a cosine over 16 px rises at most π/32 a pixel


def test_an_impossible_overlap_is_refused():
    with pytest.raises(ValueError, match="overlap"):
        tile_slices(100, 32, 32)
