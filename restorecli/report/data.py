"""A run as frozen data: settings, one row per picture, and what follows from the rows.

The models are the JSON format. Change a field and ``SCHEMA_VERSION`` goes up; a test compares
``schema.json`` with them.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    WithJsonSchema,
    computed_field,
)
from pydantic.dataclasses import dataclass

from restorecli.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_SOME_FAILED, InputError

SCHEMA_VERSION = 1
WORST_SHOWN = 5
AFTER = "after "  # and the task of a step: what its scores are of


def _printable(value: Any) -> Any:
    r"""File names that are not valid UTF-8 keep their odd bytes as ``\xff``."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _number(value: float) -> float:
    if math.isnan(value):
        raise ValueError("a score must be a number, got NaN")
    return value


Text = Annotated[str, BeforeValidator(_printable)]
Score = Annotated[
    float,
    AfterValidator(_number),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number"}, {"enum": ["Infinity", "-Infinity"]}],
            "description": "PSNR of identical pictures is infinite, which JSON has as text.",
        }
    ),
]
Scores = dict[str, Score]


STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="strings")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, **STRICT)


class Settings(_Frozen):
    """How the run was made: enough to make it again."""

    command: Text = Field(description="The command that ran: derain, metrics, compare …")
    task: Text | None = None
    model_id: Text | None = None
    model_sha256: Text | None = None
    protocol: Text | None = Field(default=None, description="Name of the protocol that scored.")
    protocol_text: Text | None = Field(default=None, description="The protocol in words.")
    device: Text | None = None
    precision: Text | None = None
    exact: bool | None = Field(
        default=None,
        description="True: whole pictures, or strips that give the same pixels. False: tiles.",
    )
    versions: dict[str, Text] = Field(default_factory=dict)
    options: dict[str, Text] = Field(default_factory=dict, description="What else was asked for.")


class LabelledPicture(_Frozen):
    """A picture of a row, what it is called, and its scores."""

    label: Text
    path: Text
    scores: Scores = Field(default_factory=dict)


class StepScores(_Frozen):
    """Scores of a picture after one step of a chain."""

    task: Text
    scores: Scores


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Row:
    """One picture of the run."""

    name: Text = Field(description="What the picture is called in tables; unique in a report.")
    input: Text | None = Field(default=None, description="The degraded picture.")
    output: Text | None = Field(default=None, description="The restored picture.")
    reference: Text | None = Field(
        default=None, description="The clean picture it is scored against."
    )
    status: Literal["ok", "failed", "skipped"] = "ok"
    error: Text | None = None
    exit_code: int | None = Field(
        default=None, description="What this failure alone would end a run with."
    )
    notes: tuple[Text, ...] = Field(default=(), description="What could not be kept, and why.")
    height_px: int | None = None
    width_px: int | None = None
    exact: bool | None = None
    tile_px: int | None = None
    strip_rows: int | None = Field(
        default=None, description="Rows done at a time; changes no pixel."
    )
    elapsed_s: float | None = None
    predicted_memory_bytes: int | None = Field(
        default=None, description="Most memory that the process was expected to hold for this."
    )
    peak_memory_bytes: int | None = Field(
        default=None, description="Most memory that the process had held when this was done."
    )
    scores_before: Scores = Field(default_factory=dict, description="Input against reference.")
    scores_after: Scores = Field(default_factory=dict, description="Output against reference.")
    steps: tuple[StepScores, ...] = Field(
        default=(), description="Scores after each step of a chain but the last."
    )
    others: tuple[LabelledPicture, ...] = Field(
        default=(), description="Further pictures of the same scene, such as another method's."
    )

    def pictures(self) -> list[LabelledPicture]:
        """Every picture that can be looked at, in the order before, after."""
        named = [
            ("Input", self.input, self.scores_before),
            ("Restored", self.output, self.scores_after),
            *((other.label, other.path, other.scores) for other in self.others),
            ("Reference", self.reference, {}),
        ]
        return [
            LabelledPicture(label=label, path=path, scores=scores)
            for label, path, scores in named
            if path is not None
        ]


ROW = TypeAdapter(Row)  # a dataclass with slots: a tenth of a model's memory, and rows are many


class Summary(_Frozen):
    """One score over all pictures. Infinite values are counted, and left out of the rest."""

    score: Text = Field(description="Name of the score, such as psnr_y.")
    of: Text = Field(description="Which picture: before, after, or the label of another one.")
    count: int
    infinite: int = Field(description="Pictures identical to their reference, left out.")
    mean: float | None
    median: float | None
    minimum: float | None
    maximum: float | None
    worst: tuple[Text, ...] = Field(description="Names of the worst pictures, worst first.")


class Comparison(_Frozen):
    """One score of two methods on the same pictures, paired picture by picture."""

    score: Text
    label: Text = Field(description="The other method.")
    count: int = Field(description="Pairs; those with an infinite score are left out.")
    infinite: int
    mean_difference: float | None = Field(description="This run minus the other one.")
    low: float | None = Field(description="Lower end of the 95 % bootstrap interval.")
    high: float | None
    higher: int = Field(description="Pictures on which this run's number is higher.")
    lower: int


class Report(_Frozen):
    """Everything a run did."""

    schema_version: Literal[1] = 1
    title: Text
    created: Text = Field(description="UTC, ISO 8601.")
    elapsed_s: float | None = None
    settings: Settings
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[Text, ...] = Field(
        default=(), description="What the reader should know: missing pairs …"
    )
    interrupted: bool = False
    lower_is_better: tuple[Text, ...] = Field(
        default=(), description="Scores where less is better."
    )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def counts(self) -> dict[Literal["ok", "failed", "skipped"], int]:
        """How many pictures ended how."""
        statuses = [row.status for row in self.rows]
        return {"ok": statuses.count("ok"), "failed": statuses.count("failed"),
                "skipped": statuses.count("skipped")}  # fmt: skip

    @computed_field  # type: ignore[prop-decorator]
    @property
    def summary(self) -> tuple[Summary, ...]:
        """Mean, median, extremes and the worst pictures of every score."""
        return tuple(summarise(self.rows, self.lower_is_better))

    @property
    def exit_code(self) -> int:
        """0, 1 when some pictures failed, 130 when interrupted.

        When none could be used it is the failures' own code, which is 3 for unreadable pictures.
        """
        if self.interrupted:
            return EXIT_INTERRUPTED
        failures = {row.exit_code or InputError.exit_code for row in self.rows if row.error}
        if not failures:
            return EXIT_OK if self.rows else InputError.exit_code
        nothing_done = self.counts["failed"] == len(self.rows)
        return failures.pop() if nothing_done and len(failures) == 1 else EXIT_SOME_FAILED

    def to_json(self) -> str:
        """The whole report as indented JSON."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote; the computed parts are computed again."""
        data = json.loads(text)
        for computed in cls.model_computed_fields:
            data.pop(computed, None)
        return cls.model_validate(data)


def scores_by_kind(row: Row) -> dict[str, Mapping[str, float]]:
    """The scores of a row: ``before``, after each step, ``after``, and of each other picture."""
    kinds: dict[str, Mapping[str, float]] = {"before": row.scores_before}
    kinds |= {f"{AFTER}{step.task}": step.scores for step in row.steps}
    kinds["after"] = row.scores_after
    kinds |= {other.label: other.scores for other in row.others}
    return {kind: scores for kind, scores in kinds.items() if scores}


def score_columns(rows: tuple[Row, ...]) -> list[tuple[str, str]]:
    """(score, of) pairs that occur, in the order in which they first occur."""
    columns = {
        (score, kind): None
        for row in rows
        for kind, scores in scores_by_kind(row).items()
        for score in scores
    }
    order = list(dict.fromkeys(score for score, _ in columns))
    return sorted(columns, key=lambda column: order.index(column[0]))


def summarise(rows: tuple[Row, ...], lower_is_better: tuple[str, ...] = ()) -> list[Summary]:
    """Summarise every score of every kind of picture."""
    summaries = []
    for score, of in score_columns(rows):
        values = {
            row.name: scores[score]
            for row in rows
            if score in (scores := scores_by_kind(row).get(of, {}))
        }
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        sign = -1 if score in lower_is_better else 1
        worst = sorted(finite, key=lambda name: sign * finite[name])
        summaries.append(
            Summary(
                score=score,
                of=of,
                count=len(values),
                infinite=len(values) - len(finite),
                mean=statistics.fmean(finite.values()) if finite else None,
                median=statistics.median(finite.values()) if finite else None,
                minimum=min(finite.values(), default=None),
                maximum=max(finite.values(), default=None),
                worst=tuple(worst[:WORST_SHOWN]),
            )
        )
    return summaries


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `Report.to_json`."""
    schema = Report.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": f"restore report, version {SCHEMA_VERSION}",
    }
