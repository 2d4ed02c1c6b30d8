"""`status.json`: the state of a job from its first moment, and the lock file that the job's process holds.

The state `running` counts only while the job's process holds the lock. The operating system releases the lock when
the process dies for any reason, so mtx need not check process ids.
"""

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal

from filelock import FileLock, Timeout
from pydantic import Field

from mtx.errors import ConfigError
from mtx.records.record_file import Count, FileRecord, Number

STATUS_FILE = "status.json"
LOCK_FILE = "running.lock"

State = Literal["running", "completed", "failed", "interrupted"]


class JobStatus(FileRecord):
    """The status of a job.

    Attributes:
        state: `running`, `completed`, `failed` (an error was raised) or `interrupted` (Ctrl-C, or the process died).
        config_hash: The hash of the job's config from `mtx.sweep.job.config_hash`.
        overrides: The overrides on the command line of the job.
        choices: The option of each config group, such as `{"sampler": "bucket"}`.
        started, ended: Local time with UTC offset, ISO 8601. `ended` is None while the job runs.
        seconds: The time from `started` to `ended`.
        pid, host: The process id and the machine that ran the job.
        objectives: The values that the sweep compares, by metric name; the main objective comes first.
        error: The type and the message of the error that ended the job, with secrets replaced by `***`.
        traceback: The stack trace of `error`.
    """

    FILE: ClassVar[str] = STATUS_FILE
    WHAT: ClassVar[str] = "status of a job"
    VERSION_KEY: ClassVar[str] = "status_version"
    VERSION: ClassVar[int] = 1

    state: State
    config_hash: str
    overrides: tuple[str, ...] = ()
    choices: dict[str, str] = Field(default_factory=dict)
    started: str = ""
    ended: str | None = None
    seconds: Number | None = None
    pid: Count = 0
    host: str = ""
    objectives: dict[str, Number] = Field(default_factory=dict)
    error: str | None = None
    traceback: str | None = None

    @classmethod
    def begin(cls, config_hash: str, *, overrides: list[str], choices: Mapping[str, str]) -> "JobStatus":
        """Return the status of a job that this process starts now."""
        return cls(
            state="running",
            config_hash=config_hash,
            overrides=tuple(overrides),
            choices=dict(choices),
            started=_now(),
            pid=os.getpid(),
            host=platform.node(),
        )

    def end(
        self,
        state: State,
        *,
        seconds: float,
        objectives: Mapping[str, float] | None = None,
        error: str | None = None,
        traceback: str | None = None,
    ) -> "JobStatus":
        """Return this status with the end of the job: state, time, objectives and error."""
        ended = {"state": state, "ended": _now(), "seconds": seconds, "error": error, "traceback": traceback}
        return JobStatus(**{**self.model_dump(), **ended, "objectives": dict(objectives or {})})


def write_status(folder: Path, status: JobStatus) -> None:
    """Write `status.json` into a job's folder.

    Raises:
        StoreError: The file cannot be written.
    """
    status.write(folder)


def read_status(folder: Path) -> JobStatus | None:
    """Return the status of the job in `folder`; None if there is no `status.json`.

    If the file says `running` but no process holds the lock, the state becomes `interrupted`.

    Raises:
        DamagedError: The file cannot be read or has invalid fields.
        NewerFormatError: A newer version of mtx wrote the file.
    """
    status = JobStatus.read(folder)
    if status is not None and status.state == "running" and not is_locked(folder / LOCK_FILE):
        return status.model_copy(update={"state": "interrupted", "error": "its process ended without a message"})
    return status


@contextmanager
def hold_lock(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file `path` inside the `with` block.

    File systems without locks are supported: then the block runs without a lock.

    Args:
        path: The lock file.
        busy: The error message if another process holds the lock.

    Raises:
        ConfigError: Another process holds the lock.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)  # seconds; `is_locked` of another process holds the lock for less than 1 ms
    except Timeout as error:
        raise ConfigError(busy) from error
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # Windows cannot delete an open file
            path.unlink()
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock file `path`; True if the file system cannot say."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError, NotImplementedError):
        return True
    lock.release()
    return False


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
