"""Kernels for steps on pixels: against the same in float64, and against doing without them."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import threading
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from restorecli.machine.kernels import Kind, ready
from restorecli.networks import HINT, GLMHARestormer, Restormer
from restorecli.networks.blocks import NORM_EPS, LayerNorm
from restorecli.networks.strips import Room, kernels, passages, restore_by_strips, rows, unet
from restorecli.networks.strips.attention import Features
from restorecli.networks.strips.workers import Workers
from restorecli.weights import registry
from tests.conftest import run_command
from tests.test_strips import NETWORKS, by_strips, image_for, lively

CPU = torch.device("cpu")
ROUNDING = {torch.float32: 2.0**-21, torch.bfloat16: 2.0**-8}  # relative
GELU_ERROR = {torch.float32: 2.0**-22, torch.bfloat16: 2.0**-19}  # of Φ, before rounding
KINDS = [
    pytest.param(
        dtype,
        marks=pytest.mark.skipif(
            not kernels.usable(CPU, dtype), reason=f"no kernels for {dtype} here"
        ),
    )
    for dtype in ROUNDING
]
per_kind = pytest.mark.parametrize("dtype", KINDS)


def made(*shape, dtype=torch.float32, scale=1.0):
    """Values of both signs, the same each time."""
    generator = torch.Generator().manual_seed(math.prod(shape))
    return (scale * torch.randn(shape, generator=generator)).to(dtype)


def assert_rounded(actual, exact, dtype, scale=1.0):
    """``actual`` is ``exact`` (float64), rounded to ``dtype``; sums of terms of size ``scale``."""
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.double(), exact, rtol=ROUNDING[dtype], atol=scale * 2.0**-20)


@per_kind
@pytest.mark.parametrize("made_kind", KINDS)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("channels", [16, 48, 96, 384])
def test_layer_norm(dtype, made_kind, with_bias, channels):
    x = made(3, 5, channels, dtype=dtype) + 4  # far from a mean of 0
    weight, bias = made(channels), made(channels) if with_bias else None
    wide = x.double()
    if bias is not None:
        exact = F.layer_norm(wide, (channels,), weight.double(), bias.double(), NORM_EPS)
    else:
        variance = wide.var(-1, keepdim=True, unbiased=False)
        exact = wide / (variance + NORM_EPS).sqrt() * weight
    assert_rounded(kernels.layer_norm(x, weight, bias, made_kind), exact, made_kind, scale=8)
    nothing = kernels.layer_norm(x[:0], weight, bias, made_kind)
    assert nothing.shape == (0, 5, channels)


@per_kind
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("width", [1, 2, 31, 32, 33, 65])
@pytest.mark.parametrize("height", [1, 4])
def test_depthwise_convolutions(dtype, parts, width, height):
    channels = 3 * kernels.line_of(dtype)
    x = made(height + 2, width, parts * channels, dtype=dtype)
    weights = [made(channels, 1, 3, 3, scale=0.3 + part) for part in range(parts)]
    planes = x.double().permute(2, 0, 1).chunk(parts)
    first, *second = (
        F.conv2d(plane[None], weight.double(), padding=(0, 1), groups=channels)[0].permute(1, 2, 0)
        for plane, weight in zip(planes, weights, strict=True)
    )
    exact = F.gelu(first) * second[0] if second else first
    before = x.clone()
    scale = 16 if parts == 1 else 64 * GELU_ERROR[dtype] * 2**20
    assert_rounded(kernels.depthwise(weights, dtype)(x), exact, dtype, scale=scale)
    assert torch.equal(x, before)


@per_kind
def test_a_value_does_not_depend_on_where_it_is(dtype):
    channels = kernels.line_of(dtype)
    x = made(9, 70, 2 * channels, dtype=dtype)
    convolve = kernels.depthwise([made(channels, 1, 3, 3), 2 * made(channels, 1, 3, 3)], dtype)
    whole = convolve(x)
    assert torch.equal(convolve(x[3:6]), whole[3:4])
    assert torch.equal(convolve(x[:, 13:58].contiguous())[:, 1:-1], whole[:, 14:57])


@per_kind
def test_gelu_of_any_value(dtype):
    edges = torch.tensor([0.0, -0.0, 60.0, -60.0, math.nan, 1e-30])
    x = torch.cat([torch.linspace(-9, 9, 15_994), edges]).to(dtype).view(10, 100, 16)
    bias, others = torch.zeros(16), torch.ones_like(x)
    exact = F.gelu(x.double())
    y = kernels.gelu_times(x.clone(), bias, others)
    assert torch.equal(y.isnan(), exact.isnan())
    error = (y.double() - exact).nan_to_num().abs()
    allowed = ROUNDING[dtype] * exact.abs() + GELU_ERROR[dtype] * x.double().abs()
    assert bool((error <= allowed.nan_to_num()).all())
    biased = kernels.gelu_times(made(4, 5, 32, dtype=dtype), made(32), made(4, 5, 32, dtype=dtype))
    wide = made(4, 5, 32, dtype=dtype).double()
    exact = F.gelu(wide + made(32)) * wide
    assert_rounded(biased, exact, dtype, scale=16 * GELU_ERROR[dtype] * 2**20)


@per_kind
@pytest.mark.parametrize("made_kind", KINDS)
def test_weighted_sums(dtype, made_kind):
    pairs, scales = made(4, 5, 96, dtype=dtype), made(96)
    products = pairs.double() * scales
    y = kernels.weighted_sum(pairs, scales, made_kind)
    assert_rounded(y, products[..., :48] + products[..., 48:], made_kind, scale=4)


@per_kind
@pytest.mark.parametrize("pixels", [1, 33, 2000])
def test_sums_of_squares(dtype, pixels):
    x = made(pixels, 48, dtype=dtype)
    exact = x.double().square().sum(0)
    assert_rounded(kernels.sums_of_squares(x), exact, torch.float32, scale=pixels)


@per_kind
@pytest.mark.parametrize("name", ["hint packed", "restormer", "glmha text"])
def test_networks_give_the_same_without_kernels(dtype, name, monkeypatch):
    network = lively(NETWORKS[name]())
    for block in network.modules():  # an order that rounding decides on would be another one
        if hasattr(block, "sort_channels"):
            block.sort_channels = False
    x = image_for(network, 48, 56).float()
    with_kernels = restore_by_strips(network, x, strip_rows=8, dtype=dtype)
    made_norms = []
    monkeypatch.setattr(kernels, "kinds_with_kernels", frozenset)
    monkeypatch.setattr(kernels, "layer_norm", lambda *_: made_norms.append(1))
    without = restore_by_strips(network, x, strip_rows=8, dtype=dtype)
    assert not made_norms
    error = (with_kernels - without).square().mean().sqrt()
    assert 0 < error < 4 * ROUNDING[dtype] * without.square().mean().sqrt()


@per_kind
def test_channels_that_fill_no_vector_are_done_without(dtype):
    assert not kernels.usable(CPU, dtype, channels=kernels.LANES + 8)
    kernel = rows.Kernel(made(24, 24, 1, 1), made(24)).to(dtype)
    x = made(4, 5, 24, dtype=dtype)
    exact = F.gelu(x.double() @ kernel.weight.flatten(1).double().T + kernel.bias.double()) * x
    torch.testing.assert_close(rows.gated_by(x, kernel).double(), exact, rtol=0.05, atol=0.05)


@pytest.fixture
def afresh():
    """What the processor can do is asked again, and forgotten."""
    kernels.kinds_with_kernels.cache_clear()
    yield
    kernels.kinds_with_kernels.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are made on Linux only")
@pytest.mark.usefixtures("afresh")
def test_another_processor_and_a_machine_without_llvm_have_none(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        assert kernels.kinds_with_kernels() == frozenset()
    kernels.kinds_with_kernels.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        assert kernels.kinds_with_kernels() == frozenset()
    kernels.kinds_with_kernels.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        patch.setattr(kernels, "may_make_code", lambda: False)
        assert kernels.kinds_with_kernels() == frozenset()
        patch.setattr(kernels, "may_make_code", lambda: True)
        patch.setattr(importlib.util, "find_spec", lambda name: name)
        kernels.kinds_with_kernels.cache_clear()
        assert kernels.kinds_with_kernels() == {torch.float32}


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_a_system_that_forbids_code_is_believed(monkeypatch):
    assert kernels.may_make_code()

    class Strict:
        @staticmethod
        def mprotect(*_):
            return -1

    monkeypatch.setattr(kernels.ctypes, "CDLL", lambda _: Strict)
    assert not kernels.may_make_code()


MULTIPLIED = [(kind, kind) for kind in ROUNDING] + [(torch.bfloat16, torch.float32)]
per_product = pytest.mark.parametrize(
    ("given", "result"),
    [
        pytest.param(
            *pair,
            marks=pytest.mark.skipif(
                not kernels.multiplies(CPU, pair[0]), reason=f"no products of {pair[0]} here"
            ),
        )
        for pair in MULTIPLIED
    ],
)
per_multiplied = pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(
            dtype,
            marks=pytest.mark.skipif(
                not kernels.multiplies(CPU, dtype), reason=f"no products of {dtype} here"
            ),
        )
        for dtype in ROUNDING
    ],
)


def multiplied(weights, x, out, *, add=False):
    """What kernels make of the features of pixels, (n, C), in ``out``, (n, K)."""
    calls = kernels.Calls()
    weights.add_to(calls, x.data_ptr(), out.data_ptr(), len(x), add=add)
    calls.run()
    return out


@per_product
@pytest.mark.parametrize("pixels", [32, 33, 300])
@pytest.mark.parametrize("channels", [16, 48, 272])
@pytest.mark.parametrize("results", [16, 48, 96, 128])
def test_products(given, result, pixels, channels, results):
    x, matrix, bias = made(pixels, channels, dtype=given), made(results, channels), made(results)
    # What the weights are rounded to: bfloat16, or two of them, which hold 16 bits.
    known = matrix.to(torch.bfloat16) if result == torch.bfloat16 else matrix
    exact = x.double() @ known.double().T + bias
    weights = kernels.Weights([matrix], bias, given, result)
    y = multiplied(weights, x, torch.full((pixels, results), math.nan, dtype=result))
    scale = channels * (2**5 if given != result else 1)
    assert_rounded(y, exact, result, scale=scale)
    twice = multiplied(weights, x, y.clone(), add=True)
    assert_rounded(twice, exact + y.double(), result, scale=scale)


@per_product
def test_a_product_does_not_depend_on_how_many_pixels_there_are(given, result):
    x = made(700, 96, dtype=given)
    weights = kernels.Weights([made(48, 96)], None, given, result)
    whole = multiplied(weights, x, torch.zeros(700, 48, dtype=result))
    part = multiplied(weights, x[131:200], torch.zeros(69, 48, dtype=result))
    assert torch.equal(part, whole[131:200])


@per_product
def test_weights_side_by_side_are_filled_up(given, result):
    line = kernels.line_of(result)
    matrices, bias = [made(21, 30), 2 * made(40, 30)], made(61)
    weights = kernels.Weights(matrices, bias, given, result, line=line, channels=32)
    assert weights.results == (32 + 48 if line == 16 else 32 + 64)
    x = made(40, 32, dtype=given)
    y = multiplied(weights, x, torch.full((40, weights.results), math.nan, dtype=result))
    starts = [0, 21 + -21 % line]
    for matrix, start, own in zip(matrices, starts, bias.split([21, 40]), strict=True):
        known = matrix.to(torch.bfloat16) if result == torch.bfloat16 else matrix
        exact = x[:, :30].double() @ known.double().T + own
        found = y[:, start : start + len(matrix)]
        assert_rounded(found, exact, result, scale=30 * (2**5 if given != result else 1))
    assert not y[:, 21 : starts[1]].any()


@per_multiplied
@pytest.mark.parametrize("pixels", [1, 31, 64, 300])
@pytest.mark.parametrize("channels", [(16, 16), (48, 96), (32, 64)])
def test_sums_of_products(dtype, pixels, channels):
    x = made(pixels, 160, dtype=dtype)
    first, others = x[:, 16 : 16 + channels[0]], x[:, 64 : 64 + channels[1]]
    gram, calls = kernels.Gram(channels, (160, 160), dtype), kernels.Calls()
    sums = torch.ones(sum(gram.sizes))
    for _ in range(2):  # they are added to what is there
        gram.add_to(calls, first.data_ptr(), others.data_ptr(), sums.data_ptr(), pixels)
    calls.run()
    wide, other = first.double(), others.double()
    exact = (wide.T @ other).flatten(), wide.sum(0), wide.square().sum(0), other.square().sum(0)
    for found, right in zip(sums.split(gram.sizes), exact, strict=True):
        assert_rounded(found, 1 + 2 * right, torch.float32, scale=pixels)


@per_multiplied
def test_calls_that_come_again_move_on(dtype):
    values = torch.arange(16.0).repeat(6, 2, 1).to(dtype)  # (6, 2, 16)
    out = torch.zeros(6, 2, 16, dtype=dtype)
    norm = kernels.Norm(torch.ones(16), torch.zeros(16), dtype, dtype)

    def listed(row):
        calls = kernels.Calls()
        norm.add_to(calls, values[row].data_ptr(), out[row].data_ptr(), 2)
        return calls

    listed(1).repeat(listed(2), 4)
    assert not out[[0, 5]].any()
    expected = kernels.layer_norm(values, torch.ones(16), torch.zeros(16), dtype)
    assert torch.equal(out[1:5], expected[1:5])


@per_kind
@pytest.mark.parametrize(("first", "stop"), [(0, 1), (0, 7), (3, 7)])
def test_maxima(dtype, first, stop):
    row, out = made(7, 48, dtype=dtype), torch.full((3, 48), math.nan, dtype=dtype)
    calls = kernels.Calls()
    kernels.Maxima(48, dtype).add_to(calls, row.data_ptr(), out[1].data_ptr(), first, stop)
    calls.run()
    assert torch.equal(out[1], row[first:stop].amax(0))
    assert out[[0, 2]].isnan().all()


FUSED = {
    "restormer": lambda: Restormer(dim=48, num_blocks=[1] * 4, num_refinement_blocks=1),
    "restormer without biases": lambda: Restormer(
        dim=16, num_blocks=[1] * 4, num_refinement_blocks=1, LayerNorm_type="BiasFree"
    ),
    "restormer, narrow heads": lambda: Restormer(
        dim=16, heads=[2, 4, 4, 16], num_blocks=[1] * 4, num_refinement_blocks=1
    ),
    "glmha": lambda: GLMHARestormer(dim=32, num_blocks=[1] * 4, num_refinement_blocks=1),
    "glmha, odd heads": lambda: GLMHARestormer(
        dim=48,
        num_blocks=[1] * 4,
        num_refinement_blocks=1,
        heads=[1, 2, 8, 6],
        ratio=0.7,
        preset="table",
    ),
    "hint": lambda: HINT(dim=32, num_blocks=[1] * 4, num_refinement_blocks=1),
    "hint packed, unsorted": lambda: HINT(
        dim=32, num_blocks=[1] * 4, num_refinement_blocks=1, packing=2, sort_channels=False
    ),
}


@cache
def fused_case(name):
    """A network, an image, and what the one makes of the other in float64."""
    network = lively(FUSED[name]())
    image = image_for(network, 24, 264)[0].float()
    exact = by_strips(network.double(), image.double())
    return network.float(), image, exact


@per_multiplied
@pytest.mark.parametrize("name", FUSED)
def test_fused_steps_give_what_they_do_one_by_one(dtype, name, monkeypatch):
    network, image, exact = fused_case(name)
    fused, again = (
        by_strips(network, image, dtype=dtype, room=Room(keep_bytes=keep_bytes, workers=1))
        for keep_bytes in (2**28, 0)
    )
    assert torch.equal(fused, again)
    monkeypatch.setattr(unet, "fuses", lambda x, module: False)
    alone = by_strips(network, image, dtype=dtype, room=Room(workers=1))
    assert not torch.equal(fused, alone), "nothing was fused"
    error, allowed = ((y.double() - exact).square().mean().sqrt() for y in (fused, alone))
    assert error < 1.5 * allowed  # in bfloat16 an order may turn out otherwise, in both


@pytest.mark.parametrize("fusing", [True, False])
@pytest.mark.parametrize("name", FUSED)
def test_half_precision_does_not_depend_on_strips_threads_and_memory(name, fusing, monkeypatch):
    if not fusing:
        monkeypatch.setattr(unet, "fuses", lambda x, module: False)
    elif not kernels.multiplies(CPU, torch.bfloat16):
        pytest.skip("no tiles here")
    network = lively(FUSED[name]())
    image = image_for(network, 72, 264)[0].float()
    first, *others = (
        by_strips(
            network,
            image,
            dtype=torch.bfloat16,
            strip_rows=rows,
            room=Room(keep_bytes=keep_bytes, workers=workers),
        )
        for rows, workers, keep_bytes in ((8, 1, 2**28), (16, 1, 0), (64, 2, 2**28))
    )
    for other in others:
        assert torch.equal(first, other)


def test_convolutions_with_biases_are_not_fused():
    network = Restormer(dim=16, num_blocks=[1] * 4, num_refinement_blocks=1, bias=True)
    block, x = network.latent[0], torch.zeros(8, 64, 128)
    assert not passages.fuses(x, block.attn)
    assert not passages.fuses(x, block.ffn)


@per_multiplied
def test_narrow_planes_and_odd_channels_are_not_fused(dtype):
    ffn = Restormer(dim=16, num_blocks=[1] * 4, num_refinement_blocks=1).latent[0].ffn
    assert passages.fuses(torch.zeros(1, 32, 128, dtype=dtype), ffn)
    assert not passages.fuses(torch.zeros(9, 31, 128, dtype=dtype), ffn)
    assert not passages.fuses(torch.zeros(9, 32, 120, dtype=dtype), ffn)
    assert not passages.fuses(torch.zeros(9, 32, 128, dtype=torch.float64), ffn)


@per_multiplied
@pytest.mark.parametrize("width", [32, 64, 200, 1000])
@pytest.mark.parametrize("strips", [[(0, 41)], [(0, 3), (3, 27), (27, 41)], [(0, 40), (40, 41)]])
def test_a_passage_makes_what_its_steps_make(dtype, width, strips):
    generator = torch.Generator().manual_seed(width)
    x = torch.randn(41, width, 16, generator=generator).to(dtype)
    norm = LayerNorm(16, "WithBias")
    matrix, taps_of = made(32, 16), [made(32, 1, 3, 3)]
    sections = Workers(CPU, 1, 1).sections(41, 41)
    features = Features(x, norm, sections)
    made_rows = passages.Rows(torch.full((41, width, 32), math.nan, dtype=dtype))
    taps = kernels.Taps(taps_of, dtype)
    passage = passages.Passage(
        features,
        kernels.Norm(norm.body.weight.detach(), norm.body.bias.detach(), dtype, dtype),
        kernels.Weights([matrix], None, dtype, dtype),
        [passages.Part(taps, 0, made_rows)],
    )
    seen = []
    for start, stop in strips:
        strip = rows.Strip(start, stop, 41)
        passages.go_through(strip, [passage], width, lambda calls, some: seen.append(some))
    normal = kernels.layer_norm(x, norm.body.weight.detach(), norm.body.bias.detach(), dtype)
    mixed = torch.zeros(43, width, 32, dtype=dtype)
    multiplied(
        kernels.Weights([matrix], None, dtype, dtype), normal.view(-1, 16), mixed[1:42].view(-1, 32)
    )
    assert torch.equal(made_rows.values, kernels.depthwise(taps_of, dtype)(mixed))


def test_threads_that_need_the_same_kernel_make_it_once():
    code = pytest.importorskip("restorecli.machine.kernels.code")
    made = []

    def make(kind):
        made.append(kind)
        return pixels_code.clearing.__wrapped__()

    pixels_code = importlib.import_module("restorecli.machine.kernels.pixels")
    slow = code.made_once(make)
    threads = [threading.Thread(target=slow, args=(Kind.FLOAT,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


@pytest.fixture
def no_kernels(own_folder):
    """A folder in which no test has left machine code."""
    (own_folder / "kernels").unlink()


@pytest.fixture
def clearing(no_kernels):
    """A kernel as it is made anew, and how its maker is called."""
    code = pytest.importorskip("restorecli.machine.kernels.code")
    make = importlib.import_module("restorecli.machine.kernels.pixels").clearing.__wrapped__
    made = []

    def counted():
        made.append(1)
        return make()

    return lambda: code.made_once(counted)(), made


def clears(kernel):
    """Whether the kernel fills lines with zeros, and no more."""
    values = torch.ones(3, 16)
    kernel(values.data_ptr(), 64, 2, 64)
    return not values[:2].any() and bool(values[2].all())


def test_later_processes_take_a_kernel_from_the_cache(clearing, own_folder):
    load, made = clearing
    assert clears(load())
    assert clears(load())  # as another process would: nothing is known there but the cache
    assert len(made) == 1
    (kept,) = (own_folder / "kernels").iterdir()
    assert kept.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "open to others", "folder open"])
def test_what_may_not_be_whole_or_ours_is_made_anew(clearing, own_folder, damage):
    load, made = clearing
    load()
    (kept,) = (own_folder / "kernels").iterdir()
    content = kept.read_bytes()
    if damage == "cut":
        kept.write_bytes(content[:-9])
    elif damage == "changed":
        kept.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    elif damage == "empty":
        kept.write_bytes(b"")
    elif damage == "open to others":
        kept.chmod(0o666)
    else:
        kept.parent.chmod(0o777)
    assert clears(load())
    assert len(made) == 2


def test_without_a_cache_kernels_are_made_every_time(clearing, own_folder, monkeypatch):
    load, made = clearing
    (own_folder / "kernels").write_text("in the way")
    assert clears(load())
    assert clears(load())
    assert len(made) == 2
    code = importlib.import_module("restorecli.machine.kernels.code")
    monkeypatch.setattr(code, "cache_folder", lambda: None)
    assert clears(load())
    assert (own_folder / "kernels").read_text() == "in the way"


def wait_for_others():
    """Until threads that the program waits for at its end have ended."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


@per_kind
def test_kernels_are_made_beside_what_else_is_loaded(dtype, monkeypatch):
    made = []
    monkeypatch.setattr(kernels._code(), "make_usual", made.append)
    kernels.make_ready(CPU, dtype)
    kernels.make_ready(CPU, torch.float64)
    wait_for_others()
    assert made == [kernels.KINDS[dtype]]


@per_kind
def test_a_restoration_needs_no_kernels_but_the_usual_ones(dtype, monkeypatch):
    forms = kernels._code().usual_forms(kernels.KINDS[dtype])
    usual = {make().address for make in forms}
    called = []
    add = kernels.Calls.add
    monkeypatch.setattr(
        kernels.Calls,
        "add",
        lambda calls, kernel, *given: called.append(kernel.address) or add(calls, kernel, *given),
    )
    network = lively(HINT(**registry()["hint-derain-packed"].options))
    image = torch.rand(3, 528, 528)
    by_strips(network, image, dtype=dtype)
    assert usual.issuperset(called)


@pytest.mark.skipif(not kernels.kinds_with_kernels(), reason="no kernels here")
@pytest.mark.usefixtures("no_kernels")
def test_a_command_makes_the_kernels_and_keeps_them(photo_file, own_folder):
    photo = photo_file(height=80, width=96)
    assert run_command("derain", photo, cwd=photo.parent).returncode == 0
    half = kernels.multiplies(CPU, torch.bfloat16)
    usual = list(kernels._code().usual_forms(Kind.BFLOAT if half else Kind.FLOAT))
    assert len(list((own_folder / "kernels").iterdir())) >= len(usual)


@pytest.mark.parametrize("half", [True, False])
def test_making_kernels_begins_before_torch_is_there(half, monkeypatch):
    llvm = pytest.importorskip("llvmlite.binding")
    forms = importlib.import_module("restorecli.machine.kernels.forms")
    made = []
    monkeypatch.setattr(forms, "make_usual", made.append)
    kinds = {"avx512f": True, "avx512bw": True, "avx512dq": True}
    for features, expected in (
        ({}, []),
        (kinds, [Kind.FLOAT]),
        ({**kinds, "avx512bf16": True}, [Kind.FLOAT]),
        (
            {**kinds, "avx512bf16": True, "amx-bf16": True},
            [Kind.BFLOAT if half else Kind.FLOAT],
        ),
    ):
        made.clear()
        monkeypatch.setattr(llvm, "get_host_cpu_features", lambda known=features: known)
        ready.make_kernels(half=half)
        wait_for_others()
        assert made == (expected if sys.platform == "linux" else [])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    made.clear()
    ready.make_kernels(half=half)
    wait_for_others()
    assert not made
