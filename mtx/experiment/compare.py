"""`task=compare`: write the page and the result tables of any runs and sweeps, new or old."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from mtx.errors import ConfigError
from mtx.experiment.run_context import Run, needs
from mtx.infra.dal.atomic_file import convert_disk_errors
from mtx.infra.dal.tilde_expansion import expanded_path, expanded_paths
from mtx.records.objective_at_equal_budget import BUDGET_KEY, check_budget_measure
from mtx.records.result_tables import write_results
from mtx.records.result_types import JobRecord, Results
from mtx.sweep.live_page import results_so_far
from mtx.sweep.terminal_summary import print_summary

NOTHING_TO_COMPARE = frozenset(
    {"check", "compare", "export", "gc", "import", "options", "prepare", "show", "verify"}
)  # tasks whose runs have no results to compare


@needs()
def compare(run: Run, *, runs: str | Sequence[str] | None = None, to: str | None = None) -> None:
    """Write `report.html`, `results.csv` and `results.parquet` for all runs in some folders, and print their table.

    Args:
        run: The run of this task. Its console prints, its `sweep.objective` and `sweep.direction` sort the results,
            and its output folder gets the files unless `to` is set.
        runs: Folders of runs, folders of sweeps, or folders that contain either.
        to: The folder that gets the files. None: the output folder of `run`.

    Raises:
        ConfigError: `runs` is empty, a folder does not exist, or no folder contains a comparable run.
        StoreError: A file cannot be written.
    """
    from mtx.page.render import write_results_page  # importing matplotlib takes half a second

    folders = expanded_paths(runs or ())
    if not folders:
        raise ConfigError(
            "task=compare needs folders of runs or sweeps: mtx task=compare 'runs=[outputs/2026-01-31,multirun]'"
        )
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise ConfigError(f"runs has {', '.join(missing)}, which is no folder. Set 'runs=[FOLDER,…]'")
    found = results_so_far(folders)
    of_tasks = [job for job in found.jobs if _is_comparable(job, run.output_dir)]
    readable = tuple(job for job in of_tasks if job.report_problem is None)
    problems = [f"job {job.name} is left out: {job.report_problem}" for job in of_tasks if job.report_problem]
    if not readable:
        raise ConfigError(
            f"there is nothing to compare in {', '.join(map(str, folders))}: no run of task=measure or task=fit"
            f"{' that can be read' * bool(problems)}. Set 'runs=[FOLDER,…]' to folders that have some"
            + "".join(f"\n  {problem}" for problem in problems)
        )
    results = _sorted_results(dataclasses.replace(found, jobs=readable, notes=(*found.notes, *problems)), run)
    folder = run.output_dir if to is None else expanded_path(to)
    with convert_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    print_summary(results, run.console)
    if others := len(found.jobs) - len(of_tasks):
        run.console.print(f"{others} runs of other tasks left out")
    if problems:
        run.console.print(
            f"{len(problems)} of {len(of_tasks)} runs left out: their reports cannot be read, as noted above"
        )
    for path in write_results(results, folder):
        run.console.print(f"results: {path}", highlight=False, soft_wrap=True)
    write_results_page(results, folder, run.console)


def _is_comparable(job: JobRecord, own: Path) -> bool:
    """Return whether a run, completed or failed, belongs to a task with comparable results."""
    return job.folder.absolute() != own.absolute() and job.choices.get("task") not in NOTHING_TO_COMPARE


def _sorted_results(results: Results, run: Run) -> Results:
    """Return results as this run's `sweep.objective`, `sweep.direction` and `sweep.budget` compare them, if set."""
    options = run.config.get("sweep") or {}
    wanted, direction, budget = (options.get(name) for name in ("objective", "direction", "budget"))
    names = [wanted] if isinstance(wanted, str) else list(wanted or ())
    jobs = list(results.jobs)
    if names:
        known = sorted({name for job in jobs for name in job.metrics})
        if unknown := [name for name in names if name not in known]:
            raise ConfigError(
                f"sweep.objective={unknown[0]} is no number in the report of any of these runs. There are: "
                f"{', '.join(known)}"
            )
        jobs = [
            dataclasses.replace(job, objectives={name: job.metrics[name] for name in names if name in job.metrics})
            for job in jobs
        ]
    if direction is not None or names:
        said = direction if direction is None or isinstance(direction, str) else json.dumps(list(direction))
        jobs = [dataclasses.replace(job, config={**job.config, "sweep.direction": said}) for job in jobs]
    if budget is not None:
        check_budget_measure(budget)
        jobs = [dataclasses.replace(job, config={**job.config, BUDGET_KEY: budget}) for job in jobs]
    samples = results.with_samples and (run.config.get("page") or {}).get("samples", True)
    return dataclasses.replace(results, jobs=tuple(jobs), with_samples=bool(samples))
