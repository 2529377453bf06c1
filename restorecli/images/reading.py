"""Read photographs, keeping what they carry. What cannot be kept is refused, not degraded."""

from __future__ import annotations

import difflib
import io
import logging
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from glob import has_magic
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restorecli.errors import InputError
from restorecli.files.addresses import is_remote
from restorecli.files.regular import IrregularError, open_regular
from restorecli.images import bmff, carry, colour, ifd, jpeg, jxl, png, raw, simple, webp
from restorecli.images.formats import (
    HEAD_BYTES,
    RAW_FILE,
    foreign,
    kind_of,
    no_picture_name,
    refused_name,
    too_large,
)
from restorecli.images.metadata import upright
from restorecli.images.photo import Carried, Photo, Pixels
from restorecli.limits import DEFAULT_MAX_PIXELS
from restorecli.machine.extras import install_hint

THROUGH_A_PIPE = "Standard input takes one, as -: cat PICTURE | restore derain - -o RESULT.png"
MAX_PIXELS = DEFAULT_MAX_PIXELS
MODES = {  # Pillow's mode → the mode it is read as, without loss
    "1": "L",
    "L": "L",
    "LA": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "CMYK": "CMYK",
}
HEADER_BYTES = 1 << 20  # in which a JPEG says what it is


def identify(path: Path) -> str | None:
    """Format of the picture in ``path`` by its content, or ``None`` if it is not a picture."""
    try:
        with open_regular(path) as file:
            return identify_data(file)
    except OSError as error:
        raise _cannot_read(path, error) from error


def identify_data(file: IO[bytes]) -> str | None:
    """Format of the picture that starts here, or ``None``; reads as little as it can.

    A kind that is refused by name is returned by that name.
    """
    head = file.read(HEAD_BYTES)
    if kind := foreign(head):
        return "RAW" if kind == RAW_FILE and raw.can_develop() else None
    kind = kind_of(head)
    if kind == "JPEG":
        frame = jpeg.apart(head + file.read(HEADER_BYTES)).frame
        return kind if frame is None else frame.kind
    if kind is None:
        return None if no_picture_name(head) else refused_name(head)
    return kind


def read_photo(path: Path, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode ``path``: `decode_photo` of its content."""
    return decode_photo(read_file(path), str(path), max_pixels=max_pixels)


def read_file(path: Path) -> bytes:
    """Content of a file that can be a picture; ``InputError`` for anything else."""
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
            _refuse_foreign(str(path), head)
            return head + file.read()
    except OSError as error:
        raise _cannot_read(path, error) from error


def decode_photo(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """The photograph in ``data``, which messages call ``name``: upright pixels, alpha, metadata.

    EXIF orientation, and what AVIF and HEIC say of cropping and turning, is applied once and reset.
    Palettes become RGB, CMYK with a profile becomes sRGB. Pixels are uint8, uint16 or float32, as
    they are stored. Raises ``InputError`` for anything broken, or that could not be kept.
    """
    if not data:
        raise InputError(f"Cannot read {name}: the file is empty (0 bytes).")
    head = data[:HEAD_BYTES]
    _refuse_foreign(name, head)
    kind = "RAW" if foreign(head) == RAW_FILE else kind_of(head)
    if kind is None:
        raise not_an_image(name, head)
    try:
        with _quiet_decoders():
            photo, orientation = READERS[kind](name, data, max_pixels)
            return _turned(photo, orientation)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"Cannot read {name}: there is not enough memory for it.") from error
    except Exception as error:  # hostile bytes make decoders raise almost anything
        reason = " ".join(str(error).split()) if _is_sentence(error) else "its parts do not fit"
        raise InputError(
            f"Cannot read {name}: the {len(data):,}-byte {kind} file is damaged or truncated "
            f"({reason}).",
            hint="Copy it again from its source.",
        ) from error


def _is_sentence(error: Exception) -> bool:
    """Whether an exception speaks of the file, and not of Python's own types."""
    return str(error) != "" and not isinstance(error, (TypeError, IndexError, KeyError,
                                                      AttributeError, struct.error))  # fmt: skip


def not_an_image(name: str, head: bytes) -> InputError:
    """What to say of a file that begins with ``head`` and cannot be read as a picture."""
    if kind := no_picture_name(head):
        return InputError(f"Cannot restore {name}: it is {kind}, not a picture.")
    if kind := refused_name(head):
        return InputError(
            f"Cannot restore {name}: it is {kind}, which is not supported.",
            hint="Convert it to PNG, TIFF, JPEG or WebP.",
        )
    beginning = head[:12].decode("latin-1")
    return InputError(f"Cannot read {name}: not an image (starts with {beginning!r}).")


def _refuse_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise too_large(name, width, height, max_pixels)
    if width * height == 0:
        raise ValueError("it has no pixels")


def _refuse_frames(name: str, count: int) -> None:
    if count > 1:
        raise InputError(
            f"Cannot restore {name}: it is animated or has several pictures ({count}).",
            hint="Save the one to restore as a file of its own.",
        )


def _photo(planes: Pixels, arrived: carry.Arrived, *more: str) -> Photo:
    """A photograph of (H, W), (H, W, 1…4) planes, the last of two or four being alpha."""
    planes = planes.reshape(*planes.shape[:2], -1)
    channels = planes.shape[2]
    return Photo(
        pixels=planes[..., 0] if channels < 3 else planes[..., :3],
        alpha=planes[..., -1] if channels in {2, 4} else None,
        carried=arrived.carried,
        notes=(*arrived.notes, *more),
        lost_pictures=arrived.lost_pictures,
    )


def _planes_by_pillow(name: str, data: bytes) -> Pixels:
    """(H, W) or (H, W, channels) uint8; raises ``InputError`` for modes that would lose."""
    with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as picture:
        picture.load()
        if picture.mode not in MODES:
            raise InputError(
                f"Cannot restore {name}: its colours are {picture.mode}, expected RGB or gray.",
                hint="Convert it to RGB first.",
            )
        mode = MODES[picture.mode]
        if "transparency" in picture.info:
            mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode)
        return np.array(picture.convert(mode))


PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")


def _read_png(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    if next(png.chunks(data), ("",))[0] == "CgBI":
        raise InputError(
            f"Cannot restore {name}: it is a PNG in Apple's own variant (CgBI), not a true PNG.",
            hint="Convert it to PNG first.",
        )
    head = png.header(data)
    _refuse_size(name, head.width, head.height, max_pixels)
    _refuse_frames(name, png.is_animated(data))
    bare = png.bare(data)
    if head.depth == 16:
        import imagecodecs

        planes = imagecodecs.png_decode(bare)  # Pillow makes 8 bits of 16-bit colours
    else:
        planes = _planes_by_pillow(name, bare)
    alpha = png.transparent(data, planes)
    carried, notes = png.carried(data)
    photo = _photo(planes, carry.settled(carried, notes))
    return (photo if alpha is None else replace(photo, alpha=alpha)), _orientation(photo)


def _orientation(photo: Photo) -> int:
    return ifd.orientation(photo.carried.exif) if photo.carried.exif else 1


def _read_jpeg(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    segments = jpeg.apart(data)
    frame = segments.frame
    if frame is None:
        raise ValueError("it has no frame")
    _refuse_size(name, frame.width, frame.height, max_pixels)
    arrived = carry.of_jpeg(segments)
    bare, notes = jpeg.bare(segments), []
    if frame.kind == "JPEG":
        planes = _planes_by_pillow(name, bare)
    else:
        planes = _rare_jpeg(name, bare, frame)
        arrived.carried = replace(arrived.carried, jpeg_tables=())
        notes.append(f"it is a {frame.kind}, which is not written again")
    if len(frame.components) == 4:
        planes = colour.from_cmyk(name, planes, arrived.carried.icc_profile)
        arrived.carried = replace(
            arrived.carried, icc_profile=colour.srgb_profile(), jpeg_tables=(), jpeg_sampling=()
        )
        notes.append("converted from CMYK to sRGB by its colour profile")
    photo = _photo(planes, arrived, *notes)
    return photo, _orientation(photo)


def reduced_jpeg(
    data: bytes, largest_px: tuple[int, int], *, max_pixels: int
) -> NDArray[np.uint8] | None:
    """A JPEG decoded at an eighth, a quarter or half of its size, upright: (H, W, 3).

    ``None`` for all that is no usual JPEG, is damaged or too large: `decode_photo` says why.
    """
    if kind_of(data[:HEAD_BYTES]) != "JPEG":
        return None
    try:
        segments = jpeg.apart(data)
        frame = segments.frame
        if frame is None or frame.kind != "JPEG" or len(frame.components) not in {1, 3}:
            return None
        if frame.width * frame.height > max_pixels:
            return None
        exif = jpeg.carried(segments).exif
        bare = io.BytesIO(jpeg.bare(segments))
        with _quiet_decoders(), Image.open(bare, formats=("JPEG",)) as picture:
            picture.draft("RGB", largest_px)
            pixels = np.asarray(picture.convert("RGB"))
        return upright(pixels, ifd.orientation(exif) if exif else 1)
    except Exception:  # hostile bytes make decoders raise almost anything
        return None


def _rare_jpeg(name: str, bare: bytes, frame: jpeg.Frame) -> Pixels:
    """Lossless JPEG and those of 12 bits: uint8, or uint16 from 0 to 65535.

    JPEG-LS is refused: its decoder spends a minute on some damaged files of less than 1 kB.
    """
    import imagecodecs

    if len(frame.components) not in {1, 3} or frame.kind in {"hierarchical JPEG", "JPEG-LS"}:
        raise InputError(
            f"Cannot restore {name}: it is a {frame.kind} of {len(frame.components)} channels, "
            "which is not supported.",
            hint="Convert it to PNG or TIFF first.",
        )
    return _from_bits(imagecodecs.jpeg8_decode(bare), frame.bits)


def _from_bits(values: Pixels, bits: int) -> Pixels:
    """Values from 0 to 2^bits − 1 as uint8 if that is 255, else as uint16 from 0 to 65535."""
    if bits == 8:
        return values.astype(np.uint8)
    if bits == 16:
        return values.astype(np.uint16, copy=False)
    return np.rint(values.astype(np.float64) * (65_535 / (2**bits - 1))).astype(np.uint16)


def _read_webp(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    _refuse_frames(name, sum(kind == "ANMF" for kind, _ in webp.chunks(data)))
    inner = webp.size_of(data)
    if inner:
        _refuse_size(name, *inner, max_pixels)
    with Image.open(io.BytesIO(data), formats=("WEBP",)) as picture:
        _refuse_size(name, *picture.size, max_pixels)
    behind = len(data) - webp.end_of(data)
    notes = (f"{behind:,} bytes behind the end of the WebP are not kept",) * (behind > 0)
    photo = _photo(_planes_by_pillow(name, data), carry.settled(webp.carried(data), notes))
    return photo, _orientation(photo)


def _read_avif(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    import imagecodecs

    found, picture = _picture_of_items(name, data, max_pixels)
    if any(kind == "moov" for kind, _, _ in bmff.boxes(data)):
        _refuse_frames(name, 2)
    for coded in found.items.values():
        inner = bmff.coded_size(coded.data) if coded.kind == "av01" else None
        if inner and inner[0] * inner[1] > max_pixels:
            raise too_large(name, *inner, max_pixels)
        if inner and coded is picture and inner != bmff.size_of(picture):
            raise ValueError(f"its header promises another size than its picture, {inner}")
    carried, notes = bmff.carried(found, "AVIF")
    notes = (*notes, *bmff.further_boxes(data))
    planes = _from_bits(imagecodecs.avif_decode(data), carried.bits)
    if bmff.is_monochrome(picture) and planes.ndim == 3:  # older imagecodecs repeat the gray
        planes = planes[..., [0, 3]] if planes.shape[2] == 4 else planes[..., :1]
    planes, was_turned = _as_items_say(planes, picture)
    photo = _photo(planes, carry.settled(carried, notes, lost_pictures=0))
    return replace(photo, carried=replace(photo.carried, was_turned=was_turned)), 1


def _picture_of_items(name: str, data: bytes, max_pixels: int) -> tuple[bmff.Items, bmff.Item]:
    found = bmff.items(data)
    picture = found.picture
    size = bmff.size_of(picture) if picture else None
    if picture is None or size is None:
        raise ValueError("it names no picture to show")
    _refuse_size(name, *size, max_pixels)
    return found, picture


def _as_items_say(planes: Pixels, picture: bmff.Item) -> tuple[Pixels, bool]:
    """``planes`` cropped, rotated and mirrored, and whether they were turned."""
    was_turned = False
    for what, values in bmff.turns(picture, *planes.shape[:2]):
        if what == "clap":
            top, left, height, width = values
            planes = planes[top : top + height, left : left + width]
        else:
            was_turned |= what == "imir" or values[0] > 0
            planes = np.rot90(planes, values[0]) if what == "irot" else np.flip(planes, values[0])
    return np.ascontiguousarray(planes), was_turned


def _read_heif(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    try:
        import pillow_heif
    except ImportError as error:
        raise InputError(
            f"Cannot read {name}: HEIC needs a further package.",
            hint=install_hint("heic"),
        ) from error
    found, picture = _picture_of_items(name, data, max_pixels)
    carried, notes = bmff.carried(found, "HEIF")
    notes = (*notes, *bmff.further_boxes(data))
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    planes = np.array(file[file.primary_index])
    more = bmff.further_pictures(found)
    notes = (*notes, f"{more} further picture(s) in it are not kept") if more else notes
    was_turned = any(kind in {"irot", "imir"} for kind, _ in picture.properties)
    carried = replace(carried, was_turned=was_turned)
    return _photo(planes, carry.settled(carried, notes)), 1


def _read_jxl(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    import imagecodecs

    head = jxl.header(data)
    _refuse_size(name, head.width, head.height, max_pixels)
    if head.is_animated:
        _refuse_frames(name, 2)
    carried, notes = jxl.carried(data), jxl.left_behind(data)
    if head.has_profile and head.is_lossless:
        carried = replace(carried, icc_profile=_jxl_profile(name, data))
    if head.has_profile and not head.is_lossless:
        planes = _from_light(data, head)
        notes = (*notes, BEYOND_SRGB)
    else:
        planes = imagecodecs.jpegxl_decode(data)
        if planes.dtype.kind == "u":
            planes = _from_bits(planes, head.bits)
    if planes.dtype.kind == "f":
        planes = planes.astype(np.float32)
        if not (planes.min() >= 0 and planes.max() <= 1):  # also true for NaN
            raise InputError(
                f"Cannot restore {name}: its values go beyond 0 to 1.", hint="Scale them."
            )
    photo = _photo(planes, carry.settled(carried, notes))
    carried = replace(photo.carried, was_turned=head.orientation > 1)
    return replace(photo, carried=carried), 1


BEYOND_SRGB = (
    "converted to sRGB: decoders give its light, not its own colours; those beyond sRGB are cut"
)


def _jxl_profile(name: str, data: bytes) -> bytes:
    profile = jxl.profile_of(data)
    if profile is None:
        raise InputError(
            f"Cannot restore {name}: this JPEG XL has a colour profile of its own, and reading it "
            "needs a further package.",
            hint=install_hint("jxl"),
        )
    return profile


def _from_light(data: bytes, head: jxl.Header) -> Pixels:
    """SRGB of a lossy JPEG XL with a profile, which decoders give as linear light of sRGB.

    Eight bits of that would be too few in the dark, so it is decoded to 12.
    """
    import imagecodecs

    is_shallow = head.bits == 8 and not head.is_float
    planes = imagecodecs.jpegxl_decode(jxl.deepened(data) if is_shallow else data)
    if planes.dtype.kind == "f":
        planes = np.rint(planes.clip(0, 1) * 65_535).astype(np.uint16)
    else:
        planes = _from_bits(planes, jxl.DEEPER if is_shallow else head.bits)
    planes = planes.reshape(*planes.shape[:2], -1)
    count = 3 if planes.shape[2] > 2 else 1
    shown = colour.curve_from_light()[planes[..., :count]]
    whole = np.concatenate([shown, planes[..., count:]], axis=-1)
    return np.rint(whole / 257).astype(np.uint8) if is_shallow else whole


def _read_bmp(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    _refuse_size(name, *simple.bmp_size(data), max_pixels)
    planes = simple.bmp_planes(data)
    if planes is None:
        planes = _planes_by_pillow(name, simple.with_windows_header(data))
    dpi = None
    if struct.unpack_from("<I", data, 14)[0] >= 40:
        across, down = struct.unpack_from("<ii", data, 38)
        dpi = (across * 0.0254, down * 0.0254) if across > 0 and down > 0 else None
    carried = Carried(container="BMP", dpi=dpi, icc_profile=simple.bmp_profile(data), bits=8)
    return _photo(planes, carry.Arrived(carried, simple.bmp_colours_lost(data))), 1


def _read_gif(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    with Image.open(io.BytesIO(data), formats=("GIF",)) as picture:
        _refuse_size(name, *picture.size, max_pixels)
        _refuse_frames(name, getattr(picture, "n_frames", 1))
        xmp = picture.info.get("xmp")
    comments, profile, others = simple.gif_blocks(data)
    notes = tuple(f"application block {other} is not kept" for other in others)
    carried = Carried(
        container="GIF",
        comment=b"\n".join(comments) or None,
        xmp=xmp,
        icc_profile=profile,
        bits=8,
    )
    return _photo(_planes_by_pillow(name, data), carry.Arrived(carried, notes)), 1


def _read_pnm(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    width, height, _, start = simple.pnm_header(data)
    _refuse_size(name, width, height, max_pixels)
    lines = (line.partition(b"#")[2].strip() for line in data[:start].splitlines())
    carried = Carried(container="PNM", comment=b"\n".join(filter(None, lines)) or None)
    further = simple.pnm_pictures_behind(data)
    notes = (f"{further} further picture(s) behind the first one are not kept",) * bool(further)
    return _photo(simple.pnm_planes(data), carry.Arrived(carried, notes, further)), 1


def _read_tiff(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    from restorecli.images import tiff

    if tiff.is_raw(data):
        return _read_raw(name, data, max_pixels)
    return tiff.read_tiff(name, data, max_pixels=max_pixels)


def _read_raw(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    if not raw.can_develop():
        raise _foreign(name, RAW_FILE)
    return raw.read_raw(name, data, max_pixels=max_pixels), 1


READERS: dict[str, Callable[[str, bytes, int], tuple[Photo, int]]] = {
    "PNG": _read_png,
    "JPEG": _read_jpeg,
    "WEBP": _read_webp,
    "TIFF": _read_tiff,
    "AVIF": _read_avif,
    "HEIF": _read_heif,
    "JXL": _read_jxl,
    "BMP": _read_bmp,
    "GIF": _read_gif,
    "PNM": _read_pnm,
    "RAW": _read_raw,
}


def _turned(photo: Photo, orientation: int) -> Photo:
    """``photo`` as it is to be seen, and nothing left in it that asks to turn it again."""
    orientation = orientation if 1 <= orientation <= 8 else 1
    alpha = None if photo.alpha is None else upright(photo.alpha, orientation)
    was_turned = photo.carried.was_turned or orientation > 1
    arrived = carry.upright(
        carry.Arrived(photo.carried, photo.notes, photo.lost_pictures), was_turned=was_turned
    )
    return replace(
        photo,
        pixels=upright(photo.pixels, orientation),
        alpha=alpha,
        carried=arrived.carried,
        notes=arrived.notes,
    )


def _refuse_foreign(name: str, head: bytes) -> None:
    kind = foreign(head)
    if kind and not (kind == RAW_FILE and raw.can_develop()):
        raise _foreign(name, kind)


def _foreign(name: str, kind: str) -> InputError:
    hint = "Save its frames as pictures."
    if kind == RAW_FILE:
        hint = f"Develop it to TIFF or PNG, or let restore read it. {install_hint('raw')}"
    return InputError(f"Cannot restore {name}: it is {kind}, not a picture.", hint=hint)


MOST_NAMES = 5000  # of a folder, among which one that was meant is looked for
ONE_DECODER = threading.RLock()  # the switches below are those of the whole process


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Switch Pillow's own pixel limit off: ours is checked before decoding. Nothing is logged."""
    for name in ("imagecodecs", "tifffile"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ONE_DECODER:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # corrupt metadata is kept as it is
                yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _missing(path: Path) -> InputError:
    if has_magic(str(path)):
        return InputError(f"Cannot read {path}: no file matches this pattern.")
    near: list[str] = []
    if not is_remote(path):
        with suppress(OSError):
            return InputError(
                f"Cannot read {path}: it is a link to {path.readlink()}, which is not there."
            )
        with suppress(OSError), os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, MOST_NAMES)]
            near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.8)
    hint = f"Did you mean {path.with_name(near[0])}?" if near else "Check the name."
    return InputError(f"Cannot read {path}: no such file.", hint=hint)


def _cannot_read(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return _missing(path)
    if isinstance(error, IsADirectoryError):
        return InputError(f"Cannot read {path}: it is a folder, expected a picture.")
    if isinstance(error, IrregularError):
        return InputError(f"Cannot read {path}: {error.strerror}.", hint=THROUGH_A_PIPE)
    return InputError(f"Cannot read {path}: {error.strerror or error}.")
