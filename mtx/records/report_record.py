"""`report.json`: the results of a run; docs/report.md explains each field.

A task writes some of the parts data, plan, drawing, training and translation. `Report` has the fields of all parts. A
field that is None or empty is not reported by the task.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, StrictBool, ValidationError
from typing_extensions import override

from mtx.errors import DataError
from mtx.infra.dal.atomic_file import atomic_file
from mtx.records.evaluation_report import EvaluationReport
from mtx.records.job_status import STATUS_FILE
from mtx.records.noise_report import NoiseReport
from mtx.records.record_file import Count, Counts, FileRecord, Number, OpenRecord, Record, problems
from mtx.records.report_metrics import flat_numbers
from mtx.records.score_report import ScorerReport, SelectionReport
from mtx.records.slice_report import SliceReport
from mtx.records.trained_model_report import TrainedModelReport
from mtx.records.used_dataset_ids import StageNames
from mtx.redaction_and_escaping import redacted_json

REPORT_FILE = "report.json"
NO_FILTER = "filter/none"  # kind of the filter that keeps all pairs
OF_MODEL = "val/"  # prefix of the metrics that a model or a callback logs in validations


class SourceReport(Record):
    """The pairs of one source of a mixture, over all splits."""

    skipped: Counts = Field(default_factory=dict)
    num_pairs_raw: Count
    dropped: Counts = Field(default_factory=dict)
    num_pairs_train: Count = 0
    num_pairs_validation: Count = 0
    num_pairs_test: Count = 0


class HeldOut(Record):
    """The held-out pairs of a run. Runs with the same `digest` are evaluated on the same pairs.

    `filter` is the kind of the filter of validation and test; `filter/none` neither filters nor deduplicates them.
    """

    digest: str | None = None
    num_pairs: Count | None = None
    left_out: Count | None = None
    filter: str | None = None

    @property
    def filtering(self) -> str | None:
        """Whether the pairs of validation and test are filtered, in words; None if it is not reported."""
        if self.filter == NO_FILTER:
            return "neither filtered nor deduplicated"
        return self.filter and f"filtered by {self.filter}"


class DataReport(Record):
    """The data part of a report: pairs kept and dropped, splits, vocabulary, and the ids of all stages."""

    name: str | None = None
    languages: tuple[str, str] | None = None
    skipped: Counts = Field(default_factory=dict)
    num_pairs_raw: Count | None = None
    num_pairs_kept: Count | None = None
    num_pairs_changed: Count | None = None
    changed_by_step: Counts = Field(default_factory=dict)
    dropped: Counts = Field(default_factory=dict)
    dropped_by_split: dict[str, Counts] = Field(default_factory=dict)
    contaminated: Counts = Field(default_factory=dict)
    sources: dict[str, SourceReport] = Field(default_factory=dict)
    num_pairs_train: Count | None = None
    num_pairs_validation: Count | None = None
    num_pairs_test: Count | None = None
    held_out: HeldOut | None = None
    source_vocab_size: Count | None = None
    target_vocab_size: Count | None = None
    joint_vocabulary: StrictBool | None = None
    train_tokens: Counts = Field(default_factory=dict)
    ids: StageNames = Field(default_factory=StageNames)
    built: tuple[str, ...] = ()
    store: str | None = None
    seed: Annotated[int, Field(strict=True)] | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    scorers: dict[str, ScorerReport] = Field(default_factory=dict)
    selection: SelectionReport | None = None


class Ledger(Record):
    """Counts of what became of each pair of the training split in one epoch."""

    num_pairs: Count
    batched: Count
    dropped_length: Count
    dropped_remainder: Count
    repeated: Count = 0
    not_drawn: Count | None = None
    truncated: Count | None = None


class SourceLedger(Ledger):
    """The ledger of one source of a mixture; `drawn` counts how often its pairs occur in the epoch's batches."""

    drawn: Count


class TooLongBySide(Record):
    """The number of pairs that are too long, by side; a pair in `both` also counts in `source` and in `target`."""

    source: Count
    target: Count
    both: Count
    sampler: Count | None = None


class TooLong(Record):
    """The number of pairs that are too long: those that are dropped, and those that are truncated."""

    dropped: TooLongBySide
    truncated: TooLongBySide


class Ranks(Record):
    """The steps and the balance of an epoch if it were distributed over `world_size` ranks; no rank is started."""

    world_size: Count
    num_steps: Count
    left_out: Count
    imbalance: Number | None = None
    imbalance_p95: Number | None = None
    length_variation: Number | None = None


class Distribution(Record):
    """The mean, the 5th and the 95th percentile of a quantity."""

    mean: Number
    p5: Number | None = None
    p95: Number | None = None


class PlanReport(Record):
    """The plan part of a report: the batches of one epoch as the sampler plans them, without drawing them."""

    epoch: Count | None = None
    plan_s: Number | None = None
    num_batches: Count | None = None
    ledger: Ledger | None = None
    ledger_by_source: dict[str, SourceLedger] = Field(default_factory=dict)
    ledger_by_group: dict[str, SourceLedger] = Field(default_factory=dict)
    too_long: TooLong | None = None
    ranks: Ranks | None = None
    padding_ratio: Number | None = None
    source_padding_ratio: Number | None = None
    target_padding_ratio: Number | None = None
    num_shapes: Count | None = None
    max_padded_tokens: Count | None = None
    neighbour_correlation: Number | None = None
    real_tokens: Count | None = None
    real_tokens_per_batch: Distribution | None = None


class DrawReport(Record):
    """The drawing part of a report: time and memory of one epoch that was drawn from the loader."""

    first_batch_s: Number | None = None
    first_batch: dict[str, tuple[str | int, ...]] = Field(default_factory=dict)
    epoch_s: Number | None = None
    pass_s: tuple[Number, ...] = ()
    memory_added_mb: Number | None = None
    num_batches_drawn: Count | None = None
    num_pairs_drawn: Count | None = None
    real_tokens_per_s: Number | None = None


class Spent(Record):
    """The amounts of training that a budget can limit, as used so far."""

    steps: Number | None = None
    seconds: Number | None = None
    real_tokens: Number | None = None
    source_bytes: Number | None = None


class Validation(OpenRecord):
    """One validation; `metrics` are the values that the model logged, under the names that it logged them with."""

    OTHERS: ClassVar[str] = "metrics"

    step: Number
    epoch: Number | None = None
    seconds: Number | None = None
    real_tokens: Number | None = None
    source_bytes: Number | None = None
    metrics: dict[str, Number | None] = Field(default_factory=dict)

    @property
    def bits_per_byte(self) -> float | None:
        """Held-out bits per byte of this validation; None if the model does not log them."""
        return self.metrics.get(f"{OF_MODEL}bits_per_byte")


class Translation(Record):
    """A held-out pair and the model's translation of its source side in `output`."""

    row: Count
    source: str
    reference: str
    output: str


class Scores(Record):
    """BLEU and chrF of translated held-out sentences, computed by sacrebleu."""

    num_sentences: Count
    bleu: Number
    chrf: Number
    bleu_signature: str | None = None
    chrf_signature: str | None = None


class TrainingReport(SliceReport, TrainedModelReport):
    """The training part of a report: steps, time, losses, held-out bits per byte, slices, and the trained model."""

    num_steps: Count | None = None
    num_epochs: Count | None = None
    fit_s: Number | None = None
    spent: Spent | None = None
    ended_by: str | None = None
    num_target_tokens: Count | None = None
    target_tokens_per_s: Number | None = None
    train_loss_first: Number | None = None
    train_loss: Number | None = None
    bits_per_byte_first: Number | None = None
    bits_per_byte: Number | None = None
    validations: tuple[Validation, ...] = ()


class TranslationReport(EvaluationReport):
    """The translation part of a report: some translated sentences, and the scores on held-out pairs and named sets."""

    beam: Count | None = None
    translations: tuple[Translation, ...] = ()
    scores: Scores | None = None


class Report(
    OpenRecord, DataReport, NoiseReport, PlanReport, DrawReport, TrainingReport, TranslationReport, FileRecord
):
    """The whole report of a run; `own` collects the keys of a user-defined task that mtx does not know."""

    FILE: ClassVar[str] = REPORT_FILE
    WHAT: ClassVar[str] = "report of mtx"
    VERSION_KEY: ClassVar[str] = "report_version"
    VERSION: ClassVar[int] = 2
    RENAMED: ClassVar[Mapping[int, Mapping[str, str]]] = {
        1: {
            "num_batches_served": "num_batches_drawn",
            "num_pairs_served": "num_pairs_drawn",
            "ledger_by_source.*.servings": "ledger_by_source.*.drawn",
        },
    }
    OTHERS: ClassVar[str] = "own"

    assumptions: tuple[str, ...] = ()
    own: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, *parts: Record | Mapping[str, Any]) -> Self:
        """Return a report that combines parts; if two parts have the same key, the later part counts.

        Raises:
            DataError: A user-defined task gives one of mtx's keys a value of another type.
        """
        values: dict[str, Any] = {}
        for part in parts:
            values |= part if isinstance(part, Mapping) else part.model_dump(exclude_unset=True)
        values.pop(cls.VERSION_KEY, None)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise DataError(
                f"a report does not have the values that docs/report.md lists: {problems(error)}. Choose another name "
                "for your task's value, or give a value of the listed type"
            ) from error

    @classmethod
    @override
    def _is_former(cls, value: Mapping[str, Any], path: Path) -> bool:
        # A user-defined task may report no key of mtx's; old versions of mtx wrote these reports without a version.
        return (path.parent / STATUS_FILE).exists() or super()._is_former(value, path)

    @override
    def to_json(self) -> dict[str, Any]:
        return redacted_json({self.VERSION_KEY: self.VERSION, **self.model_dump(exclude_unset=True)})

    @override
    def write(self, folder: Path) -> Path:
        path = folder / self.FILE
        with atomic_file(path) as file:
            file.write(json.dumps(self.to_json(), indent=2, sort_keys=True).encode() + b"\n")
        return path

    @property
    def is_empty(self) -> bool:
        """Whether the report has no values."""
        return not self.model_dump(exclude_unset=True)

    def numbers(self) -> dict[str, float]:
        """Return all numbers by dotted name, including those of a user-defined task."""
        return flat_numbers(self.model_dump(exclude_unset=True))

    def num_pairs_of(self, split: str) -> int:
        """Return the number of pairs in a split; 0 if the report does not have it."""
        return getattr(self, f"num_pairs_{split}") or 0
