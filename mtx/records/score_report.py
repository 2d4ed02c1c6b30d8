"""The parts of `report.json` about scores and selections: distributions of scores, and the funnel of the rules."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rich.table import Table

from mtx.data.score.scorer import Scorer, shown_name
from mtx.records.record_file import Count, Counts, Number, Record

if TYPE_CHECKING:
    from mtx.training.translation_data import TranslationData

MAX_VALUES = 2_000_000  # values from which quantiles are computed; of more, evenly spaced ones are used
QUANTILES = {"p1": 0.01, "p5": 0.05, "median": 0.5, "p95": 0.95}


class ColumnReport(Record):
    """The distribution of one score over all pairs of the training text; None if no pair has a score."""

    num_scored: Count
    without_score: Count
    min: Number | None = None
    p1: Number | None = None
    p5: Number | None = None
    median: Number | None = None
    p95: Number | None = None
    max: Number | None = None


class ScorerReport(Record):
    """The scores of one scorer. The times are None if the scores, or the model, were already stored."""

    num_pairs: Count
    scoring_s: Number | None = None
    training_s: Number | None = None
    pairs_per_s: Number | None = None
    columns: dict[str, ColumnReport] = Field(default_factory=dict)


class RuleReport(Record):
    """The pairs that one rule of a selection drops: after the rules before it, alone, and as the only rule.

    `reasons` counts the pairs that it drops alone by the reason that a function gives.
    """

    criteria: dict[str, Any] = Field(default_factory=dict)
    reasons: Counts = Field(default_factory=dict)
    dropped_in_order: Count
    dropped_alone: Count
    dropped_only_here: Count


class PartReport(Record):
    """The pairs of one source of a mixture, or of one language: judged, kept, and dropped in order by each rule."""

    num_pairs: Count
    num_kept: Count
    dropped: Counts = Field(default_factory=dict)


class SelectionReport(Record):
    """The funnel of `filter=selection`: how many pairs its rules judged and kept, and what each rule drops.

    `parts` counts by column and value, such as the sources of a mixture. `before` is the funnel of a selection that is
    applied before this one.
    """

    num_pairs: Count
    num_kept: Count
    order: tuple[str, ...] = ()
    rules: dict[str, RuleReport] = Field(default_factory=dict)
    parts: dict[str, dict[str, PartReport]] = Field(default_factory=dict)
    before: "SelectionReport | None" = None

    @property
    def in_order(self) -> list[tuple[str, RuleReport]]:
        """The rules with their names in the order in which they apply, which a JSON object does not keep."""
        return [(name, self.rules[name]) for name in self.order if name in self.rules]


def scorer_reports(datamodule: "TranslationData") -> dict[str, ScorerReport]:
    """Return the report of each scorer of a prepared run, by name."""
    ids = datamodule.ids
    assert ids is not None
    found = {}
    for name, scores in ids.scores.items():
        datasets = [datamodule.storage.repo.get(scores_id) for scores_id in scores.values()]
        num_pairs = sum(len(dataset) for dataset in datasets)
        seconds = ids.scoring_s.get(name)
        scorer = datamodule.recipe.scorers[name]
        found[name] = ScorerReport(
            num_pairs=num_pairs,
            scoring_s=seconds,
            training_s=ids.training_s.get(name),
            pairs_per_s=num_pairs / seconds if seconds else None,
            columns=column_reports(name, scorer, [dataset.rows.table for dataset in datasets]),
        )
    return found


def column_reports(name: str, scorer: Scorer, tables: Sequence[Any]) -> dict[str, ColumnReport]:
    """Return the distribution of each score of a scorer, by shown name.

    Args:
        name: name of the scorer.
        scorer: the scorer.
        tables: the stored columns, as Arrow tables.
    """
    return {
        shown_name(name, column): distribution(np.concatenate([table[column].to_numpy() for table in tables]))
        for column, of in scorer.columns.items()
        if of.is_score
    }


def distribution(values: NDArray[np.float64]) -> ColumnReport:
    """Return the distribution of a column, float64 [n], NaN for a pair without a score."""
    known = values[~np.isnan(values)]
    empty = ColumnReport(num_scored=len(known), without_score=len(values) - len(known))
    if not len(known):
        return empty
    of = np.quantile(known[:: len(known) // MAX_VALUES + 1], list(QUANTILES.values()))
    numbers = {"min": known.min(), "max": known.max(), **dict(zip(QUANTILES, of, strict=True))}
    return empty.model_copy(update={key: _finite(value) for key, value in numbers.items()})


def selection_report(metrics: Mapping[str, Any]) -> SelectionReport | None:
    """Return the funnel of the rules from the metrics of a filtered dataset; None for another filter."""
    rules = metrics.get("rules")
    if not rules:
        return None
    before = selection_report({"rules": rules.get("before")})
    if not rules["rules"]:
        return before
    reported = {
        name: RuleReport(**{key: rule[key] for key in RuleReport.model_fields if key in rule})
        for name in rules["order"]
        for rule in [rules["rules"][name]]
        if rule["dropped_alone"] or not name.endswith("_without_value")
    }
    parts = {
        column: {name: PartReport(**counts) for name, counts in values.items()}
        for column, values in rules.get("parts", {}).items()
    }
    return SelectionReport(
        num_pairs=rules["num_pairs"],
        num_kept=rules["num_kept"],
        order=tuple(reported),
        rules=reported,
        parts=parts,
        before=before,
    )


def scores_table(scorers: Mapping[str, ScorerReport]) -> Table:
    """Return the table of the distribution of each score; the title gives the rate of each scorer."""
    rates = ", ".join(
        f"{name} {'reused' if of.pairs_per_s is None else f'at {of.pairs_per_s:,.0f} pairs/s'}"
        for name, of in scorers.items()
    )
    table = Table(title=f"scores of all pairs: {rates}", title_justify="left")
    table.add_column("column", no_wrap=True)
    for heading in ("scored", "without score", "p1", "p5", "median"):
        table.add_column(heading, justify="right")
    for scorer in scorers.values():
        for name, of in scorer.columns.items():
            numbers = ["–" if value is None else f"{value:.3g}" for value in (of.p1, of.p5, of.median)]
            table.add_row(name, f"{of.num_scored:,}", f"{of.without_score:,}", *numbers)
    return table


def selection_tables(selection: SelectionReport) -> list[Table]:
    """Return the tables of a selection and of those before it: the rules in order, and what they drop of each part."""
    before = [] if selection.before is None else selection_tables(selection.before)
    return [
        *before,
        rules_table(selection),
        *(parts_table(selection, column) for column, values in selection.parts.items() if len(values) > 1),
    ]


def parts_table(selection: SelectionReport, column: str) -> Table:
    """Return the table of the pairs of each source of a mixture, or of each language, and what each rule drops."""
    values = selection.parts[column]
    table = Table(title=f"rules by {column}: pairs dropped in order", title_justify="left")
    table.add_column(column)
    for heading in ("pairs", "kept", *(name for name, rule in selection.in_order if rule.dropped_in_order)):
        table.add_column(heading, justify="right")
    for name, of in values.items():
        dropped = [of.dropped.get(rule, 0) for rule, report in selection.in_order if report.dropped_in_order]
        table.add_row(name, *(f"{count:,}" for count in (of.num_pairs, of.num_kept, *dropped)))
    return table


def rules_table(selection: SelectionReport) -> Table:
    """Return the table of the rules of a selection, in order."""
    table = Table(title=f"rules: {selection.num_kept:,} of {selection.num_pairs:,} pairs kept", title_justify="left")
    table.add_column("rule")
    table.add_column("criteria")
    for heading in ("dropped in order", "alone", "only here"):
        table.add_column(heading, justify="right")
    for name, rule in selection.in_order:
        counts = (rule.dropped_in_order, rule.dropped_alone, rule.dropped_only_here)
        table.add_row(name, criteria_text(rule.criteria), *(f"{count:,}" for count in counts))
        for reason, count in sorted(rule.reasons.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(f"  {reason}", "reason", "", f"{count:,}", "")
    return table


def criteria_text(criteria: Mapping[str, Any]) -> str:
    """Return the criteria of a rule as text, such as `rules.length_z: min=-3`."""
    told = ", ".join(f"{key}={value}" for key, value in criteria.items() if key != "column")
    column = criteria.get("column")
    return f"{column}: {told}" if column and told else str(column or "own function")


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
