"""The page's main table: one row for jobs that differ in the seed alone, best first; and how jobs are named."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtx.experiment.sweep.metrics import KEY_METRICS, Value
from mtx.experiment.sweep.results import SEED, Group, JobRecord, Results
from mtx.experiment.sweep.summary import BEST, NOT_TOLD_APART, told
from mtx.experiment.sweep.summary import short as end_of_key

LONGEST_VALUE = 60  # characters of a setting that tables and names show
MOST_COLUMNS = 6  # of what varied; the rest is written into one


@dataclass(frozen=True)
class Cell:
    """A number of a row.

    Attributes:
        mean: over seeds, written for people.
        spread: its standard deviation; None for fewer than two seeds.
        share: of the largest mean in its column, from 0 to 1, for a bar; None where a bar would say nothing.
    """

    mean: str
    spread: str | None
    share: float | None


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        number: from 1.
        mark: of the best, or of those that cannot be told apart from it; empty for others.
        label: its values, for plots and lists.
        values: what varied, one a column.
        cells: the metrics, one a column; the first is the objective.
        jobs: what it stands for.
        completed: how many of them were completed.
    """

    number: int
    mark: str
    label: str
    values: tuple[str, ...]
    cells: tuple[Cell | None, ...]
    jobs: tuple[JobRecord, ...]
    completed: int


@dataclass(frozen=True)
class Ranking:
    """The table.

    Attributes:
        keys: headings of what varied, in full.
        headings: of the metrics.
        rows: best first; without those of which no job was completed.
        repeats: whether a row stands for more than one job.
    """

    keys: tuple[tuple[str, str], ...]
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    repeats: bool


def ranking(results: Results, varied: Sequence[str]) -> Ranking:
    """Make the table of some jobs; `varied` are the keys that differ between all jobs of the page."""
    keys = [key for key in varied if key != SEED]
    columns = keys if len(keys) <= MOST_COLUMNS else keys[: MOST_COLUMNS - 1]
    rest = keys[len(columns) :]
    metrics = columns_of(results)
    rows = tuple(
        _row(results, group, number, keys, columns, rest, metrics)
        for number, group in enumerate(shown_groups(results), start=1)
    )
    headings = tuple((key, short(key, keys)) for key in columns) + ((("", "others"),) if rest else ())
    return Ranking(
        keys=headings,
        headings=tuple(heading(metric) for metric in metrics),
        rows=rows,
        repeats=any(len(row.jobs) > 1 for row in rows),
    )


def shown_groups(results: Results) -> list[Group]:
    """Return what the table has rows for, in their order: groups of which at least one job was completed."""
    return [group for group in results.groups if any(job.state == "completed" for job in group.jobs)]


def brief(text: str, longest: int = LONGEST_VALUE) -> str:
    """Return a text with its middle left out where it is too long: paths differ at their ends."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def brief_value(value: Value) -> str:
    """Write a config value as on the command line, its middle left out where it is too long."""
    return brief(told(value))


def short(key: str, keys: Sequence[str]) -> str:
    """Return the end of a key that tells it from the others, not too long."""
    return brief(end_of_key(key, list(keys)))


def columns_of(results: Results) -> list[str]:
    """Return the metrics of the table: the objectives, then those that people look at first."""
    objectives = dict.fromkeys(name for job in results.jobs for name in job.objectives)
    return list(dict.fromkeys([*objectives, *results.metrics]))


def heading(metric: str | None) -> str:
    """Return a metric's name for people."""
    if metric is None:
        return ""
    return KEY_METRICS[metric][0] if metric in KEY_METRICS else metric


def written(metric: str, value: float) -> str:
    """Write a metric's value for people."""
    return format(value, KEY_METRICS[metric][1] if metric in KEY_METRICS else ",.4g")


def label_of(job: JobRecord, varied: Sequence[str]) -> str:
    """Name a job by what varied, the seed left out; by its folder where nothing did."""
    keys = [key for key in varied if key != SEED]
    values = [_with_key(key, job, keys) for key in keys if job.value(key) is not None]
    return ", ".join(values) if values else job.name


def label_of_many(jobs: Sequence[JobRecord], everyone: Sequence[JobRecord], varied: Sequence[str]) -> str:
    """Name some of the jobs by what they alone have in common; by their folders where that is nothing."""
    if len(jobs) == len(everyone):
        return "all jobs" if len(jobs) > 1 else jobs[0].name
    folders = {job.folder for job in jobs}
    keys = [key for key in varied if len({job.value(key) for job in jobs}) == 1]
    alike = [job for job in everyone if all(job.value(key) == jobs[0].value(key) for key in keys)]
    if keys and {job.folder for job in alike} == folders:
        telling = [key for key in keys if not _follows(key, keys, jobs, everyone)]
        return ", ".join(f"{short(key, varied)}={brief_value(jobs[0].value(key))}" for key in telling or keys)
    some = {key: list(dict.fromkeys(job.value(key) for job in jobs)) for key in varied}
    some = {key: values for key, values in some.items() if len(values) < len({job.value(key) for job in everyone})}
    if [job for job in everyone if all(job.value(key) in values for key, values in some.items())] == list(jobs):
        return ", ".join(f"{short(key, varied)}={' or '.join(map(brief_value, some[key]))}" for key in some)
    names = [job.name for job in jobs]
    return f"job{'s' * (len(names) > 1)} {', '.join(names[:12])}{', …' if len(names) > 12 else ''}"


def _follows(key: str, keys: Sequence[str], jobs: Sequence[JobRecord], everyone: Sequence[JobRecord]) -> bool:
    """Tell whether the other keys say as much without `key`."""
    rest = [other for other in keys if other != key]
    alike = [job for job in everyone if all(job.value(other) == jobs[0].value(other) for other in rest)]
    return bool(rest) and len(alike) == len(jobs) and keys.index(key) > 0


def _row(
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
        values.append(", ".join(_with_key(key, job, keys) for key in rest if job.value(key) is not None))
    mark = ""
    if group in results.best:
        mark = BEST if len(results.best) == 1 else NOT_TOLD_APART
    return Row(
        number=number,
        mark=mark if len(results.groups) > 1 else "",
        label=label_of(job, keys) if keys else job.name,
        values=tuple(values),
        cells=tuple(_cell(results, group, metric) for metric in metrics),
        jobs=group.jobs,
        completed=sum(job.state == "completed" for job in group.jobs),
    )


def _cell(results: Results, group: Group, metric: str) -> Cell | None:
    mean, spread = group.mean(metric), group.spread(metric)
    if mean is None:
        return None
    means = [found for other in results.groups if (found := other.mean(metric)) is not None]
    largest = max(means)
    bar = min(means) >= 0 and largest > 0 and len(means) > 1
    return Cell(
        written(metric, mean), None if spread is None else written(metric, spread), mean / largest if bar else None
    )


def _with_key(key: str, job: JobRecord, keys: Sequence[str]) -> str:
    """Write a value with its key, unless it is a name, which speaks for itself."""
    value = brief_value(job.value(key))
    return value if key in job.choices else f"{short(key, keys)}={value}"
