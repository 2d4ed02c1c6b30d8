"""A worker of a cluster, such as one of Dask or Ray: it runs the tasks that `ClusterEngine` submits.

An answer has three parts: the kind of the outcome and its content, as in `engine_worker.py`, and the warnings that the
task has logged.
"""

import gc
import logging
import os
import pickle
import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

from mtx.data.engine_worker import outcome
from mtx.data.freed_memory import return_freed_memory
from mtx.data.worker_process import thread_variables
from mtx.errors import ConfigError
from mtx.library_errors import library_reason
from mtx.own_process import end_with

Answer: TypeAlias = tuple[str, Any, list[tuple[str, int, str]]]

PACKAGES = ("mtx", "numpy", "pyarrow", "tokenizers")  # whose versions can change the bytes of a dataset

_one_at_a_time = threading.Lock()  # a worker may have several threads, but a task is not thread-safe
_loaded: tuple[bytes, Callable[[Any], Any]] | None = None  # the last task, pickled and as an object
_passed: "WorkerSetup | None" = None  # the last setup whose checks this process has passed


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker does before its first task.

    Attributes:
        num_threads: threads of each library in a worker.
        is_own: whether the worker is a child process of the run, so that its standard output is that of the run.
        ends_with_parent: whether the worker ends when the process that started it has ended, also during a task.
        versions: version of Python, as `3.11`, and of packages, which the worker must have.
        token_path: file of the store that the worker must see; None: it is not checked.
        token: content of that file.
    """

    num_threads: int = 1
    is_own: bool = False
    ends_with_parent: bool = False
    versions: tuple[tuple[str, str], ...] = ()
    token_path: Path | None = None
    token: str = ""

    def apply(self) -> None:
        """Limit the threads of libraries, and check the versions and the store. Raises ConfigError."""
        for name, value in thread_variables(self.num_threads).items():
            os.environ.setdefault(name, value)
        if self.is_own:
            os.dup2(2, 1)  # standard output belongs to the command's own results
        if self.ends_with_parent:
            threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
        if (differing := version_differences(dict(self.versions), own_versions())) is not None:
            raise ConfigError(f"a worker that joined the cluster later has {differing}")
        if self.token_path is not None and read_text(self.token_path) != self.token:
            raise ConfigError(
                f"a worker that joined the cluster later does not see the store: {self.token_path.parent} is another "
                "folder there. Mount the store at the same path on all machines"
            )


def own_versions() -> dict[str, str]:
    """Return the version of Python, such as `3.11`, and of the packages on which the bytes of a dataset depend."""
    found = {"python": minor_version(platform.python_version())}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def minor_version(full: str) -> str:
    """Return the first two parts of a version, such as `3.11` for `3.11.7`."""
    return ".".join(full.split(".")[:2])


def version_differences(ours: dict[str, str], theirs: dict[str, str]) -> str | None:
    """Return what differs between the versions of two processes, as a part of a sentence; None: nothing."""
    differing = [
        f"{name} {theirs[name]} instead of {value}" if name in theirs else f"no {name} instead of {name} {value}"
        for name, value in ours.items()
        if theirs.get(name) != value
    ]
    return ", ".join(differing) or None


def read_text(path: Path) -> str | None:
    """Return the content of a file; None if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return None


def run_task(payload: bytes, item: bytes, setup: WorkerSetup) -> Answer:
    """Run a pickled task for a pickled item, and return its outcome and its warnings. Raises nothing."""
    with _one_at_a_time:
        collector = _WarningCollector()
        logging.getLogger().addHandler(collector)
        try:
            what, content = _outcome(payload, item, setup)
        finally:
            logging.getLogger().removeHandler(collector)
    return what, content, collector.found


def _outcome(payload: bytes, item: bytes, setup: WorkerSetup) -> tuple[str, Any]:
    global _loaded, _passed
    if setup != _passed:
        try:
            setup.apply()
        except ConfigError as error:
            return "error", (pickle.dumps(error), "")
        _passed = setup
    if _loaded is None or _loaded[0] != payload:
        _loaded = None  # frees the memory of the task before
        try:
            _loaded = payload, pickle.loads(payload)
        except Exception as error:  # whatever the code of a class raises
            return "unsendable", library_reason(error)
    return outcome(_loaded[1], item)


def forget_task() -> None:
    """Free the memory of the last task."""
    global _loaded
    with _one_at_a_time:
        _loaded = None
        gc.collect()
        return_freed_memory()


class _WarningCollector(logging.Handler):
    """Collects the warnings of a task as names of loggers, levels and texts."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the logger's name, the level and the text of a record."""
        self.found.append((record.name, record.levelno, self.format(record)))
