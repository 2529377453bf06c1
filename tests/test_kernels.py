"""Kernels for steps on pixels: against the same in float64, and against doing without them."""

from __future__ import annotations

import importlib.util
import math
import sys
import threading

import pytest
import torch
import torch.nn.functional as F

from restorecli.networks.blocks import NORM_EPS
from restorecli.networks.strips import kernels, restore_by_strips, rows
from tests.test_strips import NETWORKS, image_for, lively

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


@per_kind
def test_threads_that_need_the_same_kernel_make_it_once(dtype, monkeypatch):
    code = kernels._code()
    made = []
    monkeypatch.setattr(code.Writer, "finished", lambda self: made.append(self) or print)
    slow = code.made_once(lambda parts, kind: code.Depthwise(parts, kind).finished())
    threads = [threading.Thread(target=slow, args=(1, dtype)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


@per_kind
def test_kernels_are_made_beside_what_else_is_loaded(dtype, monkeypatch):
    made = []
    monkeypatch.setattr(kernels._code(), "depthwise", lambda *form: made.append(form))
    kernels.make_ready(CPU, dtype)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    assert set(made) == {(parts, kind) for parts in (1, 2) for kind in {dtype, torch.float32}}
    kernels.make_ready(CPU, torch.float64)
    assert len(made) == len(set(made))
