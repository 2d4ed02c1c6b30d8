"""The evaluation part of a report: the scores of a checkpoint on named sets, and differences to another checkpoint."""

from pydantic import Field
from rich.table import Column, Table

from mtx.records.record_file import Count, Number, Record

HEADINGS = {
    "bits_per_byte": "bits per byte",
    "bleu": "BLEU",
    "chrf": "chrF",
    "chrf_plus_plus": "chrF++",
    "ter": "TER",
}
DECIMALS = {"bits_per_byte": 4}  # of a number in a table; others have 2


class MetricDifference(Record):
    """The difference of a metric to the baseline, with its 95 % interval over sentences; ends are null without one."""

    estimate: Number
    low: Number | None = None
    high: Number | None = None

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class SetEvaluation(Record):
    """The scores of a checkpoint on one set."""

    languages: tuple[str, str]
    num_pairs: Count
    left_out: Count = 0
    bits_per_byte: Number | None = None
    bleu: Number | None = None
    chrf: Number | None = None
    chrf_plus_plus: Number | None = None
    ter: Number | None = None
    signatures: dict[str, str] = Field(default_factory=dict)
    difference: dict[str, MetricDifference] = Field(default_factory=dict)

    def score(self, metric: str) -> float | None:
        """Return the value of a metric of `HEADINGS`; None if it is not known."""
        value: float | None = getattr(self, metric)
        return value


class EvaluationReport(Record):
    """The scores of a checkpoint; the keys at the top level are those of the first set."""

    baseline: str | None = None
    bleu: Number | None = None
    chrf: Number | None = None
    chrf_plus_plus: Number | None = None
    ter: Number | None = None
    evaluation: dict[str, SetEvaluation] = Field(default_factory=dict)


def metric_cell(evaluated: SetEvaluation, metric: str) -> str:
    """Return the value of a metric for a table, `–` if it is not known."""
    value = evaluated.score(metric)
    return "–" if value is None else f"{value:.{DECIMALS.get(metric, 2)}f}"


def difference_cell(evaluated: SetEvaluation, metric: str) -> str:
    """Return the difference of a metric to the baseline with its interval; empty without a baseline."""
    found = evaluated.difference.get(metric)
    if found is None:
        return ""
    places = DECIMALS.get(metric, 2)
    interval = (
        "" if found.low is None or found.high is None else f" [{found.low:+.{places}f}, {found.high:+.{places}f}]"
    )
    return f"{found.estimate:+.{places}f}{interval}"


def evaluation_table(evaluation: dict[str, SetEvaluation]) -> Table:
    """Return the table of all sets for the terminal."""
    table = Table(Column("set", overflow="fold"), "languages", "pairs", *HEADINGS.values())
    for name, of in evaluation.items():
        cells = [metric_cell(of, metric) for metric in HEADINGS]
        table.add_row(name, " → ".join(of.languages), f"{of.num_pairs:,}", *cells)
    return table


def difference_table(evaluation: dict[str, SetEvaluation], baseline: str) -> Table:
    """Return the table of the differences to the baseline for the terminal."""
    table = Table("set", "metric", f"difference to {baseline}", "95 % interval", "significant")
    for name, of in evaluation.items():
        for metric, found in of.difference.items():
            estimate, _, interval = difference_cell(of, metric).partition(" ")
            table.add_row(name, HEADINGS[metric], estimate, interval or "–", "yes" if found.is_significant else "no")
    return table
