"""The U of the networks, by strips: what their ``forward`` says, with buffers named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restorecli.machine.allocator import give_back_freed_memory
from restorecli.networks.blocks import Downsample, Upsample, statistics_dtype
from restorecli.networks.hint import HINT, EncoderBlock
from restorecli.networks.restormer import Restormer
from restorecli.networks.strips import fused
from restorecli.networks.strips.attention import (
    ATTENTIONS,
    KEPT,
    Features,
    feed_forward,
)
from restorecli.networks.strips.memory import ROOMY, TIDIED_BYTES, Room
from restorecli.networks.strips.passages import fused_rows, fuses
from restorecli.networks.strips.picture import Entrance, PaddedImage, Rows, picture_gain
from restorecli.networks.strips.rows import (
    Kernel,
    Strip,
    Terms,
    add_terms,
    convolve3x3,
    kernel_of,
    pointwise,
    strips_of,
)
from restorecli.networks.strips.workers import Sections, Workers

Progress = Callable[[float], None]


@torch.no_grad()
def restore_by_strips(
    network: nn.Module, x: Tensor, *, strip_rows: int, dtype: torch.dtype | None = None
) -> Tensor:
    """``network(x)``, evaluated by strips of ``strip_rows`` rows, without gradient.

    Images of a batch are restored one after the other, so only ``x`` and the result grow with it.

    Args:
        network: Restormer, GLMHA-Restormer or HINT; float32 or float64 parameters.
        x: (B, inp_channels, H, W), nominally [0, 1], any H and W from 1, on the network's device.
        strip_rows: As for `restored_rows`.
        dtype: Precision of the features; that of ``x`` when ``None``. With half precision, give
            ``x`` in float32: the image itself is then not rounded.

    Shape:
        → (B, out_channels, H, W), dtype of ``x``, not clamped.

    Raises:
        ValueError: As `restored_rows`.
    """
    results = []
    for image in x:
        strips = restored_rows(
            network,
            partial(rows_of, image),
            (x.shape[2], x.shape[3]),
            strip_rows=strip_rows,
            dtype=dtype or x.dtype,
        )
        results.append(torch.cat([rows for _, rows in strips], 1))
    return torch.stack(results)


def rows_of(image: Tensor, top: int, bottom: int) -> Tensor:
    """Some rows of ``image`` (C, H, W): (C, r, W)."""
    return image[:, top:bottom]


@torch.no_grad()
def restored_rows(
    network: nn.Module,
    read: Rows,
    size: tuple[int, int],
    *,
    strip_rows: int,
    dtype: torch.dtype,
    room: Room = ROOMY,
    gain: Tensor | None = None,
    on_progress: Progress = lambda share: None,
) -> Iterator[tuple[int, Tensor]]:
    """Restore one image that is read a few rows at a time, and hand out its rows from the top.

    Features are as precise as ``dtype``; sums over pixels, norms and softmax are float32 or
    better. The strip height changes memory and speed, and the result by rounding only.

    Args:
        network: Restormer, GLMHA-Restormer or HINT; float32 or float64 parameters.
        read: (top, bottom) → float (inp_channels, bottom − top, W), nominally [0, 1], on any
            device; asked twice for every row, and once more for an unknown ``gain``, and for an
            affine head.
        size: (H, W) of the image, any from 1.
        strip_rows: Rows of the widest features at a time in each thread, of others twice as many;
            at least 1. With a packing, a row of features is as many rows of the picture.
        dtype: Precision of the features.
        room: What it may take beside the strips; on a processor no more threads than torch uses.
        gain: (1,), of the network's tone curve: for a tile, that of the whole picture. That of
            the image when ``None``.
        on_progress: Told what share of the work was just done; the shares add up to 1.

    Yields:
        The first row, and (out_channels, r, W) in the dtype that ``read`` gives, not clamped.

    Raises:
        ValueError: Another network, half-precision parameters, or ``strip_rows`` below 1.
    """
    network = checked(network, strip_rows)
    if gain is None:
        gain = picture_gain(network, read, size)
    device = network.output.weight.device
    image = Entrance(PaddedImage(read, size, device, network.ends.multiple_px), network.ends, gain)
    height, width = image.height, image.width
    dim = network.output.in_channels // 2
    work = max(total_work(network), 1)

    def tick(passes: float) -> None:
        on_progress(passes / work)

    wide = torch.empty(height, width, 2 * dim, dtype=dtype, device=device)
    apply = partial(through, keep_bytes=room.keep_bytes)
    with Workers(device, height * width, room.workers) as crew:
        cache = lower_levels(network, image, wide, strip_rows, crew, apply=apply, tick=tick)
        tidy_heap(wide.nbytes)
        sections = crew.sections(height, strip_rows)
        for stage in (network.decoder_level1, network.refinement):
            cache = apply(stage, wide, sections, cache, lambda passes: tick(WIDE_WORK * passes))
        if not network.ends.affine:
            for start, rows in output_rows(network, wide, image, sections):
                with crew.outside():
                    yield start, rows
            return
        values, guide = plane_values(network, wide, image, sections)
    plane_bytes = wide.nbytes
    del wide  # the maps take its place
    tidy_heap(plane_bytes)
    yield from corrected_rows(image, *network.ends.maps(values, guide), strip_rows)


def tidy_heap(plane_bytes: int) -> None:
    """Give free memory back to the system where the widest plane is large.

    What is given back has to be faulted in anew, which small pictures can do without.
    """
    if plane_bytes >= TIDIED_BYTES:
        give_back_freed_memory()


def checked(network: nn.Module, strip_rows: int) -> Restormer | HINT:
    """``network``; raises ``ValueError`` for what cannot be evaluated by strips."""
    if not isinstance(network, (Restormer, HINT)):
        raise ValueError(f"no evaluation by strips for {type(network).__name__}")
    if strip_rows < 1:
        raise ValueError(f"strip_rows must be at least 1, got {strip_rows}")
    if network.output.weight.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"parameters must be float32 or float64, got {network.output.weight.dtype}; "
            "features in half precision are asked for with dtype"
        )
    return network


def lower_levels(
    network: Restormer | HINT,
    image: Entrance,
    wide: Tensor,
    strip_rows: int,
    workers: Workers,
    *,
    apply: Callable[..., Tensor | None],
    tick: Progress,
) -> Tensor | None:
    """All levels below the decoder's first, which is left in ``wide`` (H, W, 2D); the cache.

    All features live in two buffers, made before any strip so that these reuse one another's
    memory. The decoder's first level is twice as wide as the encoder's, which is its second half;
    until it is filled, its first half holds the lower levels. Before, an encoder that begins in
    float32 has its first level over all of it.
    """
    height, width, dim = wide.shape[0], wide.shape[1], wide.shape[2] // 2
    lower, upper = wide.flatten().chunk(2)
    level1 = upper.view(height, width, dim)
    level2 = wide.new_empty(height // 2, width // 2, 2 * dim)
    level3 = lower[: level1.numel() // 4].view(height // 4, width // 4, 4 * dim)
    latent = lower[-level1.numel() // 8 :].view(height // 8, width // 8, 8 * dim)
    rows = 2 * strip_rows  # everywhere but in the decoder's first level: as many bytes a strip
    first = wide.view(torch.float32) if begins_in_float32(network, wide) else level1  # (H, W, D)
    sections = [workers.sections(x.shape[0], rows) for x in (first, level2, level3, latent)]
    embed(network, image, first, workers.sections(height, strip_rows))
    cache = apply(network.encoder_level1, first, sections[0], None, tick)
    down(network.down1_2, first, level2, sections[1])
    if first is not level1:
        for strip in reversed(strips_of(height, rows)):  # which lie over each other in memory
            level1[strip.start : strip.stop] = first[strip.start : strip.stop].clone()
    cache = apply(network.encoder_level2, level2, sections[1], cache, tick)
    down(network.down2_3, level2, level3, sections[2])
    cache = apply(network.encoder_level3, level3, sections[2], cache, tick)
    down(network.down3_4, level3, latent, sections[3])
    cache = apply(network.latent, latent, sections[3], cache, tick)
    up_and_reduce(network.up4_3, network.reduce_chan_level3, latent, level3, sections[3])
    cache = apply(network.decoder_level3, level3, sections[2], cache, tick)
    up_and_reduce(network.up3_2, network.reduce_chan_level2, level3, level2, sections[2])
    cache = apply(network.decoder_level2, level2, sections[1], cache, tick)
    tidy_heap(wide.nbytes)  # of holes that strips of the levels below have left
    narrow = workers.sections(height // 2, strip_rows)  # half as wide as what it becomes
    up_and_concatenate(network.up2_1, level2, level1, wide, narrow)
    return cache


def begins_in_float32(network: Restormer | HINT, wide: Tensor) -> bool:
    """Whether the encoder's first level is float32 beside half precision: if it is one block.

    Its rounding reaches all other levels. More blocks, and attention, would take too much time.

    Shape:
        wide: (H, W, 2D).
    """
    level = network.encoder_level1
    return wide.element_size() < 4 and [type(block) for block in level] == [EncoderBlock]


WIDE_WORK = 4  # of a pass over the decoder's first level, in passes over any other level


def total_work(network: Restormer | HINT) -> int:
    """Passes over the strips, in units of a pass over one of the narrow levels.

    Those cost about the same: half the sides, twice the channels.
    """
    narrow = (network.encoder_level1, network.encoder_level2, network.encoder_level3,
              network.latent, network.decoder_level3, network.decoder_level2)  # fmt: skip
    wide = (network.decoder_level1, network.refinement)
    passes = [sum(passes_of(block) for stage in stages for block in stage)
              for stages in (narrow, wide)]  # fmt: skip
    return passes[0] + WIDE_WORK * passes[1]


def passes_of(block: nn.Module) -> int:
    """One for the feed-forward, two for attention: statistics, and their application."""
    return 1 if isinstance(block, EncoderBlock) else 3


def through(
    blocks: Iterable[Any],
    x: Tensor,
    sections: Sections,
    cache: Tensor | None,
    tick: Progress,
    *,
    keep_bytes: int,
) -> Tensor | None:
    """Apply ``blocks`` in turn to ``x`` (H, W, C), in place; the cache (1, m, m) is HINT's.

    ``tick`` is told the passes over ``x`` that were just made, strip by strip in fractions.
    """
    longer = sections.in_strips_of(fused_rows(x))
    for block in blocks:
        if not isinstance(block, EncoderBlock):
            kind = type(block.attn)
            fusing = kind in fused.ATTENTIONS and fuses(x, block.attn)
            own = longer if fusing else sections
            keep = KEPT.get(kind, 0) * x.nbytes <= keep_bytes
            attend = (fused.ATTENTIONS if fusing else ATTENTIONS)[kind]
            change, cache = attend(block.attn, Features(x, block.norm1, own, keep=keep), cache)
            tick(1)
            add_in_place(x, change, own, tick)
            del change  # and its buffers
        fusing = fuses(x, block.ffn)
        own, feed = (longer, fused.feed_forward) if fusing else (sections, feed_forward)
        change = feed(block.ffn, Features(x, block.norm2, own))
        add_in_place(x, change, own, tick)
    return cache


def add_in_place(
    x: Tensor, change: Callable[[Strip], Terms], sections: Sections, tick: Progress
) -> None:
    """Add to every strip of ``x`` (H, W, C) its change, in place.

    A change may depend on the *old* rows of a strip and its halo, if it looks at fresh rows only.
    After each strip ``tick`` is told the share of the strips that it is.
    """
    sections.each(lambda strip: add_terms(x, strip, change(strip)), tick)


def embed(network: Restormer | HINT, image: Entrance, level1: Tensor, sections: Sections) -> None:
    """``PatchEmbed``: ``image`` → ``level1`` (H, W, D)."""

    def put(strip: Strip, rows: Tensor) -> None:
        level1[strip.start : strip.stop] = embedded(network, rows, strip, level1.dtype)

    for _ in sections.in_order(lambda strip: image.packed(strip.top, strip.bottom), put):
        pass


def embedded(network: Restormer | HINT, rows: Tensor, strip: Strip, dtype: torch.dtype) -> Tensor:
    """First features of a strip from its ``rows`` (first_channels, r + halo, W): (r, W, D).

    The picture is never rounded to half precision, which bright levels would not survive.
    """
    own = torch.promote_types(dtype, torch.float32)
    rows = rows.permute(1, 2, 0).to(own).contiguous()
    return convolve3x3(rows, kernel_of(network.patch_embed.proj, own), strip).to(dtype)


def down(downsample: Downsample, x: Tensor, small: Tensor, sections: Sections) -> None:
    """``small`` = ``Downsample`` of ``x``: (H, W, C) → (H/2, W/2, 2C); sections of ``small``."""
    height = x.shape[0]
    kernel = kernel_of(downsample.body[0], x.dtype)

    def put(strip: Strip) -> None:
        large = Strip(2 * strip.start, 2 * strip.stop, height)
        y = convolve3x3(x[large.top : large.bottom], kernel, large)  # (2r, W, C/2)
        target = torch.unflatten(small[strip.start : strip.stop], -1, (-1, 2, 2))
        for i, j in product(range(2), repeat=2):  # each (r, W/2, C/2); one copy takes longer
            target[..., i, j] = y[i::2, j::2]

    sections.each(put)


def upsampled(kernel: Kernel, x: Tensor, strip: Strip) -> Tensor:
    """``Upsample`` of a strip of ``x`` (H, W, C): (2r, 2W, C/2)."""
    y = convolve3x3(x[strip.top : strip.bottom], kernel, strip)  # (r, W, 2C)
    planes = y.unsqueeze(0).permute(0, 3, 1, 2)  # (1, 2C, r, W), channels last
    return F.pixel_shuffle(planes, 2).squeeze(0).permute(1, 2, 0)


def up_and_reduce(
    upsample: Upsample, reduce: nn.Conv2d, x: Tensor, skip: Tensor, sections: Sections
) -> None:
    """``skip`` = 1×1 convolution of ``x`` upsampled and ``skip``, concatenated.

    Shape:
        x: (H/2, W/2, 2C), of the sections; skip: (H, W, C), overwritten.
    """
    up, reduction = kernel_of(upsample.body[0], x.dtype), kernel_of(reduce, x.dtype)

    def put(strip: Strip) -> None:
        target = skip[2 * strip.start : 2 * strip.stop]
        large = upsampled(up, x, strip)
        target.copy_(pointwise(torch.cat([large, target], -1), reduction))

    sections.each(put)


def up_and_concatenate(
    upsample: Upsample, x: Tensor, skip: Tensor, wide: Tensor, sections: Sections
) -> None:
    """``wide`` = ``x`` upsampled and ``skip``, concatenated.

    ``skip`` may be the second half of the memory of ``wide``: rows are filled from the top, and
    row i of ``wide`` ends before row i + 1 of ``skip`` begins.

    Shape:
        x: (H/2, W/2, 2C), of the sections; skip: (H, W, C); wide: (H, W, 2C), overwritten.
    """
    channels = skip.shape[-1]
    kernel = kernel_of(upsample.body[0], x.dtype)

    def rows_of(strip: Strip) -> slice:
        return slice(2 * strip.start, 2 * strip.stop)

    strips = sections.in_order(
        lambda strip: skip[rows_of(strip)].clone(),
        lambda strip, kept: (kept, upsampled(kernel, x, strip)),
    )
    for strip, (kept, large) in strips:
        target = wide[rows_of(strip)]
        target[..., :channels] = large
        target[..., channels:] = kept


def output_rows(
    network: Restormer | HINT, x: Tensor, image: Entrance, sections: Sections
) -> Iterator[tuple[int, Tensor]]:
    """Last convolution and residual head: ``x`` (h, w, 2D) → (out_channels, r, W) by strips.

    The head works in the precision of the image.
    """
    (height, width), packing = image.image.size, network.ends.packing

    def read(strip: Strip) -> tuple[Tensor, Tensor | None]:
        return image.picture(strip.start, strip.stop), skipped(network, image, strip)

    def result(strip: Strip, given: tuple[Tensor, Tensor | None]) -> Tensor:
        picture, around = given
        values = last_values(network, x, around, strip).to(picture.dtype)
        return network.ends.result(values.unsqueeze(0), picture.unsqueeze(0)).squeeze(0)

    for strip, y in sections.in_order(read, result):
        if packing * strip.start < height:
            yield packing * strip.start, y[:, : height - packing * strip.start, :width]


def plane_values(
    network: Restormer | HINT, x: Tensor, image: Entrance, sections: Sections
) -> tuple[Tensor, Tensor]:
    """What ``output`` gives for all of ``x`` (h, w, 2D), and what leads a guided filter.

    Shape:
        → (1, last_channels, h, w) and (1, inp_channels, h, w), in the precision of sums over
        pixels.
    """
    dtype = statistics_dtype(x)
    values = x.new_empty(1, network.ends.last_channels, *x.shape[:2], dtype=dtype)

    def read(strip: Strip) -> tuple[Tensor, Tensor | None]:
        return image.packed(strip.start, strip.stop), skipped(network, image, strip)

    def guide(strip: Strip, given: tuple[Tensor, Tensor | None]) -> Tensor:
        packed, around = given
        values[0, :, strip.start : strip.stop] = last_values(network, x, around, strip)
        return network.ends.guide(packed.unsqueeze(0)).to(dtype)

    return values, torch.cat([rows for _, rows in sections.in_order(read, guide)], 2)


def corrected_rows(
    image: Entrance, a: Tensor, b: Tensor, strip_rows: int
) -> Iterator[tuple[int, Tensor]]:
    """The affine head with the maps of a whole picture: (out_channels, r, W) by strips.

    Shape:
        a, b: (1, out_channels, h, w).
    """
    (height, width), packing = image.image.size, image.ends.packing
    for strip in strips_of(image.height, strip_rows):
        if packing * strip.start < height:
            outer = strip.haloed  # maps are enlarged between two rows
            rows = slice(outer.start, outer.stop)
            picture = image.picture(outer.start, outer.stop).unsqueeze(0)
            y = image.ends.corrected(picture, a[:, :, rows], b[:, :, rows]).squeeze(0)
            first = packing * (strip.start - outer.start)
            y = y[:, first : first + packing * (strip.stop - strip.start)]
            yield packing * strip.start, y[:, : height - packing * strip.start, :width]


def skipped(network: Restormer | HINT, image: Entrance, strip: Strip) -> Tensor | None:
    """What the skip to the end of a dual-pixel network takes: (first_channels, r', w)."""
    if not (isinstance(network, Restormer) and network.dual_pixel_task):
        return None
    outer = strip.haloed
    return image.packed(outer.top, outer.bottom)


def last_values(
    network: Restormer | HINT, x: Tensor, around: Tensor | None, strip: Strip
) -> Tensor:
    """What ``output`` gives for ``strip`` of ``x`` (h, w, 2D): (last_channels, r, w)."""
    rows = x[strip.top : strip.bottom]
    if around is not None:
        first = embedded(network, around, strip.haloed, x.dtype)
        rows = pointwise(first, kernel_of(network.skip_conv, x.dtype)).add_(rows)
    rows = rows.to(statistics_dtype(rows))
    return convolve3x3(rows, kernel_of(network.output, rows.dtype), strip).permute(2, 0, 1)
