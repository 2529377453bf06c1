"""MST++, MST and the regression by strips: the result of their ``forward`` in bounded memory.

Queries and keys are matrices on the features x (no 3×3 as in Restormer), so the one sum S = Σ x·xᵀ
gives all scores and lengths, and the attention folds into one matrix for every pixel. What is left
is local. Level 0, the largest, is kept only where there is room; else its rows are made anew
whenever a sum or the result needs them, from the picture and the level below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restorecli.networks.blocks import channel_scores
from restorecli.networks.mst import (
    MSTRGB,
    SLOPE,
    MSTCassi,
    MSTPlusPlus,
    SpectralU,
    check_scene,
    dispersed_mask,
    parts_of,
)
from restorecli.networks.mst_attention import (
    GuidedLowRankSpectralAttention,
    MaskGuide,
    SpectralAttention,
    SpectralBlocks,
    SpectralFeedForward,
    shifts,
)
from restorecli.networks.regression import RootPolynomial
from restorecli.networks.restormer import attention_weights
from restorecli.networks.strips.picture import PaddedImage, Rows
from restorecli.networks.strips.planes import (
    GridMaxima,
    Plane,
    Slab,
    Stored,
    bands,
    convolved,
    doubled,
    halved,
    second_moments,
)
from restorecli.networks.strips.rows import Kernel, gelu_in_place, kernel_of, pointwise
from restorecli.networks.strips.unet import rows_of

POSITION_HALO, FEED_FORWARD_HALO = 2, 1
BLOCK_HALO = POSITION_HALO + FEED_FORWARD_HALO
Attended = Callable[[Slab], Slab]  # rows → attention's change of them, less POSITION_HALO


@dataclass(frozen=True, slots=True)
class Keeping:
    """How high the strips are, and what is kept of level 0, besides all of the levels below."""

    strip_rows: int
    features: bool  # the encoder's, which the decoder's then replace
    results: bool  # of the stages of MST++

    @classmethod
    def within(cls, keep_bytes: int, strip_rows: int, plane_bytes: int) -> Keeping:
        """What fits, when all features of level 0 take ``plane_bytes``."""
        return cls(strip_rows, plane_bytes <= keep_bytes, 2 * plane_bytes <= keep_bytes)


@torch.no_grad()
def reconstructed_rows(
    network: nn.Module,
    read: Rows,
    size: tuple[int, int],
    *,
    strip_rows: int,
    dtype: torch.dtype,
    keep_bytes: int,
    mask: Tensor | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Reconstruct the bands of one picture that is read a few rows at a time, from the top.

    Sums over pixels, norms and softmax are float32 or better. Strips and ``keep_bytes`` change
    memory and time, and the result by rounding only.

    Args:
        network: MST++, MST for RGB or CASSI, or the regression; float32 or float64 parameters.
        read: (top, bottom) → float (in_channels, bottom − top, W); asked several times for a row.
        size: (H, W) of the picture, any from 1; for CASSI of the scene, multiples of 4.
        strip_rows: Rows at a time, at least 1.
        dtype: Precision of the features.
        keep_bytes: Features of level 0 are kept where they take no more than this.
        mask: (H, W), of a CASSI.

    Yields:
        The first row, and (bands, r, W) in ``dtype``, not clamped.

    Raises:
        ValueError: Another network, ``strip_rows`` below 1, or a mask that does not fit.
    """
    if strip_rows < 1:
        raise ValueError(f"strip_rows must be at least 1, got {strip_rows}")
    device = next(network.parameters()).device
    height, width = size
    if isinstance(network, MSTCassi):
        if mask is None:
            raise ValueError("a CASSI network needs a mask")
        check_scene(torch.empty(1, 1, height, width, device="meta"), mask)
        picture = Plane(height, lambda t, b: read(t, b).permute(1, 2, 0).to(device, dtype))
    else:
        image = PaddedImage(read, size, device)
        picture = Plane(image.height, lambda t, b: image.rows(t, b).permute(1, 2, 0).to(dtype))
    result = _result(network, picture, size, strip_rows, dtype, keep_bytes, mask)
    for top, bottom in bands(height, strip_rows):
        yield top, result.make(top, bottom)[:, :width].permute(2, 0, 1)


def reconstruct_by_strips(
    network: nn.Module,
    x: Tensor,
    *,
    strip_rows: int,
    keep_bytes: int = 0,
    mask: Tensor | None = None,
) -> Tensor:
    """``network(x)`` or ``network(x, mask)``, evaluated by strips, without gradient.

    Shape:
        x: (B, in_channels, H, W); mask: (H, W), of a CASSI → (B, bands, H, W), dtype of ``x``.

    Raises:
        ValueError: As ``reconstructed_rows``.
    """
    results = []
    for image in x:
        strips = reconstructed_rows(
            network,
            partial(rows_of, image),
            (x.shape[2], x.shape[3]),
            strip_rows=strip_rows,
            dtype=x.dtype,
            keep_bytes=keep_bytes,
            mask=mask,
        )
        results.append(torch.cat([rows for _, rows in strips], 1))
    return torch.stack(results)


def _result(
    network: nn.Module,
    picture: Plane,
    size: tuple[int, int],
    strip_rows: int,
    dtype: torch.dtype,
    keep_bytes: int,
    mask: Tensor | None,
) -> Plane:
    """The bands, (H, W, bands), as a plane that is made when its rows are asked for."""
    if isinstance(network, RootPolynomial):

        def regressed(top: int, bottom: int) -> Tensor:
            rows = picture.make(top, bottom).permute(2, 0, 1).unsqueeze(0)
            return network.to(dtype)(rows)[0].permute(1, 2, 0)

        return Plane(picture.height, regressed)
    if not isinstance(network, (MSTPlusPlus, MSTRGB, MSTCassi)):
        raise ValueError(f"no evaluation by strips for {type(network).__name__}")
    keeping = Keeping.within(
        keep_bytes, strip_rows, plane_bytes(network, *size, bytes_per_value=dtype.itemsize)
    )
    if isinstance(network, MSTPlusPlus):
        return _mst_plus_plus(network, picture, keeping, dtype)
    leaky = partial(F.leaky_relu, negative_slope=SLOPE)
    if isinstance(network, MSTCassi):
        assert mask is not None
        rows = mask.to(dtype)
        bands_count = network.mapping.out_channels
        guide = Plane(
            picture.height,
            lambda t, b: dispersed_mask(rows[t:b], bands_count).permute(1, 2, 0).contiguous(),
        )
        first, base = convolved(picture, kernel_of(network.embedding, dtype), leaky), picture
    else:
        guide = convolved(picture, kernel_of(network.embedding_1, dtype), leaky)
        first = base = convolved(picture, kernel_of(network.embedding_2, dtype), leaky)
    features = u_features(network, first, keeping, dtype, guide)
    return added(convolved(features, kernel_of(network.mapping, dtype)), base)


def plane_bytes(
    network: MSTPlusPlus | MSTRGB | MSTCassi, height: int, width: int, *, bytes_per_value: int
) -> int:
    """Bytes of all features of level 0 of one picture."""
    rows, columns = (length + -length % MSTPlusPlus.MULTIPLE_PX for length in (height, width))
    layer = network.conv_in if isinstance(network, MSTPlusPlus) else network.mapping
    return layer.out_channels * rows * columns * bytes_per_value


def added(first: Plane, second: Plane) -> Plane:
    """The sum of two planes."""
    return Plane(
        first.height, lambda top, bottom: first.make(top, bottom) + second.make(top, bottom)
    )


def _mst_plus_plus(
    network: MSTPlusPlus, picture: Plane, keeping: Keeping, dtype: torch.dtype
) -> Plane:
    """``MSTPlusPlus.forward``. Of a stage the features below level 0 stay, or its result."""
    first = z = convolved(picture, kernel_of(network.conv_in, dtype))
    for number, stage in enumerate(network.body, start=1):
        assert isinstance(stage, SpectralU)
        embedded = convolved(z, kernel_of(stage.embedding, dtype))
        features = u_features(stage, embedded, keeping, dtype)
        z = added(convolved(features, kernel_of(stage.mapping, dtype)), z)
        if keeping.results and number < len(network.body):
            z = z.stored(keeping.strip_rows).plane
    return added(convolved(z, kernel_of(network.conv_out, dtype)), first)


def u_features(
    network: SpectralU,
    first: Plane,
    keeping: Keeping,
    dtype: torch.dtype,
    mask: Plane | None = None,
) -> Plane:
    """``SpectralU.forward_u``: features of level 0 before ``mapping``."""
    kernel = partial(kernel_of, dtype=dtype)
    x, skips = first, list[tuple[Plane, Stored | None, Plane | None]]()
    for level, layer in enumerate(network.encoder_layers):
        blocks, down, *mask_down = parts_of(layer)
        buffer = x.stored(keeping.strip_rows) if level or keeping.features else None
        x = through(blocks, x, buffer, mask, keeping.strip_rows, dtype)
        skips.append((x, buffer, mask))
        x = halved(x, kernel(down))
        mask = None if mask is None else halved(mask, kernel(mask_down[0]))
    buffer = x.stored(keeping.strip_rows)
    x = through(network.bottleneck, x, buffer, mask, keeping.strip_rows, dtype)
    for layer in network.decoder_layers:
        up, fuse, blocks = parts_of(layer)
        skip, buffer, mask = skips.pop()
        weight = up.weight.to(dtype)  # (2C, C, 2, 2)
        large, fusing = doubled(x, Kernel(weight, up.bias.to(dtype))), kernel(fuse)
        if buffer is None:
            x = Plane(skip.height, partial(_fused, large, skip, fusing))
        else:
            buffer.replace(partial(_fused_rows, large, fusing), 0, keeping.strip_rows)
            x = buffer.plane
        x = through(blocks, x, buffer, mask, keeping.strip_rows, dtype)
    return x


def _fused(large: Plane, skip: Plane, kernel: Kernel, top: int, bottom: int) -> Tensor:
    """Both side by side, through a 1×1 convolution: (H, W, C), (H, W, C) → (r, W, K)."""
    return pointwise(torch.cat([large.make(top, bottom), skip.make(top, bottom)], -1), kernel)


def _fused_rows(large: Plane, kernel: Kernel, skip: Slab, top: int, bottom: int) -> Tensor:
    """`_fused` with a slab as the skip: (H, W, C), (r, W, C) → (r, W, K)."""
    return pointwise(torch.cat([large.make(top, bottom), skip.part(top, bottom)], -1), kernel)


def through(
    blocks: Any,  # SpectralBlocks; out of nn.ModuleList it has no better type
    x: Plane,
    buffer: Stored | None,
    mask: Plane | None,
    strip_rows: int,
    dtype: torch.dtype,
) -> Plane:
    """``SpectralBlocks.forward``: in place where ``x`` is kept in ``buffer``, else when asked."""
    assert isinstance(blocks, SpectralBlocks)
    if buffer is not None:
        x = buffer.plane
    for attention, feed_forward in blocks.pairs():
        attend = attended(attention, x, mask, strip_rows, dtype)
        block = partial(_block_rows, attend, fed_forward(feed_forward, dtype))
        if buffer is not None:
            buffer.replace(block, BLOCK_HALO, strip_rows)
        else:
            x = Plane(x.height, partial(_made_rows, x, block))
    return x


def _made_rows(
    source: Plane, change: Callable[[Slab, int, int], Tensor], top: int, bottom: int
) -> Tensor:
    """Rows of a block that keeps nothing: (H, W, C) → (r, W, C)."""
    return change(source.slab(top, bottom, BLOCK_HALO), top, bottom)


def _block_rows(
    attend: Attended, feed_forward: Callable[[Slab], Slab], x: Slab, top: int, bottom: int
) -> Tensor:
    """Attention and feed-forward, each with its residual: (r + halo, W, C) → (r, W, C)."""
    change = attend(x)
    y = change.of(change.rows.add_(x.part(change.start, change.stop)))
    rows = feed_forward(y).part(top, bottom)
    return rows.add_(y.part(top, bottom))


def fed_forward(layers: SpectralFeedForward, dtype: torch.dtype) -> Callable[[Slab], Slab]:
    """``SpectralFeedForward`` by slabs: loses ``FEED_FORWARD_HALO`` rows."""
    widen, _, blur, _, narrow = layers.net
    kernels = [kernel_of(layer, dtype) for layer in (widen, blur, narrow)]
    norm = layers.norm
    weight, bias = norm.weight.to(dtype), norm.bias.to(dtype)

    def change(x: Slab) -> Slab:
        y = x.of(F.layer_norm(x.rows, norm.normalized_shape, weight, bias, norm.eps))
        hidden = y.mixed(kernels[0])
        hidden = hidden.of(gelu_in_place(hidden.rows)).convolved(kernels[1])
        return hidden.of(gelu_in_place(hidden.rows)).mixed(kernels[2])

    return change


def linear_kernel(weight: Tensor, dtype: torch.dtype, bias: Tensor | None = None) -> Kernel:
    """A linear map as a 1×1 kernel: weight (K, C), bias (K,)."""
    return Kernel(weight[..., None, None], bias).to(dtype)


def attended(
    attention: nn.Module, x: Plane, mask: Plane | None, strip_rows: int, dtype: torch.dtype
) -> Attended:
    """The pass for the statistics of ``x``; the second as a function of its rows.

    The features of ``x`` may change after this, but not before the rows are asked for.
    """
    if isinstance(attention, GuidedLowRankSpectralAttention):
        return _low_rank(attention, x, mask, strip_rows, dtype)
    assert isinstance(attention, SpectralAttention)
    moments = second_moments(x, strip_rows, lambda slab: None)
    # The published to_k plays the query of the usual formula.
    weights = _attention_map(attention.to_k.weight, attention.to_q.weight, attention, moments)
    return _applied(attention, weights, attention.to_v.weight, mask, dtype, attention.to_v.weight)


def _low_rank(
    attention: GuidedLowRankSpectralAttention,
    x: Plane,
    mask: Plane | None,
    strip_rows: int,
    dtype: torch.dtype,
) -> Attended:
    query = linear_kernel(attention.to_q.weight, dtype)
    maxima = GridMaxima(attention.calibration.kernel)
    moments = second_moments(x, strip_rows, lambda slab: maxima.add(slab.mixed(query)))
    weigh = attention.calibration.from_maxima(maxima.total.to(attention.rescale.dtype))[0]  # (C,)
    scale = 1 + attention.alpha * weigh
    key, value = attention.to_k.weight * scale, attention.to_v.weight * scale  # each (C', C)
    weights = _attention_map(attention.to_q.weight, key, attention, moments)
    reads = {"input": None, "query": attention.to_q.weight, "value": value}[attention.position]
    return _applied(attention, weights, value, mask, dtype, reads)


def _attention_map(
    query: Tensor,
    key: Tensor,
    attention: SpectralAttention | GuidedLowRankSpectralAttention,
    moments: Tensor,
) -> Tensor:
    """Attention of every head from Σ x·xᵀ alone.

    Shape:
        query: (heads·c, C); key: (heads·c', C); moments: (C, C) → (heads, c, c').
    """
    q, k = (part.to(moments.dtype).unflatten(0, (attention.heads, -1)) for part in (query, key))
    gram = q @ moments @ k.mT
    lengths = (((part @ moments) * part).sum(-1).clamp_min(0) for part in (q, k))
    scores = channel_scores(gram, *lengths).to(attention.rescale.dtype)
    return attention_weights(scores.unsqueeze(0), attention.rescale).squeeze(0)


def _applied(
    attention: SpectralAttention | GuidedLowRankSpectralAttention,
    weights: Tensor,
    value: Tensor,
    mask: Plane | None,
    dtype: torch.dtype,
    position: Tensor | None,
) -> Attended:
    """Values, attention and projection in one matrix, where no mask stands between; position.

    Shape:
        weights: (heads, c, c'); value: (heads·c', C); position: what its branch reads, (K, C), or
        ``None`` for the rows as they are.
    """
    projection = torch.unflatten(attention.proj.weight, 1, (attention.heads, -1)).transpose(0, 1)
    mix = (projection @ weights).transpose(0, 1).flatten(1)  # (C, heads·c')
    values = linear_kernel(value, dtype)
    project = linear_kernel(mix if mask else mix @ value, dtype, attention.proj.bias)
    reading = None if position is None else linear_kernel(position, dtype)
    first, _, second = attention.pos_emb
    blurs = kernel_of(first, dtype), kernel_of(second, dtype)
    kept = attention.kept if isinstance(attention, GuidedLowRankSpectralAttention) else None
    guide = None if mask is None else guided(attention.mm, mask, dtype, kept)
    scatters = kept is not None and attention.position == "value"

    def change(x: Slab) -> Slab:
        read = x if reading is None else x.mixed(reading)
        hidden = read.convolved(blurs[0])
        blurred = hidden.of(gelu_in_place(hidden.rows)).convolved(blurs[1])
        rows = x.part(blurred.start, blurred.stop)
        if guide is not None:
            rows = pointwise(rows, values).mul_(guide(blurred.start, blurred.stop, rows.shape[1]))
        y = pointwise(rows, project)
        if scatters and kept is not None:
            return blurred.of(y.index_add_(-1, kept, blurred.rows))
        return blurred.of(y.add_(blurred.rows))

    return change


def guided(
    guide: MaskGuide, mask: Plane, dtype: torch.dtype, kept: Tensor | None
) -> Callable[[int, int, int], Tensor]:
    """``MaskGuide`` by rows: (top, bottom, W) → (r, W, C'), for the channels ``kept``."""
    first, second, depth = (
        kernel_of(layer, dtype) for layer in (guide.conv1, guide.conv2, guide.depth_conv)
    )
    halo = depth.weight.shape[-1] // 2

    def rows(top: int, bottom: int, width: int) -> Tensor:
        a = mask.slab(top, bottom, halo).mixed(first)
        gate = a.mixed(second).convolved(depth).part(top, bottom).sigmoid_().add_(1)
        e = gate.mul_(a.part(top, bottom))  # (r, W', C)
        if guide.shrink is not None:
            e = _shifted(e, width, shifts(e.shape[-1], guide.shrink))
        return e if kept is None else e[..., kept]

    return rows


def _shifted(e: Tensor, width: int, starts: Sequence[int]) -> Tensor:
    """Every channel from its own column on: (r, W', C) → (r, W, C)."""
    columns = torch.arange(width, device=e.device)[:, None] + torch.tensor(starts, device=e.device)
    return e.gather(1, columns.expand(e.shape[0], -1, -1))
