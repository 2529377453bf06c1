"""Three other ways to attend between channels, for comparison with CSA and GLMHA only.

The GLMHA paper (Ilyas et al., arXiv 2410.00380, Tables 1-4) puts Linformer, Performer and Reformer
in the place of the product softmax(q·kᵀ)·v; projections and depth-wise kernels stay. Tokens are
then the c channels of a head and their "embedding" has one entry for every pixel, so every random
matrix depends on the size of the picture: it is drawn from a seed when needed, and never stored.

Ranks, feature counts, buckets, chunks and rounds are not printed in the paper. The defaults here
are half the channels of a head, two buckets and one round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from restorecli.networks.blocks import UNIT_EPS, statistics_dtype
from restorecli.networks.mst_attention import SpectralAttention
from restorecli.networks.restormer import ChannelAttention, attend

Kind = Literal["csa", "linformer", "performer", "reformer"]
KINDS: tuple[Kind, ...] = ("csa", "linformer", "performer", "reformer")
PIXELS = 2**14  # of a random matrix at a time
HIDDEN = float("-inf")


def rows_of(x: Tensor, heads: int) -> Tensor:
    """Channels as rows over all pixels: (B, heads·c, H, W) → (B, heads, c, H·W)."""
    return x.flatten(2).unflatten(1, (heads, -1))


def planes_of(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse: (B, heads, c, H·W) → (B, heads·c, H, W), in the dtype of ``like``."""
    return rows.flatten(1, 2).unflatten(2, like.shape[-2:]).to(like.dtype)


def unit(rows: Tensor) -> Tensor:
    """Rows of length 1 over the pixels.

    Shape:
        rows: (…, c, N) → (…, c, N).
    """
    return rows / rows.norm(dim=-1, keepdim=True).clamp_min(UNIT_EPS)


class Core(nn.Module):
    """What stands between the projections: (q, k, v, τ, heads) → mixed values.

    Shape:
        q, k, v: (B, C, H, W), any float dtype; temperature: (heads, 1, 1)
        → (B, C, H, W), dtype of ``v``.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, temperature: Tensor, heads: int) -> Tensor:
        """Mix the channels of ``v`` (B, C, H, W) → (B, C, H, W)."""
        dtype = statistics_dtype(q)
        q_rows, k_rows, v_rows = (rows_of(part, heads).to(dtype) for part in (q, k, v))
        return planes_of(self.mixed(q_rows, k_rows, v_rows, temperature.to(dtype)), v)

    def mixed(self, q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
        """The same for rows over pixels: (B, heads, c, N) → (B, heads, c, N)."""
        raise NotImplementedError


class Linformer(Core):
    """Keys and values projected from c to r channels by a learnt matrix that both and heads share.

    Wang et al., arXiv 2006.04768: softmax(τ·q̂·(E·k̂)ᵀ)·(E·v). ``folded`` computes the same from
    G = q̂·k̂ᵀ: softmax(τ·G·Eᵀ)·E·v, which costs what CSA's products cost, for any r.

    Args:
        channels: Of one head.
        rank: r.
        folded: Which of the two ways.

    Shape:
        As `Core`.
    """

    def __init__(self, channels: int, rank: int, *, folded: bool = False) -> None:
        super().__init__()
        self.folded = folded
        self.project = nn.Parameter(torch.randn(rank, channels) / math.sqrt(channels))

    def mixed(self, q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
        """(B, heads, c, N) → (B, heads, c, N)."""
        matrix = self.project.to(q.dtype)
        if self.folded:
            gram = unit(q) @ unit(k).mT  # (B, heads, c, c)
            weights = (temperature * (gram @ matrix.mT)).softmax(-1)  # (B, heads, c, r)
            return (weights @ matrix) @ v
        keys, values = matrix @ unit(k), matrix @ v  # (B, heads, r, N)
        return (temperature * (unit(q) @ keys.mT)).softmax(-1) @ values


class Performer(Core):
    """Softmax by positive random features (FAVOR+).

    Choromanski et al., arXiv 2009.14794: φ(u) = exp(Ω·u − max), rows of Ω orthogonal and as long
    as Gaussian vectors of N entries. All channels have the length √τ, so the term exp(−‖u‖²/2)
    cancels. The m×m Gram matrix of Ω orthogonalises it (Cholesky), so that Ω itself is only ever
    made for ``PIXELS`` pixels at a time.

    Shape:
        As `Core`.
    """

    def __init__(self, features: int, seed: int = 0) -> None:
        super().__init__()
        self.features, self.seed = features, seed

    def mixed(self, q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
        """(B, heads, c, N) → (B, heads, c, N)."""
        root = temperature.abs().sqrt()
        u, w = unit(q) * root * temperature.sign(), unit(k) * root
        projected = self.projected(torch.cat([u, w], -2))  # (B, heads, 2c, m)
        of_q, of_k = projected.split([u.shape[-2], w.shape[-2]], -2)
        of_q = (of_q - of_q.amax(-1, keepdim=True)).exp()
        of_k = (of_k - of_k.amax((-2, -1), keepdim=True)).exp()
        sums = of_q @ of_k.sum(-2).unsqueeze(-1)  # (B, heads, c, 1)
        return of_q @ (of_k.mT @ v) / sums

    def projected(self, rows: Tensor) -> Tensor:
        """Ω·u for every row u: (B, heads, n, N) → (B, heads, n, m)."""
        pixels = rows.shape[-1]
        gram = rows.new_zeros(self.features, self.features, dtype=torch.float64)
        raw = rows.new_zeros(*rows.shape[:-1], self.features)
        for start, block in self._blocks(pixels, rows):
            gram += block.double() @ block.double().mT
            raw += rows[..., start : start + block.shape[1]] @ block.mT
        if self.features <= pixels:
            factor = torch.linalg.cholesky(gram).to(rows.dtype)
            raw = torch.linalg.solve_triangular(factor, raw.mT, upper=False).mT
            raw = raw * self._lengths(pixels, rows)
        return raw

    def _blocks(self, pixels: int, like: Tensor) -> list[tuple[int, Tensor]]:
        """First pixel and Gaussian numbers (m, n) of each part of Ω."""
        made = []
        for start in range(0, pixels, PIXELS):
            chance = torch.Generator().manual_seed(self.seed * 1_000_003 + start)
            count = min(PIXELS, pixels - start)
            block = torch.randn(self.features, count, generator=chance, dtype=torch.float64)
            made.append((start, block.to(like)))
        return made

    def _lengths(self, pixels: int, like: Tensor) -> Tensor:
        """Lengths of Gaussian vectors of N entries: χ_N, by its normal approximation, (m,)."""
        chance = torch.Generator().manual_seed(self.seed + 7)
        spread = torch.randn(self.features, generator=chance, dtype=torch.float64)
        return (math.sqrt(max(pixels - 0.5, 0.5)) + spread / math.sqrt(2)).abs().to(like)


class Reformer(Core):
    """A channel attends to those that fall into its bucket, nearby in sorted order.

    Kitaev et al., arXiv 2001.04451: bucket = argmax [R·u; −R·u]; sorted by bucket, in chunks of s
    channels that also see the chunk before; rounds are joined by the log-sum-exp of their scores.
    Queries and keys have buckets of their own, as W_K stays. A channel that would see no key sees
    the key of its own index. Hashing is at least float32: argmax is not continuous.

    Shape:
        As `Core`.
    """

    def __init__(self, chunk: int, buckets: int = 2, rounds: int = 1, seed: int = 0) -> None:
        super().__init__()
        if buckets % 2:
            raise ValueError(f"buckets must be even, got {buckets}")
        self.chunk, self.buckets, self.rounds, self.seed = chunk, buckets, rounds, seed

    def mixed(self, q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
        """(B, heads, c, N) → (B, heads, c, N)."""
        q, k = unit(q), unit(k)
        scores = temperature * (q @ k.mT)  # (B, heads, c, c): of which most are not looked at
        outputs, sums = [], []
        for number in range(self.rounds):
            seen = self._seen(q, k, number)  # (B, heads, c, c)
            kept = scores.masked_fill(~seen, HIDDEN)
            outputs.append(kept.softmax(-1) @ v)
            sums.append(kept.logsumexp(-1, keepdim=True))
        shares = torch.stack(sums).softmax(0)  # (rounds, B, heads, c, 1)
        return (torch.stack(outputs) * shares).sum(0)

    def hashes(self, rows: Tensor, number: int) -> Tensor:
        """Bucket of every row in one round: (B, heads, c, N) → (B, heads, c)."""
        pixels, half = rows.shape[-1], self.buckets // 2
        turned = rows.new_zeros(*rows.shape[:-1], half)
        for start in range(0, pixels, PIXELS):
            chance = torch.Generator().manual_seed(self.seed * 1_000_003 + number * 7_919 + start)
            count = min(PIXELS, pixels - start)
            block = torch.randn(count, half, generator=chance, dtype=torch.float64).to(rows)
            turned += rows[..., start : start + count] @ block
        return torch.cat([turned, -turned], -1).argmax(-1)

    def _seen(self, q: Tensor, k: Tensor, number: int) -> Tensor:
        """Which key each query sees: same bucket, same chunk or the one before; else its own.

        Shape:
            q, k: (B, heads, c, N) → (B, heads, c, c), bool.
        """
        of_q, of_k = self.hashes(q, number), self.hashes(k, number)
        chunk_q, chunk_k = (self._chunks(of) for of in (of_q, of_k))
        apart = chunk_q.unsqueeze(-1) - chunk_k.unsqueeze(-2)
        seen = (of_q.unsqueeze(-1) == of_k.unsqueeze(-2)) & (apart >= 0) & (apart <= 1)
        own = torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
        return seen | (own & ~seen.any(-1, keepdim=True))

    def _chunks(self, buckets: Tensor) -> Tensor:
        """Number of the chunk in which each channel lies when sorted by bucket: (B, heads, c)."""
        order = buckets.argsort(dim=-1, stable=True)
        return order.argsort(dim=-1) // self.chunk


def core_of(kind: Kind, channels: int) -> Core | None:
    """The core for heads of ``channels``, with the default settings; ``None``: CSA's own."""
    half = max(1, round(channels / 2))
    makers: dict[Kind, Callable[[], Core]] = {
        "linformer": lambda: Linformer(channels, half),
        "performer": lambda: Performer(half),
        "reformer": lambda: Reformer(math.ceil(channels / 2)),
    }
    return makers[kind]() if kind in makers else None


class OtherChannelAttention(ChannelAttention):
    """Restormer's attention with another core; everything else, and the names, as they are.

    Shape:
        x: (B, C, H, W), any float dtype → (B, C, H, W), same dtype.
    """

    def __init__(self, channels: int, heads: int, kind: Kind, *, bias: bool = False) -> None:
        super().__init__(channels, heads, bias=bias)
        self.core = core_of(kind, channels // heads)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of ``x`` (B, C, H, W) → (B, C, H, W)."""
        q, k, v = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)  # each (B, C, H, W)
        mix = self.core or attend
        return self.project_out(mix(q, k, v, self.temperature, self.heads))


def with_attention(network: nn.Module, kind: Kind) -> nn.Module:
    """``network``, a Restormer, MST++ or MST with CSA, with another core in every block.

    It is changed and returned. Parameters keep their names; Linformer adds ``core.project``.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is ChannelAttention:
                other = OtherChannelAttention(child.project_out.in_channels, child.heads, kind)
                other.load_state_dict(child.state_dict(), strict=False)
                setattr(module, name, other.to(child.temperature))
            elif isinstance(child, SpectralAttention) and kind != "csa":
                core = core_of(kind, child.to_q.in_features // child.heads)
                assert core is not None
                child.core = core.to(child.rescale)
    return network
