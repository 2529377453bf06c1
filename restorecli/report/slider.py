"""Before and after in a notebook: one picture over the other, with a slider between them."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restorecli.images.reading import decode_photo
from restorecli.images.seen import eight_bits, over_white, read_pixels

WIDEST_PX = 1280  # of a picture in a page; larger ones are shown reduced
BAR_PX = 36  # below the pictures
Shown = NDArray[Any] | Image.Image | bytes | str | os.PathLike[str]

PAGE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{before} and {after}</title>
<style>
body {{ margin: 0; font: 14px system-ui, sans-serif; }}
figure {{ position: relative; margin: 0; width: 100%; max-width: {width}px; --cut: 50%; }}
img {{ display: block; width: 100%; }}
#before {{ position: absolute; top: 0; clip-path: inset(0 calc(100% - var(--cut)) 0 0); }}
hr {{ position: absolute; top: 0; left: var(--cut); height: 100%; width: 0; margin: 0;
  border: 0; border-left: 2px solid #fff; box-shadow: 0 0 3px #000; }}
label {{ display: flex; gap: 8px; align-items: center; max-width: {width}px; height: {bar}px; }}
input {{ flex: 1; }}
</style>
<figure><img alt="{after}" src="{after_url}"><img id="before" alt="{before}" src="{before_url}"><hr>
</figure>
<label>{before}<input type="range" min="0" max="100" value="50" aria-label="{before} or {after}"
oninput="document.querySelector('figure').style.setProperty('--cut', this.value + '%')">{after}
</label></html>"""


@dataclass(frozen=True, slots=True)
class Slider:
    """What a notebook shows as a slider; ``html`` is a page of its own."""

    html: str
    height_px: int
    width_px: int

    def _repr_html_(self) -> str:
        """The page in a frame, which neither sees the notebook nor fetches anything."""
        return (
            f'<iframe srcdoc="{escape(self.html)}" sandbox="allow-scripts" '
            'title="before and after" style="border: 0; width: 100%; '
            f"max-width: {self.width_px}px; "
            f'aspect-ratio: {self.width_px} / {self.height_px + BAR_PX};"></iframe>'
        )


def slider(before: Shown, after: Shown, *, labels: tuple[str, str] = ("before", "after")) -> Slider:
    """A before/after slider, which a notebook shows when it is the last value of a cell.

    Args:
        before: An array, a ``PIL.Image``, the bytes of a file, or a path.
        after: The same picture, restored.
        labels: What they are called.

    Raises ``ValueError`` when the two have different sizes, ``InputError`` for unreadable files.
    """
    images = [_shown(before), _shown(after)]
    if images[0].size != images[1].size:
        sizes = " and ".join(f"{image.width}×{image.height}" for image in images)
        raise ValueError(f"before and after must have one size, got {sizes}")
    for image in images:
        image.thumbnail((WIDEST_PX, WIDEST_PX * 4), Image.Resampling.LANCZOS)
    width, height = images[0].size
    page = PAGE.format(
        before=escape(labels[0]),
        after=escape(labels[1]),
        before_url=_url(images[0]),
        after_url=_url(images[1]),
        width=width,
        bar=BAR_PX,
    )
    return Slider(html=page, height_px=height, width_px=width)


def _shown(picture: Shown) -> Image.Image:
    """A copy as people see it: RGB, 8 bits."""
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if isinstance(picture, bytes):
        pixels = over_white(decode_photo(picture, "the bytes"))
    elif isinstance(picture, np.ndarray):
        pixels = picture
        if pixels.dtype.kind == "f":
            pixels = np.rint(pixels.clip(0, 1) * 65_535).astype(np.uint16)
    else:
        pixels = read_pixels(Path(picture))
    return Image.fromarray(eight_bits(pixels)).convert("RGB")


def _url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, quality=50, method=2)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
