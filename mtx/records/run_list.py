"""The runs and sweeps in some folders, with the datasets that each used: the list of runs of `task=show`.

This module reads only the keys it needs, without the typed records, whose import takes longer than the whole task. A
file that cannot be read leaves out what it would tell: `task=compare` names damaged files.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

STATUS_FILE, REPORT_FILE, SWEEP_FILE = "status.json", "report.json", "sweep.json"
LOCK_FILE = "running.lock"
IDS_KEY = '"ids": {'  # in report.json, whose other parts may be large
MAX_DEPTH = 6  # folders below a root: outputs/DATE/TIME, multirun/DATE/TIME/JOB
METRICS = ("bits_per_byte", "padding_ratio")  # objectives with a short name in the list


@dataclass(frozen=True)
class ListedRun:
    """A run, or a job of a sweep.

    Attributes:
        folder: path of its folder.
        task: name of its task, such as `fit`.
        state: `completed`, `failed`, `interrupted` or `running`; None if it is not known.
        started: local time of its start, ISO 8601; empty if it is not known.
        objectives: numbers by which sweeps compare it.
        used: ids of the datasets and artifacts that it used; empty if it wrote no report.
    """

    folder: Path
    task: str
    state: str | None
    started: str
    objectives: dict[str, float]
    used: frozenset[str]


@dataclass(frozen=True)
class ListedEntry:
    """A line of the list: a run, or a sweep with all of its jobs (`num_planned` is its number of planned jobs)."""

    folder: Path
    runs: tuple[ListedRun, ...]
    is_sweep: bool = False
    num_planned: int | None = None
    varied: tuple[str, ...] = field(default=())

    @property
    def started(self) -> str:
        """The start of the run; for a sweep, that of its newest job."""
        return max((run.started for run in self.runs), default="")


def listed_entries(roots: Sequence[Path]) -> list[ListedEntry]:
    """Return all runs and sweeps in some folders, the newest first."""
    found = {entry.folder: entry for root in roots for entry in _entries(root, MAX_DEPTH)}
    return sorted(found.values(), key=lambda entry: (started_seconds(entry) or 0.0, str(entry.folder)), reverse=True)


def started_seconds(run: ListedRun | ListedEntry) -> float | None:
    """Return the time of the start in seconds since 1970; None if it is not known."""
    return seconds_since_1970(run.started)


def _entries(folder: Path, depth: int) -> Iterator[ListedEntry]:
    try:
        with os.scandir(folder) as listed:
            found = {entry.name: entry.is_dir(follow_symlinks=False) for entry in listed}
    except OSError:  # no permission, or removed
        return
    names = set(found)
    if {STATUS_FILE, REPORT_FILE} & names:
        yield ListedEntry(folder, (_run(folder, names),))
        return
    inner = [folder / name for name in sorted(names) if depth and found[name] and not name.startswith(".")]
    if SWEEP_FILE not in names:
        for path in inner:
            yield from _entries(path, depth - 1)
        return
    sweep = _object(folder / SWEEP_FILE)
    jobs = tuple(run for path in inner for entry in _entries(path, 2) for run in entry.runs)
    planned, varied = sweep.get("num_jobs"), sweep.get("varied")
    yield ListedEntry(
        folder,
        jobs,
        is_sweep=True,
        num_planned=planned if isinstance(planned, int) else None,
        varied=tuple(map(str, varied)) if isinstance(varied, list) else (),
    )


def _run(folder: Path, names: set[str]) -> ListedRun:
    status = _object(folder / STATUS_FILE) if STATUS_FILE in names else {}
    choices, objectives, started = status.get("choices"), status.get("objectives"), status.get("started")
    state = status.get("state") if isinstance(status.get("state"), str) else None
    if state == "running" and not _is_locked(folder / LOCK_FILE):
        state = "interrupted"
    return ListedRun(
        folder,
        str(choices.get("task", "")) if isinstance(choices, dict) else "",
        state,
        started if isinstance(started, str) else "",
        _numbers(objectives),
        _used_ids(folder / REPORT_FILE) if REPORT_FILE in names else frozenset(),
    )


def _used_ids(path: Path) -> frozenset[str]:
    """Return the ids in the part `ids` of a report; the rest of the file, such as translations, is not parsed."""
    try:
        text = path.read_text(encoding="utf-8")
        start = text.find(IDS_KEY)
        ids = json.JSONDecoder().raw_decode(text, start + len(IDS_KEY) - 1)[0] if start >= 0 else {}
    except (OSError, ValueError, RecursionError):
        return frozenset()
    found: set[str] = set()
    waiting: list[Any] = [ids]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, str):
            found.add(value)
    return frozenset(found)


def _object(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    return {str(name): float(of) for name, of in value.items() if type(of) in (int, float) and abs(of) < 1e300}


def _is_locked(path: Path) -> bool:
    from mtx.records.job_status import is_locked  # which imports pydantic: only if a job says that it runs

    return is_locked(path)


def seconds_since_1970(moment: str) -> float | None:
    """Return a moment in ISO 8601, local time without a zone, in seconds since 1970; None if it is not valid."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
