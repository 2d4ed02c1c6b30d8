"""The page's main table: one row for jobs that differ in the seed alone, best first; and how jobs are named."""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from mtx.evaluation.verdict import Verdict
from mtx.evaluation.verdict_text import difference_texts
from mtx.records.report_metrics import metric_heading
from mtx.records.result_types import CONFIRM_SUFFIX, SEED, Group, JobRecord, Results
from mtx.records.setting_notation import brief_key, brief_value, mean_texts, settings_label

Item = TypeVar("Item")
OVER_SEEDS, OVER_SENTENCES = "over seeds", "over held-out sentences"
MAX_COLUMNS = 6  # of what varied; the rest is written into one


@dataclass(frozen=True)
class Cell:
    """A number of a row.

    Attributes:
        mean: over seeds, written for people.
        spread: its standard deviation; None for fewer than two seeds.
    """

    mean: str
    spread: str | None


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        number: from 1.
        mark: of the best, or of those that cannot be told apart from it; empty for others.
        differences: of the objective to the best row, one for each kind of interval; empty texts for the best row, and
            without numbers.
        label: its values, for plots and lists.
        values: what varied, one a column.
        cells: the metrics, one a column; the first is the objective.
        interval: the low end, the estimate and the high end of its difference to the best row; None without an
            interval. The values are positions from 0 to 1 on an axis that all rows share.
        jobs: what it stands for.
        completed: how many of them were completed.
    """

    number: int
    mark: str
    differences: tuple[str, ...]
    label: str
    values: tuple[str, ...]
    cells: tuple[Cell | None, ...]
    jobs: tuple[JobRecord, ...]
    completed: int
    interval: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Ranking:
    """The table.

    Attributes:
        keys: headings of what varied, in full.
        headings: of the metrics.
        rows: best first; arms that diverged, and then arms that failed, are the last.
        shared: the heading and the text of each metric that is the same in all rows, so that it has no column.
        unstarted: the overrides of each arm of which no job has begun, and the number of its jobs.
        repeats: whether a row stands for more than one job.
        intervals: the kinds of intervals that differences to the best row have: over seeds, over held-out sentences.
    """

    keys: tuple[tuple[str, str], ...]
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    repeats: bool
    intervals: tuple[str, ...]
    unstarted: tuple[tuple[str, int], ...] = ()
    shared: tuple[tuple[str, str], ...] = ()


def ranking(results: Results, varied: Sequence[str]) -> Ranking:
    """Make the table of some jobs; `varied` are the keys that differ between all jobs of the page."""
    keys = [key for key in varied if key != SEED]
    columns = keys if len(keys) <= MAX_COLUMNS else keys[: MAX_COLUMNS - 1]
    rest = keys[len(columns) :]
    metrics = metric_columns(results)
    rows = tuple(
        _ranking_row(results, group, number, keys, columns, rest, metrics)
        for number, group in enumerate(ranked_groups(results), start=1)
    )
    headings = tuple((key, brief_key(key, keys)) for key in columns) + ((("", "others"),) if rest else ())
    shared = _shared_cells(rows, metrics)
    rows = tuple(replace(row, cells=_without(row.cells, shared)) for row in rows)
    return Ranking(
        keys=headings,
        headings=tuple(metric_heading(metric) for metric in _without(metrics, shared)),
        rows=_with_intervals(rows, results),
        repeats=any(len(row.jobs) > 1 for row in rows),
        intervals=interval_kinds(results.verdict),
        unstarted=unstarted_arms(results),
        shared=tuple((metric_heading(metrics[place]), cell.mean) for place, cell in shared.items()),
    )


def _shared_cells(rows: Sequence[Row], metrics: Sequence[str]) -> dict[int, Cell]:
    """Return the cells by the place of their metric, behind the first, that are the same in all of several rows."""
    found = {}
    for place in range(1, len(metrics)):
        cells = {row.cells[place] for row in rows}
        if len(rows) > 1 and len(cells) == 1 and (cell := cells.pop()) is not None and cell.spread is None:
            found[place] = cell
    return found


def _without(items: Sequence[Item], places: Container[int]) -> tuple[Item, ...]:
    return tuple(item for place, item in enumerate(items) if place not in places)


def _with_intervals(rows: Sequence[Row], results: Results) -> tuple[Row, ...]:
    """Return rows with the places of their differences to the best row on a common axis, which includes 0."""
    decided = results.verdict
    found = decided.differences if decided.has_intervals else decided.text_differences
    ends = {row.number: found.get(results.arm_names[id(row.jobs)]) for row in rows}
    known = {
        number: (of.low, of.estimate, of.high)
        for number, of in ends.items()
        if of is not None and all(map(math.isfinite, (of.low, of.estimate, of.high)))
    }
    if not known or (decided.order and decided.compared_to not in (None, decided.order[0])):
        return tuple(rows)
    best = next((row.number for row in rows if results.arm_names[id(row.jobs)] == decided.order[0]), None)
    if best is not None:
        known[best] = (0.0, 0.0, 0.0)
    least, most = min(low for low, _, _ in known.values()), max(high for _, _, high in known.values())
    width = (most - least) or 1.0

    def places(low: float, middle: float, high: float) -> tuple[float, float, float]:
        return (low - least) / width, (middle - least) / width, (high - least) / width

    return tuple(replace(row, interval=places(*known[row.number])) if row.number in known else row for row in rows)


def unstarted_arms(results: Results) -> tuple[tuple[str, int], ...]:
    """Return the arms of which no job has begun, by the overrides that not all jobs have, and their numbers of jobs."""
    shared = set.intersection(*(set(job.overrides) for job in results.jobs)) if results.jobs else set()
    arms: dict[tuple[str, ...], list[bool]] = {}
    for job in results.jobs:
        told = tuple(
            text for text in job.overrides if text not in shared and text.partition("=")[0].lstrip("+") != SEED
        )
        arms.setdefault(told, []).append(job.state == "missing")
    return tuple((" ".join(told) or "all settings", len(of)) for told, of in arms.items() if all(of))


def interval_kinds(verdict: Verdict) -> tuple[str, ...]:
    """Return what the intervals of a verdict are over, in the order of its columns."""
    kinds = ((verdict.has_intervals, OVER_SEEDS), (bool(verdict.text_differences), OVER_SENTENCES))
    return tuple(name for is_there, name in kinds if is_there)


def ranked_groups(results: Results) -> list[Group]:
    """Return the arms that are rows of the table, failed ones last; none if no job was completed."""
    if not results.count("completed"):
        return []
    return [group for group in results.groups if any(job.state != "missing" for job in group.jobs)]


def metric_columns(results: Results) -> list[str]:
    """Return the metrics of the table: the objectives, then those that people look at first."""
    objectives = dict.fromkeys(name for job in results.jobs for name in job.objectives)
    return list(dict.fromkeys([*objectives, *results.metrics]))


def job_label(job: JobRecord, varied: Sequence[str]) -> str:
    """Name a job by what varied, the seed left out; by its folder where nothing did."""
    settings = {key: job.value(key) for key in varied if key != SEED}
    return settings_label(settings, job.choices) or job.name


def group_label(jobs: Sequence[JobRecord], everyone: Sequence[JobRecord], varied: Sequence[str]) -> str:
    """Name some of the jobs by what they alone have in common; by their folders where that is nothing."""
    if len(jobs) == len(everyone):
        return "all jobs" if len(jobs) > 1 else jobs[0].name
    folders = {job.folder for job in jobs}
    keys = [key for key in varied if len({job.value(key) for job in jobs}) == 1]
    alike = [job for job in everyone if all(job.value(key) == jobs[0].value(key) for key in keys)]
    if keys and {job.folder for job in alike} == folders:
        telling = [key for key in keys if not _is_redundant(key, keys, jobs, everyone)]
        return ", ".join(f"{brief_key(key, varied)}={brief_value(jobs[0].value(key))}" for key in telling or keys)
    some = {key: list(dict.fromkeys(job.value(key) for job in jobs)) for key in varied}
    some = {key: values for key, values in some.items() if len(values) < len({job.value(key) for job in everyone})}
    if [job for job in everyone if all(job.value(key) in values for key, values in some.items())] == list(jobs):
        return ", ".join(f"{brief_key(key, varied)}={' or '.join(map(brief_value, some[key]))}" for key in some)
    names = [job.name for job in jobs]
    return f"job{'s' * (len(names) > 1)} {', '.join(names[:12])}{', …' if len(names) > 12 else ''}"


def _is_redundant(key: str, keys: Sequence[str], jobs: Sequence[JobRecord], everyone: Sequence[JobRecord]) -> bool:
    """Tell whether the other keys say as much without `key`."""
    rest = [other for other in keys if other != key]
    alike = [job for job in everyone if all(job.value(other) == jobs[0].value(other) for other in rest)]
    return bool(rest) and len(alike) == len(jobs) and keys.index(key) > 0


def _ranking_row(
    results: Results,
    group: Group,
    number: int,
    keys: Sequence[str],
    columns: Sequence[str],
    rest: Sequence[str],
    metrics: Sequence[str],
) -> Row:
    job = group.jobs[0]
    values = [brief_value(job.value(key)) for key in columns]
    if rest:
        values.append(", ".join(_key_value_text(key, job, keys) for key in rest if job.value(key) is not None))
    return Row(
        number=number,
        mark=results.mark(group),
        differences=tuple(difference_texts(results.verdict, results.arm_name(group))),
        label=(job_label(job, keys) if keys else job.name) + CONFIRM_SUFFIX * job.confirms,
        values=tuple(values),
        cells=tuple(_metric_cell(results, group, metric) for metric in metrics),
        jobs=group.jobs,
        completed=sum(job.state == "completed" for job in group.jobs),
    )


def _metric_cell(results: Results, group: Group, metric: str) -> Cell | None:
    mean = group.mean(metric)
    if mean is None:
        if metric == results.objective and group.is_failed:
            return Cell("failed", None)
        return Cell("diverged", None) if group.num_diverged(metric) else None
    return Cell(*mean_texts(metric, mean, group.spread(metric)))


def _key_value_text(key: str, job: JobRecord, keys: Sequence[str]) -> str:
    """Write a value with its key, unless it is a name, which speaks for itself."""
    value = brief_value(job.value(key))
    return value if key in job.choices else f"{brief_key(key, keys)}={value}"
