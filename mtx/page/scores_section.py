"""Compute the page's section about scores: histograms, planted noise, the costs of rules, and pairs to read."""

from collections.abc import Mapping
from dataclasses import dataclass

from mtx.page.plots.matplotlib_svg import Plot
from mtx.page.plots.score_plots import caught_curves, histogram_of_score
from mtx.page.result_plots import PageFigures
from mtx.records.noise_report import ColumnNoise, ScoreExamples, ScoreHistogram
from mtx.records.report_record import Report
from mtx.records.rule_cost_report import RuleCost

MAX_PLOTTED_SCORES = 24  # scores with plots; further ones are in the tables alone
MAX_CURVES = 6  # kinds of noise in one plot, beside all noise
COMPLETE = 0.995  # a share that is written as 100 %, and has no curve
LEAST_CAUGHT = 0.15  # a kind of which a score catches less, where 5 % of all pairs are lost, has no curve


@dataclass(frozen=True)
class ScoreCard:
    """One score: its distribution, what it catches, and pairs to read.

    Attributes:
        name: name of the column.
        noise: suggested thresholds, and what the score catches.
        below: number of pairs below the histogram.
        rule: the rule of the filter that sets a minimum on the score, and the minimum; None without such a rule.
        histogram: its plot; None for a score without one, and if all pairs have one value.
        only_value: the value that all pairs have; None if they have several.
        curves: the plot of the noise that it catches in part; None without planted noise.
        complete: the kinds of noise that it catches completely where 1 % of all pairs are lost, in words.
        examples: the worst and the median pairs.
        cells: for each kind of noise the AUC, and the share caught at 1 % and at 5 % loss; None if it is not known.
    """

    name: str
    noise: ColumnNoise
    below: int
    rule: tuple[str, float] | None
    histogram: Plot | None
    only_value: float | None
    curves: Plot | None
    complete: tuple[str, ...]
    examples: ScoreExamples
    cells: tuple[tuple[float, float, float] | None, ...]


@dataclass(frozen=True)
class ScoresSection:
    """All scores; `kinds` are the columns of the table of planted noise, and `best` the best score for each kind."""

    num_rows: int
    languages: tuple[str, ...]
    cards: tuple[ScoreCard, ...]
    kinds: tuple[str, ...]
    best: tuple[str, ...]
    rules: tuple[tuple[str, RuleCost], ...]
    together: RuleCost | None


def scores_section(report: Report, drawing: PageFigures) -> ScoresSection | None:
    """Return the section of `task=scores`, with its plots; None for another task."""
    if not report.histograms:
        return None
    kinds = tuple(dict.fromkeys(kind for of in report.noise.values() for kind in of.kinds))
    minima = {
        cost.column: (name, float(cost.threshold))
        for name, cost in report.rule_costs.rules.items()
        if cost.column is not None and cost.threshold is not None
    }
    cards = tuple(
        _card(name, report, minima.get(name), kinds, drawing if number < MAX_PLOTTED_SCORES else None)
        for number, name in enumerate(report.histograms)
    )
    best = tuple(
        max(cards, key=lambda card: (cell[2], cell[0]) if (cell := card.cells[place]) else (0.0, 0.0)).name
        for place in range(len(kinds))
    )
    return ScoresSection(
        num_rows=report.num_rows or 0,
        languages=tuple(report.languages or ()),
        cards=cards,
        kinds=kinds,
        best=best,
        rules=tuple(report.rule_costs.rules.items()),
        together=report.rule_costs.together,
    )


def _card(
    name: str,
    report: Report,
    rule: tuple[str, float] | None,
    kinds: tuple[str, ...],
    drawing: PageFigures | None,
) -> ScoreCard:
    noise, histogram = report.noise.get(name, ColumnNoise()), report.histograms[name]
    return ScoreCard(
        name=name,
        noise=noise,
        below=histogram.below,
        rule=rule,
        histogram=None
        if drawing is None or len(histogram.counts) == 1
        else _histogram_plot(drawing, name, histogram, noise, rule),
        only_value=float(histogram.edges[0]) if len(histogram.counts) == 1 else None,
        curves=None if drawing is None or not noise.kinds else _curves_plot(drawing, name, noise),
        complete=tuple(kind.replace("_", " ") for kind, of in noise.kinds.items() if of.caught_1 >= COMPLETE),
        examples=report.examples.get(name, ScoreExamples()),
        cells=tuple(
            (float(of.auc), float(of.caught_1), float(of.caught_5)) if (of := noise.kinds.get(kind)) else None
            for kind in kinds
        ),
    )


def _histogram_plot(
    drawing: PageFigures, name: str, histogram: ScoreHistogram, noise: ColumnNoise, rule: tuple[str, float] | None
) -> Plot:
    found = (("1 % lost", noise.loss_1), ("5 % lost", noise.loss_5))
    thresholds = [(label, float(of.threshold)) for label, of in found if of is not None]
    thresholds += [] if rule is None else [(f"rule {rule[0]}", rule[1])]
    edges, counts = [float(edge) for edge in histogram.edges], list(histogram.counts)
    label = f"histogram of {name} from {edges[0]:.4g} to {edges[-1]:.4g}"
    return histogram_of_score(drawing, edges, counts, thresholds, label=label)


def _curves_plot(drawing: PageFigures, name: str, noise: ColumnNoise) -> Plot:
    caught = {
        kind: of
        for kind, of in noise.kinds.items()
        if of.caught and of.caught_5 >= LEAST_CAUGHT and of.caught_1 < COMPLETE
    }
    order = sorted(caught, key=lambda kind: (-caught[kind].caught_5, -caught[kind].auc))[:MAX_CURVES]
    curves: Mapping[str, list[float]] = {
        "all noise": [float(share) for share in noise.caught],
        **{kind.replace("_", " "): [float(share) for share in caught[kind].caught] for kind in order},
    }
    losses = [float(loss) for loss in noise.losses]
    return caught_curves(drawing, losses, curves, label=f"noise that {name} catches, over the pairs that it loses")
