"""The part of `report.json` about planted noise: what each score catches, and the histograms of the scores."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rich.table import Table

from mtx.data.score.noise_curves import LOSSES, CorpusScores
from mtx.records.record_file import Count, Number, Record
from mtx.records.rule_cost_report import RuleCostReport

NUM_BINS = 40  # of a histogram, between the 0.1st percentile and the maximum
LOWEST_QUANTILE = 0.001  # values below it are counted apart, so that a long tail does not flatten the histogram


class ScoreHistogram(Record):
    """A histogram of a score: `counts[i]` values from `edges[i]` to below `edges[i + 1]`, and `below` lower values."""

    edges: tuple[Number, ...]
    counts: tuple[Count, ...]
    below: Count = 0


class KindReport(Record):
    """What a score tells about one kind of planted noise: AUC, the share caught at 1 % and 5 % loss, and a curve."""

    num_pairs: Count
    auc: Number
    caught_1: Number
    caught_5: Number
    caught: tuple[Number, ...] = ()


class ThresholdReport(Record):
    """A suggested minimum of a score: which share of the corpus it loses, and of all planted noise it catches."""

    threshold: Number
    lost: Number
    caught: Number


class ColumnNoise(Record):
    """What one score catches: suggested thresholds, a curve over the losses, and each kind of noise."""

    loss_1: ThresholdReport | None = None
    loss_5: ThresholdReport | None = None
    losses: tuple[Number, ...] = ()
    caught: tuple[Number, ...] = ()
    kinds: dict[str, KindReport] = Field(default_factory=dict)


class ScoreExample(Record):
    """A pair to read, with its row number and its score."""

    row: Count
    value: Number
    source: str
    target: str


class ScoreExamples(Record):
    """The pairs with the lowest scores, and those nearest to the median, in the order of their scores."""

    worst: tuple[ScoreExample, ...] = ()
    median: tuple[ScoreExample, ...] = ()


class NoiseReport(Record):
    """The part of a report that `task=scores` writes."""

    num_rows: Count | None = None
    histograms: dict[str, ScoreHistogram] = Field(default_factory=dict)
    noise: dict[str, ColumnNoise] = Field(default_factory=dict)
    rule_costs: RuleCostReport = Field(default_factory=RuleCostReport)
    examples: dict[str, ScoreExamples] = Field(default_factory=dict)


def column_noise(corpus: NDArray[np.float64], noise: Mapping[str, NDArray[np.float64]]) -> ColumnNoise:
    """Return what a score catches, given its values for the corpus and for each kind of noise, float64 [n]."""
    scores = CorpusScores(corpus)
    found = {kind: scores.separation(values) for kind, values in noise.items() if len(values)}
    if not found or not len(corpus):
        return ColumnNoise()
    of_all = scores.separation(np.concatenate([noise[kind] for kind in found]))
    at = {loss: number for number, loss in enumerate(LOSSES)}

    def suggested(loss: float) -> ThresholdReport | None:
        threshold = scores.threshold(loss)
        if not np.isfinite(threshold):
            return None
        return ThresholdReport(threshold=threshold, lost=scores.share_below(threshold), caught=of_all.caught[at[loss]])

    return ColumnNoise(
        loss_1=suggested(0.01),
        loss_5=suggested(0.05),
        losses=LOSSES,
        caught=of_all.caught,
        kinds={
            kind: KindReport(
                num_pairs=of.num_pairs,
                auc=of.auc,
                caught_1=of.caught[at[0.01]],
                caught_5=of.caught[at[0.05]],
                caught=of.caught,
            )
            for kind, of in found.items()
        },
    )


def score_histogram(values: NDArray[np.float64]) -> ScoreHistogram | None:
    """Return the histogram of a score, float64 [n]; NaN and infinite values are left out; None if no value is left."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = float(np.quantile(known, LOWEST_QUANTILE)), float(known.max())
    if low == high:  # nearly all values are equal, so the others are all that the histogram can show
        low = float(known.min())
    edges = np.linspace(low, high, NUM_BINS + 1) if low < high else np.array([low, low + 1.0])
    counts, _ = np.histogram(known[known >= low], edges)
    return ScoreHistogram(
        edges=tuple(edges.tolist()), counts=tuple(counts.tolist()), below=int(np.count_nonzero(known < low))
    )


def thresholds_table(noise: Mapping[str, ColumnNoise]) -> Table:
    """Return the table of the suggested thresholds of each score."""
    table = Table(title="thresholds by planted noise: share lost, share of all noise caught", title_justify="left")
    table.add_column("column")
    table.add_column("at 1 % loss", justify="right")
    table.add_column("at 5 % loss", justify="right")
    for name, of in noise.items():
        told = [
            "–" if at is None else f"min={at.threshold:.4g}: {at.lost:.2%}, {at.caught:.1%}"
            for at in (of.loss_1, of.loss_5)
        ]
        table.add_row(name, *told)
    return table


def kinds_table(noise: Mapping[str, ColumnNoise]) -> Table:
    """Return the table of the best score for each kind of noise: its AUC, and the share caught at 1 % and 5 % loss."""
    table = Table(title="planted noise, and the score that tells most of it", title_justify="left")
    table.add_column("noise")
    table.add_column("column")
    for heading in ("AUC", "caught at 1 % loss", "caught at 5 % loss"):
        table.add_column(heading, justify="right")
    for kind in dict.fromkeys(kind for of in noise.values() for kind in of.kinds):
        found = {name: of.kinds[kind] for name, of in noise.items() if kind in of.kinds}
        name, best = max(found.items(), key=lambda item: (item[1].caught_5, item[1].auc))
        table.add_row(kind, name, f"{best.auc:.3f}", f"{best.caught_1:.1%}", f"{best.caught_5:.1%}")
    return table
