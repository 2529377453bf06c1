"""Limits and defaults that several rooms need: no torch here, as ``--help`` passes."""

from __future__ import annotations

DEFAULT_MAX_PIXELS = 500_000_000  # above this a header is taken for a decompression bomb
STREAM = "-"  # standard input or output; a file of that name is ./-
AUTO = -1  # a tile size that follows from the free memory
MULTIPLE_PX = 8  # tiles must divide by it, as the networks do
SMALLEST_TILE_PX = 128
DEFAULT_OVERLAP_PX = 64
