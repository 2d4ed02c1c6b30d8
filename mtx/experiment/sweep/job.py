"""One job, of a sweep or alone: its status from beginning to end, and whether it has been done before."""

import json
import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtx.errors import ConfigError, DamagedError, JobFailedError, MtxError, choices
from mtx.experiment.config import Config
from mtx.experiment.sweep.metrics import RETURNED, flat_numbers, named_after
from mtx.experiment.sweep.status import CONFIG_FILE, LOCK_FILE, JobStatus, held, read_status, write_json, write_status
from mtx.identity import digest
from mtx.infra.dal.base import atomic_file
from mtx.shown import hider

log = logging.getLogger(__name__)

Objective = float | tuple[float, ...] | None  # what a sweeper gets

SWEEP_FILE = "sweep.json"  # in the folder of a sweep: what was asked for, and what had been done before
REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
HYDRA_FOLDER = ".hydra"
NO_PART_OF_A_JOB = frozenset({"sweep", "experiment"})  # keys of a config that change nothing about a job's result
SWEEPER, TRIES_ALL = "sweeper", "basic"  # a config group, and its option that searches for nothing
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # where launchers of several processes tell each its number


@dataclass(frozen=True)
class Job:
    """What a job is, and where.

    Attributes:
        config: the whole config as plain values.
        folder: where it writes; it exists.
        overrides: what was said on the command line.
        choices: the option of each config group.
        sweep_dir: the folder of the sweep that it belongs to; None for a single run.
    """

    config: Config
    folder: Path
    overrides: Sequence[str] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    sweep_dir: Path | None = None


def run_job(job: Job, work: Callable[[], Any]) -> Objective:
    """Do `work`, which returns a number, numbers or None, and keep the job's status on disk meanwhile.

    A job of a resumed sweep that was completed before is not done again. Returns what the sweep looks at
    (`sweep.objective`, or what `work` returns).

    Raises:
        ConfigError: another process works in this folder.
        JobFailedError: in a sweep, where `work` raised something that is no MtxError; the job's log has the details.
    """
    if _later_rank():
        work()
        return None
    hashed = config_hash(job.config, job.folder)
    done = completed_before(job, hashed)
    if done is not None:
        log.info("completed before, in %s: not done again", done[0])
        if done[0] != job.folder and read_status(job.folder) is None:
            shutil.rmtree(job.folder, ignore_errors=True)  # what was made for this job, which needs no folder
        return _as_objective(done[1].objectives)
    busy = (
        f"{job.folder} is in use: another process runs a job in it. "
        "Wait for it, or choose another folder, with hydra.run.dir=FOLDER or hydra.sweep.dir=FOLDER"
    )
    with held(job.folder / LOCK_FILE, busy):
        objective = _work(job, hashed, work)
    if job.sweep_dir is None:
        from mtx.experiment.page.write import page_of_run  # matplotlib takes half a second

        page_of_run(job.folder)
    return objective


def config_hash(config: Config, folder: Path) -> str:
    """Hash what decides a job's result: the resolved config, without where it writes and what the sweep looks at."""
    kept = {key: _without(value, str(folder)) for key, value in config.items() if key not in NO_PART_OF_A_JOB}
    return digest(kept)


def completed_before(job: Job, hashed: str) -> tuple[Path, JobStatus] | None:
    """Return the folder and status of this job where an earlier attempt at the sweep completed it; None: none did.

    The sweep's own file says where to look, so this takes the time of reading two small files.
    """
    if job.sweep_dir is None:
        return None
    name = read_sweep(job.sweep_dir).get("done", {}).get(hashed)
    if not isinstance(name, str):
        return None
    folder = job.sweep_dir / name
    try:
        status = read_status(folder)
    except DamagedError:
        return None
    fits = status is not None and status.state == "completed" and status.config_hash == hashed
    return (folder, status) if status is not None and fits else None


def read_sweep(folder: Path) -> dict[str, Any]:
    """Return what a sweep's folder says of it; empty where it says nothing that can be read."""
    try:
        read = json.loads((folder / SWEEP_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    usable = (
        isinstance(read, dict) and isinstance(read.get("done", {}), dict) and isinstance(read.get("jobs", []), list)
    )
    return read if usable else {}


def _work(job: Job, hashed: str, work: Callable[[], Any]) -> Objective:
    hide = hider(job.config)
    for name in (REPORT_FILE, PAGE_FILE):  # of an earlier attempt
        (job.folder / name).unlink(missing_ok=True)
    write_json(job.folder / CONFIG_FILE, hide(job.config))
    _hide_in_hydras_files(job, hide)
    status = JobStatus.begin(hashed, overrides=hide(list(job.overrides)), choices=job.choices)
    write_status(job.folder, status)
    started = time.perf_counter()
    try:
        objectives = objectives_of(job, work())
    except Exception as error:
        told = hide(f"{type(error).__name__}: {error}")
        trace = hide(traceback.format_exc())
        seconds = time.perf_counter() - started
        write_status(job.folder, status.end("failed", seconds=seconds, error=told, traceback=trace))
        _to_log_files(trace)
        if job.sweep_dir is None:
            raise
        log.error("%s failed: %s", job.folder.name, told)
        if isinstance(error, MtxError):
            raise
        raise JobFailedError(f"{told}\nSee {job.folder / 'mtx.log'}") from error
    except BaseException:  # Ctrl-C
        write_status(job.folder, status.end("interrupted", seconds=time.perf_counter() - started))
        raise
    write_status(job.folder, status.end("completed", seconds=time.perf_counter() - started, objectives=objectives))
    return _as_objective(objectives)


def _hide_in_hydras_files(job: Job, hide: Callable[[str], str]) -> None:
    """Hide credentials in what Hydra wrote before the job began: they may come from a user's own config files."""
    of_sweep = [] if job.sweep_dir is None else list(job.sweep_dir.glob("multirun.yaml"))
    for path in [*(job.folder / HYDRA_FOLDER).glob("*.yaml"), *of_sweep]:
        written = path.read_text(encoding="utf-8")
        if (hidden := hide(written)) != written:
            with atomic_file(path) as file:
                file.write(hidden.encode())


def objectives_of(job: Job, returned: Any) -> dict[str, float]:
    """Return what a sweep looks at, by name: the metrics that `sweep.objective` names, or what the task returned.

    A name that the report does not have is told in the log, and left out: the work is done all the same. Raises
    ConfigError for one where the sweep is a search, which learns nothing from such a job.
    """
    report = _report(job.folder)
    wanted = (job.config.get("sweep") or {}).get("objective")
    if wanted is None:
        values = returned if isinstance(returned, (list, tuple)) else [returned]
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
        names = [named_after(number, report) or RETURNED for number in numbers]
        if len(set(names)) < len(names):
            names = [f"{RETURNED}_{i}" for i in range(len(names))]
        return dict(zip(names, numbers, strict=True))
    metrics = flat_numbers(report)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in metrics:
            told = f"sweep.objective={name} is no number in report.json, which has {choices(name, metrics)}"
            if job.choices.get(SWEEPER, TRIES_ALL) != TRIES_ALL:
                raise ConfigError(f"{told}. A search cannot go by it")
            log.warning("%s", told)
    return {name: float(metrics[name]) for name in names if name in metrics}


def _as_objective(objectives: Mapping[str, float]) -> Objective:
    values = tuple(objectives.values())
    return values if len(values) > 1 else values[0] if values else None


def _report(folder: Path) -> dict[str, Any]:
    try:
        read = json.loads((folder / REPORT_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _without(value: Any, folder: str) -> Any:
    """Return a config value with the output folder taken out of its texts."""
    if isinstance(value, str):
        return value.replace(folder, "")
    if isinstance(value, Mapping):
        return {str(key): _without(item, folder) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without(item, folder) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _to_log_files(text: str) -> None:
    """Write a stack trace to the job's log, and not to the terminal, where one line is enough."""
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, "%s", (text,), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _later_rank() -> bool:
    """Tell whether this process is a rank other than 0 of a training: it shares the folder of rank 0."""
    told = next((os.environ[name] for name in RANKS if os.environ.get(name)), "0")
    return told.isdecimal() and int(told) > 0
