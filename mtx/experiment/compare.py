"""`task=compare`: the page and the tables of any set of runs and sweeps, whenever they were made."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from mtx.errors import ConfigError
from mtx.experiment.run import Run
from mtx.experiment.sweep.reading import read_results
from mtx.experiment.sweep.results import JobRecord, Results
from mtx.experiment.sweep.summary import print_summary
from mtx.experiment.sweep.tidy import write_tidy
from mtx.infra.dal.base import writing

NOTHING_TO_COMPARE = frozenset(
    {"check", "compare", "export", "gc", "import", "options", "prepare", "show", "verify"}
)  # tasks


def compare(run: Run, *, runs: str | Sequence[str] | None = None, to: str | None = None) -> None:
    """Write `report.html`, `results.csv` and `results.parquet` of all runs in some folders, and print their table.

    Args:
        run: where to print, `sweep.objective` and `sweep.direction`, and where to write unless `to` says so.
        runs: folders of runs, of sweeps, or folders that hold such.
        to: the folder that gets the files.

    Raises:
        ConfigError: no folder is given, one is not there, or there is no run in them.
        StoreError: the disk refuses.
    """
    from mtx.experiment.page.write import page_of  # matplotlib takes half a second

    folders = [Path(text).expanduser() for text in ([runs] if isinstance(runs, str) else runs or ())]
    if not folders:
        raise ConfigError(
            "task=compare needs folders of runs or sweeps: mtx task=compare runs=[outputs/2026-01-31,multirun]"
        )
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise ConfigError(f"runs has {', '.join(missing)}, which is no folder. Set runs=[FOLDER,…] to folders of runs")
    found = read_results(folders)
    results = dataclasses.replace(found, jobs=tuple(job for job in found.jobs if _compares(job, run.output_dir)))
    if not results.jobs:
        raise ConfigError(
            f"there is nothing to compare in {', '.join(map(str, folders))}: no run of task=measure or task=fit. "
            "Set runs=[FOLDER,…] to folders that have some"
        )
    results = _by_objective(results, run)
    folder = run.output_dir if to is None else Path(to).expanduser()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    print_summary(results, run.console)
    if others := len(found.jobs) - len(results.jobs):
        run.console.print(f"{others} runs of other tasks left out")
    for path in write_tidy(results, folder):
        run.console.print(f"results: {path}", highlight=False, soft_wrap=True)
    page_of(results, folder, run.console)


def _compares(job: JobRecord, own: Path) -> bool:
    """Tell whether a run has anything to compare, or failed at it; runs of other tasks have not."""
    return job.folder.absolute() != own.absolute() and job.choices.get("task") not in NOTHING_TO_COMPARE


def _by_objective(results: Results, run: Run) -> Results:
    """Return results as they are sorted by this run's `sweep.objective` and `sweep.direction`, where it sets them."""
    options = run.config.get("sweep") or {}
    wanted, direction = options.get("objective"), options.get("direction")
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
    return dataclasses.replace(results, jobs=tuple(jobs))
