"""Channel attention by strips: one pass for the statistics, small matrices, one pass to apply.

Each function here takes an attention module and the normalised features, makes the first pass, and
returns the second as a function from a strip to its change. Queries and keys are never kept: their
Gram matrix and lengths are sums over pixels, and the attention folds into the output projection
(M = W_O·P), so the second pass needs the values of the strip alone, and for HINT its unit queries
and keys. Nothing of the size of the image is stored, unless there is room to keep what is needed
twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from restorecli.networks.blocks import (
    UNIT_EPS,
    FeedForward,
    LayerNorm,
    channel_scores,
    statistics_dtype,
)
from restorecli.networks.glmha_restormer import (
    GuidedLowRankAttention,
    cell_maxima,
    grid_cells,
)
from restorecli.networks.hint import HierarchicalAttention, channel_order, scatter_heads
from restorecli.networks.restormer import ChannelAttention, attention_weights
from restorecli.networks.strips import kernels
from restorecli.networks.strips.rows import (
    EVERY_CHANNEL,
    SUM_ROWS,
    Blur,
    Branch,
    Flow,
    Kernel,
    PixelSum,
    Strip,
    Terms,
    blocks_of_pixels,
    blur_of,
    branch_of,
    gated_by,
    has_kernel,
    kernel_of,
    line_of,
    multiplies_as_they_are,
    normalised,
    put_pointwise,
    sums_of_squares,
    weighted_sum,
)
from restorecli.networks.strips.workers import Sections

Change = Callable[[Strip], Terms]
Sum = TypeVar("Sum", bound="Joins")
MANY_BLOCKS = 64  # of rows, over which the rounding of their products averages out


class Joins(Protocol):
    """A sum over the pixels of a section."""

    def join(self, other: Any, /) -> None:
        """Add what another one has added up."""


class Features:
    """Normalised features, made strip by strip from those of the block: (H, W, C).

    With ``keep``, what two passes need is kept from the first, as precise as the block's features.
    Each section has its own state, and the old rows at its edges, which belong to its neighbours
    and change with them.
    """

    def __init__(
        self,
        x: Tensor,
        norm: LayerNorm,
        sections: Sections,
        *,
        keep: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.x, self.sections, self.keep = x, sections, keep
        self.dtype = dtype or x.dtype  # of what is made
        self.norm = norm
        starts = [part[0].first for part in sections.parts]
        self.edges = {row: x[row - 1 : row + 1].clone() for row in starts if row}  # (2, W, C)
        self._fresh = dict[int, tuple[Strip, Tensor]]()  # of the first row of each section

    def fresh(self, strip: Strip) -> Tensor:
        """Rows that are fresh in ``strip``, normalised once for all branches: (f, W, C)."""
        known = self._fresh.get(strip.first)
        if known is None or known[0] != strip:
            known = strip, normalised(self.norm, self._rows(strip), self.dtype)
            self._fresh[strip.first] = known
        return known[1]

    def _rows(self, strip: Strip) -> Tensor:
        """Rows that are fresh in ``strip``, as they were: (f, W, C)."""
        above = self.edges.get(strip.start) if strip.start == strip.first else None
        below = self.edges.get(strip.stop)
        if above is None and below is None:
            return self.x[strip.fresh]
        top = strip.start if above is not None else strip.fresh.start
        rows = [self.x[top : strip.stop if below is not None else strip.bottom]]
        rows = rows if above is None else [above[:1], *rows]
        return torch.cat(rows if below is None else [*rows, below[1:]])

    def widened(self) -> Features:
        """The same in the precision of sums over pixels."""
        dtype = statistics_dtype(self.x)
        if dtype == self.dtype:
            return self
        return Features(self.x, self.norm, self.sections, keep=self.keep, dtype=dtype)

    def of(self, branch: Branch, *, gelu: bool = False) -> Callable[[Strip], Tensor]:
        """Features of ``branch``, for the strips of each section from the top: (r, W, K)."""
        return self.flowing(branch.mix, blur_of(branch, gelu=gelu))

    def flowing(self, mix: Kernel, blur: Blur) -> Callable[[Strip], Tensor]:
        """The same of a 1×1 convolution and what follows it: (r, W, K), as ``blur`` gives it."""
        flows = {part[0].first: Flow(mix, blur) for part in self.sections.parts}
        return lambda strip: flows[strip.first](self.fresh(strip), strip)

    def twice(self, branch: Branch) -> Callable[[Strip], Tensor]:
        """The same for two passes, of which the second may change what it gets: (r, W, K)."""
        make, kept = self.of(branch), dict[Strip, Tensor]()

        def made(strip: Strip) -> Tensor:
            if strip in kept:
                return kept.pop(strip)
            rows = make(strip)
            if self.keep:
                kept[strip] = rows.to(self.x.dtype)
            return rows

        return made


def feed_forward(ffn: FeedForward, features: Features) -> Change:
    """``FeedForward`` by strips; the wide hidden features exist for one strip.

    Where no kernel makes both halves at once they are made apart, because GELU is several times
    faster on contiguous values.
    """
    dtype = features.x.dtype
    hidden = ffn.project_out.in_channels
    gate, value = (
        branch_of(ffn.project_in, ffn.dwconv, dtype, slice(start, start + hidden)).padded(
            line_of(dtype, features.x.device)
        )
        for start in (0, hidden)
    )
    lacking = gate.mix.weight.shape[0] - hidden
    project_out = kernel_of(ffn.project_out, dtype).for_more(lacking)
    if has_kernel(gate):
        blur = kernels.depthwise([gate.blur.weight, value.blur.weight], dtype)
        gated = features.flowing(gate.mix.beside(value.mix), blur)
        return lambda strip: [(gated(strip), project_out)]
    gates, values = features.of(gate, gelu=True), features.of(value)
    return lambda strip: [(gates(strip).mul_(values(strip)), project_out)]


def channel_attention(
    attention: ChannelAttention, features: Features, cache: Tensor | None
) -> tuple[Change, Tensor | None]:
    """Restormer's MDTA by strips: ``ChannelAttention``. The cache is passed through.

    Shape:
        cache: (1, m, m) or ``None``, returned as it is; the change of a strip: (r, W, C).
    """
    channels = features.x.shape[-1]
    heads = attention.heads
    convolutions = attention.qkv, attention.qkv_dwconv, features.x.dtype
    by_head = torch.arange(2 * channels, device=features.x.device).view(2, heads, -1)
    query_key = features.of(branch_of(*convolutions, by_head.transpose(0, 1).flatten()))
    values = features.twice(branch_of(*convolutions, slice(2 * channels, 3 * channels)))

    def add(sums: HeadSums, strip: Strip) -> None:
        if features.keep:
            values(strip)
        sums.add_joint(query_key(strip))

    sums = joined(features.sections.gather(lambda: HeadSums(heads), add))
    mix = mixing_kernel(attention, sums.scores(), features.x.dtype)
    return lambda strip: [(values(strip), mix)], cache


def guided_low_rank_attention(
    attention: GuidedLowRankAttention, features: Features, cache: Tensor | None
) -> tuple[Change, Tensor | None]:
    """GLMHA by strips: ``GuidedLowRankAttention``. The cache is passed through.

    A pass for the maxima of the queries comes first. The calibration scales the columns of W_KV.

    Shape:
        cache: (1, m, m) or ``None``, returned as it is; the change of a strip: (r, W, C).
    """
    dtype = features.x.dtype
    query = features.twice(branch_of(attention.q, attention.q_dwconv, dtype))
    cells = attention.calibration.kernel
    maxima = plane_maxima(lambda strip: cell_maxima(query(strip), cells, axis=1), features, cells)
    key, value = calibrated(attention, maxima, dtype)
    keys = features.of(key)
    sums = joined(
        features.sections.gather(
            lambda: HeadSums(attention.heads),
            lambda sums, strip: sums.add(query(strip), keys(strip)),
        )
    )
    mix = mixing_kernel(attention, sums.scores(), dtype)
    values = features.of(value)
    return lambda strip: [(values(strip), mix)], cache


def calibrated(
    attention: GuidedLowRankAttention, maxima: Tensor, dtype: torch.dtype
) -> tuple[Branch, Branch]:
    """Keys and values, of features of ``dtype`` which the calibration scales.

    Shape:
        maxima: of the queries, (1, C, k, k).
    """
    weigh = attention.calibration.from_maxima(maxima.to(attention.temperature.dtype))  # (1, C)
    scale = (1 + attention.alpha * weigh).reshape(1, -1, 1, 1)
    kept = attention.kv.out_channels // 2

    def branch(start: int, stop: int) -> Branch:
        whole = branch_of(attention.kv, attention.kv_dwconv, scale.dtype, slice(start, stop))
        mix = whole.mix._replace(weight=whole.mix.weight * scale)
        return Branch(mix.to(dtype), whole.blur)

    return branch(0, kept), branch(kept, 2 * kept)


def mixing_kernel(
    attention: ChannelAttention | GuidedLowRankAttention, scores: Tensor, dtype: torch.dtype
) -> Kernel:
    """Attention and output projection in one: M_head = W_O[:, head]·P_head.

    Shape:
        scores: (heads, c, c') → weight (C, heads·c', 1, 1).
    """
    project_out = attention.project_out
    scores = scores.to(attention.temperature.dtype)
    weights = attention_weights(scores.unsqueeze(0), attention.temperature).squeeze(0)
    columns = torch.unflatten(project_out.weight.flatten(1), 1, (attention.heads, -1))
    mix = (columns.transpose(0, 1) @ weights).transpose(0, 1).flatten(1)  # (C, heads·c')
    return Kernel(mix[..., None, None], project_out.bias).to(dtype)


class HeadSums:
    """Sums over pixels that give the cosine similarities of q and k, head by head.

    ``exact``: products of half-precision features are float32, and not only their sums.
    """

    def __init__(self, heads: int, *, exact: bool = False) -> None:
        self._heads, self._exact = heads, exact
        self._gram, self._q_squares, self._k_squares = PixelSum(), PixelSum(), PixelSum()
        self._joint = PixelSum()  # in place of the others where q and k are multiplied as they are

    def add(self, query: Tensor, key: Tensor) -> None:
        """Add a strip, whose values are used up: (r, W, heads·c) and (r, W, heads·c')."""
        for pixels in zip(blocks_of_pixels(query), blocks_of_pixels(key), strict=True):
            q, k = (torch.unflatten(part, 2, (self._heads, -1)) for part in pixels)
            self._gram.add(q.transpose(1, 2).mT @ k.transpose(1, 2))  # (b, heads, c, c')
            squares = [self._squares(part, keep=False) for part in pixels]
            self._q_squares.add(squares[0])
            self._k_squares.add(squares[1])

    def _squares(self, pixels: Tensor, *, keep: bool) -> Tensor:
        """Σ x² of each head's channels: (b, n, heads·c) → (b, heads, c)."""
        return sums_of_squares(pixels, keep=keep).unflatten(1, (self._heads, -1))

    def add_joint(self, query_key: Tensor, *, keep: bool = False) -> None:
        """Add a strip of q and k, head by head beside each other: (r, W, heads·2c).

        Its values are used up, unless to ``keep``.
        """
        if multiplies_as_they_are(query_key) and not self._exact:
            for (pixels,) in blocks_of_pixels(query_key, as_they_are=True):  # (n, heads·2c)
                if self._heads == 1:
                    self._joint.add((pixels.mT @ pixels)[None, None])
                    continue
                heads = pixels.unflatten(1, (self._heads, -1)).transpose(0, 1).contiguous()
                self._joint.add((heads.mT @ heads)[None])  # products of (heads, n, 2c): one call
            return
        for block in blocks_of_pixels(query_key):
            q, k = torch.unflatten(block, 2, (self._heads, -1)).transpose(1, 2).chunk(2, -1)
            self._gram.add(q.mT @ k)  # (b, heads, c, c)
            q_squares, k_squares = self._squares(block, keep=keep).chunk(2, -1)
            self._q_squares.add(q_squares)
            self._k_squares.add(k_squares)

    def join(self, other: HeadSums) -> None:
        """Add what ``other`` has added up."""
        self._gram.join(other._gram)
        self._q_squares.join(other._q_squares)
        self._k_squares.join(other._k_squares)
        self._joint.join(other._joint)

    def totals(self) -> tuple[Tensor, Tensor, Tensor]:
        """Σ q·kᵀ (heads, c, c'), Σ q² (heads, c) and Σ k² (heads, c') over all pixels."""
        if self._joint:
            joint = self._joint.total  # (heads, 2c, 2c), products of (q, k) with (q, k)
            gram = joint.unflatten(1, (2, -1)).unflatten(3, (2, -1))[:, 0, :, 1]
            q_squares, k_squares = joint.diagonal(dim1=1, dim2=2).chunk(2, -1)
            return gram, q_squares, k_squares
        return self._gram.total, self._q_squares.total, self._k_squares.total

    def scores(self) -> Tensor:
        """Cosine similarities over all pixels: (heads, c, c')."""
        return channel_scores(*self.totals())


def plane_maxima(of_cells: Callable[[Strip], Tensor], features: Features, cells: int) -> Tensor:
    """``grid_maxima`` of the whole plane, from maxima of the cells of each row.

    Shape:
        ``of_cells`` of a strip: (r, cells, C) → (1, C, cells, cells).
    """
    channels = features.x.shape[-1]

    def take(maxima: Tensor, strip: Strip) -> None:
        rows = of_cells(strip)
        for cell, (start, stop) in zip(maxima, grid_cells(strip.height, cells), strict=True):
            shared = rows[max(start - strip.start, 0) : max(stop - strip.start, 0)]
            if len(shared):
                torch.maximum(cell, shared.amax(0), out=cell)

    lowest = partial(features.x.new_full, (cells, cells, channels), -torch.inf)
    maxima = reduce(torch.maximum, features.sections.gather(lowest, take))
    return maxima.permute(2, 0, 1).unsqueeze(0)


def joined(parts: Sequence[Sum]) -> Sum:
    """The sum over all sections, from those over each: the first, changed."""
    for part in parts[1:]:
        parts[0].join(part)
    return parts[0]


def hierarchical_attention(
    attention: HierarchicalAttention, features: Features, cache: Tensor | None
) -> tuple[Change, Tensor]:
    """HINT's HMHA and QKCU by strips: ``HierarchicalAttention``; the cache becomes (1, C, C).

    Order, heads and modulators need C×C matrices only. Instead of sorting the channels of every
    pixel, the matrices that follow take them unsorted. The order is discontinuous: with half
    precision it comes from queries and keys that were made in float32.
    """
    channels = features.x.shape[-1]
    dtype = features.x.dtype

    def branch(start: int, stop: int, precision: torch.dtype) -> Branch:
        return branch_of(attention.qkv, attention.qkv_dwconv, precision, slice(start, stop))

    wide = features.widened() if attention.sort_channels else features
    query_key = wide.twice(branch(0, 2 * channels, wide.dtype))
    if attention.sort_channels:
        (qk_gram, q_squares, k_squares), order = sorting_sums(query_key, features)
    else:
        few = features.x.shape[0] < MANY_BLOCKS * SUM_ROWS  # the rounding of each would show
        sums = joined(
            features.sections.gather(
                lambda: HeadSums(1, exact=few),
                lambda sums, strip: sums.add_joint(query_key(strip), keep=features.keep),
            )
        )
        (qk_gram, q_squares, k_squares), order = sums.totals(), None
    totals = qk_gram, q_squares, k_squares
    found, cache = hierarchical_kernels(attention, totals, order, cache)
    scales = found.scales.clamp_max(torch.finfo(dtype).max)
    mix, gating, project, refine = (kernel.to(dtype) for kernel in found[1:])
    values_of = features.of(branch(2 * channels, 3 * channels, dtype))

    def change(strip: Strip) -> Terms:
        values = values_of(strip)  # (r, W, C)
        mixed = weighted_sum(query_key(strip).to(dtype), scales, dtype)  # (r, W, C)
        put_pointwise(mixed, values, mix, add=True)
        gated = gated_by(mixed, gating)
        return [(values, project), (gated, refine)]

    return change, cache


class HierarchicalKernels(NamedTuple):
    """What makes HMHA's change of a strip from its queries, keys and values."""

    scales: Tensor  # (2C,), of at least float32: of queries and keys, before they are added
    mix: Kernel  # of values, added to that sum
    gating: Kernel  # of all these
    project: Kernel  # of values
    refine: Kernel  # of what was gated


def hierarchical_kernels(
    attention: HierarchicalAttention,
    totals: tuple[Tensor, Tensor, Tensor],
    order: Tensor | None,
    cache: Tensor | None,
) -> tuple[HierarchicalKernels, Tensor]:
    """Those kernels, in the precision of the network, and the cache.

    Shape:
        totals: as `HeadSums.totals` gives them for one head; order: (1, C), int64; cache:
        (1, m, m) → (1, C, C).
    """
    _, q_squares, k_squares = totals
    scores = channel_scores(*totals).to(attention.temperature.dtype)
    heads, cache = attention.head_weights(scores, order, cache)
    squares = torch.cat([q_squares[0], k_squares[0]])  # (2C,)
    rank = EVERY_CHANNEL if order is None else order[0].argsort()  # place of each channel
    own = attention.qkv.weight.dtype
    scales = squares.clamp_min(UNIT_EPS**2).rsqrt().to(torch.promote_types(own, torch.float32))
    weight = scatter_heads(heads, order)
    mix = Kernel(weight.reshape(*weight.shape[-2:], 1, 1).to(own), None)
    intra, project_out = attention.intra_modulator, kernel_of(attention.project_out, own)
    bottleneck = kernel_of(intra.up, own).after(kernel_of(intra.down, own))
    found = HierarchicalKernels(
        scales=scales,
        mix=Kernel(mix.weight[rank], None),
        gating=kernel_of(intra.gatingConv, own, rank).reading(rank),
        project=project_out.after(mix),
        refine=Kernel(project_out.weight, None).after(bottleneck).reading(rank),
    )
    return found, cache


def sorting_sums(
    query_key: Callable[[Strip], Tensor], features: Features
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """What `HeadSums.totals` gives for one head, and the order of the channels.

    Shape:
        ``query_key`` of a strip: (r, W, 2C) → (1, C, C), (1, C), (1, C); and (1, C), int64.
    """

    def add(parts: tuple[PixelSum, PixelSum, PixelSum], strip: Strip) -> None:
        gram, sums, squares = parts
        for qk in blocks_of_pixels(query_key(strip)):  # (b, n, 2C)
            q, k = qk.chunk(2, -1)
            gram.add(q.mT @ qk)  # (b, C, 2C)
            sums.add(q.sum(1))
            squares.add(sums_of_squares(qk, keep=True)[:, k.shape[-1] :])

    parts = features.sections.gather(lambda: (PixelSum(), PixelSum(), PixelSum()), add)
    gram, sums, squares = (joined(same) for same in zip(*parts, strict=True))
    q_gram, qk_gram = gram.total.unsqueeze(0).chunk(2, -1)  # each (1, C, C)
    q_squares = q_gram.diagonal(dim1=-2, dim2=-1)  # (1, C)
    height, width, _ = features.x.shape
    order = channel_order(q_gram, sums.total.unsqueeze(0), height * width)  # (1, C)
    return (qk_gram, q_squares, squares.total.unsqueeze(0)), order


Attend = Callable[..., tuple[Change, Tensor | None]]
ATTENTIONS: dict[type[nn.Module], Attend] = {
    ChannelAttention: channel_attention,
    GuidedLowRankAttention: guided_low_rank_attention,
    HierarchicalAttention: hierarchical_attention,
}

# What two passes need, as a multiple of x, and how many bytes of it are kept at most by default.
KEPT = {ChannelAttention: 1, GuidedLowRankAttention: 3, HierarchicalAttention: 2}
KEEP_BYTES = 2**28
