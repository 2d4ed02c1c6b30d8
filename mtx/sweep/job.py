"""Run one job, alone or in a sweep: write its status, and skip a job that an earlier attempt completed."""

import logging
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mtx.components.check_and_build import Config
from mtx.components.identity import digest
from mtx.errors import ConfigError, DamagedError, JobFailedError, MtxError, StoreError, choices
from mtx.exhausted_resources import exhausted_message, panics_as_errors
from mtx.infra.dal.atomic_file import atomic_file
from mtx.library_errors import library_reason
from mtx.own_process import end_with_starting_process, keep_native_lines_in
from mtx.progress.literal_console import PlainConsole
from mtx.progress.progress_log import is_later_rank, log_files, write_to_log_files
from mtx.records.config_record import CONFIG_FILE, JobConfig
from mtx.records.job_status import LOCK_FILE, STATUS_FILE, JobStatus, hold_lock, read_status, write_status
from mtx.records.page_recipients import has_recipients, send_files
from mtx.records.report_metrics import RETURNED_METRIC, returned_metric
from mtx.records.report_record import REPORT_FILE, Report
from mtx.records.sweep_record import HYDRA_FOLDER, PAGE_FILE, read_sweep
from mtx.redaction_and_escaping import json_redactor
from mtx.sweep.job_spec import Job
from mtx.sweep.typed_plus import with_typed_plus

log = logging.getLogger(__name__)

Objective = float | tuple[float, ...] | None  # the value that a sweeper receives from a job

SENT_FILES = (PAGE_FILE, REPORT_FILE, CONFIG_FILE)  # files of a run that loggers store
NON_JOB_KEYS = frozenset({"sweep", "experiment", "page"})  # config groups that do not change the result of a job
SWEEPER, TRIES_ALL = "sweeper", "basic"  # a config group, and its option that runs all jobs of a grid without a search


def run_job(job: Job, work: Callable[[], Any]) -> Objective:
    """Call `work`, and write the job's status to disk when it begins and when it ends.

    A job that an earlier attempt of the sweep completed is skipped.

    Args:
        job: The job to run.
        work: The task. It returns a number, several numbers, or None.

    Returns:
        The values that the sweep compares: the metrics that `sweep.objective` names, else the return value of `work`.

    Raises:
        ConfigError: Another process is running a job in the same folder.
        JobFailedError: In a sweep, `work` raised an error that is no MtxError. The job's log has the details.
    """
    if job.sweep_dir is not None:
        end_with_starting_process()
    if is_later_rank():
        work()
        return None
    hashed = config_hash(job.config, job.folder)
    done = earlier_completion(job, hashed)
    if done is not None:
        log.info("skipped: an earlier attempt completed this job in %s", done[0])
        if done[0] == job.folder:
            _restore_config(job)
        if done[0] != job.folder and read_status(job.folder) is None:
            shutil.rmtree(job.folder, ignore_errors=True)  # Hydra's files for this job, which nothing needs
        return _as_objective(done[1].objectives)
    busy = (
        f"{job.folder} is in use: another process runs a job in it. "
        "Wait until it ends, or choose another folder with hydra.run.dir=FOLDER or hydra.sweep.dir=FOLDER"
    )
    has_failed = True
    try:
        with hold_lock(job.folder / LOCK_FILE, busy):
            objective = _run_with_status(job, hashed, work)
        _write_page(job)
        has_failed = False
    finally:
        send_files([job.folder / name for name in SENT_FILES], has_failed=has_failed)
    return objective


def _write_page(job: Job) -> None:
    """Write the page of a single run; in a sweep, only for recipients, since the page of the sweep has all jobs."""
    if (job.sweep_dir is None or has_recipients()) and (job.folder / REPORT_FILE).exists():
        from mtx.page.render import write_run_page

        write_run_page(job.folder, None if job.sweep_dir is None else PlainConsole(quiet=True))


def config_hash(config: Config, folder: Path) -> str:
    """Return a hash of the config values that decide a job's result, without the output folder and `NON_JOB_KEYS`."""
    kept = {key: _value_without_folder(value, str(folder)) for key, value in config.items() if key not in NON_JOB_KEYS}
    return digest(kept)


def earlier_completion(job: Job, hashed: str) -> tuple[Path, JobStatus] | None:
    """Return the folder and the status of the earlier, completed attempt of a job; None if there is none.

    The function reads only the sweep's `sweep.json` and one `status.json`.
    """
    if job.sweep_dir is None:
        return None
    try:
        sweep = read_sweep(job.sweep_dir)
        name = sweep.done.get(hashed) if sweep is not None else None
        if name is None:
            return None
        folder = job.sweep_dir / name
        status = read_status(folder)
    except StoreError:  # a job with an unreadable status runs again
        return None
    fits = status is not None and status.state == "completed" and status.config_hash == hashed
    return (folder, status) if status is not None and fits else None


def _restore_config(job: Job) -> None:
    """Write the config of a completed job again if its file is gone or damaged: results are compared by it.

    A file that cannot be read now stays as it is.
    """
    try:
        if JobConfig.read(job.folder) is not None:
            return
    except DamagedError as error:
        if isinstance(error.__cause__, OSError):
            log.warning("%s", error)
            return
    try:
        JobConfig(json_redactor(job.config)(job.config)).write(job.folder)
    except (StoreError, OSError) as error:  # a job that is done needs no folder that can be written
        what = "" if isinstance(error, StoreError) else f"{job.folder / CONFIG_FILE} cannot be written: "
        log.warning("%s%s", what, library_reason(error))


def _run_with_status(job: Job, hashed: str, work: Callable[[], Any]) -> Objective:
    hide = json_redactor(job.config)
    for name in (REPORT_FILE, PAGE_FILE):  # files of an earlier attempt
        (job.folder / name).unlink(missing_ok=True)
    JobConfig(hide(job.config)).write(job.folder)
    _redact_hydra_files(job, hide)
    status = JobStatus.begin(hashed, overrides=hide(list(job.overrides)), choices=job.choices)
    write_status(job.folder, status)
    for path in log_files()[:1]:
        keep_native_lines_in(Path(path))
    started = time.perf_counter()
    try:
        with panics_as_errors():
            objectives = objectives_of(job, work())
    except Exception as error:
        told = exhausted_message(error) or f"{type(error).__name__}: {error}"
        told = hide(with_typed_plus(told, job.overrides))
        trace = hide(traceback.format_exc())
        seconds = time.perf_counter() - started
        write_status(job.folder, status.end("failed", seconds=seconds, error=told, traceback=trace))
        write_to_log_files(trace)
        if job.sweep_dir is None:
            raise
        if isinstance(error, MtxError):
            raise
        raise JobFailedError(f"{told}\nSee {next(iter(log_files()), job.folder / STATUS_FILE)}") from error
    except BaseException:  # Ctrl-C
        write_status(job.folder, status.end("interrupted", seconds=time.perf_counter() - started))
        raise
    write_status(job.folder, status.end("completed", seconds=time.perf_counter() - started, objectives=objectives))
    return _as_objective(objectives)


def _redact_hydra_files(job: Job, hide: Callable[[str], str]) -> None:
    """Replace credentials by `***` in the YAML files that Hydra wrote before the job began."""
    of_sweep = [] if job.sweep_dir is None else list(job.sweep_dir.glob("multirun.yaml"))
    for path in [*(job.folder / HYDRA_FOLDER).glob("*.yaml"), *of_sweep]:
        written = path.read_text(encoding="utf-8")
        if (hidden := hide(written)) != written:
            with atomic_file(path) as file:
                file.write(hidden.encode())


def objectives_of(job: Job, returned: Any) -> dict[str, float]:
    """Return the values that a sweep compares, by name: the metrics in `sweep.objective`, else the task's return value.

    A metric that is missing in the report is logged as a warning and left out, because the job itself succeeded.

    Raises:
        ConfigError: A metric is missing and the sweeper is a search, which cannot use a job without it.
    """
    metrics = _read_report(job.folder).numbers()
    wanted = (job.config.get("sweep") or {}).get("objective")
    if wanted is None:
        values = returned if isinstance(returned, (list, tuple)) else [returned]
        numbers = [float(value) for value in values if isinstance(value, (int, float))]
        names = [returned_metric(number, metrics) or RETURNED_METRIC for number in numbers]
        if len(set(names)) < len(names):
            names = [f"{RETURNED_METRIC}_{i}" for i in range(len(names))]
        return dict(zip(names, numbers, strict=True))
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in metrics:
            told = f"sweep.objective={name} is no number in report.json, which has {choices(name, metrics)}"
            if job.choices.get(SWEEPER, TRIES_ALL) != TRIES_ALL:
                raise ConfigError(f"{told}. A search needs this number from each job")
            log.warning("%s", told)
    return {name: float(metrics[name]) for name in names if name in metrics}


def _as_objective(objectives: Mapping[str, float]) -> Objective:
    values = tuple(objectives.values())
    return values if len(values) > 1 else values[0] if values else None


def _read_report(folder: Path) -> Report:
    try:
        return Report.read(folder) or Report()
    except StoreError as error:  # a user-defined task may have written an unreadable report.json
        log.warning("%s", error)
        return Report()


def _value_without_folder(value: Any, folder: str) -> Any:
    """Return a config value with the path of the output folder removed from all strings."""
    if isinstance(value, str):
        return value.replace(folder, "")
    if isinstance(value, Mapping):
        return {str(key): _value_without_folder(item, folder) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value_without_folder(item, folder) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
