"""The text of an option → its value, checked before anything slow starts: no torch here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from restorecli.commands.options import Asked
from restorecli.errors import UsageError
from restorecli.limits import AUTO, DEFAULT_OVERLAP_PX, MULTIPLE_PX, SMALLEST_TILE_PX, STREAM

if TYPE_CHECKING:
    from restorecli.runs.selection import WhatExists

ONE_OF_THEM = "Give one of them."


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


def parse_overlap(overlap_px: int | None, tile: int | None) -> int:
    """Pixels that neighbouring tiles share: from 0 to half a tile; ``None``: the default."""
    widest = (tile if tile and tile != AUTO else SMALLEST_TILE_PX) // 2
    if overlap_px is None:
        return min(DEFAULT_OVERLAP_PX, widest)
    if not 0 <= overlap_px <= widest:
        raise UsageError(
            f"--overlap must be from 0 to {widest} (half the tile), got {overlap_px}.",
            hint=f"The default is {min(DEFAULT_OVERLAP_PX, widest)}.",
        )
    return overlap_px


def parse_effort(asked: Asked) -> str | None:
    """``fast``, ``best`` or ``None``, also by the option's former name ``--quality``."""
    if asked.effort and asked.quality:
        raise UsageError("--quality is the former name of --effort.", hint=ONE_OF_THEM)
    name = "--quality" if asked.quality else "--effort"
    effort = asked.effort or asked.quality
    if effort not in {None, "fast", "best"}:
        raise UsageError(
            f"{name} {effort!r} is neither fast nor best.",
            hint="The quality of JPEG files is --jpeg-quality.",
        )
    return effort


def parse_strength(text: str | None) -> float:
    """``0.4`` → 0.4, from 0 to 1; ``None``: 1, the whole change."""
    if text is None:
        return 1.0
    try:
        strength = float(text)
    except ValueError:
        strength = -1.0
    if not 0 <= strength <= 1:  # nor NaN
        raise UsageError(
            f"--strength {text!r} is not a number from 0 to 1.",
            hint="0 gives the picture back, 1 is the whole change, 0.5 half of it.",
        )
    return strength


def parse_jpeg_quality(text: str | None) -> int | Literal["source"] | None:
    """``source``, a number from 1 to 100, or ``None`` for the default."""
    if text is None or text == "source":
        return text  # type: ignore[return-value]
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise UsageError(
            f"--jpeg-quality {text!r} is neither a number from 1 to 100 nor source.",
            hint="Leave it out for the source's quality, but at least 95.",
        )
    return int(text)


def refuse_contradictions(asked: Asked) -> None:
    """Raise ``UsageError`` for options that do not go together, before anything is loaded."""
    overlap_px = None if asked.protocol == "published" else asked.overlap
    parse_overlap(overlap_px, parse_tile(asked.tile))
    parse_memory(asked.max_memory)
    parse_jpeg_quality(asked.jpeg_quality)
    parse_strength(asked.strength)
    parse_crop(asked)
    _refuse_engine(asked)
    effort = parse_effort(asked)
    for name, given in (("--weights", asked.weights), ("--model", asked.model)):
        if effort and given:
            raise UsageError(f"--effort and {name} contradict each other.", hint=ONE_OF_THEM)
    if asked.output == STREAM and (asked.as_json or asked.ref):
        raise UsageError(
            "-o - writes the picture to stdout; it goes with neither --json nor --ref."
        )
    what_exists(asked)


def what_exists(asked: Asked) -> WhatExists:
    """What happens to results that are there: ``UsageError`` if two options say it differently."""
    ways: dict[str, tuple[bool, WhatExists]] = {
        "--overwrite": (asked.overwrite, "replace"),
        "--skip-existing": (asked.skip_existing, "keep"),
        "--resume": (asked.resume, "resume"),
    }
    given = [name for name, (on, _) in ways.items() if on]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other.")
    return ways[given[0]][1] if given else "refuse"


def _refuse_engine(asked: Asked) -> None:
    """Options of Ray go with it only, and it does not take all of the others."""
    of_ray = {
        "--ray-address": asked.ray_address,
        "--actors": asked.actors,
        "--gpus-per-actor": asked.gpus_per_actor,
        "--cpus-per-actor": asked.cpus_per_actor,
    }
    given = [name for name, value in of_ray.items() if value is not None]
    if asked.engine != "ray":
        if given:
            raise UsageError(f"{given[0]} goes with --engine ray only.")
        return
    if asked.threads is not None:
        raise UsageError("--threads does not go with --engine ray.", hint="Use --cpus-per-actor.")
    if ":" in asked.device:
        raise UsageError(
            f"--device {asked.device} does not go with --engine ray, which gives each actor its "
            "own.",
            hint="Use --device cuda; CUDA_VISIBLE_DEVICES limits which ones Ray takes.",
        )


BOX = re.compile(r"(\d{1,6})[x×](\d{1,6})\+(\d{1,6})\+(\d{1,6})", re.IGNORECASE)


def parse_crop(asked: Asked) -> tuple[int, int, int, int] | None:
    """``512x384+100+200`` → left, top, width, height; ``None`` for the middle."""
    if asked.crop is None:
        return None
    if not asked.preview:
        raise UsageError("--crop chooses what --preview shows.", hint="Give --preview, too.")
    found = BOX.fullmatch(asked.crop.strip())
    width, height, left, top = map(int, found.groups()) if found else (0, 0, 0, 0)
    if not (width and height):
        raise UsageError(
            f"--crop {asked.crop!r} is no part of a picture.",
            hint="Give width, height and place from the left and top, such as 512x384+100+200.",
        )
    return left, top, width, height


MEGAPIXELS = re.compile(r"(\d+(?:\.\d+)?) ?MP", re.IGNORECASE)
SIDES = re.compile(r"(\d+)[x×](\d+)", re.IGNORECASE)
MOST_SIDE_PX = 100_000


def parse_size(text: str) -> tuple[int, int]:
    """``4000x3000`` (width, height) or ``12MP`` (4:3) → (height, width) in pixels."""
    height = width = 0
    if sides := SIDES.fullmatch(text.strip()):
        width, height = int(sides[1]), int(sides[2])
    elif amount := MEGAPIXELS.fullmatch(text.strip()):
        height = round((float(amount[1]) * 1e6 * 3 / 4) ** 0.5)
        width = round(height * 4 / 3)
    if not (0 < height <= MOST_SIDE_PX and 0 < width <= MOST_SIDE_PX):
        raise UsageError(
            f"--size {text!r} is not the size of a picture.",
            hint="Give width and height, such as 4000x3000, or megapixels, such as 12MP.",
        )
    return height, width


def parse_frame_size(text: str) -> tuple[int, int]:
    """``1920x1080`` → (height, width) in pixels."""
    found = SIDES.fullmatch(text.strip())
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (0 < height <= MOST_SIDE_PX and 0 < width <= MOST_SIDE_PX):
        raise UsageError(
            f"-s {text!r} is not the size of a frame.",
            hint="Give width and height, such as 1920x1080: `ffprobe` says them.",
        )
    return height, width


def parse_memory(text: str | None, *, name: str = "--max-memory") -> int | None:
    """``2GB``, ``1.5 GiB``, ``800MB`` → bytes; ``None`` stays; ``name`` is that of the option."""
    if text is None:
        return None
    from pydantic import ByteSize, TypeAdapter, ValidationError  # which --help does not need

    try:
        size_bytes = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        size_bytes = 0
    if not text.strip()[-1:].isalpha():  # 2 bytes are never meant
        size_bytes = 0
    if not size_bytes:
        raise UsageError(
            f"{name} {text!r} is not an amount of memory.",
            hint="Give a number and a unit, such as 2GB (10⁹ bytes) or 1.5GiB (2³⁰).",
        )
    return size_bytes
