"""How pictures enter and leave the networks: packing, the affine head, the curve in front."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from restorecli.engine.engine import prepare
from restorecli.engine.settings import EngineSettings
from restorecli.networks import HINT, PICTURE_NETWORKS
from restorecli.networks.exposure import LARGEST_GAIN, LUMA, curved, histograms
from restorecli.weights import CheckpointFile, ChosenModel
from restorecli.weights.fitting import architecture_of
from tests.conftest import TINY, save_weights

EXPOSED = {"front": "exposure"}


def exposed(**options):
    return HINT(**TINY, **EXPOSED, **options)


def picture_of(*levels, side=8):
    """A batch of gray pictures, each of one of ``levels`` of 255."""
    return torch.stack([torch.full((3, side, side), level / 255) for level in levels])


def random_bytes(*shape, most=256, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(0, most, shape, generator=generator).double() / 255).to(dtype)


def mean_luma(x):
    """By the formula, from the pixels: (B,), float64."""
    weights = torch.tensor(LUMA, dtype=torch.float64).reshape(3, 1, 1)
    return (x.double() * weights).sum(1).mean((1, 2))


@pytest.mark.parametrize("packing", [2, 4])
@pytest.mark.parametrize("name", PICTURE_NETWORKS)
def test_a_packed_network_is_the_plain_one_on_squares_as_channels(name, packing):
    channels = 3 * packing**2
    packed = PICTURE_NETWORKS[name](**TINY, packing=packing).double()
    plain = PICTURE_NETWORKS[name](**TINY, inp_channels=channels, out_channels=channels).double()
    plain.load_state_dict(packed.state_dict())
    x = torch.rand(1, 3, 16 * packing, 24 * packing, dtype=torch.float64)
    squares = torch.nn.functional.pixel_unshuffle(x, packing)
    with torch.inference_mode():
        expected = torch.nn.functional.pixel_shuffle(plain(squares), packing)
        torch.testing.assert_close(packed(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("packing", [1, 2, 4])
def test_an_affine_head_scales_and_shifts_the_picture(packing):
    network = HINT(**TINY, packing=packing, head="affine", bias=True).double()
    with torch.no_grad():
        network.output.weight.zero_()
        network.output.bias.copy_(torch.tensor([math.log(2)] * 3 + [0.1, 0.2, 0.3]))
        x = torch.rand(2, 3, 21, 13, dtype=torch.float64)
        expected = 2 * x + torch.tensor([0.1, 0.2, 0.3]).double().reshape(3, 1, 1)
        torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-7)


def test_the_maps_of_an_affine_head_are_smooth_and_what_forward_applies():
    torch.manual_seed(0)
    network = HINT(**TINY, packing=4, head="affine").double()
    x = torch.rand(2, 3, 32, 64, dtype=torch.float64)
    with torch.no_grad():
        restored, a, b = network.forward_with_maps(x)
        assert a.shape == b.shape == (2, 3, 8, 16)
        assert torch.equal(restored, network(x))
        assert torch.equal(torch.stack(network.maps(x)), torch.stack([a, b]))
        large = network.ends.enlarged(b)
    assert large[0, 0, 1:3, 1].mean() == pytest.approx(b[0, 0, 0, 0].item(), abs=0.1)
    # Between four centres it is their bilinear mean: two pixels from either, of four.
    assert large[0, 0, 3:5, 3:5].mean() == pytest.approx(b[0, 0, :2, :2].mean().item(), abs=1e-12)
    assert a.std() > 1e-3


def test_only_an_affine_head_has_maps():
    with pytest.raises(ValueError, match="head 'residual' has no maps"):
        HINT(**TINY).maps(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("most", [20, 60, 200])
def test_the_curve_brings_a_dark_picture_to_its_mean(most):
    x = random_bytes(2, 3, 24, 16, most=most, dtype=torch.float64)
    network = exposed(front_mean=0.5, front_mean_lit=0.5)
    gain = network.exposure_gain(x)
    assert gain.shape == (2,)
    assert (gain > 1).all()
    assert mean_luma(curved(x, gain)).tolist() == pytest.approx([0.5, 0.5], abs=1e-9)


def test_the_gain_of_one_level_has_a_closed_form():
    # y = g·x/(1 + (g − 1)·x) = m, so g = m·(1 − x)/(x·(1 − m)).
    x = 40 / 255
    gain = exposed(front_mean=0.45).exposure_gain(picture_of(40))
    assert gain.item() == pytest.approx(0.45 * (1 - x) / (x * 0.55), rel=1e-9)


def test_bright_pictures_stay_and_black_ones_have_the_largest_gain():
    gain = exposed().exposure_gain(picture_of(200, 0, 1))
    assert gain.tolist() == pytest.approx([1, LARGEST_GAIN, LARGEST_GAIN])
    assert gain[0] == 1
    assert torch.equal(curved(picture_of(200), gain[:1]), picture_of(200))


def test_a_scene_with_lamps_stays_darker():
    dark = random_bytes(1, 3, 50, 50, most=30)
    lamps = dark.clone()
    lamps[..., :10, :10] = 1  # 4 % of the picture, and the 99th percentile
    few = dark.clone()
    few[..., :4, :5] = 1  # 0.8 %
    network = exposed()
    without, barely, with_lamps = (
        mean_luma(curved(x.double(), network.exposure_gain(x))).item() for x in (dark, few, lamps)
    )
    assert without == pytest.approx(0.45, abs=1e-6)
    assert barely == pytest.approx(0.45, abs=1e-6)
    assert with_lamps == pytest.approx(0.28, abs=1e-6)


def test_a_gain_is_of_one_picture_and_of_no_order():
    x = random_bytes(3, 3, 16, 24, most=80)
    network = exposed()
    gains = network.exposure_gain(x)
    assert torch.equal(gains, torch.cat([network.exposure_gain(image[None]) for image in x]))
    assert torch.equal(gains, network.exposure_gain(x.flip(2).mT))
    halves = histograms(x[..., :5]) + histograms(x[..., 5:])
    assert torch.equal(halves, histograms(x))


def test_histograms_count_8_bits_exactly_and_survive_what_is_no_picture():
    x = torch.tensor([0, 1 / 255, 1, 2, -1, math.nan]).reshape(1, 1, 1, 6)
    counts = histograms(x)
    assert counts.shape[:2] == (1, 2)
    levels = counts[0, 0].nonzero().flatten().tolist()
    assert levels == [0, 16, 4080]
    assert counts[0, 0, levels].tolist() == [3, 1, 2]


def test_a_given_gain_is_that_of_the_whole_picture_for_a_crop():
    torch.manual_seed(0)
    network = exposed(packing=2).eval()
    whole = random_bytes(1, 3, 32, 32, most=60)
    gain = network.exposure_gain(whole)
    crop = whole[..., :16, :16] * 0.5
    with torch.inference_mode():
        assert torch.equal(network(crop, gain.float()), network(crop, gain))
        assert not torch.equal(network(crop, gain), network(crop))


def test_the_curve_keeps_gradients_finite_in_half_precision():
    torch.manual_seed(0)
    network = exposed(packing=2, head="affine")
    with torch.autocast("cpu", torch.bfloat16):
        restored, a, b = network.forward_with_maps(random_bytes(2, 3, 32, 32, most=40))
        loss = restored.square().mean() + a.abs().mean() + b.abs().mean()
    assert restored.dtype == a.dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    assert network.output.weight.grad.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"packing": 3}, "packing must be one of"),
        ({"head": "mask"}, "head must be one of"),
        ({"front": "curve"}, "front must be one of"),
        ({"front_mean": 0}, "front_mean must be between 0 and 1"),
        ({"front_mean_lit": 1.5}, "front_mean_lit must be between 0 and 1"),
        ({"inp_channels": 2, "out_channels": 2, "front": "exposure"}, "1 or 3 channels, got 2"),
    ],
)
def test_impossible_ends_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HINT(**TINY, **options)


def test_dual_pixel_images_have_no_affine_head():
    with pytest.raises(ValueError, match="dual-pixel"):
        PICTURE_NETWORKS["restormer"](**TINY, inp_channels=6, dual_pixel_task=True, head="affine")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("packing", [1, 2, 4])
@pytest.mark.parametrize("head", ["residual", "affine"])
def test_packing_and_head_are_found_from_the_shapes_of_a_file(tmp_path, channels, packing, head):
    stated = {"inp_channels": channels, "out_channels": channels, "packing": packing, "head": head}
    state = HINT(**TINY, **stated).state_dict()
    name, options = architecture_of(tmp_path / "file", {}, state)
    usual = {"packing": 1, "head": "residual"}
    assert name == "hint"
    assert {key: options.get(key, usual.get(key)) for key in stated} == stated


def engine_for(weights, tile):
    model = ChosenModel(file=CheckpointFile(weights))
    return prepare(EngineSettings(model=model, device="cpu", tile=tile, overlap_px=16))


def test_tiles_are_brightened_like_the_whole_picture(tmp_path):
    """A network that adds nothing: what is left is the curve, and it has no seams."""
    options = {**TINY, **EXPOSED, "packing": 2}
    network = HINT(**options)
    torch.nn.init.zeros_(network.output.weight)
    weights = save_weights(tmp_path / "curve.safetensors", network, "hint", options)
    pixels = np.random.default_rng(0).integers(0, 40, (80, 72, 3), dtype=np.uint8)
    pixels[:, 36:] += 60  # tiles of their own would get another gain
    whole, plan = engine_for(weights, None).restore(pixels)
    tiled, in_tiles = engine_for(weights, 48).restore(pixels)
    assert plan.exact
    assert not in_tiles.exact
    assert whole.mean() > pixels.mean() + 20
    np.testing.assert_array_equal(tiled, whole)


def test_what_a_model_does_at_its_ends_is_shown(cli, own_folder, tmp_path):
    options = {**TINY, **EXPOSED, "packing": 2, "head": "affine", "front_mean": 0.4}
    weights = save_weights(tmp_path / "ends.safetensors", HINT(**options), "hint", options)
    assert cli("models", "import", weights, "--task", "lowlight", "--id", "ends").exit_code == 0
    shown = cli("models", "show", "ends")
    for line in ("packing = 2", "head = affine", "front = exposure", "front_mean = 0.4"):
        assert line in shown.stdout
    data = json.loads(cli("models", "show", "ends", "--json").stdout)
    assert data["options"]["packing"] == 2


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of the compiler itself
@pytest.mark.parametrize("name", PICTURE_NETWORKS)
def test_a_compiler_sees_a_whole_network_without_a_break(name):
    """Training compiles under autocast; tracing alone shows whether it can."""
    options = {**TINY, **EXPOSED, "packing": 2, "head": "affine"}
    network = PICTURE_NETWORKS[name](**options)
    x = random_bytes(2, 3, 48, 48, most=80)
    compiled = torch.compile(network.forward_with_maps, backend="eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        restored, a, _ = compiled(x)
        assert torch.equal(restored, network(x))
    assert a.dtype == torch.float32
