"""`sweep.confirm`: the best two arms of a grid are repeated with new seeds, on which alone the verdict then stands."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtx.errors import ConfigError
from mtx.records.cohorts import cohorts
from mtx.records.record_file import Record
from mtx.records.result_types import SEED, Results
from mtx.records.sweep_record import PlannedJob, read_sweep
from mtx.redaction_and_escaping import redacted_override

MIN_SEEDS = 2


def check_confirm(number: object, *, is_grid: bool) -> None:
    """Raise ConfigError if `sweep.confirm` is no number of seeds, or if the sweep is a search."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 0 or 0 < number < MIN_SEEDS:
        raise ConfigError(f"sweep.confirm is 0 or at least {MIN_SEEDS} new seeds per arm, but is {number!r}")
    if number and not is_grid:
        raise ConfigError(
            f"sweep.confirm={number} repeats arms of a grid, but this sweep is a search. "
            "Set sweep.confirm=0, and sweep over the best two settings with seed=1,2,3 afterwards"
        )


def confirmation_overrides(
    results: Results, overrides: Mapping[str, Sequence[str]], number: int
) -> list[tuple[str, ...]]:
    """Return the overrides of the jobs that repeat the best two arms with `number` new seeds each.

    Args:
        results: of the sweep; jobs of an earlier confirmation do not count, so a resumed sweep repeats the same arms.
        overrides: of each job of the grid, by the name of its folder.
        number: new seeds per arm.

    Returns:
        Empty if fewer than two arms have finite numbers, or if their jobs are not in the grid.
    """
    grid = tuple(job for job in results.jobs if not job.confirms)
    first = cohorts(Results(results.folders, grid))[0].results
    best = [arm for arm in first.verdict.order if arm not in first.verdict.diverged][:2]
    jobs = [next((job for job in first.arms[arm].jobs if job.folder.name in overrides), None) for arm in best]
    if len(jobs) < 2 or None in jobs:
        return []
    used = [seed for job in grid if isinstance(seed := job.value(SEED), int)]
    seeds = range(max(used, default=0) + 1, max(used, default=0) + 1 + number)
    rows = [overrides[job.folder.name] for job in jobs if job is not None]
    kept = [[text for text in row if text.lstrip("+").partition("=")[0] != SEED] for row in rows]
    return [(*row, f"{SEED}={seed}") for row in kept for seed in seeds]


def confirmation_folders(results: Results, rows: Sequence[Sequence[str]], prefix: str, first: int) -> list[str]:
    """Return the name of the folder of each job of a confirmation: the one in which an earlier attempt completed it.

    Args:
        results: of the sweep.
        rows: the overrides of each job.
        prefix: of the names of folders in this attempt.
        first: the number of the first of these jobs in this attempt.
    """
    done = {
        frozenset(job.overrides): job.folder.name for job in results.jobs if job.confirms and job.state == "completed"
    }
    return [
        done.get(frozenset(map(redacted_override, row)), f"{prefix}{first + number}") for number, row in enumerate(rows)
    ]


def plan_confirmation(folder: Path, jobs: Mapping[str, Sequence[str]]) -> Record:
    """Add jobs, by the names of their folders, to `sweep.json` of a sweep, and return what it says then."""
    sweep = read_sweep(folder)
    assert sweep is not None
    added = [PlannedJob(folder=name, overrides=tuple(map(redacted_override, row))) for name, row in jobs.items()]
    changed = sweep.model_copy(
        update={
            "num_jobs": len(sweep.jobs) + len(added),
            "jobs": (*sweep.jobs, *added),
            "confirm_folders": tuple(dict.fromkeys((*sweep.confirm_folders, *jobs))),
        }
    )
    changed.write(folder)
    return changed
