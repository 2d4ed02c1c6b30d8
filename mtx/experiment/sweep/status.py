"""What a job leaves in its folder about itself: `status.json`, `config.json`, and a lock while it runs.

Both files appear whole or not at all. A status that says `running` is true only while the job's process holds the lock:
the system frees it when a process dies, however it dies, so nobody has to guess from process numbers.
"""

import dataclasses
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from filelock import FileLock, Timeout

from mtx.errors import ConfigError, DamagedError
from mtx.infra.dal.base import atomic_file, reason

STATUS_VERSION = 1
STATUS_FILE = "status.json"
CONFIG_FILE = "config.json"
LOCK_FILE = "running.lock"

State = Literal["running", "completed", "failed", "interrupted"]


@dataclass(frozen=True)
class JobStatus:
    """How a job stands.

    Attributes:
        state: `running`, `completed`, `failed` (it raised an error), or `interrupted` (Ctrl-C, or its process is gone).
        config_hash: of the job's config: see `mtx.experiment.sweep.job.config_hash`.
        overrides: what was said on the command line for this job.
        choices: the option of each config group, as `{"sampler": "bucket"}`.
        started, ended: local time with its offset, ISO 8601. `ended` is None while it runs.
        seconds: between the two.
        pid, host: of the process.
        objectives: what a sweep looks at, by the metric's name, the first first. Empty where there is none.
        error: type and message of what the job raised, secrets hidden.
        traceback: the same, with where it was raised.
        status_version: of this file; fields keep their names and meanings within one version.
    """

    state: State
    config_hash: str
    overrides: list[str] = field(default_factory=list)
    choices: dict[str, str] = field(default_factory=dict)
    started: str = ""
    ended: str | None = None
    seconds: float | None = None
    pid: int = 0
    host: str = ""
    objectives: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    traceback: str | None = None
    status_version: int = STATUS_VERSION

    @classmethod
    def begin(cls, config_hash: str, *, overrides: list[str], choices: Mapping[str, str]) -> "JobStatus":
        """Return the status of a job that starts now, in this process."""
        return cls(
            "running",
            config_hash,
            overrides=overrides,
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
        """Return the status of the same job that ends now."""
        return dataclasses.replace(
            self,
            state=state,
            ended=_now(),
            seconds=seconds,
            objectives=dict(objectives or {}),
            error=error,
            traceback=traceback,
        )


def write_status(folder: Path, status: JobStatus) -> None:
    """Write `status.json`. Raises StoreError where the disk refuses."""
    write_json(folder / STATUS_FILE, dataclasses.asdict(status))


def read_status(folder: Path) -> JobStatus | None:
    """Return how the job of `folder` stands; None where it has no status.

    A job that says `running` and whose process is gone is `interrupted`. Raises DamagedError for a file that cannot be
    read, or holds something else.
    """
    path = folder / STATUS_FILE
    try:
        read = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path} cannot be read: {reason(error)}") from error
    status = _status(path, read)
    if status.state == "running" and not is_held(folder / LOCK_FILE):
        return dataclasses.replace(status, state="interrupted", error="its process has ended without a word")
    return status


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON, whole or not at all. Raises StoreError."""
    with atomic_file(path) as file:
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
        file.write(text.encode("utf-8", "backslashreplace") + b"\n")


@contextmanager
def held(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file `path` for as long as this process is inside. Raises ConfigError `busy` where another has it.

    On disks that know no locks nothing is held, and nothing is refused.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)  # who only looks whether it is held, holds it for less than a millisecond
    except Timeout as error:
        raise ConfigError(busy) from error
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # some systems keep files that are open
            path.unlink()
        lock.release()


def is_held(path: Path) -> bool:
    """Tell whether a process holds the lock file `path`. True where that cannot be found out."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError, NotImplementedError):
        return True
    lock.release()
    return False


def _status(path: Path, read: Any) -> JobStatus:
    """Check a status that was read, field by field. Raises DamagedError."""
    known = {f.name: f for f in dataclasses.fields(JobStatus)}
    if not isinstance(read, dict) or read.get("state") not in get_args(State):
        raise DamagedError(f"{path} is no status of a job: its state is one of {', '.join(get_args(State))}")
    kinds = {
        "overrides": list,
        "choices": dict,
        "objectives": dict,
        "config_hash": str,
        "started": str,
        "pid": int,
        "host": str,
        "seconds": (int, float, type(None)),
        **dict.fromkeys(("ended", "error", "traceback"), (str, type(None))),
    }
    for name, kind in kinds.items():
        if name in read and not isinstance(read[name], cast(Any, kind)):
            raise DamagedError(f"{path} is no status of a job: {name} is {read[name]!r}")
    numbers = read.get("objectives", {}).values()
    if not all(isinstance(number, (int, float)) for number in numbers) or "config_hash" not in read:
        raise DamagedError(f"{path} is no status of a job: its objectives are no numbers, or config_hash is missing")
    return JobStatus(**{name: value for name, value in read.items() if name in known})


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
