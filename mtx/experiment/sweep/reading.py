"""What runs and sweeps left in their folders, read back.

Comes in: any number of output folders, of single runs, of sweeps, or folders that hold such, old ones without a
`status.json` too. Goes out: `Results`. Nothing here raises for a damaged file; it becomes a note on the job.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mtx.errors import DamagedError
from mtx.experiment.sweep.job import HYDRA_FOLDER, REPORT_FILE, SWEEP_FILE, read_sweep
from mtx.experiment.sweep.metrics import Value, flat, flat_numbers
from mtx.experiment.sweep.results import JobRecord, RecordState, Results
from mtx.experiment.sweep.status import CONFIG_FILE, STATUS_FILE, JobStatus, read_status

MARKS = (STATUS_FILE, REPORT_FILE, HYDRA_FOLDER)  # what a job's folder has at least one of


def read_results(folders: Sequence[Path]) -> Results:
    """Read all jobs in `folders` and below them.

    Where two jobs of a sweep have the same config, the one that counts is the completed one, else the later.
    """
    roots = list(dict.fromkeys(Path(folder) for folder in folders))
    notes = [f"{root} is no folder" for root in roots if not root.is_dir()]
    found = list(dict.fromkeys(job for root in roots if root.is_dir() for job in _job_folders(root)))
    shared = _shared(roots, found)
    records = [_read_job(folder, _name(folder, shared)) for folder in found]
    sweeps = list(dict.fromkeys(folder.parent for folder in found) | dict.fromkeys(roots))
    told = {folder: sweep for folder in sweeps if (sweep := read_sweep(folder))}
    records = _counting(records)
    records = [_marked_reused(record, told.get(record.folder.parent, {})) for record in records]
    for folder, sweep in told.items():
        if folder.is_dir():
            records += _missing(folder, sweep, [r for r in records if r.folder.parent == folder], shared)
    records.sort(key=lambda record: _natural(record.name))
    notes += [
        f"there is no run in {root}" for root in roots if root.is_dir() and not any(_below(j, root) for j in found)
    ]
    command = tuple(told[roots[0]].get("command", ())) if len(roots) == 1 and roots[0] in told else ()
    return Results(tuple(roots), tuple(records), tuple(notes), command)


def _job_folders(root: Path) -> Iterator[Path]:
    """Yield folders of jobs in `root` and below it; a job's own folders are not looked into."""
    if any((root / mark).exists() for mark in MARKS):
        yield root
        return
    for child in sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: _natural(path.name)):
        if not child.name.startswith("."):
            yield from _job_folders(child)


def _read_job(folder: Path, name: str) -> JobRecord:
    notes: list[str] = []
    status: JobStatus | None = None
    try:
        status = read_status(folder)
    except DamagedError as error:
        notes.append(str(error))
    report = _json(folder / REPORT_FILE, notes)
    config, choices, overrides = _config(folder, notes)
    state: RecordState = status.state if status else "completed" if report else "interrupted"
    logs = sorted(folder.glob("*.log"))
    return JobRecord(
        folder=folder,
        name=name,
        state=state,
        overrides=tuple(map(str, status.overrides if status else overrides)),
        choices={key: str(value) for key, value in (status.choices if status else choices).items()},
        config={key: _value(value) for key, value in flat(config).items() if key.partition(".")[0] != "hydra"},
        metrics=flat_numbers(report),
        report=report,
        objectives=dict(status.objectives) if status else _objectives_of_old(report),
        config_hash=status.config_hash if status else None,
        started=status.started if status else None,
        ended=status.ended if status else None,
        seconds=status.seconds if status else None,
        error=status.error if status else None,
        traceback=status.traceback if status else None,
        log=logs[0] if logs else None,
        notes=tuple(notes),
    )


def _config(folder: Path, notes: list[str]) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """Return a job's config, choices and overrides; from what Hydra wrote where mtx wrote none."""
    hydra = folder / HYDRA_FOLDER
    config = _json(folder / CONFIG_FILE, notes)
    has_status = (folder / STATUS_FILE).exists() and not notes
    if config and has_status:
        return config, {}, []
    said = _yaml(hydra / "hydra.yaml", notes)
    inner = said.get("hydra") if isinstance(said.get("hydra"), dict) else {}
    assert isinstance(inner, dict)
    runtime, overrides = inner.get("runtime"), inner.get("overrides")
    choices = runtime.get("choices") if isinstance(runtime, dict) else {}
    task = overrides.get("task") if isinstance(overrides, dict) else []
    plain = {key: option for key, option in (choices or {}).items() if option is not None and "/" not in str(key)}
    return config or _yaml(hydra / "config.yaml", notes), plain, task if isinstance(task, list) else []


def _json(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        read = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{path} cannot be read: {error}")
        return {}
    if isinstance(read, dict):
        return read
    notes.append(f"{path} holds a {type(read).__name__}, no mapping")
    return {}


def _yaml(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        notes.append(f"{path} cannot be read: {' '.join(str(error).split())}")
        return {}
    return read if isinstance(read, dict) else {}


def _objectives_of_old(report: Mapping[str, Any]) -> dict[str, float]:
    """Return what the task of a run without a status returned, by its report."""
    name = next((name for name in ("bits_per_byte", "padding_ratio") if isinstance(report.get(name), float)), None)
    return {} if name is None else {name: report[name]}


def _counting(records: list[JobRecord]) -> list[JobRecord]:
    """Leave out jobs of a sweep that a later attempt has done again."""
    kept: dict[object, JobRecord] = {}
    for record in records:
        alone = record.config_hash is None or not (record.folder.parent / SWEEP_FILE).exists()
        key: object = record.folder if alone else (record.folder.parent, record.config_hash)
        if key not in kept or _worth(record) > _worth(kept[key]):
            kept[key] = record
    return list(kept.values())


def _worth(record: JobRecord) -> tuple[bool, str]:
    return record.state == "completed", record.started or ""


def _marked_reused(record: JobRecord, sweep: Mapping[str, Any]) -> JobRecord:
    done = sweep.get("done", {})
    if record.config_hash is None or done.get(record.config_hash) != record.folder.name:
        return record
    return dataclasses.replace(record, reused=True)


def _missing(folder: Path, sweep: Mapping[str, Any], records: Sequence[JobRecord], shared: Path) -> list[JobRecord]:
    """Return the jobs that a sweep was to run and that never began."""
    begun = {record.config_hash or record.folder.name for record in records}
    found = []
    for planned in sweep.get("jobs", []):
        if not isinstance(planned, dict) or not isinstance(planned.get("folder"), str):
            continue
        hashed = planned.get("config_hash")
        path = folder / planned["folder"]
        if (path.is_dir() if hashed is None else hashed in begun) or planned["folder"] in begun:
            continue
        said = tuple(map(str, planned.get("overrides", ())))
        found.append(JobRecord(path, _name(path, shared), "missing", overrides=said, config_hash=hashed))
    return found


def _value(value: Any) -> Value:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _shared(roots: Sequence[Path], found: Sequence[Path]) -> Path:
    """Return the folder from which names of jobs are told: the one root, or the deepest that holds all jobs."""
    if len(roots) == 1 and roots[0] not in found:
        return roots[0]
    if not found:
        return Path()
    shared = found[0].parent
    while not all(_below(path, shared) for path in found) and shared != shared.parent:
        shared = shared.parent
    return shared


def _name(folder: Path, shared: Path) -> str:
    return folder.relative_to(shared).as_posix() if _below(folder, shared) else str(folder)


def _below(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
