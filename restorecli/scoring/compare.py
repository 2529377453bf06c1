"""Several versions of the same pictures, as a report to look at or as one sheet."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from restorecli.errors import InputError, UsageError
from restorecli.files.atomic import write_atomically
from restorecli.files.regular import is_directory
from restorecli.images.finding import find_pictures
from restorecli.images.seen import eight_bits, read_pixels
from restorecli.limits import DEFAULT_MAX_PIXELS
from restorecli.machine.versions import versions
from restorecli.report import LabelledPicture, Report, Row, Settings
from restorecli.report.words import printable
from restorecli.scoring.pairing import pair

FORMATS = (".html", ".png")
GAP_PX, CAPTION_PX = 8, 28
PAPER, INK = (255, 255, 255), (30, 30, 30)
LARGEST_SHEET_PX = 200_000_000


def compose_comparison(
    paths: Sequence[Path], *, pattern: str | None = None, allow_missing: bool = False
) -> Report:
    """Pair the versions with the first one and name them by file or folder.

    Raises:
        UsageError: fewer than two versions, or files and folders mixed.
        InputError: a path or a partner is missing.
    """
    if len(paths) < 2:
        raise UsageError("restore compare needs at least two pictures or two folders.")
    if len(set(map(is_directory, paths))) > 1 and all(map(os.path.exists, paths)):
        raise UsageError("restore compare takes pictures or folders, not both.")
    labels = _labels(paths)
    first, *rest = (find_pictures([path]) for path in paths)
    found: list[dict[Path, Path]] = []
    notes: list[str] = []
    for other in rest:
        pairing = pair(first, other, pattern=pattern, allow_missing=allow_missing)
        found.append({target.path: partner.path for target, partner in pairing.pairs})
        notes += [f"{p.relative} has no partner; left out." for p in pairing.without_partner]
        notes += [f"{p.path} is the partner of nothing." for p in pairing.unused]
    rows = [
        Row(
            name=str(picture.relative),
            others=tuple(
                LabelledPicture(label=label, path=str(path))
                for label, path in zip(
                    labels, [picture.path, *(paired[picture.path] for paired in found)], strict=True
                )
            ),
        )
        for picture in first.pictures
        if all(picture.path in paired for paired in found)
    ]
    if not rows:
        raise InputError("No picture exists in every version.")
    return Report(
        title=" · ".join(labels),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        settings=Settings(command="compare", versions=versions()),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def write_sheet(
    report: Report, path: Path, *, cell_px: int, max_pixels: int = DEFAULT_MAX_PIXELS
) -> None:
    """One PNG with a line per picture and a column per version; pictures are never enlarged.

    Raises:
        InputError: a picture cannot be read.
        UsageError: the sheet would be too large.
        OutputError: the file cannot be written.
    """
    lines = [
        [_cell(Path(shown.path), cell_px, max_pixels) for shown in row.pictures()]
        for row in report.rows
    ]
    labels = [shown.label for shown in report.rows[0].pictures()]
    columns = [max(line[i].width for line in lines) for i in range(len(labels))]
    heights = [max(cell.height for cell in line) for line in lines]
    width = sum(columns) + GAP_PX * (len(columns) + 1)
    height = CAPTION_PX + GAP_PX + sum(h + GAP_PX for h in heights)
    if width * height > LARGEST_SHEET_PX:
        raise UsageError(
            f"The sheet would have {width}×{height} pixels.",
            hint="Ask for smaller pictures with --width, or for an .html page.",
        )
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    left = GAP_PX
    for i, label in enumerate(labels):
        draw.text((left, CAPTION_PX // 2), _fit(label, font, columns[i]), INK, font, anchor="lm")
        top = CAPTION_PX
        for line, line_height in zip(lines, heights, strict=True):
            sheet.paste(line[i], (left, top))
            top += line_height + GAP_PX
        left += columns[i] + GAP_PX
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    write_atomically(path, stream.getvalue(), overwrite=True)


def _cell(path: Path, cell_px: int, max_pixels: int) -> Image.Image:
    image = Image.fromarray(eight_bits(read_pixels(path, max_pixels=max_pixels))).convert("RGB")
    if image.width > cell_px:
        height = max(1, round(image.height * cell_px / image.width))
        image = image.resize((cell_px, height), Image.Resampling.LANCZOS)
    return image


def _fit(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    text = printable(label)
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1]
    return text + "…"


def _labels(paths: Sequence[Path]) -> list[str]:
    """The shortest of name, parent/name and whole path that tells the versions apart."""
    resolved = [path.absolute() for path in paths]
    for parts in (1, 2):
        labels = ["/".join(path.parts[-parts:]) for path in resolved]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{number}: {path}" for number, path in enumerate(paths, start=1)]
