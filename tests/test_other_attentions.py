"""Linformer, Performer and Reformer between channels: their defining properties."""

from __future__ import annotations

import pytest
import torch

from restorecli.networks import NETWORKS
from restorecli.networks.other_attentions import (
    KINDS,
    Linformer,
    Performer,
    Reformer,
    with_attention,
)
from restorecli.networks.restormer import attend


def values(seed=0, channels=16, height=24, width=20):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, channels, height, width, dtype=torch.float64, generator=generator)
        for _ in range(3)
    ]


TAU = torch.full((2, 1, 1), 1.5, dtype=torch.float64)


def test_linformer_folded_is_linformer():
    torch.manual_seed(0)
    plain = Linformer(8, 4).double()
    folded = Linformer(8, 4, folded=True).double()
    folded.load_state_dict(plain.state_dict())
    torch.testing.assert_close(
        folded(*values(), TAU, 2), plain(*values(), TAU, 2), rtol=0, atol=1e-13
    )


def test_linformer_with_the_identity_is_channel_attention():
    core = Linformer(8, 8).double()
    core.project.data = torch.eye(8, dtype=torch.float64)
    expected = attend(*values(), TAU, 2)
    torch.testing.assert_close(core(*values(), TAU, 2), expected, rtol=0, atol=1e-12)


def test_performer_nears_channel_attention_as_features_grow():
    q, k, v = values()
    k = k + q  # so that scores differ
    expected = attend(q, k, v, TAU, 2)
    errors = []
    for features in (8, 64, 256):
        outs = [Performer(features, seed)(q, k, v, TAU, 2) for seed in range(11, 15)]
        errors.append(sum(float((o - expected).square().mean()) for o in outs) ** 0.5)
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


def test_performers_directions_are_orthogonal_and_long_as_gaussian_vectors():
    performer, pixels = Performer(12, seed=5), 200
    omega = performer.projected(torch.eye(pixels, dtype=torch.float64)[None, None])[0, 0].mT
    gram = omega @ omega.mT
    off_diagonal = gram - torch.diag(gram.diagonal())
    assert off_diagonal.abs().max() < 1e-8 * pixels
    assert gram.diagonal().sqrt().sub(pixels**0.5).abs().max() < 4


def test_reformer_that_sees_everything_is_channel_attention():
    q, k, v = values()
    core = Reformer(chunk=16)
    core.hashes = lambda rows, number: torch.zeros(rows.shape[:-1], dtype=torch.int64)
    torch.testing.assert_close(core(q, k, v, TAU, 2), attend(q, k, v, TAU, 2), rtol=0, atol=1e-12)


def test_reformer_looks_into_its_own_bucket_only_and_at_itself_where_that_is_empty():
    q, k, v = values(channels=8)
    core = Reformer(chunk=8)

    def hashes(rows, number):
        of_queries = rows is seen[0]
        marks = [0, 0, 1, 1, 0, 0, 2, 2] if of_queries else [0, 1, 1, 0, 0, 1, 0, 1]
        return torch.tensor(marks).expand(rows.shape[:-1])

    seen = []
    original = core._seen

    def watched(queries, keys, number):
        seen[:] = [queries]
        return original(queries, keys, number)

    core.hashes, core._seen = hashes, watched
    y = core(q, k, v, TAU[:1], 1)
    changed = v.clone()
    changed[:, 1] += 1
    moved = (core(q, k, changed, TAU[:1], 1) - y).abs().amax((0, 2, 3)) > 1e-9
    assert moved.tolist() == [False, False, True, True, False, False, False, False]
    torch.testing.assert_close(y[:, 6], v[:, 6])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("restormer", {"dim": 8, "num_blocks": [1] * 4, "num_refinement_blocks": 1}, (3, 16, 24)),
        ("mst_plus_plus", {"stage": 1}, (3, 16, 24)),
    ],
)
def test_networks_run_and_learn_with_every_attention_and_keep_their_names(
    kind, name, options, shape
):
    torch.manual_seed(0)
    network = NETWORKS[name](**options)
    names = set(network.state_dict())
    other = with_attention(network, kind)
    extra = set(other.state_dict()) - names
    assert all(key.endswith("core.project") for key in extra)
    assert bool(extra) == (kind == "linformer")
    x = torch.rand(1, *shape)
    y = other(x)
    assert torch.isfinite(y).all()
    y.square().sum().backward()
    assert torch.equal(y, other(x))  # random matrices follow from their seeds


def test_an_odd_number_of_buckets_is_refused():
    with pytest.raises(ValueError, match="even, got 3"):
        Reformer(4, buckets=3)
