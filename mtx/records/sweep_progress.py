"""How far a sweep that still runs has come: jobs by state, and the time that is left."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mtx.records.job_status import is_locked
from mtx.records.run_list import seconds_since_1970

if TYPE_CHECKING:
    from mtx.records.result_types import JobRecord
    from mtx.records.sweep_record import SweepRecord

SWEEP_LOCK = "sweep.lock"  # the process of a sweep holds this file in the sweep's folder


@dataclass(frozen=True)
class SweepProgress:
    """The jobs of a sweep that still runs, at one moment.

    Attributes:
        as_of: The moment, ISO 8601 without a fraction of a second.
        num_jobs: The number of planned jobs; None for a search, which decides while it runs.
        completed, running, waiting, failed: The numbers of jobs in these states; `failed` includes interrupted jobs.
        left_s: The estimated time in seconds until the end of the sweep; None if it is not known.
        reloads: Whether the page is written again, so that a browser should reload it.
        is_followed: Whether it is written again every few minutes even without progress.
    """

    as_of: str
    num_jobs: int | None
    completed: int
    running: int
    waiting: int
    failed: int
    left_s: float | None
    reloads: bool = True
    is_followed: bool = False

    @property
    def text(self) -> str:
        """The counts, the time left and the moment as one line."""
        done = f"{self.completed} of {self.num_jobs} done" if self.num_jobs else f"{self.completed} done"
        left = "" if self.left_s is None else f", about {_duration(self.left_s)} left"
        moment = self.as_of[:19].replace("T", " ")
        return f"{done}, {self.running} running, {self.waiting} waiting, {self.failed} failed{left}, as of {moment}"


def is_sweep_running(folder: Path) -> bool:
    """Return whether a process holds the lock of the sweep in `folder`."""
    return is_locked(folder / SWEEP_LOCK)


def sweep_progress(jobs: Iterable["JobRecord"], sweep: "SweepRecord | None", now: datetime) -> SweepProgress:
    """Return the progress of a sweep from its jobs.

    The estimate of the time left assumes that the jobs that wait take as long as those that ended in this attempt.

    Args:
        jobs: The jobs of the sweep, planned ones included.
        sweep: The content of the sweep's `sweep.json`; None if there is none.
        now: The current time, with a time zone.
    """
    found = list(jobs)
    counts = Counter(job.state for job in found)
    begun = seconds_since_1970(sweep.attempt_started or "") if sweep is not None else None
    ended = [(job.started, moment) for job in found if (moment := seconds_since_1970(job.ended or "")) is not None]
    num_ended = 0
    if begun is not None:
        num_ended = sum((seconds_since_1970(started or "") or begun) >= begun for started, _ in ended)
    num_jobs = None if sweep is None else sweep.num_jobs
    left_s = None
    if num_ended and begun is not None and num_jobs:
        last = max(moment for _, moment in ended)
        since_end = now.timestamp() - last
        per_job = (last - begun) / num_ended
        left_s = max(per_job * (counts["running"] + counts["missing"]) - since_end, 0.0)
    return SweepProgress(
        as_of=now.isoformat(timespec="seconds"),
        num_jobs=num_jobs,
        completed=counts["completed"],
        running=counts["running"],
        waiting=counts["missing"],
        failed=counts["failed"] + counts["interrupted"],
        left_s=left_s,
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
