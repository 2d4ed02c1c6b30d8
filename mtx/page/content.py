"""Compute the content of the page as plain values for its template; the only markup is the SVG of the plots."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mtx.evaluation.verdict_text import difference_text
from mtx.page import data_section, provenance
from mtx.page.effects import Effect, effects
from mtx.page.pareto import Front, fronts
from mtx.page.plots.matplotlib_svg import Plot
from mtx.page.plots.rule_worth_intervals import worth_plot
from mtx.page.ranking import Ranking, heading, job_label, metric_columns, ranking
from mtx.page.result_plots import PageFigures, batch_plots, curve_plots, effect_plot, front_plot, histogram_plot
from mtx.page.scores_section import scores_section
from mtx.page.time_to_quality import TimeToQuality, time_to_quality
from mtx.records.cohorts import Cohort, cohorts
from mtx.records.evaluation_report import HEADINGS, difference_cell, metric_cell
from mtx.records.objective_at_equal_budget import condition_lines
from mtx.records.plot_data_record import RunProfile, read_profile
from mtx.records.report_record import REPORT_FILE, Report
from mtx.records.result_types import SEED, JobRecord, RecordState, Results
from mtx.records.rule_worth import WORTH_HEADINGS, RuleWorths, rule_worths, worth_cells
from mtx.records.setting_notation import brief_key, brief_text, brief_value, metric_text
from mtx.records.sweep_record import PAGE_FILE
from mtx.records.verdict_lines import separation_text, verdict_text

LISTED_STATES: tuple[RecordState, ...] = ("completed", "failed", "interrupted", "running", "missing")
MAX_COHORTS = 3  # cohorts with plots
MAX_BATCH_ROWS = 8  # rows of the ranking whose batches are plotted
MAX_HISTOGRAMS = 6
MAX_FUNNELS = 6  # tables of pairs kept and dropped; further ones get one line each
MAX_TRACES = 20  # failures with a traceback on the page; the jobs' logs have all tracebacks
MAX_NAMED_JOBS = 30  # jobs listed for one failure
MAX_TRACE_CHARS = 8000  # characters of a traceback, counted from its end
MAX_TRANSLATIONS = 5
MAX_VALUES = 12  # values listed for each setting that varied

# Functions that the template calls, by their names in the template.
TEMPLATE_FUNCTIONS = {
    "difference_text": difference_text,
    "named": provenance.names_text,
    "heading": heading,
    "written": metric_text,
    "brief_value": brief_value,
    "evaluation_headings": HEADINGS,
    "metric_cell": metric_cell,
    "difference_cell": difference_cell,
    "worth_cells": worth_cells,
    "worth_headings": WORTH_HEADINGS,
}


@dataclass(frozen=True)
class Comparison:
    """One cohort of jobs, with everything that the page shows about it.

    Attributes:
        cohort: The jobs, all evaluated on the same held-out pairs.
        ranking: The table of arms, best first.
        verdict: The sentence that names the winner, or says why there is none; empty if there is one arm.
        conditions: The amounts of training that are equal for all arms, and those that differ.
        effects: The effect of each varied setting, with its plot.
        fronts: The Pareto front of each pair of metrics, with its plot.
        curves: The plots of learning curves.
        time_to_quality: The time and the tokens of each row to reach the same quality; None if it cannot be computed.
        worths: What each rule is worth, with its plot, in a sweep over `filter.ablation`.
    """

    cohort: Cohort
    ranking: Ranking
    verdict: str
    conditions: tuple[str, ...]
    effects: tuple[tuple[Effect, Plot], ...]
    fronts: tuple[tuple[Front, Plot], ...]
    curves: tuple[Plot, ...]
    time_to_quality: TimeToQuality | None
    worths: tuple[tuple[RuleWorths, Plot], ...] = ()


@dataclass(frozen=True)
class Failure:
    """Jobs that failed with the same error, or were interrupted.

    Attributes:
        state: `failed` or `interrupted`.
        error: The common error message.
        jobs: The listed jobs, each with a label.
        more: The number of further jobs that are not listed.
        traceback: The traceback of the first job.
    """

    state: str
    error: str
    jobs: Sequence[tuple[JobRecord, str]]
    more: int
    traceback: str | None


def page_content(results: Results, folder: Path) -> dict[str, Any]:
    """Return the variables of the page's template.

    Args:
        results: The jobs that the page shows.
        folder: The folder of the page, to which its links are relative.
    """
    drawing = PageFigures()
    varied = results.varied
    completed = [job for job in results.jobs if job.state == "completed"]
    notes = [*results.notes, *(f"job {job.name}: {note}" for job in results.jobs for note in job.notes)]
    profiles = {job.folder: read_profile(job.folder, job.report, notes) for job in completed}
    compared = cohorts(results)
    comparisons = [
        _comparison(cohort, varied, profiles, drawing, with_plots=number < MAX_COHORTS)
        for number, cohort in enumerate(compared)
    ]
    first = completed[0] if completed else results.jobs[0] if results.jobs else None
    funnels = data_section.funnels(completed, varied, profiles)
    histograms = data_section.histograms(completed, varied, profiles)
    rows = [row for comparison in comparisons for row in comparison.ranking.rows]
    representatives = [(row.label, job) for row in rows if (job := _first_completed(row.jobs)) is not None]
    batches = batch_plots(drawing, representatives[:MAX_BATCH_ROWS], profiles)
    return {
        "title": _title(results),
        "results": results,
        "single": results.jobs[0] if len(results.jobs) == 1 else None,
        "numbers": _number_rows(results),
        "command": shlex.join(["mtx", *results.command]) if results.command else None,
        "overrides": shlex.join(["mtx", *first.overrides]) if first is not None and len(results.jobs) == 1 else None,
        "started": min((job.started for job in results.jobs if job.started), default=None),
        "seconds": sum(job.seconds or 0.0 for job in results.jobs),
        "varied": _varied_choices(results),
        "states": {state: results.count(state) for state in LISTED_STATES},
        "reused": sum(job.reused for job in results.jobs),
        "objective": heading(results.objective),
        "comparisons": comparisons,
        "apart": len(compared) > 1,
        "separation": separation_text(results, compared),
        "level": f"{100 * compared[0].results.verdict.level:g} %",
        "failed": _failures(results.jobs, varied),
        "jobs": [(job, job_label(job, varied), _link(job, folder)) for job in results.jobs],
        "notes": notes,
        "assumptions": [*((assumption, None) for assumption in results.assumptions), *_assumptions(results.jobs)],
        "histograms": [
            (label, histogram_plot(drawing, label, profile)) for label, profile in histograms[:MAX_HISTOGRAMS]
        ],
        "histograms_left_out": max(0, len(histograms) - MAX_HISTOGRAMS),
        "funnels": funnels[:MAX_FUNNELS],
        "scores": next((of for job in completed if (of := scores_section(job.report, drawing)) is not None), None),
        "short_funnels": funnels[MAX_FUNNELS:],
        "batches": batches,
        "batches_left_out": max(0, len(representatives) - MAX_BATCH_ROWS) if batches else 0,
        "vocabularies": data_section.vocabularies(completed, varied, profiles),
        **_model_outputs(results, completed, varied),
        "stages": provenance.stage_outputs(completed),
        "settings": provenance.common_settings(results.jobs, varied),
        "versions": provenance.package_versions(completed),
        **TEMPLATE_FUNCTIONS,
    }


def _title(results: Results) -> str:
    """Return the title of the page: the dataset, and the task of one job, or the number of jobs and what varied."""
    report = next((job.report for job in results.jobs if not job.report.is_empty), Report())
    about = " ".join([brief_text(report.name or ""), "–".join(report.languages or ())]).strip()
    if len(results.jobs) == 1:
        task = results.jobs[0].choices.get("task", "run")
        return " ".join(part for part in (f"mtx {task}:", about or results.jobs[0].name) if part)
    keys = [brief_key(key, results.varied) for key in results.varied if key != SEED]
    by = f" by {', '.join(keys[:4])}{', …' if len(keys) > 4 else ''}" if keys else ""
    return f"{len(results.jobs)} jobs{by}{f': {about}' if about else ''}"


def _comparison(
    cohort: Cohort,
    varied: Sequence[str],
    profiles: Mapping[Path, RunProfile],
    drawing: PageFigures,
    *,
    with_plots: bool,
) -> Comparison:
    results = cohort.results
    table = ranking(results, varied)
    objective = heading(results.objective)
    labels = {job.folder: f"{row.number}. {row.label}" for row in table.rows for job in row.jobs}
    found_effects = effects(results) if with_plots else ()
    found_fronts = fronts(results) if with_plots else ()
    return Comparison(
        cohort=cohort,
        ranking=table,
        verdict=verdict_text(results),
        conditions=condition_lines(results),
        effects=tuple((effect, effect_plot(drawing, effect, objective)) for effect in found_effects),
        fronts=tuple((front, front_plot(drawing, front, results, varied)) for front in found_fronts),
        curves=curve_plots(drawing, results, labels, profiles) if with_plots else (),
        time_to_quality=time_to_quality(table.rows, profiles) if with_plots else None,
        worths=tuple((one, worth_plot(drawing, one)) for one in rule_worths(results)) if with_plots else (),
    )


def _number_rows(results: Results) -> list[tuple[str, str]]:
    """Return the names and values of the metrics for a page with one job; empty for more jobs."""
    if len(results.jobs) != 1:
        return []
    job = results.jobs[0]
    found = [(name, job.number(name)) for name in metric_columns(results)]
    return [(heading(name), metric_text(name, value)) for name, value in found if value is not None]


def _varied_choices(results: Results) -> list[tuple[str, list[str], int]]:
    """Return each varied key with its first values in the order of the jobs, and the number of further values."""
    found = []
    for key in results.varied:
        values = list(dict.fromkeys(brief_value(job.value(key)) for job in results.jobs if job.config))
        values = [value for value in values if value != brief_value(None)] or values
        found.append(("seed" if key == SEED else key, values[:MAX_VALUES], max(0, len(values) - MAX_VALUES)))
    return found


def _assumptions(jobs: Sequence[JobRecord]) -> list[tuple[str, str | None]]:
    """Return what the jobs assumed, each with the jobs that did; None in place of all jobs."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        for assumption in job.report.assumptions:
            found.setdefault(assumption, []).append(job.name)
    with_report = sum(not job.report.is_empty for job in jobs)
    return [
        (assumption, None if len(names) == with_report else brief_text(", ".join(names)))
        for assumption, names in found.items()
    ]


def _failures(jobs: Sequence[JobRecord], varied: Sequence[str]) -> list[Failure]:
    """Return the failed and the interrupted jobs, grouped by state and error message."""
    found: dict[tuple[str, str], list[JobRecord]] = {}
    for job in jobs:
        if job.state in ("failed", "interrupted"):
            found.setdefault((job.state, job.error or "no error message"), []).append(job)
    failures = []
    for number, ((state, error), gathered) in enumerate(found.items()):
        named = [(job, _job_label(job, varied)) for job in gathered[:MAX_NAMED_JOBS]]
        trace = gathered[0].traceback if number < MAX_TRACES else None
        if trace is not None and len(trace) > MAX_TRACE_CHARS:
            trace = f"…\n{trace[-MAX_TRACE_CHARS:]}"
        failures.append(Failure(state, error, named, len(gathered) - len(named), trace))
    return failures


def _job_label(job: JobRecord, varied: Sequence[str]) -> str:
    """Return the label of a job: its varied settings with the seed; without a config, its overrides."""
    if not job.config or not varied:
        return " ".join(job.overrides)
    seed = f", seed={brief_value(job.value(SEED))}" if SEED in varied else ""
    return job_label(job, varied) + seed


def _model_outputs(results: Results, completed: Sequence[JobRecord], varied: Sequence[str]) -> dict[str, Any]:
    """Return the sample translations, and the evaluation of each job on named sets."""
    evaluated = [(job_label(job, varied), job.report.evaluation) for job in completed if job.report.evaluation]
    return {"translations": _translations(results), "evaluated": evaluated}


def _translations(results: Results) -> list[dict[str, str]]:
    """Return the sample translations for a page with one job; empty for more jobs."""
    if len(results.jobs) != 1:
        return []
    return [
        {name: data_section.excerpt(getattr(sample, name)) for name in ("source", "reference", "output")}
        for sample in results.jobs[0].report.translations[:MAX_TRANSLATIONS]
    ]


def _first_completed(jobs: Sequence[JobRecord]) -> JobRecord | None:
    return next((job for job in jobs if job.state == "completed"), None)


def _link(job: JobRecord, folder: Path) -> str | None:
    """Return the link from the page to a job's page, report or log, the first that exists; None if none exists."""
    for name in (PAGE_FILE, REPORT_FILE, "mtx.log"):
        path = job.folder / name
        if path.exists() and path != folder / PAGE_FILE:
            try:
                return quote(Path(os.path.relpath(path, folder)).as_posix())
            except ValueError:  # on Windows, a folder on another drive has no relative path
                return path.absolute().as_uri()
    return None
