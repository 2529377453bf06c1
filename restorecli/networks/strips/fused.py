"""Blocks by strips where their steps can be fused: what `attention` does, in fewer passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restorecli.machine.kernels import TILE
from restorecli.networks.blocks import FeedForward, channel_scores
from restorecli.networks.glmha_restormer import GuidedLowRankAttention, grid_cells
from restorecli.networks.hint import HierarchicalAttention, channel_order
from restorecli.networks.restormer import ChannelAttention
from restorecli.networks.strips import kernels
from restorecli.networks.strips.attention import (
    Attend,
    Change,
    Features,
    calibrated,
    hierarchical_kernels,
    joined,
    mixing_kernel,
    plane_maxima,
)
from restorecli.networks.strips.kernels import (
    Calls,
    Gate,
    Gram,
    Maxima,
    Norm,
    Rounding,
    Taps,
    WeightedSum,
    Weights,
)
from restorecli.networks.strips.passages import Part, Passage, Rows, go_through, room
from restorecli.networks.strips.rows import (
    SUM_ROWS,
    Branch,
    Kernel,
    PixelSum,
    Strip,
    Terms,
    branch_of,
    kernel_of,
)

S = TypeVar("S")
DONE: Terms = ()  # nothing is left to be added


def norm_of(features: Features, dtype: torch.dtype) -> Norm:
    """The block's norm, for features of ``dtype``."""
    body = features.norm.body
    return Norm(body.weight, body.bias, features.x.dtype, dtype)


def weights_of(kernel: Kernel, dtype: torch.dtype, *, channels: int | None = None) -> Weights:
    """A 1×1 convolution of features of ``dtype``, or of those and more ``channels``."""
    return Weights([kernel.weight.flatten(1)], kernel.bias, dtype, dtype, channels=channels)


def mixed_by(
    branches: Sequence[Branch], given: torch.dtype, made: torch.dtype | None = None
) -> Weights:
    """The first steps of branches side by side, each filled up to whole lines of what is made."""
    made = made or given
    biases = [branch.mix.bias for branch in branches if branch.mix.bias is not None]
    matrices = [branch.mix.weight.flatten(1) for branch in branches]
    bias = torch.cat(biases) if biases else None
    return Weights(matrices, bias, given, made, line=kernels.line_of(made))


def taps_of(branches: Sequence[Branch], dtype: torch.dtype) -> Taps:
    """The last steps of branches, filled up to whole lines."""
    blurs = [branch.blur.extended(-branch.channels % kernels.line_of(dtype)) for branch in branches]
    return Taps([blur.weight for blur in blurs], dtype)


def in_tiles(branch: Branch, parts: int) -> Branch:
    """The branch with its channels in equal ``parts``, each filled up with zeros to whole tiles."""

    def filled(values: Tensor) -> Tensor:
        lacking = -(len(values) // parts) % TILE
        more = (0,) * (2 * values.dim() - 2) + (0, lacking)
        return F.pad(values.unflatten(0, (parts, -1)), more).flatten(0, 1)

    def whole(kernel: Kernel) -> Kernel:
        bias = None if kernel.bias is None else filled(kernel.bias)
        return Kernel(filled(kernel.weight), bias)

    return Branch(whole(branch.mix), whole(branch.blur))


def per_section(features: Features, make: Callable[[], S]) -> Callable[[Strip], S]:
    """What ``make`` gives for each section, which has its own: that of a strip."""
    made = {part[0].first: make() for part in features.sections.parts}
    return lambda strip: made[strip.first]


def making(
    features: Features, norm: Norm, mix: Weights, taps: Taps, kept: Rows | None = None
) -> Callable[[Strip], tuple[Passage, Rows]]:
    """Of a strip's section: a passage for one kind of channels, and the rows that it makes.

    They are ``kept``, or the few that go through all steps together.
    """

    def begin() -> tuple[Passage, Rows]:
        made = kept or room(features.x, taps.channels, features.x.dtype)
        return Passage(features, norm, mix, [Part(taps, 0, made)]), made

    return per_section(features, begin)


def feed_forward(ffn: FeedForward, features: Features) -> Change:
    """``FeedForward`` by strips."""
    x, dtype, own = features.x, features.x.dtype, ffn.project_in.weight.dtype
    hidden = ffn.project_out.in_channels
    halves = [
        branch_of(ffn.project_in, ffn.dwconv, own, slice(*part))
        for part in ((0, hidden), (hidden, 2 * hidden))
    ]
    norm, mix, taps = norm_of(features, dtype), mixed_by(halves, dtype), taps_of(halves, dtype)
    project = weights_of(kernel_of(ffn.project_out, own), dtype, channels=taps.channels)
    plane, of = Rows(x), making(features, norm, mix, taps)

    def change(strip: Strip) -> Terms:
        passage, gated = of(strip)

        def then(calls: Calls, rows: slice) -> None:
            pixels = (rows.stop - rows.start) * plane.pixels
            project.add_to(calls, gated.at(rows.start), plane.at(rows.start), pixels, add=True)

        go_through(strip, [passage], plane.pixels, then)
        return DONE

    return change


class GramSums:
    """Sums of `Gram` over all pixels, head by head; those over a few rows add up in float64."""

    def __init__(self, gram: Gram, heads: int) -> None:
        self._gram, self._heads, self._total = gram, heads, PixelSum()

    def of_strip(self, strip: Strip) -> Tensor:
        """Sums of float32 for each few rows of a strip, nothing as yet: (b, heads, size)."""
        count = -(-strip.stop // SUM_ROWS) - strip.start // SUM_ROWS
        return torch.zeros(count, self._heads, sum(self._gram.sizes))

    def add(self, sums: Tensor) -> None:
        """Add those of a strip: (b, heads, size)."""
        for term in sums.split(1):
            self._total.add(term)

    def join(self, other: GramSums) -> None:
        """Add what ``other`` has added up."""
        self._total.join(other._total)

    def totals(self) -> list[Tensor]:
        """Products (heads, A, B), sums (heads, A), squares (heads, A) and others' (heads, B)."""
        products, *others = self._total.total.split(self._gram.sizes, -1)
        return [products.unflatten(-1, self._gram.channels), *others]


def summed(
    features: Features,
    gram: Gram,
    heads: int,
    begin: Callable[[], tuple[Passage, Rows, Rows]],
    offsets: Callable[[int], tuple[int, int]],
    also: Callable[[Calls, Rows, slice], None] = lambda calls, made, rows: None,
) -> list[Tensor]:
    """Totals of `GramSums`, of what a passage makes in each section anew.

    Shape:
        → as `GramSums.totals`.

    ``begin``: the passage, and where channels and others are after it. ``offsets``: of a head's
    first channels in both. ``also`` is done with the channels.
    """
    width, of = features.x.shape[1], per_section(features, begin)

    def add(known: GramSums, strip: Strip) -> None:
        (passage, *made), sums = of(strip), known.of_strip(strip)
        first, size = strip.start // SUM_ROWS, made[0].values.element_size()

        def then(calls: Calls, rows: slice) -> None:
            starts = [part.at(rows.start) for part in made]
            pixels = (rows.stop - rows.start) * width
            for head, own in enumerate(sums[rows.start // SUM_ROWS - first]):
                pairs = zip(starts, offsets(head), strict=True)
                one, other = (start + size * offset for start, offset in pairs)
                gram.add_to(calls, one, other, own.data_ptr(), pixels)
            also(calls, made[0], rows)

        go_through(strip, [passage], width, then)
        known.add(sums)

    return joined(features.sections.gather(lambda: GramSums(gram, heads), add)).totals()


def channel_attention(
    attention: ChannelAttention, features: Features, cache: Tensor | None
) -> tuple[Change, Tensor | None]:
    """Restormer's MDTA by strips: ``ChannelAttention``. The cache is passed through.

    Shape:
        cache: (1, m, m) or ``None``, returned as it is.
    """
    x, dtype, own = features.x, features.x.dtype, attention.qkv.weight.dtype
    channels, heads = x.shape[-1], attention.heads
    by_head = torch.arange(2 * channels).view(2, heads, -1).transpose(0, 1).flatten()
    convolutions = attention.qkv, attention.qkv_dwconv, own
    query_key = in_tiles(branch_of(*convolutions, by_head), 2 * heads)
    value = branch_of(*convolutions, slice(2 * channels, 3 * channels))
    norm, taps = norm_of(features, dtype), taps_of([query_key], dtype)
    of_values = taps_of([value], dtype)
    kept = Rows(x.new_empty(*x.shape[:2], of_values.channels)) if features.keep else None
    mixed = mixed_by([query_key, value] if features.keep else [query_key], dtype)

    def begin() -> tuple[Passage, Rows, Rows]:
        made = room(x, taps.channels, dtype)
        parts = [Part(taps, 0, made)]
        if kept is not None:
            parts.append(Part(of_values, taps.channels, kept))
        return Passage(features, norm, mixed, parts), made, made

    each = channels // heads
    filled = each + -each % TILE
    gram = Gram((filled, filled), (taps.channels, taps.channels), dtype)
    totals = summed(
        features, gram, heads, begin, lambda head: (2 * head * filled, (2 * head + 1) * filled)
    )
    mixing = mixing_kernel(attention, scores_of(totals, each, each), own)
    return change_by(mixing, features, value, kept), cache


def guided_low_rank_attention(
    attention: GuidedLowRankAttention, features: Features, cache: Tensor | None
) -> tuple[Change, Tensor | None]:
    """GLMHA by strips: ``GuidedLowRankAttention``. The cache is passed through.

    A pass for the maxima of the queries comes first.

    Shape:
        cache: (1, m, m) or ``None``, returned as it is.
    """
    x, dtype, own = features.x, features.x.dtype, attention.q.weight.dtype
    channels, heads, width = x.shape[-1], attention.heads, x.shape[1]
    norm, query = norm_of(features, dtype), branch_of(attention.q, attention.q_dwconv, own)
    query = in_tiles(query, heads)
    of_queries, query_taps = mixed_by([query], dtype), taps_of([query], dtype)
    queries = Rows(x.new_empty(*x.shape[:2], query_taps.channels)) if features.keep else None

    of = making(features, norm, of_queries, query_taps, queries)
    largest = Maxima(query_taps.channels, dtype)
    cells = grid_cells(width, attention.calibration.kernel)

    def of_cells(strip: Strip) -> Tensor:
        passage, made = of(strip)
        shape = strip.stop - strip.start, len(cells), query_taps.channels
        found = Rows(x.new_empty(shape))

        def then(calls: Calls, rows: slice) -> None:
            for y in range(rows.start, rows.stop):
                for cell, part in enumerate(cells):
                    at = found.at(y - strip.start) + cell * largest.step
                    largest.add_to(calls, made.at(y), at, *part)

        go_through(strip, [passage], width, then)
        by_head = found.values[..., : query.channels].unflatten(-1, (heads, -1))
        return by_head[..., : channels // heads].flatten(-2)

    key, value = calibrated(attention, plane_maxima(of_cells, features, len(cells)), own)
    each, key = key.channels // heads, in_tiles(key, heads)
    sizes = [branch.channels // heads for branch in (query, key)]
    # Queries are there and values are kept, or queries are made again: keys lie beside the others.
    before = 0 if features.keep else query.channels
    branch = key.beside(value) if features.keep else query.beside(key)
    mixed, taps = mixed_by([branch], dtype), taps_of([branch], dtype)
    kept = Rows(x.new_empty(*x.shape[:2], taps.channels)) if features.keep else None

    def begin() -> tuple[Passage, Rows, Rows]:
        made = kept or room(x, taps.channels, dtype)
        return Passage(features, norm, mixed, [Part(taps, 0, made)]), queries or made, made

    values = (query_taps if queries else taps).channels, taps.channels
    gram = Gram((sizes[0], sizes[1]), values, dtype)
    totals = summed(
        features, gram, heads, begin, lambda head: (head * sizes[0], before + head * sizes[1])
    )
    mixing = mixing_kernel(attention, scores_of(totals, channels // heads, each), own)
    return change_by(mixing, features, value, kept, key.channels), cache


def scores_of(totals: Sequence[Tensor], each: int, others: int) -> Tensor:
    """Cosine similarities, without what heads were filled up with.

    Shape:
        totals: as `GramSums.totals` gives them → (heads, each, others).
    """
    products, _, q_squares, k_squares = totals
    return channel_scores(products[:, :each, :others], q_squares[:, :each], k_squares[:, :others])


def change_by(
    mixing: Kernel, features: Features, value: Branch, kept: Rows | None, before: int = 0
) -> Change:
    """What a 1×1 convolution makes of values, which are ``kept`` or made again.

    ``before``: channels in front of those that are kept.
    """
    dtype, plane = features.x.dtype, Rows(features.x)
    taps = taps_of([value], dtype)
    wide = taps.channels
    if kept is not None:
        wide = kept.values.shape[-1]
        mixing = Kernel(F.pad(mixing.weight, (0, 0, 0, 0, before, 0)), mixing.bias)
    weights = weights_of(mixing, dtype, channels=wide)

    def add(calls: Calls, values: Rows, rows: slice) -> None:
        pixels = (rows.stop - rows.start) * plane.pixels
        weights.add_to(calls, values.at(rows.start), plane.at(rows.start), pixels, add=True)

    if kept is not None:

        def change_kept(strip: Strip) -> Terms:
            calls = Calls()
            add(calls, kept, slice(strip.start, strip.stop))
            calls.run()
            return DONE

        return change_kept

    of = making(features, norm_of(features, dtype), mixed_by([value], dtype), taps)

    def change(strip: Strip) -> Terms:
        passage, values = of(strip)
        go_through(strip, [passage], plane.pixels, lambda calls, rows: add(calls, values, rows))
        return DONE

    return change


class QueriesAndKeys:
    """HINT's queries and keys, for the sums over them and for what is made of them afterwards.

    If their channels are sorted, they are float32, since the order depends on their last digits:
    of features in bfloat16, but with weights twice as precise. Afterwards they are as precise as
    the block's features, whether they are kept from the first pass or made again.
    """

    def __init__(self, attention: HierarchicalAttention, features: Features, norm: Norm) -> None:
        x, own = features.x, attention.qkv.weight.dtype
        self._features, self._norm, self.channels = features, norm, x.shape[-1]
        self._sorts = attention.sort_channels
        self._made = torch.float32 if self._sorts else x.dtype
        self._rounding = Rounding() if self._made != x.dtype else None
        branch = branch_of(attention.qkv, attention.qkv_dwconv, own, slice(0, 2 * self.channels))
        self._mix = mixed_by([branch], x.dtype, self._made)
        self._taps = taps_of([branch], self._made)
        self._kept: Rows | None = None
        if features.keep:
            self._kept = Rows(x.new_empty(*x.shape[:2], 2 * self.channels))

    def begin(self) -> tuple[list[Passage], Rows, Callable[[Calls, slice], None]]:
        """For the second pass in a section: what makes them, where they are, and a last step."""
        if self._kept is not None:
            return [], self._kept, lambda calls, rows: None
        passage, made = self._into(room(self._features.x, 2 * self.channels, self._made))
        if self._rounding is None:
            return [passage], made, lambda calls, rows: None
        rounded = room(self._features.x, 2 * self.channels, self._features.x.dtype)
        return [passage], rounded, lambda calls, rows: self._round(calls, made, rounded, rows)

    def _round(self, calls: Calls, made: Rows, out: Rows | None, rows: slice) -> None:
        if self._rounding is not None and out is not None:
            values = (rows.stop - rows.start) * made.pixels * 2 * self.channels
            self._rounding.add_to(calls, made.at(rows.start), out.at(rows.start), values)

    def _into(self, made: Rows) -> tuple[Passage, Rows]:
        part = Part(self._taps, 0, made)
        return Passage(self._features, self._norm, self._mix, [part]), made

    def totals(self) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor | None]:
        """What `hierarchical_kernels` takes: sums over all pixels, and the channels' order.

        Shape:
            → (1, C, C), (1, C), (1, C); and (1, C), int64.
        """
        x, channels, sorts = self._features.x, self.channels, self._sorts
        others = 2 * channels if sorts else channels  # all of them, or keys alone
        gram = Gram((channels, others), (2 * channels, 2 * channels), self._made)

        def begin() -> tuple[Passage, Rows, Rows]:
            made = self._kept if self._rounding is None else None
            passage, made = self._into(made or room(x, 2 * channels, self._made))
            return passage, made, made

        def keep(calls: Calls, made: Rows, rows: slice) -> None:
            self._round(calls, made, self._kept, rows)

        firsts = (0, 0 if sorts else channels)
        products, sums, q_squares, squares = summed(
            self._features, gram, 1, begin, lambda _: firsts, keep
        )
        if not sorts:
            return (products, q_squares, squares), None
        q_products, products = products.chunk(2, -1)  # each (1, C, C)
        order = channel_order(q_products, sums, x.shape[0] * x.shape[1])
        q_squares = q_products.diagonal(dim1=-2, dim2=-1)
        return (products, q_squares, squares[:, channels:]), order


def hierarchical_attention(
    attention: HierarchicalAttention, features: Features, cache: Tensor | None
) -> tuple[Change, Tensor]:
    """HINT's HMHA and QKCU by strips: ``HierarchicalAttention``; the cache becomes (1, C, C)."""
    x, dtype, own = features.x, features.x.dtype, attention.qkv.weight.dtype
    channels, norm = x.shape[-1], norm_of(features, dtype)
    query_key = QueriesAndKeys(attention, features, norm)
    found, cache = hierarchical_kernels(attention, *query_key.totals(), cache)
    values_part = slice(2 * channels, 3 * channels)
    value = branch_of(attention.qkv, attention.qkv_dwconv, own, values_part)
    of_values, taps = mixed_by([value], dtype), taps_of([value], dtype)
    mix, project = (
        weights_of(kernel, dtype, channels=taps.channels) for kernel in (found.mix, found.project)
    )
    gating = weights_of(Kernel(found.gating.weight, None), dtype)
    refine, gate = weights_of(found.refine, dtype), Gate(found.gating.bias, channels, dtype)
    scales = found.scales.clamp_max(torch.finfo(dtype).max)
    adding, plane = WeightedSum(scales, dtype, dtype), Rows(x)

    def begin() -> tuple[list[Passage], list[Rows], Callable[[Calls, slice], None]]:
        values, mixed, gated = (room(x, n, dtype) for n in (taps.channels, channels, channels))
        passages, pairs, last_step = query_key.begin()
        passages.append(Passage(features, norm, of_values, [Part(taps, 0, values)]))
        return passages, [values, mixed, gated, pairs], last_step

    of = per_section(features, begin)

    def change(strip: Strip) -> Terms:
        passages, made, last_step = of(strip)

        def then(calls: Calls, rows: slice) -> None:
            last_step(calls, rows)
            pixels = (rows.stop - rows.start) * plane.pixels
            values, mixed, gated, pairs, out = (own.at(rows.start) for own in (*made, plane))
            adding.add_to(calls, pairs, mixed, pixels)
            mix.add_to(calls, values, mixed, pixels, add=True)
            gating.add_to(calls, mixed, gated, pixels)
            gate.add_to(calls, gated, mixed, pixels)
            project.add_to(calls, values, out, pixels, add=True)
            refine.add_to(calls, gated, out, pixels, add=True)

        go_through(strip, passages, plane.pixels, then)
        return DONE

    return change, cache


ATTENTIONS: dict[type[nn.Module], Attend] = {
    ChannelAttention: channel_attention,
    GuidedLowRankAttention: guided_low_rank_attention,
    HierarchicalAttention: hierarchical_attention,
}
