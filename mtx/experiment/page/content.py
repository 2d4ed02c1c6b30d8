"""Everything that the page says, as plain values for its template: no markup here but that of plots."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mtx.experiment.page import data, provenance
from mtx.experiment.page.drawn import Drawing, batches_of, curves_of, effect_plot, front_plot, histogram_plot
from mtx.experiment.page.effects import Effect, effects
from mtx.experiment.page.pareto import Front, fronts
from mtx.experiment.page.plots.figure import Plot
from mtx.experiment.page.profile import Profile, mapping, read_profile
from mtx.experiment.page.ranking import (
    Ranking,
    brief,
    brief_value,
    columns_of,
    heading,
    label_of,
    ranking,
    short,
    written,
)
from mtx.experiment.page.reached import Reached, reached
from mtx.experiment.sweep.fair import Cohort, cohorts
from mtx.experiment.sweep.job import PAGE_FILE
from mtx.experiment.sweep.results import SEED, JobRecord, RecordState, Results

STATES: tuple[RecordState, ...] = ("completed", "failed", "interrupted", "running", "missing")
MOST_COHORTS = 3  # with plots of their own
MOST_BATCHES = 8  # rows of the table whose batches are drawn
MOST_HISTOGRAMS = 6
MOST_FUNNELS = 6  # with all their steps and samples; of the others a line each
MOST_TRACES = 20  # different failures whose traceback is on the page; the others' are in their logs
MOST_NAMED = 30  # jobs that are listed under a failure
LONGEST_TRACE = 8000  # characters, from the end
MOST_TRANSLATIONS = 5
MOST_VALUES = 12  # of a choice that are listed in the opening


@dataclass(frozen=True)
class Comparison:
    """One cohort as the page shows it.

    Attributes:
        cohort: its jobs.
        ranking: the table.
        verdict: what is best, or that nothing is.
        effects: of each choice, with its plot.
        fronts: with their plots.
        curves: plots of held-out text.
        reached: how soon each row came to the same quality; None where that cannot be told.
    """

    cohort: Cohort
    ranking: Ranking
    verdict: str
    effects: tuple[tuple[Effect, Plot], ...]
    fronts: tuple[tuple[Front, Plot], ...]
    curves: tuple[Plot, ...]
    reached: Reached | None


@dataclass(frozen=True)
class Failure:
    """Jobs that ended in the same way.

    Attributes:
        state: `failed` or `interrupted`.
        error: what they said.
        jobs: each with what it was.
        more: how many are not listed.
        traceback: of the first.
    """

    state: str
    error: str
    jobs: Sequence[tuple[JobRecord, str]]
    more: int
    traceback: str | None


def content(results: Results, folder: Path) -> dict[str, Any]:
    """Gather everything that the page of `results`, which will be in `folder`, says."""
    drawing = Drawing()
    varied = results.varied
    completed = [job for job in results.jobs if job.state == "completed"]
    profiles = {job.folder: read_profile(job.folder, job.report) for job in completed}
    compared = cohorts(results)
    comparisons = [
        _comparison(cohort, varied, profiles, drawing, with_plots=number < MOST_COHORTS)
        for number, cohort in enumerate(compared)
    ]
    first = completed[0] if completed else results.jobs[0] if results.jobs else None
    funnels = data.funnels(completed, varied, profiles)
    histograms = data.histograms(completed, varied, profiles)
    rows = [row for comparison in comparisons for row in comparison.ranking.rows]
    representatives = [(row.label, job) for row in rows if (job := _first_completed(row.jobs)) is not None]
    batches = batches_of(drawing, representatives[:MOST_BATCHES], profiles)
    return {
        "title": _title(results),
        "results": results,
        "single": results.jobs[0] if len(results.jobs) == 1 else None,
        "numbers": _numbers(results),
        "command": shlex.join(["mtx", *results.command]) if results.command else None,
        "overrides": shlex.join(["mtx", *first.overrides]) if first is not None and len(results.jobs) == 1 else None,
        "started": min((job.started for job in results.jobs if job.started), default=None),
        "seconds": sum(job.seconds or 0.0 for job in results.jobs),
        "varied": _varied(results),
        "states": {state: results.count(state) for state in STATES},
        "reused": sum(job.reused for job in results.jobs),
        "objective": heading(results.objective),
        "comparisons": comparisons,
        "apart": len(compared) > 1,
        "failed": _failures(results.jobs, varied),
        "jobs": [(job, label_of(job, varied), _link(job, folder)) for job in results.jobs],
        "notes": [*results.notes, *(f"job {job.name}: {note}" for job in results.jobs for note in job.notes)],
        "histograms": [
            (label, histogram_plot(drawing, label, profile)) for label, profile in histograms[:MOST_HISTOGRAMS]
        ],
        "histograms_left_out": max(0, len(histograms) - MOST_HISTOGRAMS),
        "funnels": funnels[:MOST_FUNNELS],
        "short_funnels": funnels[MOST_FUNNELS:],
        "batches": batches,
        "batches_left_out": max(0, len(representatives) - MOST_BATCHES) if batches else 0,
        "vocabularies": data.vocabularies(completed, varied, profiles),
        "translations": _translations(results),
        "stages": provenance.stages(completed),
        "settings": provenance.settings(results.jobs, varied),
        "versions": provenance.versions(completed),
        "named": provenance.named,
        "heading": heading,
        "written": written,
        "told": brief_value,
    }


def _title(results: Results) -> str:
    """Say in a line what the page is about."""
    report = next((job.report for job in results.jobs if job.report), {})
    about = " ".join([brief(str(report.get("name", ""))), "–".join(data.languages_of(report))]).strip()
    if len(results.jobs) == 1:
        task = results.jobs[0].choices.get("task", "run")
        return " ".join(part for part in (f"mtx {task}:", about or results.jobs[0].name) if part)
    keys = [short(key, results.varied) for key in results.varied if key != SEED]
    by = f" by {', '.join(keys[:4])}{', …' if len(keys) > 4 else ''}" if keys else ""
    return f"{len(results.jobs)} jobs{by}{f': {about}' if about else ''}"


def _comparison(
    cohort: Cohort, varied: Sequence[str], profiles: Mapping[Path, Profile], drawing: Drawing, *, with_plots: bool
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
        verdict=_verdict(results, table),
        effects=tuple((effect, effect_plot(drawing, effect, objective)) for effect in found_effects),
        fronts=tuple((front, front_plot(drawing, front, results, varied)) for front in found_fronts),
        curves=curves_of(drawing, results, labels, profiles) if with_plots else (),
        reached=reached(table.rows, profiles) if with_plots else None,
    )


def _verdict(results: Results, table: Ranking) -> str:
    """Say what is best by the objective, or that nothing is."""
    if results.objective is None:
        return "No job returned anything to compare by. Choose a number of report.json with sweep.objective=NAME."
    ranked = [row for row in table.rows if row.cells and row.cells[0] is not None]
    if len(ranked) < 2:
        return ""
    how = "least" if results.direction == "minimize" else "most"
    best, objective = ranked[: len(results.best)], heading(results.objective)
    cell = best[0].cells[0]
    assert cell is not None
    number = cell.mean + (f" ± {cell.spread}" if cell.spread is not None else "")
    if len(best) == 1:
        return f"{best[0].label} has the {how} {objective}: {number}"
    together = f"{len(best)} of {len(ranked)}" if len(best) > 3 else " and ".join(row.label for row in best)
    if not any(group.spread(results.objective) for group in results.best):
        return f"No winner: {together} are equal by {objective}."
    return f"No winner: by {objective}, {together} are within their spread over seeds."


def _numbers(results: Results) -> list[tuple[str, str]]:
    """Return the numbers of a page that has one job."""
    if len(results.jobs) != 1:
        return []
    job = results.jobs[0]
    found = [(name, job.number(name)) for name in columns_of(results)]
    return [(heading(name), written(name, value)) for name, value in found if value is not None]


def _varied(results: Results) -> list[tuple[str, list[str], int]]:
    """Return what varied with its values, in the order in which the jobs tried them; and how many more there are."""
    found = []
    for key in results.varied:
        values = list(dict.fromkeys(brief_value(job.value(key)) for job in results.jobs if job.config))
        values = [value for value in values if value != brief_value(None)] or values
        found.append(("seed" if key == SEED else key, values[:MOST_VALUES], max(0, len(values) - MOST_VALUES)))
    return found


def _failures(jobs: Sequence[JobRecord], varied: Sequence[str]) -> list[Failure]:
    """Gather jobs that ended in the same way."""
    found: dict[tuple[str, str], list[JobRecord]] = {}
    for job in jobs:
        if job.state in ("failed", "interrupted"):
            found.setdefault((job.state, job.error or "It left no message."), []).append(job)
    failures = []
    for number, ((state, error), gathered) in enumerate(found.items()):
        named = [(job, _what(job, varied)) for job in gathered[:MOST_NAMED]]
        trace = gathered[0].traceback if number < MOST_TRACES else None
        if trace is not None and len(trace) > LONGEST_TRACE:
            trace = f"…\n{trace[-LONGEST_TRACE:]}"
        failures.append(Failure(state, error, named, len(gathered) - len(named), trace))
    return failures


def _what(job: JobRecord, varied: Sequence[str]) -> str:
    """Name a job by what varied, its seed too; by what was said on the command line where that is not known."""
    if not job.config or not varied:
        return " ".join(job.overrides)
    seed = f", seed={brief_value(job.value(SEED))}" if SEED in varied else ""
    return label_of(job, varied) + seed


def _translations(results: Results) -> list[dict[str, str]]:
    """Return sample translations of a page that has one job."""
    if len(results.jobs) != 1:
        return []
    found = results.jobs[0].report.get("translations")
    samples = [mapping(item) for item in found] if isinstance(found, list) else []
    names = ("source", "reference", "output")
    return [{name: data.cut(str(sample.get(name, ""))) for name in names} for sample in samples[:MOST_TRANSLATIONS]]


def _first_completed(jobs: Sequence[JobRecord]) -> JobRecord | None:
    return next((job for job in jobs if job.state == "completed"), None)


def _link(job: JobRecord, folder: Path) -> str | None:
    """Return where the job's own page or report is, as seen from the page; None where there is neither."""
    for name in (PAGE_FILE, "report.json", "mtx.log"):
        path = job.folder / name
        if path.exists() and path != folder / PAGE_FILE:
            try:
                return quote(Path(os.path.relpath(path, folder)).as_posix())
            except ValueError:  # on another drive
                return path.absolute().as_uri()
    return None
