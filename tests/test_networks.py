"""Golden: the authors' implementations in float64 (tests/golden/README.md). And properties."""

from __future__ import annotations

import inspect
import json
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import restorecli.networks
from restorecli.networks import NETWORKS
from restorecli.networks.blocks import pad_to_multiple
from restorecli.networks.glmha_restormer import grid_maxima
from restorecli.networks.hint import channel_order, resized_by_averaging

GOLDEN = Path(__file__).parent / "golden"
CONFIGS = json.loads((GOLDEN / "configs.json").read_text())
PUBLISHED = json.loads((GOLDEN / "state_dict_keys.json").read_text())
PUBLISHED_OPTIONS = {
    "hint": {},
    "restormer_withbias": {},
    "restormer_biasfree": {"LayerNorm_type": "BiasFree"},
    "restormer_gray_biasfree": {"LayerNorm_type": "BiasFree", "inp_channels": 1, "out_channels": 1},
    "restormer_dual_pixel": {"inp_channels": 6, "dual_pixel_task": True},
}
SMALL = {"dim": 8, "num_blocks": [1, 2, 1, 1], "num_refinement_blocks": 1}
RESTORMER_KINDS = [
    {},
    {"LayerNorm_type": "BiasFree"},
    {"bias": True},
    {"inp_channels": 1, "out_channels": 1},
    {"inp_channels": 6, "dual_pixel_task": True},
]
ALL_KINDS = [
    *(("restormer", options) for options in RESTORMER_KINDS),
    *(("glmha_restormer", {"preset": preset}) for preset in ("text", "table", "csa")),
    ("glmha_restormer", {"ratio": 0.25, "kernel": 5, "bias": True}),
    ("hint", {}),
    ("hint", {"LayerNorm_type": "BiasFree", "bias": True}),
    ("hint", {"packing": 2, "head": "affine", "front": "exposure"}),
    ("restormer", {"packing": 4}),
]


def lively(name, **options):
    """A network whose every parameter matters, in float64."""
    torch.manual_seed(1)
    network = NETWORKS[name](**{**SMALL, **options}).double().eval()
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if parameter.ndim == 1 or "temperature" in key:
                parameter += 0.3 * torch.randn_like(parameter)
    return network


def noise(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("file", sorted(CONFIGS))
@pytest.mark.parametrize("which", ["a", "b"])
def test_networks_reproduce_the_authors_output(file, which):
    tensors = load_file(GOLDEN / file)
    name = "hint" if file.startswith("hint") else "restormer"
    network = NETWORKS[name](**CONFIGS[file]).double()
    network.load_state_dict(
        {k.removeprefix("state."): v.double() for k, v in tensors.items() if k.startswith("state.")}
    )
    with torch.inference_mode():
        actual = network(tensors[f"{which}.input"])
    torch.testing.assert_close(actual, tensors[f"{which}.output"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("which", ["a", "b"])
def test_hint_reproduces_the_second_call_with_the_cache_of_the_first(which):
    tensors = load_file(GOLDEN / "hint_dim8.safetensors")
    network = NETWORKS["hint"](**CONFIGS["hint_dim8.safetensors"]).double()
    network.load_state_dict(
        {k.removeprefix("state."): v.double() for k, v in tensors.items() if k.startswith("state.")}
    )
    x = tensors[f"{which}.input"]
    with torch.inference_mode():
        _, cache = network.forward_with_cache(x, None)
        again, second = network.forward_with_cache(x, cache)
    torch.testing.assert_close(cache, tensors[f"{which}.cache"], rtol=0, atol=1e-10)
    torch.testing.assert_close(again, tensors[f"{which}.output_second_call"], rtol=0, atol=1e-10)
    torch.testing.assert_close(second, tensors[f"{which}.cache_second_call"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("published", sorted(PUBLISHED))
def test_keys_shapes_and_counts_are_those_of_the_published_checkpoints(published):
    options = PUBLISHED_OPTIONS[published]
    with torch.device("meta"):
        network = NETWORKS["hint" if published.startswith("hint") else "restormer"](**options)
    actual = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert actual == PUBLISHED[published]["keys"]
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[published]["parameters"]


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("hint", {}, 24_873_812),
        ("restormer", {}, 26_126_644),
        ("restormer", {"LayerNorm_type": "BiasFree"}, 26_111_668),
        ("glmha_restormer", {"preset": "csa"}, 26_126_644),
        ("glmha_restormer", {"preset": "text"}, 24_467_764),
        ("glmha_restormer", {"preset": "table"}, 25_790_260),
    ],
)
def test_full_size_parameter_counts(name, options, count):
    with torch.device("meta"):
        network = NETWORKS[name](**options)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(("heads", "ratio", "kernel"), [(1, 0.5, 3), (2, 0.25, 7), (4, 0.75, 3)])
def test_glmha_attention_has_the_parameters_of_the_papers_equation_8(heads, ratio, kernel):
    channels = 48
    network = NETWORKS["glmha_restormer"](
        **{**SMALL, "dim": channels, "heads": [heads] * 4}, ratio=ratio, kernel=kernel
    )
    per_head = channels // heads
    kept = heads * round(per_head * (1 - ratio))
    expected = 2 * channels**2 + 9 * channels + 2 * kept * (channels + 9)
    expected += channels * kernel**2 + per_head**2 + heads
    assert sum(p.numel() for p in network.encoder_level1[0].attn.parameters()) == expected


@pytest.mark.parametrize(("name", "options"), ALL_KINDS)
def test_a_batch_of_three_is_three_single_images(name, options):
    network = lively(name, **options)
    packing = options.get("packing", 1)
    x = noise(3, options.get("inp_channels", 3), 24 * packing, 16 * packing)
    with torch.inference_mode():
        together = network(x)
        alone = torch.cat([network(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), ALL_KINDS)
def test_the_same_image_again_gives_the_same_bytes_whatever_came_between(name, options):
    network = lively(name, **options)
    channels = options.get("inp_channels", 3)
    x = noise(1, channels, 24, 16)
    with torch.inference_mode():
        first = network(x)
        network(noise(1, channels, 16, 40) ** 2)
        second = network(x)
    assert torch.equal(first, second)


@pytest.mark.parametrize(("name", "options"), ALL_KINDS)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (8, 8), (3, 200)])
def test_any_size_comes_back_finite_and_in_its_own_size(name, options, size):
    network = lively(name, **options)
    with torch.inference_mode():
        y = network(noise(1, options.get("inp_channels", 3), *size))
    assert y.shape[-2:] == size
    assert torch.isfinite(y).all()


@pytest.mark.parametrize(("name", "options"), ALL_KINDS)
def test_black_and_constant_images_come_back_finite(name, options):
    network = lively(name, **options).float()
    for value in (0.0, 1.0):
        with torch.inference_mode():
            y = network(torch.full((1, options.get("inp_channels", 3), 16, 16), value))
        assert torch.isfinite(y).all()


def test_every_parameter_of_every_network_reaches_the_output():
    for name, options in ALL_KINDS:
        network = lively(name, **options)
        y = network(noise(1, options.get("inp_channels", 3), 32, 32))
        (y - 0.3).square().sum().backward()
        without = {k for k, p in network.named_parameters() if p.grad is None or not p.grad.any()}
        # HINT's first attention meets no cache, so its inter-layer modulators are not used.
        assert all(key.startswith("latent.0.attn.inter_modulator") for key in without), without


def test_low_rank_attention_without_reduction_and_calibration_equals_restormer():
    low = lively("glmha_restormer", ratio=0.0)
    plain = NETWORKS["restormer"](**SMALL).double()
    state = dict(low.state_dict())
    merged = {}
    for key, value in state.items():
        if ".attn.calibration." in key:
            continue
        if ".attn.q" in key:
            whole = torch.cat([value, state[key.replace(".attn.q", ".attn.kv")]])
            merged[key.replace(".attn.q", ".attn.qkv")] = whole
        elif ".attn.kv" not in key:
            merged[key] = value
    plain.load_state_dict(merged)
    for block in low.modules():
        if hasattr(block, "calibration"):
            torch.nn.init.zeros_(block.calibration.linear.weight)
    x = noise(1, 3, 24, 32)
    with torch.inference_mode():
        assert torch.equal(low(x), plain(x))


@pytest.mark.parametrize("size", [(24, 16), (7, 30), (3, 2)])
@pytest.mark.parametrize("cells", [3, 7])
def test_grid_maxima_are_adaptive_max_pooling(size, cells):
    x = noise(2, 4, *size)
    assert torch.equal(grid_maxima(x, cells), torch.nn.functional.adaptive_max_pool2d(x, cells))


@pytest.mark.parametrize(("length", "size"), [(16, 8), (16, 6), (6, 16), (64, 24), (5, 7)])
def test_averaging_matrices_are_adaptive_average_pooling(length, size):
    matrix = noise(2, length, length)
    expected = torch.nn.functional.adaptive_avg_pool2d(matrix, size)
    torch.testing.assert_close(resized_by_averaging(matrix, size), expected, rtol=0, atol=1e-14)


def test_channel_order_is_that_of_mean_pearson_correlation():
    q = noise(2, 8, 50)
    expected = torch.stack([torch.corrcoef(rows).mean(1) for rows in q]).argsort(descending=True)
    assert torch.equal(channel_order(q @ q.mT, q.sum(-1), 50), expected)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (8, 16), (3, 100)])
def test_padding_reflects_at_the_right_and_bottom(size):
    x = noise(1, 2, *size)
    padded = pad_to_multiple(x)
    height, width = size
    assert torch.equal(padded[..., :height, :width], x)
    assert padded.shape[2] % 8 == padded.shape[3] % 8 == 0
    if height > 1 and padded.shape[2] > height:
        assert torch.equal(padded[..., height, :width], x[..., height - 2, :])


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="LayerNorm_type"):
        NETWORKS["restormer"](LayerNorm_type="None")
    with pytest.raises(ValueError, match="preset"):
        NETWORKS["glmha_restormer"](preset="paper")
    with pytest.raises(ValueError, match="ratio"):
        NETWORKS["glmha_restormer"](ratio=1.0)
    with pytest.raises(ValueError, match="multiple of 8"):
        NETWORKS["hint"](dim=6)
    with pytest.raises(ValueError, match="inp_channels"):
        NETWORKS["hint"](inp_channels=1)


def of_module(module):
    """Its functions and classes, and the functions of its classes, with their names."""
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing):
            yield name, thing
        elif inspect.isclass(thing):
            yield name, thing
            yield from ((f"{name}.{n}", f) for n, f in vars(thing).items() if inspect.isfunction(f))


def handles_tensors(thing):
    if inspect.isclass(thing):
        return issubclass(thing, torch.nn.Module)
    return any("Tensor" in str(annotation) for annotation in thing.__annotations__.values())


def test_every_function_of_the_networks_that_handles_tensors_states_their_shapes():
    shape = re.compile(r"Shape:|\((?:[\w'/·+.]+, ?)+[\w'/·+.]*\)|scalar|\(\.\.\.\)")
    package = restorecli.networks
    silent, seen = [], 0
    for module_info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for name, thing in of_module(import_module(module_info.name)):
            if handles_tensors(thing) and "__" not in name:
                seen += 1
                if not shape.search(thing.__doc__ or ""):
                    silent.append(f"{module_info.name}.{name}")
    assert silent == []
    assert seen > 60
