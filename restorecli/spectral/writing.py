"""Cubes to files, a few rows at a time: ENVI, TIFF, MATLAB 7.3 and NumPy.

A writer gives its files their names when all rows are there; until then they lie beside under
another name, and nothing stays if the work fails.
"""

from __future__ import annotations

import shutil
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from restorecli.errors import OutputError, UsageError
from restorecli.files.atomic import partial_name
from restorecli.machine.extras import install_hint
from restorecli.spectral.cubes import Cube, band_names

GDAL_METADATA = 42112  # TIFF tag
MATLAB_HEADER_BYTES, MATLAB_BLOCK_BYTES = 128, 512
CHUNK_PX = 64  # side of a block of one band in a .mat
FLOAT32 = np.dtype("<f4")


class CubeWriter(AbstractContextManager["CubeWriter"], ABC):
    """Takes the rows of a cube from the top: ``with writer_for(...) as writer: writer.add(...)``.

    Args:
        path: Of the result.
        shape: (bands, H, W).
        wavelengths_nm: Centres of the bands.

    ``before_publishing`` is called with the complete file before it gets its name.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], wavelengths_nm: Sequence[float]
    ) -> None:
        self.path, self.shape, self.wavelengths_nm = path, shape, tuple(wavelengths_nm)
        self.partial = path.with_name(partial_name())
        self.row = 0
        self.before_publishing: Callable[[Path], None] = lambda complete: None

    def add(self, rows: NDArray[np.floating]) -> None:
        """Append ``rows`` (bands, r, W).

        Raises:
            OutputError: The disk takes no more.
        """
        try:
            self._put(self.row, np.asarray(rows, FLOAT32))
        except OSError as error:
            raise self._failure(error) from error
        self.row += rows.shape[1]

    @abstractmethod
    def _put(self, top: int, rows: NDArray[np.float32]) -> None:
        """Write ``rows`` (bands, r, W), of which the first is row ``top``."""

    def _finish(self) -> list[tuple[Path, Path]]:
        """End the file; what to rename to what, in this order."""
        return [(self.partial, self.path)]

    def _discard(self) -> None:
        self.partial.unlink(missing_ok=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                if self.row != self.shape[1]:
                    raise ValueError(f"{self.row} rows of {self.shape[1]} were written")
                complete = self._finish()
                self.before_publishing(complete[0][0])
                for partial, path in complete:
                    partial.replace(path)
        except OSError as failed:
            raise self._failure(failed) from failed
        finally:
            self._discard()

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(
            f"Cannot write {self.path}: {error.strerror or error}.",
            hint="Choose another place with -o.",
        )


class _RawWriter(CubeWriter):
    """Values at places that are known beforehand, in a file of their own."""

    header = b""

    def __enter__(self) -> _RawWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file: IO[bytes] = self.partial.open("wb")
            self.file.write(self.header)
        except OSError as error:
            raise self._failure(error) from error
        return self

    def _put(self, top: int, rows: NDArray[np.float32]) -> None:
        """Band after band: each is a plane (H, W) of its own."""
        _, height, width = self.shape
        for band, plane in enumerate(rows):
            self.file.seek(len(self.header) + FLOAT32.itemsize * width * (band * height + top))
            self.file.write(plane.tobytes())

    def _finish(self) -> list[tuple[Path, Path]]:
        self.file.close()
        return super()._finish()

    def _discard(self) -> None:
        self.file.close()
        super()._discard()


class EnviWriter(_RawWriter):
    """ENVI: raw values line by line, in each line band by band (BIL), and a header of text."""

    def _put(self, top: int, rows: NDArray[np.float32]) -> None:
        self.file.write(np.ascontiguousarray(rows.transpose(1, 0, 2)).tobytes())

    def _finish(self) -> list[tuple[Path, Path]]:
        header = self.partial.with_suffix(".hdr.partial")
        header.write_text(envi_header(self.shape, self.wavelengths_nm), encoding="ascii")
        return [*super()._finish(), (header, self.path.with_suffix(".hdr"))]

    def _discard(self) -> None:
        self.partial.with_suffix(".hdr.partial").unlink(missing_ok=True)
        super()._discard()


def envi_header(shape: tuple[int, int, int], wavelengths_nm: Sequence[float]) -> str:
    """The text beside an ENVI file of float32 in BIL."""
    bands, lines, samples = shape
    centres = ", ".join(f"{nm:g}" for nm in wavelengths_nm)
    names = ", ".join(band_names(wavelengths_nm))
    return (
        "ENVI\ndescription = {Reflectance, relative: no absolute scale}\n"
        f"samples = {samples}\nlines = {lines}\nbands = {bands}\n"
        "header offset = 0\nfile type = ENVI Standard\ndata type = 4\ninterleave = bil\n"
        f"byte order = 0\nwavelength units = Nanometers\nwavelength = {{{centres}}}\n"
        f"band names = {{{names}}}\n"
    )


class TiffWriter(_RawWriter):
    """One page with a plane for every band, named for GDAL and QGIS."""

    def __enter__(self) -> TiffWriter:
        import tifffile

        bands, height, width = self.shape
        items = "".join(
            f'<Item name="DESCRIPTION" sample="{i}" role="description">{escape(name)}</Item>'
            for i, name in enumerate(band_names(self.wavelengths_nm))
        )
        metadata = f"<GDALMetadata>{items}</GDALMetadata>"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(
                self.partial,
                shape=(bands, height, width),
                dtype=FLOAT32,
                photometric="minisblack",
                planarconfig="separate",
                extratags=[(GDAL_METADATA, 2, 0, metadata, True)],
                metadata=None,
                bigtiff=bands * height * width * FLOAT32.itemsize > 2**32 - 2**20,
            )
            with tifffile.TiffFile(self.partial) as written:
                self.offset = written.pages.first.dataoffsets[0]
            self.file = self.partial.open("r+b")
        except OSError as error:
            raise self._failure(error) from error
        return self

    def _put(self, top: int, rows: NDArray[np.float32]) -> None:
        _, height, width = self.shape
        for band, plane in enumerate(rows):
            self.file.seek(self.offset + FLOAT32.itemsize * width * (band * height + top))
            self.file.write(plane.tobytes())


class TiffPagesWriter(TiffWriter):
    """A page for every band, as older programs expect: ``--tiff pages``."""

    def __enter__(self) -> TiffPagesWriter:
        import tifffile

        bands, height, width = self.shape
        names = band_names(self.wavelengths_nm)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            large = bands * height * width * FLOAT32.itemsize > 2**32 - 2**20
            with tifffile.TiffWriter(self.partial, bigtiff=large) as writer:
                for name in names:
                    writer.write(
                        shape=(height, width),
                        dtype=FLOAT32,
                        photometric="minisblack",
                        description=name,
                        metadata=None,
                    )
            with tifffile.TiffFile(self.partial) as written:
                self.offsets = [page.dataoffsets[0] for page in written.pages]
            self.file = self.partial.open("r+b")
        except OSError as error:
            raise self._failure(error) from error
        return self

    def _put(self, top: int, rows: NDArray[np.float32]) -> None:
        for offset, plane in zip(self.offsets, rows, strict=True):
            self.file.seek(offset + FLOAT32.itemsize * self.shape[2] * top)
            self.file.write(plane.tobytes())


class NpzWriter(_RawWriter):
    """NumPy's archive: ``cube`` (bands, H, W) and ``wavelengths_nm``."""

    def __init__(
        self, path: Path, shape: tuple[int, int, int], wavelengths_nm: Sequence[float]
    ) -> None:
        super().__init__(path, shape, wavelengths_nm)
        import io

        head = io.BytesIO()
        described = {"descr": FLOAT32.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, described)
        self.header = head.getvalue()

    def _finish(self) -> list[tuple[Path, Path]]:
        self.file.close()
        archive = self.partial.with_suffix(".npz.partial")
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
            with (
                packed.open("cube.npy", "w", force_zip64=True) as target,
                self.partial.open("rb") as source,
            ):
                shutil.copyfileobj(source, target, 2**22)
            with packed.open("wavelengths_nm.npy", "w") as target:
                np.lib.format.write_array(target, np.array(self.wavelengths_nm))
        return [(archive, self.path)]

    def _discard(self) -> None:
        self.partial.with_suffix(".npz.partial").unlink(missing_ok=True)
        super()._discard()


class MatWriter(CubeWriter):
    """MATLAB 7.3 as NTIRE has it: ``cube`` is H×W×bands in MATLAB, ``bands`` 1×bands."""

    def __enter__(self) -> MatWriter:
        h5py = hdf5()
        bands, height, width = self.shape
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = h5py.File(self.partial, "w", userblock_size=MATLAB_BLOCK_BYTES)
            self.cube: Any = self.file.create_dataset(
                "cube",
                (bands, width, height),
                FLOAT32,
                chunks=(1, min(width, CHUNK_PX), min(height, CHUNK_PX)),
            )
            self.cube.attrs["MATLAB_class"] = np.bytes_("single")
            centres = self.file.create_dataset("bands", data=np.array(self.wavelengths_nm)[:, None])
            centres.attrs["MATLAB_class"] = np.bytes_("double")
        except OSError as error:
            raise self._failure(error) from error
        return self

    def _put(self, top: int, rows: NDArray[np.float32]) -> None:
        self.cube[:, :, top : top + rows.shape[1]] = rows.transpose(0, 2, 1)

    def _finish(self) -> list[tuple[Path, Path]]:
        self.file.close()
        text = b"MATLAB 7.3 MAT-file, written by restore".ljust(MATLAB_HEADER_BYTES - 4)
        with self.partial.open("r+b") as file:
            file.write(text + b"\x00\x02IM")
        return super()._finish()

    def _discard(self) -> None:
        self.file.close()
        super()._discard()


def hdf5() -> Any:
    """The h5py library, which is an extra.

    Raises:
        UsageError: It is not installed.
    """
    try:
        import h5py  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise UsageError(
            "MATLAB 7.3 files need h5py, which is not installed.",
            hint=f"Write .img, .tif or .npz. Or: {install_hint('spectral')}",
        ) from error
    return h5py


WRITERS: dict[str, type[CubeWriter]] = {
    ".img": EnviWriter,
    ".tif": TiffWriter,
    ".tiff": TiffWriter,
    ".mat": MatWriter,
    ".npz": NpzWriter,
}


def writer_for(
    path: Path,
    shape: tuple[int, int, int],
    wavelengths_nm: Sequence[float],
    *,
    pages: bool = False,
) -> CubeWriter:
    """The writer of the format that the ending of ``path`` names.

    Raises:
        UsageError: No such format, or its library is missing.
    """
    kind = kind_of(path)
    return (TiffPagesWriter if pages and kind is TiffWriter else kind)(path, shape, wavelengths_nm)


def kind_of(path: Path) -> type[CubeWriter]:
    """The class of writer for ``path``; ``UsageError`` when its ending names no format."""
    try:
        kind = WRITERS[path.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"Cannot tell the format of {path}: its ending is {path.suffix!r}.",
            hint=f"Use one of {', '.join(WRITERS)}.",
        ) from None
    if kind is MatWriter:
        hdf5()
    return kind


def write_cube(cube: Cube, path: Path, *, pages: bool = False) -> None:
    """Write a cube that is in memory, replacing what is there."""
    _, height, width = cube.bands.shape
    shape = len(cube.bands), height, width
    with writer_for(path, shape, cube.wavelengths_nm, pages=pages) as writer:
        writer.add(cube.bands)
