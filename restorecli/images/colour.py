"""How numbers are meant as light: profiles and code points, kept or converted, never relabelled."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from restorecli.errors import InputError, OutputError
from restorecli.images.photo import WHITE, Carried, Colours, Photo, Pixels

SRGB_PRIMARIES, SRGB_CURVE, UNSPECIFIED = 1, 13, 2
# ISO/IEC 23091-2, table 2: red, green, blue and white as (x, y).
WHITE_D65, WHITE_C, WHITE_DCI = (0.3127, 0.329), (0.31, 0.316), (0.314, 0.351)
PRIMARIES: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), WHITE_D65),
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), WHITE_C),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), WHITE_D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), WHITE_D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), WHITE_D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), WHITE_D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), WHITE_DCI),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), WHITE_D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), WHITE_D65),
}
LIGHT_OF_SCREENS = {16: "PQ", 18: "HLG"}  # brighter than white: no profile of a still says that
CURVE_STEPS = 4_096
SRGB_POINTS = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)  # as cHRM has them
USUAL_GAMMA, USUAL_POINT = 500, 200  # what writers round away


def is_srgb(colours: Colours | None) -> bool:
    """Whether a file without any of this would be shown the same."""
    return colours is None or (
        colours.primaries in {SRGB_PRIMARIES, UNSPECIFIED}
        and colours.transfer in {SRGB_CURVE, UNSPECIFIED}
    )


def profile_of(colours: Colours, name: str, *, gray: bool) -> bytes:
    """An ICC profile that says what ``colours`` say.

    Raises ``OutputError`` for light of screens (PQ, HLG) and for code points without a meaning.
    """
    if light := LIGHT_OF_SCREENS.get(colours.transfer):
        raise OutputError(
            f"Cannot write {name}: its light is {light} (HDR), which only PNG and AVIF can say.",
            hint="Choose --format png or --format avif.",
        )
    primaries = PRIMARIES.get(1 if colours.primaries == UNSPECIFIED else colours.primaries)
    curve = _curve(colours.transfer)
    if primaries is None or curve is None:
        raise OutputError(
            f"Cannot write {name}: what its code points {colours[:2]} mean is not known here.",
            hint="Choose --format png or --format avif, which keep them.",
        )
    return _profile(primaries, curve, gray=gray)


def _profile(
    primaries: tuple[tuple[float, float], ...], curve: NDArray[np.float64], *, gray: bool
) -> bytes:
    import imagecodecs

    steps = np.rint(curve * 65_535).astype(np.uint16)
    white = (*primaries[3], 1.0)
    if gray:
        return bytes(imagecodecs.cms_profile("gray", whitepoint=white, transferfunction=steps))
    flat = [value for x, y in primaries[:3] for value in (x, y, 1.0)]
    return bytes(
        imagecodecs.cms_profile("rgb", whitepoint=white, primaries=flat, transferfunction=steps)
    )


def _curve(transfer: int) -> NDArray[np.float64] | None:
    """Number → light, both from 0 to 1, in `CURVE_STEPS` steps."""
    x = np.linspace(0, 1, CURVE_STEPS)
    if transfer in {SRGB_CURVE, UNSPECIFIED}:
        return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    if transfer in {1, 6, 14, 15}:
        return np.where(x < 0.081, x / 4.5, ((x + 0.099) / 1.099) ** (1 / 0.45))
    if transfer == 7:
        return np.where(x < 0.0913, x / 4, ((x + 0.1115) / 1.1115) ** (1 / 0.45))
    gamma = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}.get(transfer)
    return None if gamma is None else x**gamma


def profile_of_png(carried: Carried, *, gray: bool) -> bytes | None:
    """An ICC profile that says what ``gAMA`` and ``cHRM`` of a PNG say; ``None`` if that is sRGB.

    They count where nothing better is there (PNG, section 13.13). Raises ``ValueError`` for
    values that mean no colours.
    """
    named = {part.name: part.data for part in carried.parts}
    if carried.container != "PNG" or carried.icc_profile or {"cICP", "sRGB"} & named.keys():
        return None
    (gamma,) = struct.unpack(">I", named["gAMA"]) if len(named.get("gAMA", b"")) == 4 else (45_455,)
    points = (
        struct.unpack(">8I", named["cHRM"]) if len(named.get("cHRM", b"")) == 32 else SRGB_POINTS
    )
    is_usual = abs(gamma - 45_455) < USUAL_GAMMA
    if is_usual and all(abs(a - b) < USUAL_POINT for a, b in zip(points, SRGB_POINTS, strict=True)):
        return None
    if not gamma or not all(points[1::2]):
        raise ValueError("its gamma or its primaries are zero")
    curve = _curve(SRGB_CURVE) if is_usual else np.linspace(0, 1, CURVE_STEPS) ** (100_000 / gamma)
    assert curve is not None
    pairs = [(x / 100_000, y / 100_000) for x, y in zip(points[::2], points[1::2], strict=True)]
    return _profile((*pairs[1:], pairs[0]), curve, gray=gray)


def curve_from_light() -> NDArray[np.uint16]:
    """For each light of 16 bits the number that sRGB has for it."""
    x = np.arange(65_536) / 65_535
    shown = np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)
    return np.rint(shown * 65_535).astype(np.uint16)


def srgb_profile() -> bytes:
    """The profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def from_cmyk(name: str, planes: Pixels, profile: bytes | None) -> Pixels:
    """CMYK (H, W, 4) of 8 or 16 bits, 0 for no ink, → sRGB (H, W, 3) of the same depth.

    Raises ``InputError`` without a profile, or if the profile is for other colours.
    """
    if not profile:
        raise InputError(
            f"Cannot restore {name}: its colours are CMYK and it has no profile that says which.",
            hint="Convert it to RGB first.",
        )
    space = profile[16:20].decode("latin-1").strip()
    if space != "CMYK":
        raise InputError(
            f"Cannot restore {name}: its colours are CMYK, but its profile is for {space or '?'}.",
            hint="Convert it to RGB with the right profile first.",
        )
    return _transformed(name, planes, profile, "cmyk")


def to_srgb(photo: Photo, name: str) -> Photo:
    """``photo`` in the colours of sRGB, for formats that can say nothing else."""
    carried = photo.carried
    profile = carried.icc_profile
    if profile is None and not is_srgb(carried.colours) and carried.colours:
        profile = profile_of(carried.colours, name, gray=photo.is_gray)
    carried = replace(carried, icc_profile=None, colours=None)
    if profile is None:
        return replace(photo, carried=carried)
    pixels = _transformed(name, photo.pixels, profile, "gray" if photo.is_gray else "rgb")
    return replace(photo, pixels=pixels, carried=carried)


def _transformed(name: str, planes: Pixels, profile: bytes, space: str) -> Pixels:
    """``planes`` converted from ``profile`` to sRGB, gray to gray; relative colorimetric."""
    import imagecodecs

    is_gray = space == "gray"
    target = _gray_profile() if is_gray else srgb_profile()
    kind = planes.dtype
    values: NDArray[Any] = planes if kind.kind == "u" else np.rint(planes * 65_535).astype("u2")
    try:
        done = imagecodecs.cms_transform(
            np.ascontiguousarray(values), profile, target,
            colorspace=space, outcolorspace="gray" if is_gray else "rgb",
            intent=int(ImageCms.Intent.RELATIVE_COLORIMETRIC),
            flags=int(ImageCms.Flags.BLACKPOINTCOMPENSATION),
        )  # fmt: skip
    except Exception as error:  # LittleCMS reports what is wrong with a profile in many ways
        raise InputError(
            f"Cannot restore {name}: its colour profile cannot be used ({error}).",
            hint="Convert it to sRGB first.",
        ) from error
    return done if kind.kind == "u" else (done / WHITE[values.dtype]).astype(kind)


def _gray_profile() -> bytes:
    return profile_of(Colours(SRGB_PRIMARIES, SRGB_CURVE), "gray", gray=True)


def described(profile: bytes) -> str:
    """What a profile calls itself; empty if it does not say."""
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except Exception:  # somebody's broken profile: only its name is asked for
        return ""
