"""MST++ and MST. Golden: the authors' code in float64 (tests/golden/README.md). And properties."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from restorecli.networks.mst import (
    MSTRGB,
    MSTCassi,
    MSTPlusPlus,
    cassi_input,
    cassi_measurement,
    dispersed_mask,
)
from restorecli.networks.mst_attention import GuidedLowRankSpectralAttention, SpectralAttention

GOLDEN = Path(__file__).parent / "golden"
PUBLISHED = json.loads((GOLDEN / "state_dict_keys_mst.json").read_text())
FULL_SIZE = {
    "mst_plus_plus": (MSTPlusPlus, {}),
    "mst_rgb_l": (MSTRGB, {}),
    "mst_cassi_s": (MSTCassi, {}),
    "mst_cassi_m": (MSTCassi, {"num_blocks": (2, 4, 4)}),
    "mst_cassi_l": (MSTCassi, {"num_blocks": (4, 7, 5)}),
}
SMALL = {
    "mst_plus_plus": (MSTPlusPlus, {"stage": 1}),
    "mst_rgb": (MSTRGB, {"num_blocks": (1, 1, 1)}),
    "mst_cassi": (MSTCassi, {"num_blocks": (1, 1, 1)}),
}
ATTENTIONS = [
    {},
    {"attention": "glmha"},
    {"attention": "glmha", "preset": "table"},
    {"attention": "glmha", "position": "query", "kernel": 5},
    {"attention": "glmha", "position": "value"},
]
KINDS = [
    *((name, options) for name in ("mst_plus_plus", "mst_cassi") for options in ATTENTIONS),
    ("mst_rgb", {}),
    ("mst_rgb", ATTENTIONS[1]),
]


def noise(*shape, seed=2):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def lively(name, **options):
    """A small network whose every parameter matters, in float64."""
    torch.manual_seed(1)
    kind, small = SMALL[name]
    network = kind(**{**small, **options}).double().eval()
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if parameter.ndim == 1 or "rescale" in key:
                parameter += 0.3 * torch.randn_like(parameter)
            elif parameter.ndim == 2:
                parameter.copy_(torch.randn_like(parameter) / parameter.shape[1] ** 0.5)
    return network


def applied(network, x):
    """The network's result; a CASSI network has a mask made for the size of ``x``."""
    with torch.inference_mode():
        if isinstance(network, MSTCassi):
            return network(x, noise(*x.shape[-2:], seed=3))
        return network(x)


def scene(network, batch, height, width):
    return noise(batch, 28 if isinstance(network, MSTCassi) else 3, height, width)


def loaded(kind, file, **options):
    tensors = load_file(GOLDEN / file)
    network = kind(**options).double().eval()
    state = {k.removeprefix("state."): v.double() for k, v in tensors.items() if k[:6] == "state."}
    network.load_state_dict(state)
    return network, tensors


@pytest.mark.parametrize("which", ["a", "b"])
def test_mst_plus_plus_reproduces_the_authors_output(which):
    network, tensors = loaded(MSTPlusPlus, "mst_plus_plus_stage1.safetensors", stage=1)
    with torch.inference_mode():
        actual = network(tensors[f"{which}.input"].double())
    torch.testing.assert_close(actual, tensors[f"{which}.output"].double(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("which", ["a", "b"])
def test_mst_for_rgb_reproduces_the_authors_output(which):
    network, tensors = loaded(MSTRGB, "mst_rgb_small.safetensors", num_blocks=(2, 1, 1))
    x = tensors[f"{which}.input"].double()
    with torch.inference_mode():
        own = network(x)
        guided_by_the_first = network.forward_guided(x, x[:1])
    expected = tensors[f"{which}.output"].double()
    torch.testing.assert_close(own[0], expected[0], rtol=0, atol=1e-10)
    # The published code gives every image of a batch the mask features of the first.
    torch.testing.assert_close(guided_by_the_first, expected, rtol=0, atol=1e-10)


def test_the_cassi_network_reproduces_the_authors_output():
    network, tensors = loaded(MSTCassi, "mst_cassi_small.safetensors", num_blocks=(2, 1, 1))
    x = cassi_input(tensors["a.measurement"].double())
    torch.testing.assert_close(x, tensors["a.input"].double(), rtol=0, atol=1e-14)
    with torch.inference_mode():
        actual = network(x, tensors["a.mask"].double())
    torch.testing.assert_close(actual, tensors["a.output"].double(), rtol=0, atol=1e-10)


def test_the_cassi_network_reproduces_the_authors_untouched_code_at_256():
    network, tensors = loaded(MSTCassi, "mst_cassi_small.safetensors", num_blocks=(2, 1, 1))
    with torch.inference_mode():
        x = cassi_input(tensors["b.measurement_uint8"].double() / 16)
        actual = network(x, tensors["b.mask_uint8"].double())[..., 3::8, 5::8]
    expected = tensors["b.output_every_8"].double()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", sorted(FULL_SIZE))
def test_keys_shapes_and_counts_are_those_of_the_published_checkpoints(name):
    kind, options = FULL_SIZE[name]
    with torch.device("meta"):
        network = kind(**options)
    actual = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert actual == PUBLISHED[name]["keys"]
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[name]["parameters"]


@pytest.mark.parametrize(
    ("name", "preset", "count"),
    [
        ("mst_plus_plus", "csa", 1_619_625),
        ("mst_plus_plus", "text", 1_569_870),
        ("mst_plus_plus", "table", 1_603_722),
        ("mst_cassi_l", "csa", 2_018_156),
        ("mst_cassi_l", "text", 1_940_540),
        ("mst_cassi_l", "table", 1_996_988),
    ],
)
def test_glmha_has_the_parameters_of_its_equation(name, preset, count):
    kind, options = FULL_SIZE[name]
    with torch.device("meta"):
        network = kind(**options, attention="glmha", preset=preset)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_a_batch_is_its_images_one_by_one(name, options):
    network = lively(name, **options)
    x = scene(network, 3, 12, 16)
    alone = torch.cat([applied(network, x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(applied(network, x), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_every_parameter_reaches_the_output(name, options):
    network = lively(name, **options)
    x = scene(network, 1, 16, 16)
    y = network(x, noise(16, 16)) if isinstance(network, MSTCassi) else network(x)
    y.square().sum().backward()
    without = {k for k, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert not without


@pytest.mark.parametrize("name", ["mst_plus_plus", "mst_rgb"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (3, 50)])
def test_any_size_comes_back_finite_and_in_its_own_size(name, size):
    network = lively(name, attention="glmha")
    y = applied(network, noise(1, 3, *size))
    assert y.shape == (1, 31, *size)
    assert torch.isfinite(y).all()


@pytest.mark.parametrize(("height", "width"), [(64, 96), (320, 200), (4, 8)])
def test_measuring_and_shifting_back_follow_their_definition_at_any_size(height, width):
    cube, mask = noise(1, 28, height, width), noise(height, width, seed=4)
    phi = dispersed_mask(mask)
    y = cassi_measurement(cube, mask)
    x = cassi_input(y)
    rng = torch.Generator().manual_seed(5)
    for _ in range(60):
        row, column, band = (
            int(torch.randint(n, (1,), generator=rng)) for n in (height, width + 54, 28)
        )
        inside = 0 <= column - 2 * band < width
        assert phi[band, row, column] == (mask[row, column - 2 * band] if inside else 0)
        summed = sum(
            mask[row, column - 2 * i] * cube[0, i, row, column - 2 * i]
            for i in range(28)
            if 0 <= column - 2 * i < width
        )
        torch.testing.assert_close(y[0, row, column], torch.as_tensor(summed).double())
        if column < width:
            assert x[0, band, row, column] == y[0, row, column + 2 * band] * (2 / 28)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (320, 200)])
def test_the_mask_meets_the_values_that_it_coded_at_any_size(height, width):
    """E by its definition, gathered one value at a time at every level."""
    network = lively("mst_cassi").float()
    features = dispersed_mask(noise(height, width).float()).unsqueeze(0)
    for level, group in enumerate(
        [network.encoder_layers[0][0], network.encoder_layers[1][0], network.bottleneck]
    ):
        guide = group.blocks[0][0].mm
        with torch.inference_mode():
            a = guide.conv1(features)
            e = a * (1 + torch.sigmoid(guide.depth_conv(guide.conv2(a))))
            actual = guide(features, width // 2**level)
        assert actual.shape == (1, 28 * 2**level, height // 2**level, width // 2**level)
        for band in range(0, actual.shape[1], 5):
            for column in (0, 3, actual.shape[3] - 1):
                expected = e[0, band, :, column + 2 * band // 4**level]
                assert torch.equal(actual[0, band, :, column], expected)
        if level < 2:
            with torch.inference_mode():
                features = network.encoder_layers[level][2](features)


def test_low_rank_attention_of_all_channels_reading_its_values_is_the_published_attention():
    low = lively("mst_cassi", attention="glmha", ratio=0.0, position="value")
    plain = SMALL["mst_cassi"][0](num_blocks=(1, 1, 1)).double()
    swapped = {".to_q.": ".to_k.", ".to_k.": ".to_q."}  # the published to_k is the query
    state = {}
    for key, value in low.state_dict().items():
        name = next((key.replace(*pair) for pair in swapped.items() if pair[0] in key), key)
        if ".calibration." not in key:
            state[name] = value
    plain.load_state_dict(state)
    for module in low.modules():
        if isinstance(module, GuidedLowRankSpectralAttention):
            torch.nn.init.zeros_(module.calibration.linear.weight)
    x = noise(1, 28, 16, 12)
    torch.testing.assert_close(applied(low, x), applied(plain, x), rtol=0, atol=1e-12)


def test_ratio_zero_is_not_the_published_attention_where_the_position_branch_reads_the_input():
    torch.manual_seed(0)
    from restorecli.networks.mst_attention import AttentionChoice

    low = GuidedLowRankSpectralAttention(
        8, 1, AttentionChoice(kind="glmha", ratio=0.0, position="input")
    ).double()
    torch.nn.init.zeros_(low.calibration.linear.weight)
    plain = SpectralAttention(8, 1).double()
    state = low.state_dict()
    plain.load_state_dict(
        {
            **{k: v for k, v in state.items() if "calibration" not in k},
            "to_q.weight": state["to_k.weight"],
            "to_k.weight": state["to_q.weight"],
        }
    )
    x = noise(1, 8, 9, 7)
    assert (low(x) - plain(x)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (MSTPlusPlus, {"n_feat": 30}, "n_feat must equal out_channels"),
        (MSTPlusPlus, {"attention": "linear"}, "attention must be one of"),
        (MSTPlusPlus, {"preset": "paper"}, "preset must be one of"),
        (MSTRGB, {"ratio": 1.0}, r"ratio must be in \[0, 1\)"),
        (MSTRGB, {"dim": 30}, "dim must equal out_channels"),
        (MSTCassi, {"stage": 3}, "stage"),
        (MSTCassi, {"num_blocks": (1, 1)}, "num_blocks needs 3 values, got 2"),
        (MSTCassi, {"position": "key"}, "position must be one of"),
    ],
)
def test_wrong_options_are_refused(kind, options, words):
    with pytest.raises(ValueError, match=words):
        kind(**options)


def test_a_mask_of_another_size_and_sides_that_do_not_divide_are_refused():
    network = lively("mst_cassi")
    with pytest.raises(ValueError, match=r"the mask is \(8, 12\), the scene \(12, 8\)"):
        network(noise(1, 28, 12, 8), noise(8, 12))
    with pytest.raises(ValueError, match="multiples of 4, got 12×10"):
        network(noise(1, 28, 12, 10), noise(12, 10))
    with pytest.raises(ValueError, match="wider than 54"):
        cassi_input(noise(1, 8, 54))
