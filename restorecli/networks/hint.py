"""HINT: hierarchical multi-head attention with a query-key cache.

Devil is in the Uniformity: Exploring Diverse Learners within Transformer for Image Restoration
(Zhou et al., ICCV 2025). Restormer's U-Net with attention in the latent, decoder and refinement
stages only; the heads have different widths, and an exponential average of attention maps, the
cache, runs through all of them. Parameter names are those of the published checkpoints.

Two departures from the published code: the cache is an argument and a result, never kept on a
module, and every image of a batch has its own channel order and its own cache. So an image does
not depend on the image before it, and a batch of B is B images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restorecli.networks.blocks import (
    Downsample,
    FeedForward,
    LayerNorm,
    PatchEmbed,
    Upsample,
    channel_scores,
    statistics_dtype,
)
from restorecli.networks.ends import Ends, PictureNetwork

HEAD_EIGHTHS = (1, 2, 2, 3)  # widths of the four heads, in eighths of the channels
MOMENTUM = 0.9  # weight of the old cache


class Modulator(nn.Module):
    """One head's inter-layer step (QKCU): correct an attention map by what earlier layers saw.

    HINT, section 3.3: Z = W(M + A), P = A·scale + shift, A ← A + P·GELU(G·P).

    Shape:
        attention: (B, c, c); memory: (B, c, c), the cache pooled to the same size → (B, c, c).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_width = nn.Conv1d(width, 2 * width, 1)
        self.gatingConv = nn.Conv1d(width, width, 1)

    def forward(self, attention: Tensor, memory: Tensor) -> Tensor:
        """Correct ``attention`` (B, c, c) by ``memory`` (B, c, c) → (B, c, c)."""
        scale, shift = self.conv_width(memory + attention).chunk(2, dim=1)  # each (B, c, c)
        change = attention * scale + shift
        return attention + change * F.gelu(self.gatingConv(change))


class IntraModulator(nn.Module):
    """The intra-layer step (QKCU): add back what the heads' unit queries and keys say of a pixel.

    HINT, section 3.3: T = out + guide, out + up(down(GELU(G·T)·T)).

    Shape:
        out, guide: (B, N, C) → (B, N, C).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gatingConv = nn.Conv1d(channels, channels, 1)
        self.down = nn.Conv1d(channels, channels // 2, 1)
        self.up = nn.Conv1d(channels // 2, channels, 1)

    def forward(self, out: Tensor, guide: Tensor) -> Tensor:
        """Refine ``out`` (B, N, C) by ``guide`` (B, N, C) → (B, N, C)."""
        mixed = out + guide
        gated = F.gelu(_pointwise(mixed, self.gatingConv)) * mixed  # (B, N, C)
        return out + _pointwise(_pointwise(gated, self.down), self.up)


def _pointwise(rows: Tensor, convolution: nn.Conv1d) -> Tensor:
    """A convolution of width 1 on pixels as rows: (B, N, C) → (B, N, C_out)."""
    return F.linear(rows, convolution.weight.squeeze(-1), convolution.bias)


class HierarchicalAttention(nn.Module):
    """Channel attention with heads of 1, 2, 2 and 3 eighths of the channels (HMHA and QKCU).

    Channels are ordered by how alike their queries are before they are dealt to the heads, so the
    heads see different subspaces (HINT, section 3.2). The order is never undone: ``project_out``
    was trained on it. Without ``sort_channels`` they are dealt as they lie, the same for every
    picture: what comes out then depends continuously on what goes in.

    Shape:
        x: (B, C, H, W), any float dtype; cache: (B, m, m) of any m, or ``None``
        → (B, C, H, W), same dtype as x; cache: (B, C, C), float32 or float64, no gradient.
    """

    def __init__(self, channels: int, *, bias: bool = False, sort_channels: bool = True) -> None:
        super().__init__()
        if channels % 8:
            raise ValueError(f"channels must be a multiple of 8, got {channels}")
        self.widths = tuple(channels * eighths // 8 for eighths in HEAD_EIGHTHS)
        self.sort_channels = sort_channels
        self.temperature = nn.Parameter(torch.ones(len(self.widths), 1, 1))
        wide = 3 * channels
        self.qkv = nn.Conv2d(channels, wide, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)
        self.intra_modulator = IntraModulator(channels)
        for i, width in enumerate(self.widths, start=1):
            self.add_module(f"inter_modulator{i}", Modulator(width))

    @property
    def inter_modulators(self) -> list[Modulator]:
        """One modulator for each head: (B, c, c) → (B, c, c)."""
        return [getattr(self, f"inter_modulator{i + 1}") for i in range(len(self.widths))]

    def forward(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mix the channels of ``x`` (B, C, H, W) → (B, C, H, W); the cache becomes (B, C, C)."""
        batch, channels, height, width = x.shape
        qkv = self.qkv_dwconv(self.qkv(x)).permute(0, 2, 3, 1)  # (B, H, W, 3·C)
        q, k, v = qkv.reshape(batch, height * width, -1).chunk(3, dim=-1)  # each (B, N, C)
        dtype = statistics_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            qs, ks = q.to(dtype), k.to(dtype)
            q_squares, k_squares = qs.square().sum(1), ks.square().sum(1)  # each (B, C)
            order = None
            if self.sort_channels:
                with torch.no_grad():
                    order = channel_order(qs.mT @ qs, qs.sum(1), height * width)  # (B, C)
            scores = channel_scores(qs.mT @ ks, q_squares, k_squares)  # (B, C, C)
            heads, cache = self.head_weights(scores, order, cache)
            weights = scatter_heads(heads, order)  # (B, C, C)
            with torch.no_grad():
                q_unit = qs * torch.rsqrt(q_squares.clamp_min(1e-24)).unsqueeze(1)
                k_unit = ks * torch.rsqrt(k_squares.clamp_min(1e-24)).unsqueeze(1)
                guide = q_unit + k_unit  # (B, N, C)
                if order is not None:
                    guide = guide.gather(2, order.unsqueeze(1).expand_as(qs))
                guide = guide.to(v.dtype)
        out = v @ weights.mT.to(v.dtype)  # (B, N, C), channels in sorted order
        out = self.intra_modulator(out, guide)
        out = out.reshape(batch, height, width, channels).permute(0, 3, 1, 2)  # (B, C, H, W)
        return self.project_out(out), cache

    def head_weights(
        self, scores: Tensor, order: Tensor | None, cache: Tensor | None
    ) -> tuple[list[Tensor], Tensor]:
        """Attention map of each head, and the updated cache.

        Steps 3, 4 and 6: only C×C matrices, so no pixel is needed.

        Shape:
            scores: (B, C, C), cosine similarities, unsorted; order: (B, C), int64, or ``None``
            → four (B, c, c) in sorted order, and the cache (B, C, C).
        """
        channels = scores.shape[-1]
        if order is not None:
            scores = take(take(scores, order, 1), order, 2)
        memory = None if cache is None else resized_by_averaging(cache.to(scores.dtype), channels)
        heads = []
        start = 0
        for i, (width, modulate) in enumerate(zip(self.widths, self.inter_modulators, strict=True)):
            block = scores[:, start : start + width, start : start + width]
            head = (block * self.temperature[i].to(scores.dtype)).softmax(dim=-1)  # (B, c, c)
            if memory is not None:
                head = modulate(head, resized_by_averaging(memory, width))
            heads.append(head)
            start += width
        with torch.no_grad():
            cache = updated_cache(heads, memory)
        return heads, cache


def channel_order(gram: Tensor, sums: Tensor, pixels: int) -> Tensor:
    """Channels by their mean Pearson correlation with all channels, most alike first.

    HINT, section 3.2. A channel without variance counts as uncorrelated; equals keep their order.

    Shape:
        gram: (B, C, C), Σ q·qᵀ over pixels; sums: (B, C), Σ q; ``pixels``: how many
        → (B, C), int64.
    """
    covariance = gram - sums.unsqueeze(-1) * sums.unsqueeze(-2) / pixels  # (B, C, C), times pixels
    variance = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0)  # (B, C)
    inverse = torch.where(variance > 0, variance, torch.inf).rsqrt()  # (B, C), 0 without variance
    correlation = covariance * inverse.unsqueeze(-1) * inverse.unsqueeze(-2)
    return correlation.mean(-1).argsort(dim=-1, descending=True, stable=True)


def take(matrix: Tensor, order: Tensor, axis: int) -> Tensor:
    """Rows (``axis`` 1) or columns (2) of each matrix in its own order.

    Shape:
        matrix: (B, C, C); order: (B, C), int64 → (B, C, C).
    """
    index = order.unsqueeze(3 - axis).expand_as(matrix)
    return matrix.gather(axis, index)


def scatter_heads(heads: Sequence[Tensor], order: Tensor | None) -> Tensor:
    """One matrix that takes unsorted values to the heads' sorted outputs.

    Shape:
        heads: four (B, c, c), sorted; order: (B, C), int64, or ``None`` → (B, C, C): sorted rows,
        unsorted columns.
    """
    channels = sum(head.shape[-1] for head in heads)
    blocks = heads[0].new_zeros(len(heads[0]), channels, channels)
    start = 0
    for head in heads:
        stop = start + head.shape[-1]
        blocks[:, start:stop, start:stop] = head
        start = stop
    return blocks if order is None else take(blocks, order.argsort(dim=-1), 2)


def updated_cache(heads: Sequence[Tensor], memory: Tensor | None) -> Tensor:
    """The next cache: 0.9 of the old one and 0.1 of the enlarged maps, or 0.9 of these alone.

    The floor of each term is in the published code and the published weights were trained with it.

    Shape:
        heads: four (B, c, c); memory: (B, C, C) or ``None`` → (B, C, C).
    """
    channels = sum(head.shape[-1] for head in heads)
    update = torch.zeros_like(heads[0][:, :1, :1]).expand(-1, channels, channels)
    for head in heads:
        large = F.interpolate(
            head.unsqueeze(1), size=(channels, channels), mode="bilinear", align_corners=False
        ).squeeze(1)  # (B, C, C)
        update = update + torch.floor(large * head.shape[-1] / channels)
    return MOMENTUM * update if memory is None else MOMENTUM * memory + (1 - MOMENTUM) * update


def resized_by_averaging(matrix: Tensor, size: int) -> Tensor:
    """Adaptive average pooling to size×size (which also enlarges), as two matrix products.

    Devices differ in adaptive pooling between sizes that do not divide; products work everywhere.

    Shape:
        matrix: (B, m, m) → (B, size, size).
    """
    if matrix.shape[-1] == size:
        return matrix
    average = averaging_matrix(matrix.shape[-1], size, matrix.dtype, matrix.device)
    return average @ matrix @ average.mT


@cache
def averaging_matrix(length: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Row i averages the entries ⌊i·length/size⌋ … ⌈(i+1)·length/size⌉ of a vector.

    Kept on its device: a copy for every block would make the processor wait for a GPU.

    Shape:
        → (size, length), on ``device``; not to be changed.
    """
    with torch.inference_mode(False):  # also good for training, whoever asks first
        row = torch.arange(size, device=device).unsqueeze(1)
        column = torch.arange(length, device=device)
        start, stop = row * length // size, ((row + 1) * length + size - 1) // size
        inside = (start <= column) & (column < stop)  # (size, length)
        return (inside.to(dtype) / (stop - start).to(dtype)).to(device)


class EncoderBlock(nn.Module):
    """Feed-forward only: HINT's encoder has no attention.

    Shape:
        x: (B, C, H, W), any float dtype → (B, C, H, W), same dtype.
    """

    def __init__(self, channels: int, expansion: float, norm: str, *, bias: bool) -> None:
        super().__init__()
        self.norm2 = LayerNorm(channels, norm)
        self.ffn = FeedForward(channels, expansion, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``x`` (B, C, H, W) → (B, C, H, W)."""
        return x + self.ffn(self.norm2(x))


class AttentionBlock(nn.Module):
    """Hierarchical attention and feed-forward, each after a norm and with a residual.

    Shape:
        x: (B, C, H, W); cache: (B, m, m) or ``None`` → (B, C, H, W); cache: (B, C, C).
    """

    def __init__(
        self, channels: int, expansion: float, norm: str, *, bias: bool, sort_channels: bool
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels, norm)
        self.attn = HierarchicalAttention(channels, bias=bias, sort_channels=sort_channels)
        self.norm2 = LayerNorm(channels, norm)
        self.ffn = FeedForward(channels, expansion, bias=bias)

    def forward(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        """Refine ``x`` (B, C, H, W) → (B, C, H, W); hand on the cache (B, C, C)."""
        change, cache = self.attn(self.norm1(x), cache)
        x = x + change
        return x + self.ffn(self.norm2(x)), cache


class HINT(PictureNetwork):
    """The restoration transformer of HINT; every image of a batch is independent.

    Args carry the published names. As published, ``heads`` changes nothing (there are always four,
    of 1, 2, 2 and 3 eighths) and the latent stage has ``num_blocks[1]`` blocks. Without
    ``sort_channels`` no picture has its own order of channels (`HierarchicalAttention`).
    ``inp_channels``, ``out_channels``, ``packing``, ``head`` and ``front`` with its means are those
    of `Ends`. By default all are as published.

    Shape:
        x: (B, inp_channels, H, W), nominally [0, 1], any H and W from 1
        → (B, out_channels, H, W), same dtype, not clamped.
    """

    def __init__(  # noqa: PLR0913 (names as published)
        self,
        *,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        heads: Sequence[int] = (8, 8, 8, 8),
        ffn_expansion_factor: float = 2.66,
        bias: bool = False,
        LayerNorm_type: str = "WithBias",
        dual_pixel_task: bool = False,
        sort_channels: bool = True,
        **ends_options: Any,
    ) -> None:
        if len(num_blocks) != 4:
            raise ValueError("num_blocks needs four values, one for each level")
        if dual_pixel_task:
            raise ValueError("HINT was never published for dual-pixel images")
        ends = Ends(**ends_options)
        super().__init__(ends)
        expansion, norm = ffn_expansion_factor, LayerNorm_type

        def encoder(channels: int, count: int) -> nn.Sequential:
            return nn.Sequential(
                *(EncoderBlock(channels, expansion, norm, bias=bias) for _ in range(count))
            )

        def attentive(channels: int, count: int) -> nn.ModuleList:
            return nn.ModuleList(
                AttentionBlock(channels, expansion, norm, bias=bias, sort_channels=sort_channels)
                for _ in range(count)
            )

        self.patch_embed = PatchEmbed(ends.first_channels, dim, bias=False)
        self.encoder_level1 = encoder(dim, num_blocks[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = encoder(dim * 2, num_blocks[1])
        self.down2_3 = Downsample(dim * 2)
        self.encoder_level3 = encoder(dim * 4, num_blocks[2])
        self.down3_4 = Downsample(dim * 4)
        self.latent = attentive(dim * 8, num_blocks[1])  # Kept: as published, not num_blocks[3].
        self.up4_3 = Upsample(dim * 8)
        self.reduce_chan_level3 = nn.Conv2d(dim * 8, dim * 4, 1, bias=bias)
        self.decoder_level3 = attentive(dim * 4, num_blocks[2])
        self.up3_2 = Upsample(dim * 4)
        self.reduce_chan_level2 = nn.Conv2d(dim * 4, dim * 2, 1, bias=bias)
        self.decoder_level2 = attentive(dim * 2, num_blocks[1])
        self.up2_1 = Upsample(dim * 2)
        self.decoder_level1 = attentive(dim * 2, num_blocks[0])
        self.refinement = attentive(dim * 2, num_refinement_blocks)
        self.output = nn.Conv2d(dim * 2, ends.last_channels, 3, padding=1, bias=bias)

    def forward_with_cache(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Restore ``x`` starting from ``cache``, and return the cache it ends with.

        Shape:
            x: (B, inp_channels, H, W), nominally [0, 1]; cache: (B, m, m) or ``None``
            → (B, out_channels, H, W), not clamped; cache: (B, 2·dim, 2·dim).
        """
        picture = self.ends.picture(x, None)
        values, cache = self.values_with_cache(self.ends.packed(picture), cache)
        return self.ends.result(values, picture)[..., : x.shape[-2], : x.shape[-1]], cache

    def head_values(self, packed: Tensor) -> Tensor:
        """What ``output`` gives, with a fresh cache: (B, F, h, w) → (B, L, h, w)."""
        return self.values_with_cache(packed, None)[0]

    def values_with_cache(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What ``output`` gives, and the cache it ends with.

        Shape:
            x: (B, F, h, w), F the channels that ``patch_embed`` takes, h and w multiples of 8;
            cache: (B, m, m) or ``None`` → (B, L, h, w), L those that ``output`` gives; cache:
            (B, 2·dim, 2·dim).
        """
        level1 = self.encoder_level1(self.patch_embed(x))  # (B, D, h, w)
        level2 = self.encoder_level2(self.down1_2(level1))  # (B, 2D, h/2, w/2)
        level3 = self.encoder_level3(self.down2_3(level2))  # (B, 4D, h/4, w/4)
        y, cache = _through(self.latent, self.down3_4(level3), cache)  # (B, 8D, h/8, w/8)
        y = self.reduce_chan_level3(torch.cat([self.up4_3(y), level3], 1))
        y, cache = _through(self.decoder_level3, y, cache)  # (B, 4D, h/4, w/4)
        y = self.reduce_chan_level2(torch.cat([self.up3_2(y), level2], 1))
        y, cache = _through(self.decoder_level2, y, cache)  # (B, 2D, h/2, w/2)
        y = torch.cat([self.up2_1(y), level1], 1)  # (B, 2D, h, w)
        y, cache = _through(self.decoder_level1, y, cache)
        y, cache = _through(self.refinement, y, cache)
        return self.output(y), cache


def _through(
    blocks: nn.ModuleList, x: Tensor, cache: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Apply ``blocks`` in turn: (B, C, H, W) and (B, m, m) → (B, C, H, W) and (B, C, C)."""
    for block in blocks:
        x, cache = block(x, cache)
    return x, cache
