"""Compute the content of the page as plain values for its template; the only markup is the SVG of the plots."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtx.evaluation.verdict_text import difference_text
from mtx.page import data_section, provenance
from mtx.page.cohort_content import Comparison, comparison
from mtx.page.data_section import run_facts
from mtx.page.failures_section import failures
from mtx.page.job_links import ArmCommands, arm_commands, contrastive_conditions, job_link, signatures, without_samples
from mtx.page.mixture_section import mixture_shares
from mtx.page.plots.learning_rate_means import MAX_PLOTTED_ARMS
from mtx.page.plots.power_law_bands import MAX_CURVES
from mtx.page.ranking import job_label, metric_columns
from mtx.page.result_plots import PageFigures, batch_plots, histogram_plot
from mtx.page.scores_section import scores_section
from mtx.page.scripts import library_style, page_data, script_sources, scripts
from mtx.page.slices_section import SlicesSection, run_slices
from mtx.records.cohorts import cohorts
from mtx.records.data_curve import CURVE_HEADINGS, curve_cells
from mtx.records.evaluation_report import HEADINGS, difference_cell, metric_cell
from mtx.records.learning_rate_order import (
    agreement_rows,
    order_headings,
    order_rows,
)
from mtx.records.plot_data_record import read_profile
from mtx.records.report_metrics import metric_heading, percent, sentence_start
from mtx.records.report_record import Report
from mtx.records.result_types import SEED, JobRecord, RecordState, Results
from mtx.records.rule_worth import WORTH_HEADINGS, worth_cells
from mtx.records.running_training import read_running_profile
from mtx.records.setting_notation import brief_key, brief_text, brief_value, metric_text
from mtx.records.verdict_lines import separation_text

LISTED_STATES: tuple[RecordState, ...] = ("completed", "failed", "interrupted", "running", "missing")
MAX_COHORTS = 3  # cohorts with plots
MAX_BATCH_ROWS = 8  # rows of the ranking whose batches are plotted
MAX_HISTOGRAMS = 6
MAX_FUNNELS = 6  # tables of pairs kept and dropped; further ones get one line each
MAX_TRANSLATIONS = 5
MAX_COMMANDS = 2000  # arms whose commands are listed
NO_SAMPLES: dict[str, Any] = {"rejects": {}, "rules": {}}  # fields of a profile with sentences of the corpus
LARGE_JOBS = 200  # jobs; with more, the browser lays out a section when it comes into view
REFRESH_S = 20  # seconds after which the page of a running sweep reloads
MAX_VALUES = 12  # values listed for each setting that varied

# Functions that the template calls, by their names in the template.
TEMPLATE_FUNCTIONS = {
    "difference_text": difference_text,
    "named": provenance.names_text,
    "heading": metric_heading,
    "written": metric_text,
    "percent": percent,
    "sentence_start": sentence_start,
    "brief_value": brief_value,
    "evaluation_headings": HEADINGS,
    "metric_cell": metric_cell,
    "difference_cell": difference_cell,
    "worth_cells": worth_cells,
    "worth_headings": WORTH_HEADINGS,
    "curve_cells": curve_cells,
    "order_headings": order_headings,
    "order_rows": order_rows,
    "agreement_rows": agreement_rows,
    "curve_headings": CURVE_HEADINGS,
    "max_data_curves": MAX_CURVES,
    "max_plotted_arms": MAX_PLOTTED_ARMS,
}


def page_content(results: Results, folder: Path) -> dict[str, Any]:
    """Return the variables of the page's template.

    Args:
        results: The jobs that the page shows.
        folder: The folder of the page, to which its links are relative.
    """
    drawing = PageFigures()
    if not results.with_samples:
        results = without_samples(results)
    varied = results.varied
    completed = [job for job in results.jobs if job.state == "completed"]
    notes = [*results.notes, *(f"job {job.name}: {note}" for job in results.jobs for note in job.notes)]
    kept = {} if results.with_samples else NO_SAMPLES
    profiles = {job.folder: read_profile(job.folder, job.report, notes).model_copy(update=kept) for job in completed}
    running = {
        job.folder: read_running_profile(job.folder, job.started) for job in results.jobs if job.state == "running"
    }
    compared = cohorts(results)
    comparisons = [
        comparison(cohort, varied, {**profiles, **running}, drawing, with_plots=number < MAX_COHORTS)
        for number, cohort in enumerate(compared)
    ]
    funnels = data_section.funnels(completed, varied, profiles)
    histograms = data_section.histograms(completed, varied, profiles)
    representatives = _representatives(comparisons)
    batches = batch_plots(drawing, representatives[:MAX_BATCH_ROWS], profiles)
    return {
        **_job_facts(results, folder),
        "comparisons": comparisons,
        "apart": len(compared) > 1,
        "separation": separation_text(results, compared),
        "level": f"{100 * compared[0].results.verdict.level:g} %",
        "notes": notes,
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
        "slices": _slices(results, comparisons),
        **_model_outputs(results, completed, varied),
        "stages": provenance.stage_outputs(completed),
        "versions": provenance.package_versions(completed),
        "scripts": scripts(),
        "script_sources": script_sources(),
        "library_style": library_style(),
        "data": page_data(compared[0].results, comparisons[0].ranking, comparisons[0].labels, {**profiles, **running}),
        "mixtures": mixture_shares(completed, varied),
        "arms": _arms(comparisons, folder),
        "max_commands": MAX_COMMANDS,
        "large_jobs": LARGE_JOBS,
        "signatures": signatures(completed),
        "contrastive_conditions": contrastive_conditions(completed),
        **TEMPLATE_FUNCTIONS,
    }


def _job_facts(results: Results, folder: Path) -> dict[str, Any]:
    """Return the variables of the template that follow from the jobs alone, without comparisons and plots."""
    varied = results.varied
    first = next((job for job in results.jobs if job.state == "completed"), next(iter(results.jobs), None))
    return {
        "title": _title(results),
        "results": results,
        "single": results.jobs[0] if len(results.jobs) == 1 else None,
        "numbers": _number_rows(results),
        "command": shlex.join(["mtx", *results.command]) if results.command else None,
        "overrides": shlex.join(["mtx", *first.overrides]) if first is not None and len(results.jobs) == 1 else None,
        "started": min((job.started for job in results.jobs if job.started), default=None),
        "state_name": lambda job: _state_name(job.state, results),
        "seconds": sum(job.seconds or 0.0 for job in results.jobs),
        "varied": _varied_choices(results),
        "states": {_state_name(state, results): results.count(state) for state in LISTED_STATES},
        "progress": results.progress,
        "refresh_s": REFRESH_S,
        "reused": sum(job.reused for job in results.jobs),
        "objective": metric_heading(results.objective),
        "failed": failures(results.jobs, varied),
        "jobs": [(job, job_label(job, varied), job_link(job, folder)) for job in results.jobs],
        "assumptions": [*((assumption, None) for assumption in results.assumptions), *_assumptions(results.jobs)],
        "settings": provenance.common_settings(results.jobs, varied),
        "holds_text": results.with_samples,
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


def _number_rows(results: Results) -> list[tuple[str, str]]:
    """Return the names and values of the metrics for a page with one job; empty for more jobs."""
    if len(results.jobs) != 1:
        return []
    job = results.jobs[0]
    found = [(name, job.number(name)) for name in metric_columns(results)]
    numbers = [(metric_heading(name), metric_text(name, value)) for name, value in found if value is not None]
    return numbers + run_facts(job.report)


def _state_name(state: RecordState, results: Results) -> str:
    """Return the state of a job for people: a job that is missing waits while the sweep runs."""
    return "waiting" if state == "missing" and results.progress is not None else state


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


def _slices(results: Results, comparisons: Sequence[Comparison]) -> list[SlicesSection]:
    """Return the section on slices of a page with one job, or of each comparison that has one."""
    is_single = len(results.jobs) == 1
    found = [run_slices(results.jobs[0])] if is_single else [one.slices for one in comparisons]
    return [section for section in found if section is not None]


def _arms(comparisons: Sequence[Comparison], folder: Path) -> list[ArmCommands]:
    """Return what repeats each arm of each comparison, compared with the first row; at most `MAX_COMMANDS`."""
    found = [
        arm_commands(row, one.ranking.rows[0], folder, number)
        for number, one in enumerate(comparisons, 1)
        for row in one.ranking.rows
    ]
    return found[:MAX_COMMANDS]


def _representatives(comparisons: Sequence[Comparison]) -> list[tuple[int, str, JobRecord]]:
    """Return the number and the label of each row, with its first completed job; rows without one are left out.

    If there are several comparisons, the label names the held-out pairs, since each comparison numbers its own rows.
    """
    found = []
    for of in comparisons:
        apart = f" (held-out pairs {of.cohort.held_out or 'not reported'})" if len(comparisons) > 1 else ""
        for row in of.ranking.rows:
            if (job := next((job for job in row.jobs if job.state == "completed"), None)) is not None:
                found.append((row.number, f"{row.label}{apart}", job))
    return found
