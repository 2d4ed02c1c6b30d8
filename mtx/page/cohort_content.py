"""Compute what the page shows about one cohort of jobs, all evaluated on the same held-out pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtx.page.answers import Answer, answers
from mtx.page.combination_grid import CombinationGrid, combination_grid
from mtx.page.copied_tables import both_tables
from mtx.page.effects import Effect, effects
from mtx.page.pareto import Front, fronts
from mtx.page.plots.learning_rate_means import learning_rate_plot
from mtx.page.plots.matplotlib_svg import Plot
from mtx.page.plots.power_law_bands import data_curve_plot
from mtx.page.plots.rule_worth_intervals import worth_plot
from mtx.page.ranking import Ranking, ranking
from mtx.page.result_plots import PageFigures, curve_plots, effect_plot, front_plot
from mtx.page.slices_section import SlicesSection, slices_section
from mtx.page.time_to_quality import TimeToQuality, time_to_quality
from mtx.records.cohorts import Cohort
from mtx.records.data_curve import DataCurves, data_curves
from mtx.records.learning_rate_order import LearningRateOrder, learning_rate_order
from mtx.records.objective_at_equal_budget import condition_lines
from mtx.records.plot_data_record import RunProfile
from mtx.records.ranking_agreement import Agreement, agreements
from mtx.records.report_metrics import metric_heading
from mtx.records.result_types import Results
from mtx.records.rule_worth import RuleWorths, rule_worths

MAX_FINDINGS = 2  # by slice that an answer names


@dataclass(frozen=True)
class Comparison:
    """One cohort of jobs, with everything that the page shows about it.

    Attributes:
        cohort: The jobs, all evaluated on the same held-out pairs.
        ranking: The table of arms, best first.
        conditions: The amounts of training that are equal for all arms, and those that differ.
        effects: The effect of each varied setting, with its plot.
        grid: The objective for each combination of two varied settings; None if other than two vary.
        fronts: The Pareto front of each pair of metrics, with its plot.
        curves: The plots of learning curves.
        labels: The name of each job's arm with its row number, by the job's folder.
        answers: The answers to the questions at the top of the page.
        agreements: How far shorter trainings would have ranked the arms alike.
        copies: The ranking in Markdown and in LaTeX, each with the label of its button.
        time_to_quality: The time and the tokens of each row to reach the same quality; None if it cannot be computed.
        slices: Bits per byte by slice; None if the best arm has no slices.
        worths: What each rule is worth, with its plot, in a sweep over `filter.ablation`.
        learning_rates: The order of the arms by learning rate, with its plot, in a sweep that varies it.
        more_pairs: What more pairs are worth, with its plot, in a sweep over `datamodule.share`.
    """

    cohort: Cohort
    ranking: Ranking
    conditions: tuple[str, ...]
    effects: tuple[tuple[Effect, Plot], ...]
    fronts: tuple[tuple[Front, Plot], ...]
    curves: tuple[Plot, ...]
    labels: Mapping[Path, str]
    answers: tuple[Answer, ...]
    copies: Sequence[tuple[str, str]]
    agreements: tuple[Agreement, ...]
    time_to_quality: TimeToQuality | None
    slices: SlicesSection | None
    grid: CombinationGrid | None
    worths: tuple[tuple[RuleWorths, Plot], ...] = ()
    more_pairs: tuple[DataCurves, Plot] | None = None
    learning_rates: tuple[LearningRateOrder, Plot] | None = None


def comparison(
    cohort: Cohort,
    varied: Sequence[str],
    profiles: Mapping[Path, RunProfile],
    drawing: PageFigures,
    *,
    with_plots: bool,
) -> Comparison:
    """Return everything that the page shows about one cohort; without `with_plots` only what is cheap.

    Args:
        cohort: the jobs.
        varied: the keys that differ between all jobs of the page.
        profiles: the data of plots by the folder of a job, also of jobs that still train.
        drawing: draws the plots of the page.
        with_plots: whether to draw plots and compute what costs time.
    """
    results = cohort.results
    table = ranking(results, varied)
    objective = metric_heading(results.objective)
    labels = {job.folder: f"{row.number}. {row.label}" for row in table.rows for job in row.jobs}
    if len(labels) == 1:
        labels = dict.fromkeys(labels, "this run")
    common = time_to_quality(table.rows, profiles) if with_plots else None
    found_effects = effects(results) if with_plots else ()
    found_fronts = fronts(results) if with_plots else ()
    shares = data_curves(results) if with_plots else None
    order = learning_rate_order(results) if with_plots else None
    by_slice = slices_section(table.rows) if with_plots else None
    return Comparison(
        cohort=cohort,
        ranking=table,
        conditions=condition_lines(results),
        effects=tuple((effect, effect_plot(drawing, effect, objective)) for effect in found_effects),
        fronts=tuple((front, front_plot(drawing, front, results)) for front in found_fronts),
        curves=curve_plots(drawing, results, labels, profiles) if with_plots else (),
        labels=labels,
        answers=(*answers(results, common, profiles), *_answer_by_slice(results, by_slice)),
        copies=both_tables(table),
        agreements=agreements(results) if with_plots else (),
        time_to_quality=common,
        slices=by_slice,
        grid=combination_grid(results, table) if with_plots else None,
        worths=tuple((one, worth_plot(drawing, one)) for one in rule_worths(results)) if with_plots else (),
        learning_rates=(order, learning_rate_plot(drawing, order)) if order is not None else None,
        more_pairs=(shares, data_curve_plot(drawing, shares)) if shares is not None else None,
    )


def _answer_by_slice(results: Results, found: SlicesSection | None) -> tuple[Answer, ...]:
    """Return the answer to where the best arm loses, from the first findings by slice; none while jobs run."""
    if found is None or not found.findings or results.is_interim or len(results.arms) < 2:
        return ()
    more = "" if len(found.findings) <= MAX_FINDINGS else f" {len(found.findings) - MAX_FINDINGS} more are below."
    return (Answer("Where does the best arm lose?", " ".join(found.findings[:MAX_FINDINGS]) + more, "", False),)
