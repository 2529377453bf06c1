"""What a preview of a picture is: one detail before and after, side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from restorecli.images import FileOptions

if TYPE_CHECKING:
    from restorecli.engine.box import Box

MARK = "preview"  # in names of results: photo.derain.preview.png


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """``--preview``: the detail that ``--crop`` names, or the middle of each picture."""

    crop: Box | None = None

    def __str__(self) -> str:
        return str(self.crop or "middle")

    @staticmethod
    def files(files: FileOptions) -> FileOptions:
        """What is wanted of the file: 8 bits show enough, unless more were asked for."""
        return replace(files, bits="8") if files.bits == "source" else files


def said(text_of_box: str, *, size: tuple[int, int], window: tuple[int, int]) -> str:
    """What a preview shows, and how far it can be trusted; sizes are (height, width)."""
    shown = f"{text_of_box}, before | after"
    if window == size:
        return f"{shown}; the very pixels of the whole result"
    wide = f"{window[1]}×{window[0]} of {size[1]}×{size[0]}"
    return (
        f"{shown}; restored with its surroundings ({wide} pixels), so the whole result may differ "
        "a little"
    )
