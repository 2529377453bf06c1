"""The registry of checkpoints: ``weights.toml``, checked when it is read."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import model_validator as check

from restorecli.errors import WeightsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(__file__).parents[1]
TASKS = ("derain", "desnow", "dehaze", "denoise", "lowlight", "deblur", "defocus")

Task = Literal["derain", "desnow", "dehaze", "denoise", "lowlight", "deblur", "defocus"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(min_length=1)]
SOURCE = re.compile(
    r"bundled:[\w.-]+\.safetensors"
    r"|hf://[\w.-]+/[\w.-]+/[\w./-]+@[0-9a-f]{40}"
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


class WeightEntry(Strict):
    """One checkpoint: where it comes from, what it fits, and how to recognise it."""

    id: str
    network: Literal["restormer", "hint", "glmha_restormer"]
    options: Mapping[str, Any] = Field(default_factory=dict)  # network constructor arguments
    tasks: tuple[Task, ...] = Field(min_length=1)
    default_for: tuple[Task, ...] = ()
    source: str
    size_bytes: int | None = Field(default=None, gt=0)
    sha256: Sha256 | None = None  # of the file as published
    licence: Text
    citation: Text
    protocol: Text  # how the authors test: whole image, or crops of which size
    published: tuple[Score, ...] = ()
    measured: tuple[MeasuredScore, ...] = ()
    note: str = ""

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
    def is_bundled(self) -> bool:
        """Whether the file ships inside the package."""
        return self.source.startswith("bundled:")

    @property
    def file_name(self) -> str:
        """Name of the published file."""
        return re.split(r"[/:]", self.source.partition("@")[0])[-1]

    @property
    def path(self) -> Path | None:
        """Where the file lies on this machine, or ``None`` if it has to be brought."""
        return PACKAGE / "bundled" / self.file_name if self.is_bundled else None

    @property
    def url(self) -> str:
        """Address for a person to download from, or an empty string."""
        if self.source.startswith("hf://"):
            address, _, revision = self.source.removeprefix("hf://").partition("@")
            owner, name, file = address.split("/", 2)
            return f"https://huggingface.co/{owner}/{name}/resolve/{revision}/{file}"
        return self.source if self.source.startswith("https://") else ""


class Registry(Mapping[str, WeightEntry]):
    """Checkpoints by id."""

    def __init__(self, entries: Mapping[str, WeightEntry]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, entry_id: str) -> WeightEntry:
        try:
            return self._entries[entry_id]
        except KeyError:
            near = difflib.get_close_matches(entry_id, self._entries, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise WeightsError(
                f"There is no model {entry_id!r}.",
                hint=f"{hint}`restore models list` shows all.",
            ) from None

    def __iter__(self) -> Any:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def default(self, task: str) -> WeightEntry:
        """The checkpoint that a task uses when none is named."""
        for entry in self._entries.values():
            if task in entry.default_for:
                return entry
        usable = [entry.id for entry in self._entries.values() if task in entry.tasks]
        raise WeightsError(
            f"No network for {task} is inside this version.",
            hint=f"Download a checkpoint and name both: --model {usable[0]} --weights FILE."
            if usable
            else "Name one with --model and --weights.",
        )


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


@cache
def registry() -> Registry:
    """The registry that ships with this version."""
    inside, checkout = PACKAGE / "weights.toml", PACKAGE.parent / "weights.toml"
    path = inside if inside.exists() else checkout
    return read_registry(path.read_text(encoding="utf-8"))
