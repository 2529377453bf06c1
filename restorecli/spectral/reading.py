"""Files to cubes, measurements and masks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restorecli.errors import InputError
from restorecli.spectral.cubes import KNOWN_NM, Cube
from restorecli.spectral.writing import hdf5

ENVI_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
CHECKED_ROWS = 64  # at a time, so that a large cube stays in its file
CUBE_NAMES = ("cube", "rad", "img", "truth", "bands")
MEASUREMENT_NAMES = ("meas", "meas_real", "measurement", "y")
CUBE_SUFFIXES = (".img", ".hdr", ".tif", ".tiff", ".mat", ".npz", ".npy")


def read_cube(path: Path) -> Cube:
    """Read an ENVI, TIFF, MATLAB or NumPy cube; the ending says which.

    Where a file does not name its wavelengths, 31 bands are 400 to 700 nm and 28 those of CASSI.

    Raises:
        InputError: No such file, another format, or not a cube; the sentence says which.
    """
    readers: dict[str, Callable[[Path], tuple[NDArray[Any], Sequence[float] | None]]] = {
        ".img": _envi,
        ".hdr": _envi,
        ".tif": _tiff,
        ".tiff": _tiff,
        ".mat": _mat,
        ".npz": _numpy,
        ".npy": _numpy,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"Cannot read {path} as a cube: its ending is {path.suffix!r}.",
            hint=f"Cubes are {', '.join(CUBE_SUFFIXES)}.",
        )
    bands, wavelengths = _attempt(path, lambda: reader(path))
    if bands.ndim != 3:
        raise InputError(f"{path} is no cube: its values have {bands.ndim} axes, expected 3.")
    wavelengths = wavelengths or KNOWN_NM.get(len(bands))
    if wavelengths is None or len(wavelengths) != len(bands):
        known = " or ".join(str(count) for count in sorted(KNOWN_NM))
        raise InputError(f"{path} has {len(bands)} bands and does not say which; expected {known}.")
    for top in range(0, bands.shape[1], CHECKED_ROWS):
        if not np.isfinite(bands[:, top : top + CHECKED_ROWS]).all():
            raise InputError(f"{path} has values that are not finite.")
    return Cube(bands=bands, wavelengths_nm=tuple(float(nm) for nm in wavelengths))


def read_plane(path: Path, names: Sequence[str], what: str) -> NDArray[np.float32]:
    """A measurement or a mask, (H, W), from a MATLAB, NumPy or TIFF file.

    Args:
        path: Of the file.
        names: Variables to look for first; else the only one with two axes.
        what: The word for it in messages.

    Raises:
        InputError: No such file or format, no plane in it, or values that are not finite.
    """
    suffix = path.suffix.lower()
    if suffix == ".mat":
        variables = _attempt(path, lambda: _mat_variables(path))
    elif suffix in {".npz", ".npy"}:
        variables = _attempt(path, lambda: _numpy_variables(path))
    elif suffix in {".tif", ".tiff"}:
        variables = {what: _attempt(path, lambda: _tiff_values(path))}
    else:
        raise InputError(
            f"Cannot read {path} as a {what}: its ending is {path.suffix!r}.",
            hint="Give .mat, .npz, .npy or .tif.",
        )
    planes = {name: np.squeeze(value) for name, value in variables.items()}
    planes = {name: value for name, value in planes.items() if value.ndim == 2}
    named = [planes[name] for name in names if name in planes]
    if not named and len(planes) != 1:
        found = ", ".join(f"{n} {v.shape}" for n, v in variables.items()) or "nothing"
        raise InputError(
            f"{path} has no {what}: found {found}.",
            hint=f"A {what} has two axes and is called {' or '.join(names)}.",
        )
    plane = (named or list(planes.values()))[0]
    if plane.dtype.kind not in "fiub" or not np.isfinite(plane).all():
        raise InputError(f"{path}: the {what} has values that are not finite numbers.")
    return plane.astype(np.float32)


def _attempt(path: Path, read: Callable[[], Any]) -> Any:
    """What ``read`` returns; whatever a damaged file makes a library raise becomes one sentence."""
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    try:
        return read()
    except InputError:
        raise
    except Exception as error:  # scipy, h5py, tifffile and numpy each have errors of their own
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"Cannot read {path}: {first}.") from error


def envi_fields(text: str) -> dict[str, str]:
    """``name = value`` of an ENVI header; braces may span lines."""
    found = re.findall(r"^\s*([\w ]+?)\s*=\s*(\{[^}]*\}|[^\n]*)", text, re.MULTILINE)
    return {name.lower(): value.strip().strip("{}").strip() for name, value in found}


def _envi(path: Path) -> tuple[NDArray[Any], Sequence[float] | None]:
    header, data = path.with_suffix(".hdr"), path.with_suffix(".img")
    if path.suffix.lower() == ".hdr" and not data.exists():
        data = path.with_suffix("")
    if not header.exists():
        raise InputError(f"{path} has no header {header.name} beside it.")
    fields = envi_fields(header.read_text(encoding="latin-1"))
    lines, bands, samples = (int(fields[name]) for name in ("lines", "bands", "samples"))
    code = int(fields["data type"])
    if code not in ENVI_TYPES:
        raise InputError(f"{header} has data type {code}, which is no real number.")
    dtype = np.dtype((">" if fields.get("byte order", "0") == "1" else "<") + ENVI_TYPES[code])
    offset = int(fields.get("header offset", 0))
    expected = offset + lines * bands * samples * dtype.itemsize
    if data.stat().st_size != expected:
        raise InputError(f"{data} has {data.stat().st_size} bytes; its header promises {expected}.")
    shapes = {"bil": (lines, bands, samples), "bsq": (bands, lines, samples),
              "bip": (lines, samples, bands)}  # fmt: skip
    axes = {"bil": (1, 0, 2), "bsq": (0, 1, 2), "bip": (2, 0, 1)}
    interleave = fields.get("interleave", "bsq").lower()
    values = np.memmap(data, dtype, "r", offset, shapes[interleave]).transpose(axes[interleave])
    wavelengths = fields.get("wavelength")
    if not wavelengths:
        return values, None
    scale = 1000 if fields.get("wavelength units", "").lower().startswith("micro") else 1
    return values, [scale * float(nm) for nm in wavelengths.split(",")]


def _tiff_values(path: Path) -> NDArray[Any]:
    import tifffile

    return np.asarray(tifffile.imread(path))


def _tiff(path: Path) -> tuple[NDArray[Any], Sequence[float] | None]:
    import tifffile

    with tifffile.TiffFile(path) as opened:
        first = opened.pages.first
        if len(opened.pages) > 1:
            values = np.stack([page.asarray() for page in opened.pages])
            text = " ".join(page.aspage().description for page in opened.pages)
        else:
            values = first.asarray()
            tag = first.tags.get(42112)
            text = str(tag.value) if tag else ""
            if first.planarconfig == 1 and values.ndim == 3:
                values = values.transpose(2, 0, 1)
    found = [float(nm) for nm in re.findall(r"([\d.]+) nm", text)]
    return values, found if len(found) == len(values) else None


def _mat_variables(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        head = file.read(1024)
    if HDF5_MAGIC in head:
        h5py = hdf5()
        with h5py.File(path) as opened:
            datasets = {n: v for n, v in opened.items() if isinstance(v, h5py.Dataset)}
            return {name: np.asarray(value).T for name, value in datasets.items()}
    import scipy.io

    loaded = scipy.io.loadmat(path)
    return {
        name: value
        for name, value in loaded.items()
        if not name.startswith("__") and isinstance(value, np.ndarray)
    }


def _mat(path: Path) -> tuple[NDArray[Any], Sequence[float] | None]:
    variables = _mat_variables(path)
    cubes = {name: value for name, value in variables.items() if value.ndim == 3}
    named = [cubes[name] for name in CUBE_NAMES if name in cubes] or list(cubes.values())
    if not named:
        found = ", ".join(f"{n} {v.shape}" for n, v in variables.items()) or "nothing"
        raise InputError(f"{path} has no cube: found {found}.")
    bands = variables.get("bands")
    wavelengths = None
    if bands is not None and bands.ndim == 2 and bands.size == named[0].shape[2]:
        wavelengths = [float(nm) for nm in bands.ravel()]
    return named[0].transpose(2, 0, 1), wavelengths  # H×W×bands in MATLAB


def _numpy_variables(path: Path) -> dict[str, NDArray[Any]]:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {path.stem: loaded}
    with loaded:
        return {name: loaded[name] for name in loaded.files}


def _numpy(path: Path) -> tuple[NDArray[Any], Sequence[float] | None]:
    variables = _numpy_variables(path)
    cubes = {name: value for name, value in variables.items() if value.ndim == 3}
    named = [cubes[name] for name in CUBE_NAMES if name in cubes] or list(cubes.values())
    if not named:
        raise InputError(f"{path} has no array of three axes.")
    wavelengths = variables.get("wavelengths_nm")
    return named[0], None if wavelengths is None else [float(nm) for nm in wavelengths]
