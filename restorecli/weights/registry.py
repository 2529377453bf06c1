"""The registry of checkpoints: ``weights.toml``, checked when it is read."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import model_validator as check

from restorecli.errors import WeightsError
from restorecli.files.regular import read_regular
from restorecli.limits import MULTIPLE_PX
from restorecli.weights.places import cache_folder, has_home, registry_path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST_REGISTRY_BYTES = 2**24
PACKAGE = Path(__file__).parents[1]
BUNDLED = Path(__file__).parent / "bundled"
FULL_SIZE_DIM = 48  # width of every published network; bundled ones are narrower
TASKS = ("derain", "desnow", "dehaze", "denoise", "lowlight", "deblur", "defocus")
MOST_LOSS_DB, MOST_DIFFERENCE = 0.02, 2  # in bfloat16, for `--precision auto` to use it
SPECTRAL_TASKS = ("spectral", "cassi")  # not picture to picture: `restore spectral`

Task = Literal[
    "derain", "desnow", "dehaze", "denoise", "lowlight", "deblur", "defocus", "spectral", "cassi"
]
# What a constructor of a network takes, by its published name.
OptionValue = bool | int | float | str | Sequence[int] | None
Options = Mapping[str, OptionValue]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(min_length=1)]
SOURCE = re.compile(
    r"bundled:[\w.-]+\.safetensors"
    r"|hf://(spaces/|datasets/)?[\w.-]+/[\w.-]+/[\w./-]+@[0-9a-f]{40}"
    r"|https://\S+"
    r"|import:[\w.-]+"  # no address a tool can use: the user brings the file
)


class Strict(BaseModel):
    """Frozen data that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(Strict):
    """A figure with the protocol it was taken by."""

    dataset: Text
    protocol: Text  # for example "PSNR/SSIM on Y (MATLAB), whole image"
    psnr_db: float = Field(gt=0, lt=100)
    ssim: float | None = Field(default=None, ge=-1, le=1)


class MeasuredScore(Score):
    """A figure of this project's own, with the command that printed it."""

    input_psnr_db: float = Field(gt=0, lt=100)
    command: Text


class SpectralScore(Strict):
    """Figures of a reconstruction of spectra, all over the whole data set."""

    dataset: Text
    protocol: Text  # what was scored how, and the floor of the relative error
    psnr_db: float = Field(gt=0, lt=100)
    rmse: float = Field(ge=0)
    mrae: float | None = Field(default=None, ge=0)
    sam_degrees: float | None = Field(default=None, ge=0, le=180)
    command: str = ""  # that printed them; empty: as published


class PublishedSetting(Strict):
    """How the authors restore and score their test pictures: ``--protocol published``.

    Sides that do not divide by 8 are reflected, and everything is float32, as in all test scripts
    known.
    """

    tile_px: int | None = Field(default=None, ge=MULTIPLE_PX, multiple_of=MULTIPLE_PX)  # else whole
    overlap_px: int = Field(default=0, ge=0)  # what neighbouring tiles share: there, their average
    scoring: Text  # name of a protocol of `restore metrics`
    source: Text  # where it was read

    @check(mode="after")
    def _is_possible(self) -> PublishedSetting:
        if self.overlap_px and self.overlap_px >= (self.tile_px or 0):
            raise ValueError("overlap_px must be smaller than tile_px")
        return self

    @property
    def text(self) -> str:
        """The setting in words, for reports."""
        how = "whole image"
        if self.tile_px:
            how = f"tiles of {self.tile_px} px averaged where they overlap by {self.overlap_px} px"
        return f"{how}, float32; scores by {self.scoring}; from {self.source}"


class HalfPrecision(Strict):
    """What features in bfloat16 change, measured on the evaluation sets of the network's tasks.

    ``python -m training.precision`` measures it and writes the record.
    """

    loss_db: float  # mean PSNR in float32 less that in bfloat16, of the set that loses most
    largest_difference: int = Field(ge=0)  # of any value of any result, in levels of 255
    pictures: int = Field(gt=0)
    command: Text
    sha256: Sha256  # of the file that was measured: of another one it says nothing

    @property
    def is_close(self) -> bool:
        """Whether ``--precision auto`` may use it."""
        return self.loss_db <= MOST_LOSS_DB and self.largest_difference <= MOST_DIFFERENCE


class WeightEntry(Strict):
    """One checkpoint: where it comes from, what it fits, and how to recognise it."""

    id: str
    network: Literal[
        "restormer",
        "hint",
        "glmha_restormer",
        "mst_plus_plus",
        "mst_rgb",
        "mst_cassi",
        "root_polynomial",
    ]
    options: Options = Field(default_factory=dict)  # network constructor arguments
    tasks: tuple[Task, ...] = Field(min_length=1)
    default_for: tuple[Task, ...] = ()
    source: str
    size_bytes: int | None = Field(default=None, gt=0)
    sha256: Sha256 | None = None  # of the file as published
    licence: Text
    citation: Text
    protocol: Text  # how the authors test: whole image, or crops of which size
    published_setting: PublishedSetting | None = None  # the same, to be reproduced
    published: tuple[Score, ...] = ()
    measured: tuple[MeasuredScore, ...] = ()
    spectra: tuple[SpectralScore, ...] = ()  # measured or published, of networks for spectra
    encoding: Literal["srgb", "linear"] | None = None  # of the pictures that it makes spectra of
    stretched: bool = False  # whether a picture's smallest value is to be 0 and its largest 1
    bfloat16: HalfPrecision | None = None  # not measured: `--precision auto` is float32
    camera: str = ""  # whose pictures it was trained on
    turns: bool = False  # pictures go through it the way up in which it removes more
    note: str = ""
    experimental: str = ""  # why it is not good enough yet; empty: it is
    former_ids: tuple[Text, ...] = ()  # of networks that it replaced; each still finds it

    @check(mode="after")
    def _is_possible(self) -> WeightEntry:
        if not SOURCE.fullmatch(self.source):
            raise ValueError(
                f"source {self.source!r} is none of bundled:FILE.safetensors, "
                "hf://OWNER/NAME/FILE@COMMIT, https://…, import:FILE"
            )
        if self.is_bundled and (self.sha256 is None or self.size_bytes is None):
            raise ValueError("a bundled checkpoint needs sha256 and size_bytes")
        if self.sha256 is None and not self.note:
            raise ValueError("without sha256 the note must say that it is unknown")
        if stray := set(self.default_for) - set(self.tasks):
            raise ValueError(f"default_for names {sorted(stray)[0]!r}, which is not in tasks")
        return self

    @property
    def is_close_in_bfloat16(self) -> bool:
        """Whether this very file was found to give the same pictures in bfloat16.

        HINT that sorts channels for each picture may always find one that it sorts otherwise.
        """
        record = self.bfloat16
        sorts = self.network == "hint" and self.options.get("sort_channels", True)
        return not sorts and record is not None and record.is_close and record.sha256 == self.sha256

    @property
    def is_bundled(self) -> bool:
        """Whether the file ships inside the package."""
        return self.source.startswith("bundled:")

    @property
    def makes_spectra(self) -> bool:
        """Whether it is for `restore spectral`, not from picture to picture."""
        return bool(set(self.tasks) & set(SPECTRAL_TASKS))

    @property
    def is_full_size(self) -> bool:
        """Whether the network is as wide as the published ones."""
        dim = self.options.get("dim", FULL_SIZE_DIM)
        return isinstance(dim, int) and dim >= FULL_SIZE_DIM

    @property
    def file_name(self) -> str:
        """Name of the published file."""
        return re.split(r"[/:]", self.source.partition("@")[0])[-1]

    @property
    def path(self) -> Path | None:
        """Where its tensors lie on this machine, or ``None`` if it is not installed."""
        if self.is_bundled:
            return BUNDLED / self.file_name
        return installed_path(self.sha256) if self.sha256 else None

    @property
    def is_installed(self) -> bool:
        """Whether its tensors are on this machine."""
        return self.path is not None and self.path.exists()

    @property
    def url(self) -> str:
        """Address for a person to download from, or an empty string."""
        if self.source.startswith("hf://"):
            place = hub_place(self.source)
            kind = f"{place.kind}s/" if place.kind != "model" else ""
            return (
                f"https://huggingface.co/{kind}{place.repository}/resolve/"
                f"{place.revision}/{place.file}"
            )
        return self.source if self.source.startswith("https://") else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlace:
    """A file on the Hugging Face Hub."""

    kind: str  # model, space or dataset
    repository: str  # OWNER/NAME
    file: str
    revision: str  # a commit, branch or tag


def hub_place(address: str) -> HubPlace:
    """Take ``hf://[spaces/|datasets/]OWNER/NAME/FILE[@REVISION]`` apart."""
    found = re.fullmatch(
        r"hf://(spaces/|datasets/)?([\w.-]+/[\w.-]+)/([\w./-]+?)(?:@([\w.-]+))?", address
    )
    if not found or ".." in address.split("/"):
        raise WeightsError(
            f"{address} is no address of a file on the Hub.",
            hint="Expected hf://OWNER/NAME/FILE@REVISION, or hf://spaces/OWNER/NAME/FILE@REVISION.",
        )
    kind, repository, file, revision = found.groups()
    return HubPlace(
        kind=(kind or "models/")[:-2],
        repository=repository,
        file=file,
        revision=revision or "main",
    )


def installed_path(sha256: str) -> Path | None:
    """The file in our cache that was made from the published file ``sha256``."""
    if not has_home():
        return None
    folder = cache_folder() / "models" / sha256
    try:
        return next(iter(sorted(folder.glob("*.safetensors"))), None)
    except OSError:  # a home that may not be looked into: nothing of it can be used
        return None


class Registry(Mapping[str, WeightEntry]):
    """Checkpoints by id."""

    def __init__(self, entries: Mapping[str, WeightEntry]) -> None:
        self._entries = dict(entries)
        self._renamed = {old: e.id for e in self._entries.values() for old in e.former_ids}

    def __getitem__(self, entry_id: str) -> WeightEntry:
        try:
            return self._entries[self._renamed.get(entry_id, entry_id)]
        except KeyError:
            near = difflib.get_close_matches(entry_id, self._entries, n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise WeightsError(
                f"There is no model {entry_id!r}.",
                hint=f"{hint}`restore models list` shows all.",
            ) from None

    def __contains__(self, entry_id: object) -> bool:
        return entry_id in self._entries or entry_id in self._renamed

    def __iter__(self) -> Any:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def default(self, task: str) -> WeightEntry:
        """The checkpoint that a task uses when none is named."""
        for entry in self._entries.values():
            if task in entry.default_for:
                return entry
        raise WeightsError(
            f"No network for {task} is inside this version.", hint="Install restorecli again."
        )

    def best(self, task: str) -> WeightEntry:
        """The full-size checkpoint of a task: installed, or one that can be downloaded."""
        usable = [e for e in self._entries.values() if task in e.tasks and not e.is_bundled]
        published = [e for e in usable if e.url and e.sha256 and e.is_full_size]
        for entry in (*published, *(e for e in usable if e.path)):
            return entry
        raise WeightsError(
            f"No better network for {task} can be downloaded.",
            hint=f"Bring one: `restore models import FILE --task {task}`, then --model ID.",
        )


def size_text(entry: WeightEntry) -> str:
    """`` (104.7 MB)``, or nothing when the size is not known."""
    return f" ({entry.size_bytes / 1e6:.1f} MB)" if entry.size_bytes else ""


def read_registry(text: str, *, name: str = "weights.toml") -> Registry:
    """Parse a registry; name the entry and the key when something is wrong."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WeightsError(f"{name} is not TOML: {error}.") from error
    entries: dict[str, WeightEntry] = {}
    defaults: dict[str, str] = {}
    for entry_id, table in tables.items():
        if not isinstance(table, dict):
            raise WeightsError(f"{name}: {entry_id!r} must be a table, written [{entry_id}].")
        try:
            entry = WeightEntry.model_validate({"id": entry_id, **table})
        except ValidationError as error:
            raise WeightsError(f"{name} [{entry_id}]: {_first_problem(error)}.") from error
        for task in entry.default_for:
            if task in defaults:
                raise WeightsError(
                    f"{name} [{entry_id}]: {defaults[task]} is already the default for {task}."
                )
            defaults[task] = entry_id
        entries[entry_id] = entry
    return Registry(entries)


def _first_problem(error: ValidationError) -> str:
    """Pydantic's first finding in one line: the key, what is wrong, the value found."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    what = {"extra_forbidden": "unknown key", "missing": "missing key"}.get(problem["type"])
    if what:
        return f"{what} {key!r}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message}, got {problem['input']!r}" if key else message


def registry() -> Registry:
    """What ships with this version, and what the user has added.

    The user's entries come first, so a default of theirs counts. One of the same name as a shipped
    entry counts only where that has no hash: it completes it, and never replaces a known file.
    """
    shipped, own = _shipped(), own_registry()
    complete = {i: entry for i, entry in shipped.items() if i not in own or entry.sha256}
    mine = {i: entry for i, entry in own.items() if i not in complete}
    return Registry({**mine, **complete})


def own_registry() -> Registry:
    """What the user has added: ``weights.toml`` in their own folder, or nothing."""
    if not has_home():
        return Registry({})
    path = registry_path()
    try:
        text = read_regular(path, most_bytes=LARGEST_REGISTRY_BYTES).decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return Registry({})
    except PermissionError as error:
        if not os.access(path.parent, os.X_OK):  # the home of another user, as in containers
            return Registry({})
        raise WeightsError(f"Cannot read {path}: {error.strerror}.") from error
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"Cannot read {path}: {error}.", hint="Save it as UTF-8.") from error
    return read_registry(text, name=str(path))


@cache
def _shipped() -> Registry:
    inside, checkout = PACKAGE / "weights.toml", PACKAGE.parent / "weights.toml"
    path = inside if inside.exists() else checkout
    return read_registry(path.read_text(encoding="utf-8"))
