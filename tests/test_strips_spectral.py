"""MST++ and MST by strips equal their plain forward pass."""

from __future__ import annotations

import pytest
import torch

from restorecli.networks.mst import MSTCassi
from restorecli.networks.regression import RootPolynomial
from restorecli.networks.strips.planes import GridMaxima, Plane, Stored, halved
from restorecli.networks.strips.rows import kernel_of
from restorecli.networks.strips.spectral import reconstruct_by_strips, reconstructed_rows
from tests.test_mst import ATTENTIONS, SMALL, lively, noise

KEEP = (0, 2**40)
KINDS = [
    *((name, options) for name in ("mst_plus_plus", "mst_cassi") for options in ATTENTIONS),
    ("mst_rgb", ATTENTIONS[-1]),
    ("mst_plus_plus", {"stage": 2}),
    ("mst_rgb", {"num_blocks": (2, 2, 1), "attention": "glmha"}),
    ("mst_cassi", {"num_blocks": (2, 1, 2)}),
]


def assert_same(network, x, strip_rows, keep_bytes):
    mask = noise(*x.shape[-2:], seed=3) if isinstance(network, MSTCassi) else None
    with torch.inference_mode():
        expected = network(x) if mask is None else network(x, mask)
    actual = reconstruct_by_strips(
        network, x, strip_rows=strip_rows, keep_bytes=keep_bytes, mask=mask
    )
    assert 0.05 < expected.std() < 100, "the comparison would mean little"
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("keep_bytes", KEEP)
@pytest.mark.parametrize(("name", "options"), KINDS)
def test_strips_equal_the_plain_forward_pass(name, options, keep_bytes):
    network = lively(name, **options)
    bands = 28 if name == "mst_cassi" else 3
    assert_same(network, noise(1, bands, 20, 12), 5, keep_bytes)


@pytest.mark.parametrize("keep_bytes", KEEP)
@pytest.mark.parametrize("name", sorted(SMALL))
def test_strips_of_any_height_give_the_same(name, keep_bytes):
    network = lively(name)
    bands = 28 if name == "mst_cassi" else 3
    for strip_rows in (1, 3, 8, 1000):
        assert_same(network, noise(1, bands, 12, 8), strip_rows, keep_bytes)


@pytest.mark.parametrize("name", ["mst_plus_plus", "mst_rgb"])
def test_sizes_that_do_not_divide_and_two_pictures_at_once(name):
    network = lively(name)
    for size in ((1, 1), (19, 26), (7, 33)):
        assert_same(network, noise(2, 3, *size), 3, 0)


def test_the_regression_by_strips_is_the_regression():
    torch.manual_seed(0)
    network = RootPolynomial().double()
    torch.nn.init.normal_(network.weight)
    assert_same(network, noise(1, 3, 9, 5), 2, 0)


def test_float32_stays_close_to_float64():
    network = lively("mst_plus_plus", stage=2)
    x = noise(1, 3, 48, 40)
    with torch.inference_mode():
        expected = network(x)
        plain = network.float()(x.float()).double()
    strips = reconstruct_by_strips(network, x.float(), strip_rows=16).double()
    largest = (plain - expected).abs().max()
    assert (strips - expected).abs().max() < max(4 * largest, 1e-5)


def test_rows_are_replaced_as_if_all_at_once():
    buffer = torch.arange(7.0)[:, None, None].clone()
    expected = torch.nn.functional.avg_pool1d(buffer.flatten()[None], 5, 1, 2)[0]

    def mean(slab, top, bottom):
        padded = slab.rows
        above = 2 if slab.start == 0 else 0
        below = 2 if slab.stop == 7 else 0
        padded = torch.nn.functional.pad(padded.flatten()[None], (above, below))
        means = torch.nn.functional.avg_pool1d(padded, 5, 1)[0]
        first = slab.start + 2 - above
        return means[top - first : bottom - first][:, None, None]

    for strip_rows in (1, 2, 3, 7):
        stored = Stored(buffer.clone())
        stored.replace(mean, 2, strip_rows)
        torch.testing.assert_close(stored.buffer.flatten(), expected)


def test_halving_and_maxima_by_rows_are_those_of_the_plane():
    x = noise(1, 4, 12, 11)
    rows = x[0].permute(1, 2, 0).contiguous()
    plane = Plane(12, lambda top, bottom: rows[top:bottom])
    layer = torch.nn.Conv2d(4, 3, 4, stride=2, padding=1, bias=False).double()
    with torch.inference_mode():
        small = halved(plane, kernel_of(layer, torch.float64))
        made = torch.cat([small.make(0, 1), small.make(1, 4), small.make(4, 6)])
        torch.testing.assert_close(made.permute(2, 0, 1), layer(x)[0], rtol=0, atol=1e-12)
    maxima = GridMaxima(5)
    for top, bottom in ((0, 4), (4, 5), (5, 12)):
        maxima.add(plane.slab(top, bottom))
    expected = torch.nn.functional.adaptive_max_pool2d(x, 5)
    assert torch.equal(maxima.total, expected)


def test_what_cannot_be_evaluated_is_refused():
    arguments = {"strip_rows": 4, "dtype": torch.float64, "keep_bytes": 0}
    with pytest.raises(ValueError, match="no evaluation by strips for Linear"):
        next(reconstructed_rows(torch.nn.Linear(2, 2), noise, (8, 8), **arguments))
    with pytest.raises(ValueError, match="needs a mask"):
        next(reconstructed_rows(lively("mst_cassi"), noise, (8, 8), **arguments))
    arguments["strip_rows"] = 0
    with pytest.raises(ValueError, match="strip_rows"):
        next(reconstructed_rows(lively("mst_rgb"), noise, (8, 8), **arguments))
