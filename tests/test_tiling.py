from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from restorecli.engine.tiling import blend_weights, tile_slices, tiled_rows


def tiled(restore, size, tile_px, overlap_px):
    bands = list(tiled_rows(restore, size, tile_px=tile_px, overlap_px=overlap_px))
    covered = [row for start, rows in bands for row in range(start, start + rows.shape[1])]
    assert covered == list(range(size[0]))
    return torch.cat([rows for _, rows in bands], 1)


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
    x = torch.rand(3, height, width)
    y = tiled(lambda rows, columns: 0.5 * x[:, rows, columns] + 0.1, (height, width), tile, overlap)
    torch.testing.assert_close(y, 0.5 * x + 0.1)


def test_blending_leaves_no_seam_where_tiles_disagree():
    constants = iter([0.0, 1.0])
    y = tiled(lambda rows, columns: torch.full((1, 32, 64), next(constants)), (32, 112), 64, 16)
    steps = y[0, 0].diff()
    assert (steps >= 0).all()
    assert steps.max() < 0.11  # half a cosine over 16 px rises at most π/32 a pixel


def test_bands_blend_as_columns_do():
    values = torch.arange(6.0)
    counted = iter(values)
    y = tiled(lambda rows, columns: torch.full((1, 64, 64), next(counted)), (144, 112), 64, 16)
    counted = iter(values.reshape(3, 2).T.flatten())
    turned = tiled(lambda rows, columns: torch.full((1, 64, 64), next(counted)), (112, 144), 64, 16)
    torch.testing.assert_close(y, turned.mT)


def test_an_impossible_overlap_is_refused():
    with pytest.raises(ValueError, match="overlap"):
        tile_slices(100, 32, 32)
