from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from restorecli.networks import HINT, GLMHARestormer, Restormer, exposure, guided, hint
from restorecli.networks.blocks import LayerNorm
from restorecli.networks.strips import (
    Room,
    attention,
    picture_gain,
    resident_bytes,
    restore_by_strips,
    restored_rows,
    rows,
    unet,
    workers,
)

SMALL = {"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1}
NETWORKS = {
    "restormer": lambda: Restormer(**SMALL),
    "restormer with convolution biases": lambda: Restormer(bias=True, **SMALL),
    "restormer BiasFree gray": lambda: Restormer(
        inp_channels=1, out_channels=1, LayerNorm_type="BiasFree", **SMALL
    ),
    "restormer dual-pixel": lambda: Restormer(
        inp_channels=6, dual_pixel_task=True, bias=True, **SMALL
    ),
    "glmha text": lambda: GLMHARestormer(**SMALL),
    "glmha text, ratio 0, with biases": lambda: GLMHARestormer(ratio=0, bias=True, **SMALL),
    "glmha text, ratio 0.75, BiasFree": lambda: GLMHARestormer(
        ratio=0.75, LayerNorm_type="BiasFree", **SMALL
    ),
    "glmha table": lambda: GLMHARestormer(preset="table", **SMALL),
    "glmha csa": lambda: GLMHARestormer(preset="csa", **SMALL),
    "hint": lambda: HINT(**(SMALL | {"num_blocks": [1, 2, 1, 1]})),
    "hint BiasFree with biases": lambda: HINT(bias=True, LayerNorm_type="BiasFree", **SMALL),
    "hint packed": lambda: HINT(packing=2, **SMALL),
    "hint packed, affine, exposed": lambda: HINT(
        packing=2, head="affine", front="exposure", **SMALL
    ),
    "hint gray, packed by 4, affine, exposed": lambda: HINT(
        inp_channels=1,
        out_channels=1,
        packing=4,
        head="affine",
        front="exposure",
        bias=True,
        **SMALL,
    ),
    "hint affine": lambda: HINT(head="affine", **SMALL),
    "restormer packed by 4, exposed": lambda: Restormer(packing=4, front="exposure", **SMALL),
    "restormer dual-pixel, packed": lambda: Restormer(
        inp_channels=6, dual_pixel_task=True, packing=2, **SMALL
    ),
    "glmha packed, affine": lambda: GLMHARestormer(packing=2, head="affine", **SMALL),
    "hint packed, guided": lambda: HINT(packing=2, head="affine", guided_radius=3, **SMALL),
    "hint unsorted": lambda: HINT(sort_channels=False, **SMALL),
    "hint unsorted, packed, with biases": lambda: HINT(
        sort_channels=False, packing=2, bias=True, **SMALL
    ),
}
MAIN = ("restormer", "glmha text", "hint")
PACKED = (
    "hint packed", "hint packed, affine, exposed", "hint packed, guided", "glmha packed, affine",
    "hint unsorted, packed, with biases",
)  # fmt: skip
STRIP_ROWS = (1, 2, 3, 5, 8, 1000)


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random parameters, of a size that keeps features of order 1 and every part noticeable."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if parameter.dim() < 2:  # norms and biases
                parameter.copy_((1 if name.endswith("body.weight") else 0) + 0.3 * noise)
            elif name.endswith("temperature"):
                parameter.copy_(2 + noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
                if "project_out" in name:
                    parameter *= 0.5
    return network.eval()


def image_for(network: nn.Module, height: int, width: int, batch: int = 1, seed: int = 0):
    """A smooth random image with some noise, float64 in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    channels = network.ends.inp_channels
    coarse = torch.rand(batch, channels, 4, 4, generator=generator, dtype=torch.float64)
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    noise = torch.rand(smooth.shape, generator=generator, dtype=torch.float64)
    return 0.8 * smooth + 0.2 * noise


def features_for(network: nn.Module, height: int, width: int):
    """An image of as many positions of the widest features, whatever the packing."""
    packing = network.ends.packing
    return image_for(network, packing * height, packing * width)


def restored_strips(network, image, **options):
    """The rows of ``image`` (C, H, W), restored a strip at a time, as they come."""
    options = {"dtype": image.dtype, "strip_rows": 8} | options
    return restored_rows(
        network, lambda top, bottom: image[:, top:bottom], image.shape[1:], **options
    )


def by_strips(network, image, **options):
    """``image`` (C, H, W), restored a strip at a time."""
    return torch.cat([part for _, part in restored_strips(network, image, **options)], 1)


def assert_same(network: nn.Module, x: torch.Tensor, strip_rows: int) -> None:
    with torch.no_grad():
        expected = network(x)
    assert 0.1 < expected.std() < 100, "the comparison would mean little"
    torch.testing.assert_close(
        restore_by_strips(network, x, strip_rows=strip_rows), expected, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize(
    ("name", "strip_rows"),
    [(name, rows) for name in NETWORKS for rows in (STRIP_ROWS if name in MAIN else (1, 5, 1000))],
)
def test_strips_equal_the_plain_forward_pass(name, strip_rows):
    network = lively(NETWORKS[name]()).double()
    assert_same(network, features_for(network, 24, 16), strip_rows)


@pytest.mark.parametrize("size", [(8, 8), (8, 200), (1, 1), (13, 27), (72, 104), (136, 40)])
@pytest.mark.parametrize("name", MAIN)
def test_strips_equal_the_plain_forward_pass_at_any_size(name, size):
    network = lively(NETWORKS[name]()).double()
    assert_same(network, image_for(network, *size), strip_rows=5)


# More than 2 positions at the lowest level: with 2, all correlations of HINT are 1 or −1, and
# rounding would decide the order of its channels.
@pytest.mark.parametrize("size", [(8, 200), (1, 100), (33, 27), (45, 83), (136, 40)])
@pytest.mark.parametrize("name", PACKED)
def test_strips_of_packed_pictures_equal_the_plain_forward_pass_at_any_size(name, size):
    network = lively(NETWORKS[name]()).double()
    assert_same(network, image_for(network, *size), strip_rows=5)


@pytest.mark.parametrize("name", NETWORKS)
def test_both_forms_of_pointwise_convolutions_give_the_same(monkeypatch, name):
    network = lively(NETWORKS[name]()).double()
    x = features_for(network, 24, 16)
    for by_products in (True, False):
        monkeypatch.setattr(rows, "by_products", lambda device, form=by_products: form)
        assert_same(network, x, strip_rows=5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("strip_rows", [5, 8, 24])
def test_blocks_summed_at_once_as_on_a_gpu_give_the_same(monkeypatch, name, strip_rows):
    monkeypatch.setattr(rows, "ONE_BLOCK_AT_A_TIME", frozenset())
    network = lively(NETWORKS[name]()).double()
    assert_same(network, features_for(network, 24, 16), strip_rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_convolution_and_gelu_in_one_are_what_they_are_apart(dtype):
    generator = torch.Generator().manual_seed(0)
    mixed = (3 * torch.randn(5, 7, 24, generator=generator)).to(dtype)
    kernel = rows.Kernel(torch.randn(24, 1, 3, 3, generator=generator).to(dtype), None)
    wide = nn.functional.conv2d(
        mixed.float().permute(2, 0, 1)[None], kernel.weight.float(), padding=(0, 1), groups=24
    )
    expected = nn.functional.gelu(wide)[0].permute(1, 2, 0)  # (3, 7, 24)
    eps = torch.finfo(dtype).eps
    actual = rows.convolve_and_gelu(mixed, kernel)
    torch.testing.assert_close(actual.float(), expected, rtol=2 * eps, atol=40 * eps)


@pytest.mark.parametrize("name", MAIN)
def test_without_the_operation_in_one_the_picture_is_the_same(monkeypatch, name):
    network = lively(NETWORKS[name]())
    x = image_for(network, 16, 24).float()
    restored = restore_by_strips(network, x, strip_rows=8)
    monkeypatch.setattr(rows, "fuses_gelu", lambda device, dtype: False)
    apart = restore_by_strips(network, x, strip_rows=8)
    torch.testing.assert_close(restored, apart, rtol=0, atol=1e-4)


def test_products_of_bfloat16_queries_and_keys_are_those_of_wide_ones(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    strip = torch.randn(16, 9, 2 * 3 * 8, generator=generator).bfloat16()
    rough, exact = attention.HeadSums(3), attention.HeadSums(3)
    rough.add_joint(strip.clone())
    monkeypatch.setattr(attention, "multiplies_as_they_are", lambda rows: False)
    exact.add_joint(strip.clone())
    assert exact.scores().shape == (3, 8, 8)
    assert exact.scores().std() > 0.05
    torch.testing.assert_close(rough.scores(), exact.scores(), rtol=0, atol=4e-3)


def test_half_precision_begins_and_ends_in_float32():
    network = lively(HINT(packing=2, **SMALL))
    picture = image_for(network, 16, 24).float()[0]
    strip = rows.Strip(0, 8, 8)
    packed = nn.functional.pixel_unshuffle(picture, 2)
    first = unet.embedded(network, packed, strip, torch.float32)
    half = unet.embedded(network, packed, strip, torch.bfloat16)
    assert torch.equal(half, first.bfloat16())  # of a picture in bfloat16: 0.5 levels off
    features = torch.cat([half, half], -1)
    values = unet.last_values(network, features, None, strip)
    assert values.dtype == torch.float32
    assert torch.equal(values, unet.last_values(network, features.float(), None, strip))


def test_exact_products_of_bfloat16_queries_and_keys_are_float32():
    generator = torch.Generator().manual_seed(0)
    strip = torch.randn(16, 9, 2 * 8, generator=generator).bfloat16()
    exact, wide = attention.HeadSums(1, exact=True), attention.HeadSums(1)
    exact.add_joint(strip.clone(), keep=True)
    wide.add_joint(strip.float())
    for found, expected in zip(exact.totals(), wide.totals(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_short_encoder_in_float32_brings_half_precision_nearer(monkeypatch):
    network = lively(HINT(packing=2, sort_channels=False, **SMALL))
    x = image_for(network, 48, 64).float()

    def error():
        half = restore_by_strips(network, x, strip_rows=8, dtype=torch.bfloat16)
        return float((half - restore_by_strips(network, x, strip_rows=8)).square().mean().sqrt())

    wide = torch.empty(4, 4, 16, dtype=torch.bfloat16)
    assert unet.begins_in_float32(network, wide)
    assert not unet.begins_in_float32(network, wide.float())
    assert not unet.begins_in_float32(lively(NETWORKS["restormer"]()), wide)
    near = error()
    monkeypatch.setattr(unet, "begins_in_float32", lambda network, wide: False)
    assert near < 0.95 * error()


class Waits(TorchDispatchMode):
    """Refuse what makes the processor wait for a GPU in the middle of a picture."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in {"_local_scalar_dense", "nonzero", "masked_select"}:
            raise RuntimeError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_processor_need_not_wait_for_a_gpu(name, dtype):
    network = lively(NETWORKS[name]())
    x = features_for(network, 16, 24).float()
    with Waits():
        restore_by_strips(network, x, strip_rows=8, dtype=dtype)


def test_the_check_for_waiting_sees_a_value_that_is_asked_for():
    with Waits(), pytest.raises(RuntimeError, match="waits"):
        float(torch.ones(3).sum())


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_kept_is_what_would_be_made_again(name):
    network = lively(NETWORKS[name]())
    x = image_for(network, 24, 16).float()[0]
    network.float()

    nothing, all_of_it = (
        by_strips(network, x, strip_rows=5, room=Room(size)) for size in (0, 10**9)
    )
    assert torch.equal(nothing, all_of_it)


@pytest.mark.parametrize(("vendor", "expected"), [("GenuineIntel", True), ("AuthenticAMD", False)])
def test_the_form_of_pointwise_convolutions_goes_by_the_processor(
    monkeypatch, tmp_path, vendor, expected
):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(rows, "CPUINFO", tmp_path / "cpuinfo")
    assert rows.by_products.__wrapped__("cpu") is expected
    assert rows.by_products.__wrapped__("cuda")
    monkeypatch.setattr(rows, "CPUINFO", tmp_path / "absent")
    assert rows.by_products.__wrapped__("cpu")


@pytest.mark.parametrize("strip_rows", [1, 2, 3, 7, 9])
def test_every_row_is_fresh_in_one_strip(strip_rows):
    strips = rows.strips_of(9, strip_rows)
    fresh = [row for strip in strips for row in range(9)[strip.fresh]]
    assert fresh == list(range(9))
    seen = -1
    for strip in strips:
        seen = max([seen, *range(9)[strip.fresh]])
        assert seen == strip.bottom - 1  # all that the strip needs


@pytest.mark.parametrize("name", MAIN)
def test_images_of_a_batch_do_not_meet(name):
    network = lively(NETWORKS[name]()).double()
    x = image_for(network, 16, 24, batch=3)
    batch = restore_by_strips(network, x, strip_rows=3)
    alone = [restore_by_strips(network, image[None], strip_rows=3) for image in x]
    assert torch.equal(batch, torch.cat(alone))
    assert_same(network, x, strip_rows=3)


@pytest.mark.parametrize("name", MAIN)
def test_the_8_bit_picture_does_not_depend_on_the_strip_height(name):
    network = lively(NETWORKS[name]())
    x = image_for(network, 32, 48).float()
    low, high, odd = (restore_by_strips(network, x, strip_rows=rows) for rows in (8, 1000, 5))
    assert torch.equal((low * 255).round(), (high * 255).round())
    torch.testing.assert_close(low, high, rtol=0, atol=1e-6)  # they add the same blocks of rows
    torch.testing.assert_close(odd, high, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", [*MAIN, *PACKED, "restormer dual-pixel"])
@pytest.mark.parametrize("strip_rows", [3, 8, 1000])
def test_an_image_is_read_and_handed_out_a_few_rows_at_a_time(name, strip_rows):
    network = lively(NETWORKS[name]()).double()
    (x,) = image_for(network, 27, 13)
    asked, shares = [], []

    def read(top, bottom):
        asked.append(bottom - top)
        return x[:, top:bottom]

    gain = picture_gain(network, lambda top, bottom: x[:, top:bottom], (27, 13))
    strips = list(
        restored_rows(
            network,
            read,
            (27, 13),
            strip_rows=strip_rows,
            dtype=x.dtype,
            gain=gain,
            on_progress=shares.append,
        )
    )
    packing = network.ends.packing
    assert [start for start, _ in strips] == list(range(0, 27, packing * strip_rows))
    whole = torch.cat([rows for _, rows in strips], 1)
    assert torch.equal(whole, restore_by_strips(network, x[None], strip_rows=strip_rows)[0])
    assert max(asked) <= packing * (strip_rows + 4)  # halos of two rows for two views, else of one
    assert sum(shares) == pytest.approx(1)
    assert len(shares) >= 10


class AsOnMps(TorchDispatchMode):
    """Refuse what MPS cannot do: float64, and adaptive pooling between sizes that do not divide."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if torch.float64 in (value, getattr(value, "dtype", None)):
                raise TypeError(f"{func}: MPS has no float64")
        if "adaptive" in str(func):
            raise NotImplementedError(f"{func}: sizes need not divide on MPS")
        return result


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.float32) for name in NETWORKS] + [(name, torch.float16) for name in MAIN],
)
def test_every_operation_is_one_that_mps_has(monkeypatch, name, dtype):
    for module in (rows, exposure, guided):
        monkeypatch.setattr(module, "WITHOUT_FLOAT64", frozenset({"cpu"}))
    network = lively(NETWORKS[name]())
    x = image_for(network, 13, 27).float()
    with AsOnMps():
        restored = restore_by_strips(network, x, strip_rows=8, dtype=dtype)
    assert restored.isfinite().all()


def test_the_check_for_mps_sees_float64_and_adaptive_pooling():
    network = lively(NETWORKS["hint"]())
    with AsOnMps(), pytest.raises(TypeError, match="no float64"):
        restore_by_strips(network, torch.rand(1, 3, 8, 8), strip_rows=8)
    with AsOnMps(), pytest.raises(NotImplementedError, match="adaptive"):
        nn.functional.adaptive_avg_pool2d(torch.rand(1, 1, 5, 5), 3)


@pytest.mark.parametrize("name", ["restormer", "restormer BiasFree gray", "glmha text"])
def test_bfloat16_features_stay_close(name):
    network = lively(NETWORKS[name]())
    dtype = torch.bfloat16
    x = image_for(network, 16, 24).float()
    exact = restore_by_strips(network, x, strip_rows=8)
    rough = restore_by_strips(network, x, strip_rows=8, dtype=dtype)
    assert rough.dtype == torch.float32
    assert (rough - exact).square().mean().sqrt() < 6 * torch.finfo(dtype).eps * exact.std()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_deals_channels_to_heads_as_float32_does(monkeypatch, dtype):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(24, 30, 64, generator=generator).to(dtype)
    module = lively(hint.HierarchicalAttention(64), seed=4).float()
    norm = LayerNorm(64, "WithBias")
    orders = []

    def seen(*sums):
        orders.append(hint.channel_order(*sums))
        return orders[-1]

    monkeypatch.setattr(attention, "channel_order", seen)
    sections = workers.Workers(x.device, 24 * 30).sections(24, 8)
    for features in (x, x.float()):
        with torch.no_grad():
            attention.hierarchical_attention(
                module, attention.Features(features, norm, sections), None
            )
    assert torch.equal(orders[0], orders[1])


def test_bfloat16_hint_is_finite():
    # Its order is discontinuous: rounded queries may be another network, so closeness is no test.
    network = lively(NETWORKS["hint"]())
    x = image_for(network, 16, 24).float()
    assert restore_by_strips(network, x, strip_rows=8, dtype=torch.bfloat16).isfinite().all()


@pytest.mark.parametrize("without_float64", [frozenset(), frozenset({"cpu"})])
def test_many_small_terms_are_not_lost_in_a_sum(monkeypatch, without_float64):
    monkeypatch.setattr(rows, "WITHOUT_FLOAT64", without_float64)
    total = rows.PixelSum()
    total.add(torch.tensor([[2.0**24]]))
    for _ in range(1000):
        total.add(torch.tensor([[0.25]]))
    assert total.total.item() == 2**24 + 250


@pytest.mark.parametrize("without_float64", [frozenset(), frozenset({"cpu"})])
def test_sums_of_several_blocks_add_up(monkeypatch, without_float64):
    monkeypatch.setattr(rows, "WITHOUT_FLOAT64", without_float64)
    total = rows.PixelSum()
    total.add(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    total.add(torch.tensor([[10.0, 20.0]]))
    assert total.total.tolist() == [14, 26]


@pytest.mark.parametrize(
    ("strip_rows", "rows_of_last"), [(1, 1), (3, 1), (4, 2), (10, 10), (99, 10)]
)
def test_strips_cover_the_plane_in_order(strip_rows, rows_of_last):
    strips = rows.strips_of(10, strip_rows)
    covered = [row for strip in strips for row in range(strip.start, strip.stop)]
    assert covered == list(range(10))
    assert strips[-1].stop - strips[-1].start == rows_of_last
    assert all(0 <= strip.top <= strip.start < strip.stop <= strip.bottom <= 10 for strip in strips)


@pytest.mark.parametrize("strip_rows", [0, -8])
def test_a_strip_has_rows(strip_rows):
    with pytest.raises(ValueError, match="strip_rows must be at least 1"):
        restore_by_strips(Restormer(**SMALL), torch.rand(1, 3, 8, 8), strip_rows=strip_rows)


def test_half_precision_parameters_are_refused():
    with pytest.raises(ValueError, match="parameters must be float32 or float64"):
        restore_by_strips(Restormer(**SMALL).half(), torch.rand(1, 3, 8, 8), strip_rows=8)


def test_need_of_memory_grows_with_image_strip_and_precision():
    network = HINT(**SMALL)

    def need(height=64, strip_rows=8, bytes_per_value=4):
        return resident_bytes(
            network, height, 64, strip_rows=strip_rows, bytes_per_value=bytes_per_value
        )

    large = 2**16
    assert need(large) > need(large, bytes_per_value=2) > need()
    assert need(height=128) > need()
    assert need(strip_rows=16) > need()
    assert need(strip_rows=64) == need(strip_rows=1000)
    assert need() > 16 * 64 * 64 * 4  # the features of the decoder's first level
