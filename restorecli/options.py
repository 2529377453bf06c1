"""Options checked before anything slow starts: no torch here."""

from __future__ import annotations

from restorecli.errors import UsageError

DEFAULT_MAX_PIXELS = 500_000_000  # above this a header is taken for a decompression bomb
STREAM = "-"  # standard input or output; a file of that name is ./-
AUTO = -1  # a tile size that follows from the free memory
MULTIPLE_PX = 8  # tiles must divide by it, as the networks do
SMALLEST_TILE_PX = 128
DEFAULT_OVERLAP_PX = 64


def parse_tile(text: str) -> int | None:
    """``auto`` → ``AUTO``, ``none`` → ``None`` (whole image), a number → that many pixels."""
    if text in {"auto", "none"}:
        return AUTO if text == "auto" else None
    if not text.isdigit():
        raise UsageError(
            f"--tile {text!r} is not a size.", hint="Use auto, none or a number of pixels."
        )
    tile_px = int(text)
    if tile_px < MULTIPLE_PX * 2:
        raise UsageError(
            f"--tile must be at least {MULTIPLE_PX * 2}, got {tile_px}.",
            hint=f"Tiles under {SMALLEST_TILE_PX} px restore poorly.",
        )
    if tile_px % MULTIPLE_PX:
        lower = tile_px // MULTIPLE_PX * MULTIPLE_PX
        raise UsageError(
            f"--tile must be a multiple of {MULTIPLE_PX}, got {tile_px}.",
            hint=f"Try {lower} or {lower + MULTIPLE_PX}.",
        )
    return tile_px


def parse_overlap(overlap_px: int, tile: int | None) -> int:
    """Pixels that neighbouring tiles share: from 0 to less than half a tile."""
    widest = (tile if tile and tile != AUTO else SMALLEST_TILE_PX) // 2
    if not 0 <= overlap_px <= widest:
        raise UsageError(
            f"--overlap must be from 0 to {widest} (half the tile), got {overlap_px}.",
            hint=f"The default is {DEFAULT_OVERLAP_PX}.",
        )
    return overlap_px
