"""Restormer: Efficient Transformer for High-Resolution Image Restoration.

Zamir et al., CVPR 2022 (arXiv 2111.09881). A four-level U-Net of transformer blocks whose attention
is between channels. Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
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


class ChannelAttention(nn.Module):
    """Attention between channels instead of between pixels (MDTA).

    Restormer, Eq. 1: ``W_p · V · softmax(K · Q / α)``. The score matrix is (C/heads)², so cost
    grows with H·W and not with (H·W)². Q and K are unit vectors over the *whole* plane: a restored
    tile is not a crop of the restored image.

    Shape:
        x: (B, C, H, W), any float dtype → (B, C, H, W), same dtype.
    """

    def __init__(self, channels: int, heads: int, *, bias: bool = False) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels ({channels}) must be a multiple of heads ({heads})")
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))  # 1/α, one per head
        wide = 3 * channels
        self.qkv = nn.Conv2d(channels, wide, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of ``x`` (B, C, H, W) → (B, C, H, W)."""
        qkv = self.qkv_dwconv(self.qkv(x))  # (B, 3·C, H, W)
        q, k, v = qkv.chunk(3, dim=1)  # each (B, C, H, W)
        return self.project_out(attend(q, k, v, self.temperature, self.heads))


def attention_weights(scores: Tensor, temperature: Tensor) -> Tensor:
    """Softmax over the key channels: Restormer's Eq. 1, GLMHA's Eq. 7.

    Shape:
        scores: (B, heads, c, c'), in [−1, 1]; temperature: (heads, 1, 1) → (B, heads, c, c').
    """
    return (scores * temperature).softmax(dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, heads: int) -> Tensor:
    """Weighted sums of the channels of v, weights from the similarity of q and k (no projection).

    Sums over pixels and the softmax are at least float32 whatever the dtype of the features.

    Shape:
        q: (B, C, H, W); k, v: (B, C', H, W); temperature: (heads, 1, 1) → (B, C, H, W).
    """
    batch, _, height, width = q.shape
    dtype = statistics_dtype(q)
    rows = [
        part.permute(0, 2, 3, 1).reshape(batch, height * width, heads, -1).transpose(1, 2)
        for part in (q, k, v)
    ]  # each (B, heads, H·W, c or c')
    with torch.autocast(q.device.type, enabled=False):
        qs, ks = rows[0].to(dtype), rows[1].to(dtype)
        scores = channel_scores(qs.mT @ ks, qs.square().sum(2), ks.square().sum(2))
        weights = attention_weights(scores, temperature.to(dtype))  # (B, heads, c, c')
    y = rows[2] @ weights.mT.to(v.dtype)  # (B, heads, H·W, c)
    return y.transpose(1, 2).reshape(batch, height, width, -1).permute(0, 3, 1, 2)  # (B, C, H, W)


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each after a norm and with a residual.

    Restormer, section 3.

    Shape:
        x: (B, C, H, W), any float dtype → (B, C, H, W), same dtype.
    """

    def __init__(
        self, attention: nn.Module, channels: int, expansion: float, norm: str, *, bias: bool
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels, norm)
        self.attn = attention
        self.norm2 = LayerNorm(channels, norm)
        self.ffn = FeedForward(channels, expansion, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``x`` (B, C, H, W) → (B, C, H, W)."""
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Restormer(PictureNetwork):
    """The four-level restoration transformer; every image of a batch is independent.

    Args carry the published names. ``dual_pixel_task`` (with ``inp_channels=6``) adds a 1×1 skip
    convolution on the first features and leaves out the image residual. ``inp_channels``,
    ``out_channels``, ``packing``, ``head`` and ``front`` with its means are those of `Ends`; by
    default they are as published.

    Shape:
        x: (B, inp_channels, H, W), nominally [0, 1], any H and W from 1
        → (B, out_channels, H, W), same dtype, not clamped.
    """

    LEVELS: ClassVar[tuple[str, ...]] = (
        "encoder_level1",
        "encoder_level2",
        "encoder_level3",
        "latent",
        "decoder_level3",
        "decoder_level2",
        "decoder_level1",
        "refinement",
    )

    def __init__(
        self,
        *,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        ffn_expansion_factor: float = 2.66,
        bias: bool = False,
        LayerNorm_type: str = "WithBias",
        dual_pixel_task: bool = False,
        **ends_options: Any,
    ) -> None:
        if len(num_blocks) != 4 or len(heads) != 4:
            raise ValueError("num_blocks and heads need four values, one for each level")
        ends = Ends(**ends_options, adds_picture=not dual_pixel_task)
        super().__init__(ends)
        self.dual_pixel_task = dual_pixel_task

        def stage(name: str, level: int, channels: int, count: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    TransformerBlock(
                        self._attention(name, channels, heads[level], bias=bias),
                        channels,
                        ffn_expansion_factor,
                        LayerNorm_type,
                        bias=bias,
                    )
                    for _ in range(count)
                )
            )

        self.patch_embed = PatchEmbed(ends.first_channels, dim, bias=False)
        self.encoder_level1 = stage("encoder_level1", 0, dim, num_blocks[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = stage("encoder_level2", 1, dim * 2, num_blocks[1])
        self.down2_3 = Downsample(dim * 2)
        self.encoder_level3 = stage("encoder_level3", 2, dim * 4, num_blocks[2])
        self.down3_4 = Downsample(dim * 4)
        self.latent = stage("latent", 3, dim * 8, num_blocks[3])
        self.up4_3 = Upsample(dim * 8)
        self.reduce_chan_level3 = nn.Conv2d(dim * 8, dim * 4, 1, bias=bias)
        self.decoder_level3 = stage("decoder_level3", 2, dim * 4, num_blocks[2])
        self.up3_2 = Upsample(dim * 4)
        self.reduce_chan_level2 = nn.Conv2d(dim * 4, dim * 2, 1, bias=bias)
        self.decoder_level2 = stage("decoder_level2", 1, dim * 2, num_blocks[1])
        self.up2_1 = Upsample(dim * 2)
        self.decoder_level1 = stage("decoder_level1", 0, dim * 2, num_blocks[0])
        self.refinement = stage("refinement", 0, dim * 2, num_refinement_blocks)
        if dual_pixel_task:
            self.skip_conv = nn.Conv2d(dim, dim * 2, 1, bias=bias)
        self.output = nn.Conv2d(dim * 2, ends.last_channels, 3, padding=1, bias=bias)

    def _attention(self, stage: str, channels: int, heads: int, *, bias: bool) -> nn.Module:
        """Attention of one block of ``stage``: (B, C, H, W) → (B, C, H, W)."""
        return ChannelAttention(channels, heads, bias=bias)

    def head_values(self, packed: Tensor) -> Tensor:
        """What ``output`` gives for what ``patch_embed`` takes.

        Shape:
            packed: (B, F, h, w), h and w multiples of 8 → (B, L, h, w).
        """
        first = self.patch_embed(packed)  # (B, D, h, w)
        level1 = self.encoder_level1(first)
        level2 = self.encoder_level2(self.down1_2(level1))  # (B, 2D, h/2, w/2)
        level3 = self.encoder_level3(self.down2_3(level2))  # (B, 4D, h/4, w/4)
        y = self.latent(self.down3_4(level3))  # (B, 8D, h/8, w/8)
        y = self.reduce_chan_level3(torch.cat([self.up4_3(y), level3], 1))
        y = self.decoder_level3(y)  # (B, 4D, h/4, w/4)
        y = self.reduce_chan_level2(torch.cat([self.up3_2(y), level2], 1))
        y = self.decoder_level2(y)  # (B, 2D, h/2, w/2)
        y = self.decoder_level1(torch.cat([self.up2_1(y), level1], 1))  # (B, 2D, h, w)
        y = self.refinement(y)
        return self.output(y + self.skip_conv(first)) if self.dual_pixel_task else self.output(y)
