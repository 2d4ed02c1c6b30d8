"""`profile.json`: the data of a run's plots; docs/report.md explains each field.

The file stays small for any corpus, because it has histograms and evenly spaced points instead of all values. It
contains unescaped text of the corpus, so a program that shows the text has to escape it.
"""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, StrictBool, model_validator
from typing_extensions import override

from mtx.errors import StoreError
from mtx.infra.dal.atomic_file import atomic_file
from mtx.records.record_file import Count, FileRecord, Record
from mtx.records.report_record import Report

PROFILE_FILE = "profile.json"
SIDES = ("source", "target")
MOST = 10**300  # largest number that a plot can show

Plottable = (
    Annotated[int, Field(strict=True, gt=-MOST, lt=MOST)]
    | Annotated[float, Field(strict=True, gt=-float(MOST), lt=float(MOST))]
)


class Histogram(Record):
    """A histogram: `counts[i]` values lie in the range from `edges[i]` to below `edges[i + 1]`."""

    edges: tuple[Plottable, ...]
    counts: tuple[Count, ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rises = all(low < high for low, high in pairwise(self.edges))
        if len(self.edges) != len(self.counts) + 1 or self.edges[0] < 0 or not rises:
            raise ValueError("has ascending edges from 0 on, one more than counts")
        return self


class Sample(Record):
    """A pair that the filter dropped, as unescaped text of the corpus."""

    source: str
    target: str


class Rejects(Record):
    """The number of pairs that one rule of the filter dropped, and a sample of them."""

    count: Count
    samples: tuple[Sample, ...] = ()


class NearSample(Sample):
    """A pair near the threshold of a rule: its row number, its value, and whether the rule drops it."""

    row: Count
    value: Plottable
    is_dropped: StrictBool


class RuleSamples(Record):
    """Pairs of one rule of a selection, and how many of its pairs other rules drop, too."""

    samples: tuple[Sample, ...] = ()
    samples_only_here: tuple[Sample, ...] = ()
    samples_near: tuple[NearSample, ...] = ()
    overlap: dict[str, Count] = Field(default_factory=dict)


class Fertility(Record):
    """Statistics of a tokenizer on one side of the training split; None for a statistic that is not known."""

    vocab_size: Count | None = None
    tokens_per_word: Plottable | None = None
    tokens_per_char: Plottable | None = None
    bytes_per_token: Plottable | None = None
    unknown_share: Plottable | None = None
    unused_share: Plottable | None = None

    @property
    def shares(self) -> dict[str, float]:
        """All known ratios by name, without the vocabulary size."""
        found = self.model_dump(exclude={"vocab_size"}, exclude_none=True)
        return {name: float(value) for name, value in found.items()}


class TokensPerStep(Record):
    """Real and padded tokens, both sides together, of the batches at evenly spaced `positions` of an epoch."""

    positions: tuple[Count, ...]
    real: tuple[Count, ...]
    padded: tuple[Count, ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not len(self.positions) == len(self.real) == len(self.padded):
            raise ValueError("has as many real and padded tokens as positions")
        return self


class ValidationPoint(Record):
    """One validation as a point of a learning curve; None for a value that is not known or not finite."""

    step: Plottable | None = None
    seconds: Plottable | None = None
    real_tokens: Plottable | None = None
    epoch: Plottable | None = None
    bits_per_byte: Plottable | None = None
    loss: Plottable | None = None


Shape = tuple[Count, Count, Count, Annotated[int, Field(strict=True, ge=1, lt=10**12)]]


class DataProfile(Record):
    """The part of a profile about the data: dropped pairs and samples by rule, and tokenizer statistics by side."""

    rejects: dict[str, dict[str, Rejects]] = Field(default_factory=dict)
    fertility: dict[str, Fertility] = Field(default_factory=dict)
    rules: dict[str, RuleSamples] = Field(default_factory=dict)


class PlanProfile(Record):
    """The part of a profile about the batches of one epoch.

    Attributes:
        lengths: The histogram of lengths in tokens of the training pairs, by side.
        bucket_edges: The edges of the sampler's buckets, by side; None for a side without buckets.
        shapes: Batch shapes as (B, S, T, number of batches), the most frequent shape first.
        num_shapes: The number of different shapes, listed or not.
        other_batches: The number of batches whose shapes are not listed.
        tokens_per_step: Tokens of batches that are evenly spaced over the epoch.
    """

    lengths: dict[str, Histogram] = Field(default_factory=dict)
    bucket_edges: dict[str, tuple[Plottable, ...] | None] = Field(default_factory=dict)
    shapes: tuple[Shape, ...] = ()
    num_shapes: Count | None = None
    other_batches: Count = 0
    tokens_per_step: TokensPerStep | None = None


class TrainingProfile(Record):
    """The part of a profile about a training: validations, and the training loss as pairs (step, loss)."""

    validations: tuple[ValidationPoint, ...] = ()
    train_loss: tuple[tuple[Plottable, Plottable], ...] = ()


class RunProfile(DataProfile, PlanProfile, TrainingProfile, FileRecord):
    """All data for the plots of a run."""

    FILE: ClassVar[str] = PROFILE_FILE
    WHAT: ClassVar[str] = "profile of a run"
    VERSION_KEY: ClassVar[str] = "profile_version"
    VERSION: ClassVar[int] = 2
    RENAMED: ClassVar[Mapping[int, Mapping[str, str]]] = {1: {"curve": "validations"}}

    @classmethod
    def of(cls, *parts: Record) -> Self:
        """Return a profile that combines parts; if two parts have the same field, the later part counts."""
        values: dict[str, Any] = {}
        for part in parts:
            values |= part.model_dump(exclude_unset=True)
        return cls.model_validate(values)

    @override
    def to_json(self) -> dict[str, Any]:
        return {self.VERSION_KEY: self.VERSION, **self.model_dump(exclude_unset=True)}

    @override
    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_json(), ensure_ascii=False, allow_nan=False)
        with atomic_file(folder / PROFILE_FILE) as file:
            file.write(text.encode() + b"\n")
        return folder / PROFILE_FILE

    def edges_of(self, side: str) -> tuple[float, ...]:
        """Return the edges of the sampler's buckets for a side, ascending; empty if the sampler has no buckets."""
        return tuple(sorted(set(self.bucket_edges.get(side) or ())))


def read_profile(folder: Path, report: Report, notes: list[str] | None = None) -> RunProfile:
    """Return the profile in a job's folder; fields that the profile lacks are computed from the report if possible.

    Args:
        folder: The folder of the job.
        report: The report of the job.
        notes: A list that gets the error message if `profile.json` cannot be read.
    """
    try:
        profile = RunProfile.read(folder) or RunProfile()
    except StoreError as error:
        profile = RunProfile()
        if notes is not None:
            notes.append(f"{error} Its plots are left out")
    lacking: dict[str, Any] = {}
    if not profile.fertility:
        lacking["fertility"] = fertility_by_counts(report)
    if not profile.validations:
        lacking["validations"] = _validations_of(report)
    return profile.model_copy(update=lacking)


def fertility_by_counts(report: Report) -> dict[str, Fertility]:
    """Return the tokenizer statistics, by side, that follow from the counts of training tokens in a report."""
    found: dict[str, Fertility] = {}
    for side in SIDES:
        tokens, chars, unknown, num_bytes = (
            report.train_tokens.get(f"{side}_{name}") for name in ("tokens", "chars", "unknown", "bytes")
        )
        if tokens:
            found[side] = Fertility(
                tokens_per_char=tokens / chars if chars else None,
                bytes_per_token=num_bytes / tokens if num_bytes else None,
                unknown_share=None if unknown is None else unknown / tokens,
            )
    return found


def _validations_of(report: Report) -> tuple[ValidationPoint, ...]:
    found = [
        ValidationPoint(step=validation.step, bits_per_byte=bits)
        for validation in report.validations
        if (bits := validation.bits_per_byte) is not None
    ]
    return tuple(found)
