"""Read the records of runs and sweeps from their folders, for tables and pages.

`read_results` accepts any folders that contain runs or sweeps, also those of older versions without a `status.json`.
A damaged file raises no error here, but adds a note to its job.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mtx.errors import StoreError
from mtx.library_errors import library_reason
from mtx.records.config_record import CONFIG_FILE, JobConfig
from mtx.records.job_status import STATUS_FILE, JobStatus, read_status
from mtx.records.record_file import FileRecord
from mtx.records.report_metrics import RETURNED_METRIC
from mtx.records.report_record import REPORT_FILE, Report
from mtx.records.result_types import JobRecord, RecordState, Results
from mtx.records.sweep_record import HYDRA_FOLDER, SWEEP_FILE, SweepRecord, read_sweep

Read = TypeVar("Read", bound=FileRecord | JobConfig)

SAMPLES_KEY = "page.samples"  # false in the config of a job: the page shows no sentences of the corpus
JOB_FILES = (STATUS_FILE, REPORT_FILE, HYDRA_FOLDER)  # the folder of a job contains at least one of these


def read_results(folders: Sequence[Path]) -> Results:
    """Return the jobs in all folders below `folders`.

    If several jobs of a sweep have the same config, only the completed one is returned, else the one started last.
    """
    roots = list(dict.fromkeys(Path(folder) for folder in folders))
    notes = [f"{root} is no folder" for root in roots if not root.is_dir()]
    found = list(dict.fromkeys(job for root in roots if root.is_dir() for job in job_folders(root)))
    shared = _common_folder(roots, found)
    records = [_read_job(folder, _job_name(folder, shared)) for folder in found]
    sweeps = list(dict.fromkeys(folder.parent for folder in found) | dict.fromkeys(roots))
    planned = {folder: sweep for folder in sweeps if (sweep := _noting(read_sweep, folder, notes))}
    records = _latest_attempts(records)
    records = [_record_with_reuse(record, planned.get(record.folder.parent)) for record in records]
    for folder, sweep in planned.items():
        if folder.is_dir() and any(_is_below(folder, root) for root in roots):  # not for single jobs of a sweep
            records += _missing_jobs(folder, sweep, [r for r in records if r.folder.parent == folder], shared)
    records.sort(key=lambda record: _natural_key(record.name))
    notes += [
        f"there is no run in {root}" for root in roots if root.is_dir() and not any(_is_below(j, root) for j in found)
    ]
    with_samples = not any(record.config.get(SAMPLES_KEY) is False for record in records)
    found_results = Results(tuple(roots), tuple(records), tuple(notes), with_samples=with_samples)
    if len(roots) != 1 or roots[0] not in planned:
        return found_results
    sweep = planned[roots[0]]
    return dataclasses.replace(found_results, command=sweep.command, assumptions=sweep.assumptions)


def job_folders(root: Path) -> Iterator[Path]:
    """Yield the folders of jobs in `root` and below it, in natural order; folders inside of a job are not searched."""
    if any((root / mark).exists() for mark in JOB_FILES):
        yield root
        return
    for child in sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: _natural_key(path.name)):
        if not child.name.startswith("."):
            yield from job_folders(child)


def _read_job(folder: Path, name: str) -> JobRecord:
    notes: list[str] = []
    status = _noting(read_status, folder, notes)
    unreadable: list[str] = []
    report = _noting(Report.read, folder, unreadable) or Report()
    if status is not None and report.is_empty and not unreadable and _had_report(status):
        again = f". To run the job again, remove {folder / STATUS_FILE}, and resume the sweep"
        notes.append(
            f"{folder / Report.FILE} of a completed job is gone, and its figures with it"
            f"{again if _resumes(folder, status) else ''}"
        )
    config, choices, overrides = _read_config(folder, status, notes)
    state: RecordState = "interrupted" if report.is_empty else "completed"
    logs = sorted(folder.glob("*.log"))
    return JobRecord(
        folder=folder,
        name=name,
        state=status.state if status else state,
        overrides=tuple(map(str, status.overrides if status else overrides)),
        choices={key: str(value) for key, value in (status.choices if status else choices).items()},
        config=config.settings(),
        metrics=report.numbers(),
        report=report,
        report_problem=next(iter(unreadable), None),
        objectives=_objectives(status, report),
        config_hash=status.config_hash if status else None,
        started=status.started if status else None,
        ended=status.ended if status else None,
        seconds=status.seconds if status else None,
        error=status.error if status else None,
        traceback=status.traceback if status else None,
        log=logs[0] if logs else None,
        notes=(*notes, *unreadable),
    )


def _had_report(status: JobStatus) -> bool:
    """Return whether a completed job has written a report: its objectives have the names of a report's figures."""
    return status.state == "completed" and any(not name.startswith(RETURNED_METRIC) for name in status.objectives)


def _resumes(folder: Path, status: JobStatus) -> bool:
    """Return whether a sweep that is resumed passes over a job, because it is completed."""
    return status.state == "completed" and (folder.parent / SWEEP_FILE).exists()


def _noting(read: Callable[[Path], Read | None], folder: Path, notes: list[str]) -> Read | None:
    """Return the record that `read` finds in a folder; None if it cannot be read, and then add the error to `notes`."""
    try:
        return read(folder)
    except StoreError as error:
        notes.append(str(error))
        return None


def _read_config(
    folder: Path, status: JobStatus | None, notes: list[str]
) -> tuple[JobConfig, dict[str, Any], list[Any]]:
    """Return a job's config, choices and overrides from mtx's files, or from Hydra's files if mtx's are missing."""
    damage: list[str] = []
    config = _noting(JobConfig.read, folder, damage)
    if config is not None and status is not None:
        return config, {}, []
    hydra = folder / HYDRA_FOLDER
    said = _read_yaml(hydra / "hydra.yaml", notes)
    inner = said.get("hydra") if isinstance(said.get("hydra"), dict) else {}
    assert isinstance(inner, dict)
    runtime, overrides = inner.get("runtime"), inner.get("overrides")
    choices = runtime.get("choices") if isinstance(runtime, dict) else {}
    task = overrides.get("task") if isinstance(overrides, dict) else []
    plain = {key: option for key, option in (choices or {}).items() if option is not None and "/" not in str(key)}
    if config is None:
        config = JobConfig(_without_references(_read_yaml(hydra / "config.yaml", notes)))
        if status is not None:
            again = ". To write the file again, resume the sweep" if _resumes(folder, status) else ""
            damage = [
                f"{damage[0] if damage else f'{folder / CONFIG_FILE} is gone'}. The settings of the job are those of "
                f"Hydra's file, without those that refer to others{again}"
            ]
    notes += damage
    return config, plain, task if isinstance(task, list) else []


def _without_references(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config of Hydra without values such as `${seed}`, which only the composition of a job resolves."""
    return {
        key: _without_references(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if "${" not in str(value) or isinstance(value, dict)
    }


def _read_yaml(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        notes.append(f"{path} cannot be read: {library_reason(error)}")
        return {}
    return read if isinstance(read, dict) else {}


def _objectives(status: JobStatus | None, report: Report) -> dict[str, float]:
    """Return the objectives of a job from its status; without a status, the first main metric in its report."""
    if status is not None:
        return {Report.current_name(name): number for name, number in status.objectives.items()}
    returned = {"bits_per_byte": report.bits_per_byte, "padding_ratio": report.padding_ratio}
    return next(({name: number} for name, number in returned.items() if number is not None), {})


def _latest_attempts(records: list[JobRecord]) -> list[JobRecord]:
    """Return the records without those that a later attempt of the same sweep repeated."""
    kept: dict[object, JobRecord] = {}
    for record in records:
        alone = record.config_hash is None or not (record.folder.parent / SWEEP_FILE).exists()
        key: object = record.folder if alone else (record.folder.parent, record.config_hash)
        if key not in kept or _attempt_rank(record) > _attempt_rank(kept[key]):
            kept[key] = record
    return list(kept.values())


def _attempt_rank(record: JobRecord) -> tuple[bool, str]:
    return record.state == "completed", record.started or ""


def _record_with_reuse(record: JobRecord, sweep: SweepRecord | None) -> JobRecord:
    if sweep is None:
        return record
    is_reused = record.config_hash is not None and sweep.done.get(record.config_hash) == record.folder.name
    return dataclasses.replace(record, reused=is_reused, confirms=record.folder.name in sweep.confirm_folders)


def _missing_jobs(folder: Path, sweep: SweepRecord, records: Sequence[JobRecord], shared: Path) -> list[JobRecord]:
    """Return records for the jobs that a sweep planned and that never began, in the state `missing`."""
    begun = {record.config_hash or record.folder.name for record in records}
    found = []
    for job in sweep.jobs:
        hashed, path = job.config_hash, folder / job.folder
        if (path.is_dir() if hashed is None else hashed in begun) or job.folder in begun:
            continue
        found.append(JobRecord(path, _job_name(path, shared), "missing", overrides=job.overrides, config_hash=hashed))
    return found


def _common_folder(roots: Sequence[Path], found: Sequence[Path]) -> Path:
    """Return the folder to which job names are relative: the only root, or the deepest folder above all jobs."""
    if len(roots) == 1 and roots[0] not in found:
        return roots[0]
    if not found:
        return Path()
    shared = found[0].parent
    while not all(_is_below(path, shared) for path in found) and shared != shared.parent:
        shared = shared.parent
    return shared


def _job_name(folder: Path, shared: Path) -> str:
    return folder.relative_to(shared).as_posix() if _is_below(folder, shared) else str(folder)


def _is_below(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that orders numbers inside names by value: `2` comes before `10`."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
