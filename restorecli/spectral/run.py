"""Pictures or measurements in, cubes and a report out; one bad file never stops the rest."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from natsort import os_sorted
from numpy.typing import NDArray

from restorecli.engine.devices import peak_bytes
from restorecli.errors import InputError, OutputError, RestoreError, UsageError
from restorecli.files.atomic import remove_leftovers, write_atomically
from restorecli.images import FORMAT_OF_SUFFIX, HEIC_SUFFIXES, Photo, encode_photo, read_photo
from restorecli.machine.versions import versions
from restorecli.report import Report, Row, Settings
from restorecli.runs.items import Fate, Item
from restorecli.runs.listener import Listener
from restorecli.runs.manifest import Fingerprint, Ledger
from restorecli.runs.rows import failed, skipped
from restorecli.scoring.metrics.spectra import SpectralProtocol
from restorecli.spectral.comparing import scores_of
from restorecli.spectral.cubes import Cube, as_float
from restorecli.spectral.model import SpectralEngine, check_measurement, check_photo
from restorecli.spectral.page import Panel, page
from restorecli.spectral.preview import Preview
from restorecli.spectral.reading import CUBE_SUFFIXES, MEASUREMENT_NAMES, read_cube, read_plane
from restorecli.spectral.writing import WRITERS, writer_for

NOTE = (
    "Three numbers do not determine a spectrum: what is shown is a likely one for each pixel. "
    "Values are relative; there is no absolute scale."
)
MEASUREMENT_SUFFIXES = (".mat", ".npz", ".npy", ".tif", ".tiff")
PHOTO_SUFFIXES = {*FORMAT_OF_SUFFIX, *HEIC_SUFFIXES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What is written, and how."""

    suffix: str = ".img"  # of cubes whose name is not given
    pages: bool = False  # a TIFF page for each band
    raw: bool = False  # not clamped to [0, 1]
    preview: bool = False  # an sRGB picture beside each cube
    page: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The true cubes, below a folder or as one file, and how to score against them."""

    path: Path
    protocol: SpectralProtocol
    allow_missing: bool = False

    def of(self, item: Item) -> Path | None:
        """The cube whose name starts as the picture's: same stem, whatever the ending.

        Raises:
            InputError: There is none, or several.
        """
        if not self.path.is_dir():
            return self.path
        found = [
            path
            for suffix in CUBE_SUFFIXES
            if suffix != ".hdr" and (path := self.path / f"{item.source.stem}{suffix}").exists()
        ]
        if len(found) > 1:
            raise InputError(f"{item.source} has two references: {found[0]} and {found[1]}.")
        if not found and not self.allow_missing:
            raise InputError(
                f"There is no cube for {item.source} in {self.path}.",
                hint="Give --allow-missing to leave it unscored.",
            )
        return found[0] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralJob:
    """All that a run is."""

    engine: SpectralEngine
    items: Sequence[Item]
    results: Results
    mask: NDArray[np.float32] | None = None
    references: References | None = None
    options: dict[str, str] = field(default_factory=dict)
    ledger: Ledger | None = None


def find(
    inputs: Sequence[Path], output: Path | None, results: Results, *, cassi: bool, recursive: bool
) -> list[Item]:
    """Pair every input with its cube; nothing is written.

    One file goes beside itself as ``photo.spectral.img``, a folder beside itself as
    ``photos.spectral/``; ``-o`` names a file with the ending of a cube, or a folder.

    Raises:
        InputError, UsageError, OutputError: Nothing to do, or two results of one name.
    """
    suffixes = MEASUREMENT_SUFFIXES if cassi else tuple(PHOTO_SUFFIXES)
    names_a_file = output is not None and output.suffix.lower() in WRITERS
    if names_a_file and (len(inputs) != 1 or inputs[0].is_dir()):
        raise UsageError(f"-o {output} names one file, but there may be several results.")
    items = []
    for path in inputs:
        if path.is_dir():
            below = path.rglob("*") if recursive else path.iterdir()
            files = [p for p in below if p.suffix.lower() in suffixes and p.name[0] != "."]
            folder = output or path.with_name(f"{path.name}.spectral")
            for source in os_sorted(files):
                target = folder / source.relative_to(path).with_suffix(results.suffix)
                items.append(Item(source=source, target=target, root=folder))
        elif output is not None and names_a_file:
            items.append(Item(source=path, target=output))
        else:
            name = (
                f"{path.stem}{results.suffix}"
                if output
                else f"{path.stem}.spectral{results.suffix}"
            )
            target = (output or path.parent) / name
            items.append(Item(source=path, target=target, root=output))
    if not items:
        raise InputError(f"No {'measurement' if cassi else 'picture'} in {inputs[0]}.")
    taken: dict[Path, Path] = {}
    for item in items:
        for product in products(item.target, results):
            if product in taken:
                raise OutputError(
                    f"{taken[product]} and {item.source} would both become {product}."
                )
            if product in {other.source for other in items}:
                raise OutputError(f"{product} would replace an input.", hint="Choose -o.")
            taken[product] = item.source
    return items


def products(target: Path, results: Results) -> list[Path]:
    """Every file that a result is."""
    header = [target.with_suffix(".hdr")] if target.suffix.lower() == ".img" else []
    return [target, *header, *([preview_path(target)] if results.preview else [])]


def preview_path(target: Path) -> Path:
    """Where the rendering of a cube goes."""
    return target.with_name(f"{target.stem}.preview.png")


def decided(
    items: Sequence[Item], results: Results, *, skip_existing: bool, ledger: Ledger | None
) -> list[Item]:
    """Which results are kept: all that exist, those that ``ledger`` knows as finished, or none.

    Raises:
        OutputError: A result is there and nothing says what to do about it.
    """
    if results.overwrite + skip_existing + (ledger is not None) > 1:
        raise UsageError("--overwrite, --skip-existing and --resume contradict each other.")
    found = []
    for item in items:
        there = [product for product in products(item.target, results) if product.exists()]
        finished = False
        if there and not results.overwrite:
            state = "foreign"
            if ledger is not None:
                root = item.root or item.target.parent
                state = ledger.state(item.source, item.target, root)
            finished = state == "finished" or (skip_existing and item.target.exists())
            if not finished and state == "foreign":
                raise OutputError(
                    f"{there[0]} exists already.", hint="Give --overwrite to replace it."
                )
        fate: Fate = "keep" if finished else "replace" if there else "new"
        found.append(replace(item, fate=fate))
    return found


def fingerprint(
    engine: SpectralEngine, results: Results, mask: NDArray[np.float32] | None
) -> Fingerprint:
    """What decides the bytes of a cube, besides the picture."""
    options = {
        "task": "spectral",
        "encoding": engine.encoding,
        "raw": str(results.raw),
        "pages": str(results.pages),
        "mask": "" if mask is None else hashlib.sha256(mask.tobytes()).hexdigest(),
    }
    return Fingerprint(model_sha256=engine.model.sha256, options=options)


def run(job: SpectralJob, listener: Listener) -> Report:
    """Make every cube of ``job``; Ctrl-C ends the run cleanly, and the report says so."""
    started = time.perf_counter()
    rows: list[Row] = []
    panels: list[Panel] = []
    interrupted = False
    listener.start(len(job.items))
    try:
        for folder in {item.target.parent for item in job.items}:
            remove_leftovers(folder)
        for item in job.items:
            listener.begin()
            row = skipped(item) if item.finished else _made(job, item, panels)
            rows.append(row)
            listener.finish(row)
    except KeyboardInterrupt:
        interrupted = True
    if job.results.page is not None and panels:
        text = page(panels, job.engine.wavelengths_nm, NOTE)
        write_atomically(job.results.page, text.encode(), overwrite=True)
    return _report(job, rows, time.perf_counter() - started, interrupted=interrupted)


def _made(job: SpectralJob, item: Item, panels: list[Panel]) -> Row:
    started = time.perf_counter()
    try:
        row, panel = make(job, item)
    except RestoreError as error:
        return failed(item, error, time.perf_counter() - started)
    if panel is not None:
        panels.append(panel)
    return replace(
        row,
        elapsed_s=time.perf_counter() - started,
        peak_memory_bytes=peak_bytes(job.engine.device),
    )


def make(job: SpectralJob, item: Item) -> tuple[Row, Panel | None]:
    """One cube from file to file.

    Raises:
        RestoreError: As its sentence says; then nothing of this cube has been written.
    """
    reference_path = job.references.of(item) if job.references else None
    reference = None if reference_path is None else read_cube(reference_path)
    strips, (height, width), notes = _strips(job, item)
    shape = job.engine.band_count, height, width
    if reference is not None and reference.bands.shape != shape:
        found, expected = _said(reference.bands.shape), _said(shape)
        raise InputError(f"{reference_path} has {found}; the cube will have {expected}.")
    looks = job.results.preview or job.results.page is not None
    preview = Preview(shape, job.engine.wavelengths_nm) if looks else None
    writer = writer_for(item.target, shape, job.engine.wavelengths_nm, pages=job.results.pages)
    if job.ledger is not None:
        writer.before_publishing = lambda complete: _recorded(job, item, complete)
    with writer:
        for top, rows in strips:
            bands = rows if job.results.raw else rows.clip(0, 1)
            writer.add(bands)
            if preview is not None:
                preview.add(top, bands)
    if preview is not None and job.results.preview:
        path = preview_path(item.target)
        picture = encode_photo(Photo(pixels=preview.picture), path)
        write_atomically(path, picture, overwrite=True)
    scores: dict[str, float] = {}
    if job.references and reference is not None:
        scores = scores_of(read_cube(item.target), reference, job.references.protocol)
    panel = None
    if preview is not None and job.results.page is not None:
        shown = None if reference is None else _previewed(reference)
        panel = Panel(title=item.source.name, preview=preview, reference=shown, scores=scores)
    name = str(item.source)
    row = Row(
        name=name, input=name, output=str(item.target), notes=tuple(notes), exact=True,
        reference=None if reference_path is None else str(reference_path),
        height_px=height, width_px=width, scores_after=scores,
    )  # fmt: skip
    return row, panel


def _strips(
    job: SpectralJob, item: Item
) -> tuple[Iterator[tuple[int, NDArray[np.float32]]], tuple[int, int], list[str]]:
    """The rows of a cube to come, its size, and what could not be kept."""
    name = str(item.source)
    if job.mask is not None:
        measurement = read_plane(item.source, MEASUREMENT_NAMES, "measurement")
        check_measurement(name, measurement, job.mask, job.engine.band_count)
        height, width = job.mask.shape
        return job.engine.of_measurement(measurement, job.mask), (height, width), []
    photo = read_photo(item.source)
    check_photo(name, photo.pixels, photo.alpha)
    profile = photo.carried.icc_profile
    notes = []
    if profile is not None and b"sRGB" not in profile and b"s\0R\0G\0B" not in profile:
        notes.append("its colour profile is not applied; its numbers are taken as sRGB")
    return job.engine.of_photo(photo.pixels), photo.size, notes


def _said(shape: tuple[int, ...]) -> str:
    bands, height, width = shape
    return f"{bands} bands of {width}×{height} pixels"


def _recorded(job: SpectralJob, item: Item, complete: Path) -> None:
    assert job.ledger is not None
    root = item.root or item.target.parent
    job.ledger.record(
        item.target, root, input_sha256=_sha256(item.source), output_sha256=_sha256(complete)
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def _previewed(reference: Cube) -> Preview:
    _, height, width = reference.bands.shape
    shown = Preview((len(reference.bands), height, width), reference.wavelengths_nm)
    for top in range(0, height, 64):
        shown.add(top, as_float(reference.bands[:, top : top + 64]))
    return shown


def _report(
    job: SpectralJob, rows: Sequence[Row], elapsed_s: float, *, interrupted: bool
) -> Report:
    protocol = job.references.protocol if job.references else None
    return Report(
        title=f"spectral, {len(rows)} cube{'' if len(rows) == 1 else 's'}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        elapsed_s=elapsed_s,
        settings=Settings(
            command="spectral",
            task="spectral" if job.mask is None else "cassi",
            model_id=job.engine.model.id,
            model_sha256=job.engine.model.sha256,
            protocol=protocol.name if protocol else None,
            protocol_text=protocol.source if protocol else None,
            device=str(job.engine.device),
            precision="fp32",
            exact=True,
            versions=versions(),
            options=job.options,
        ),
        rows=tuple(rows),
        notes=(NOTE,) if job.mask is None else (),
        interrupted=interrupted,
        lower_is_better=protocol.lower_is_better if protocol else (),
    )
