"""Launch the jobs of a grid so that a job that ends its process does not end the sweep.

Python cannot catch an abort in native code, such as a failed allocation of memory. The jobs therefore run in a child of
the process that the user started. That process notes the job as failed, and launches the jobs that are left.
"""

import atexit
import builtins
import ctypes
import json
import multiprocessing.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import mtx.errors
from mtx.errors import JobFailedError, StoreError
from mtx.own_process import OWN_PROCESS_VARIABLE, end_with_this_process, fork_job
from mtx.process_group import end_group, interrupt_group
from mtx.records.job_status import JobStatus, read_status, write_status

if TYPE_CHECKING:
    from mtx.records.result_types import JobRecord

DIED = "its process was ended by "  # the error of each job whose process died begins with these words
SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_POLLS = 0.05

Launch = Callable[
    [Sequence[Sequence[str]], int], Sequence[Any]
]  # of a launcher: rows of overrides, and the first number


class ProcessDiedError(JobFailedError):
    """A signal has ended the process of a job."""


def launch_jobs(
    launch: Launch,
    rows: Sequence[Sequence[str]],
    folders: Sequence[Path],
    *,
    first: int = 0,
    size: int | None = None,
    passed_over: Collection[int] = (),
    told: Callable[[Path], None] = lambda folder: None,
) -> list[Any]:
    """Launch jobs in order, and after the death of a process the jobs that it has not ended.

    A job whose process died is noted as failed. If several jobs ran when a process pool died, each of them is launched
    once more, alone.

    Args:
        launch: starts some jobs, whose numbers ascend by 1, and waits until they have ended.
        rows: the overrides of each job.
        folders: the folder of each job.
        first: the number of the first job.
        size: the largest number of jobs of one launch; None: no limit.
        passed_over: the jobs that are not launched, by their index in `rows`.
        told: called with the folder of each job that is noted as failed.

    Returns:
        The results of all launches that ended.
    """
    returned: list[Any] = []
    waiting = [index for index in range(len(rows)) if index not in passed_over]
    again: list[int] = []
    while waiting or again:
        segment = _next_segment(waiting, size) if waiting else again[:1]
        begun = datetime.now().astimezone()
        try:
            returned += launch([rows[index] for index in segment], first + segment[0])
            ended = set(segment)
        except Exception as error:
            states = {index: _state(folders[index], begun) for index in segment}
            dead = [index for index, state in states.items() if state == "dead"]
            if not dead:
                raise
            ended = {index for index, state in states.items() if state == "ended"}
            if len(dead) > 1:
                again += dead
            else:
                _note_death(folders[dead[0]], error)
                told(folders[dead[0]])
            ended.update(dead)
        again = again if waiting else again[1:]
        waiting = [index for index in waiting if index not in ended]
    return returned


def in_child(launch: Launch, while_waiting: Callable[[], None] = lambda: None) -> Launch:
    """Return a launch that runs in a child of this process, and returns no results.

    The child has a process group of its own, to which processes of the launcher belong, too. Ctrl-C reaches this
    process, which sends the signal on.

    Args:
        launch: starts some jobs, and waits until they have ended.
        while_waiting: called in this process about 20 times a second while the child runs. It raises no errors.
    """

    def launched(rows: Sequence[Sequence[str]], first: int) -> Sequence[Any]:
        sys.stdout.flush()
        sys.stderr.flush()
        with tempfile.TemporaryFile() as told:  # no pipe, which processes of the child would keep open
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until both processes can handle it
            pid = fork_job()
            if pid == 0:
                _run_child(lambda: launch(rows, first), told)
            with suppress(OSError):  # the child sets it, too; whoever comes first
                os.setpgid(pid, pid)
            end_with_this_process(pid)
            try:
                return _result_of(pid, told, while_waiting)
            finally:
                end_with_this_process(None)

    return launched


def has_died(status: "JobStatus | JobRecord | None") -> bool:
    """Return whether a job was noted as failed because its process died."""
    return status is not None and status.state == "failed" and (status.error or "").startswith(DIED)


def _next_segment(waiting: Sequence[int], size: int | None) -> list[int]:
    """Return the first jobs whose numbers follow one another, at most `size`."""
    segment = [waiting[0]]
    for index in waiting[1:]:
        if index != segment[-1] + 1 or len(segment) == size:
            break
        segment.append(index)
    return segment


def _state(folder: Path, begun: datetime) -> str:
    """Return what became of a job: `ended`, `dead`, or `waiting` if it has not begun since `begun`."""
    while True:
        try:
            status = read_status(folder)
        except StoreError:
            return "waiting"
        if status is None or datetime.fromisoformat(status.started) < begun.replace(microsecond=0):
            return "waiting"
        if status.state != "running":
            return "dead" if status.state == "interrupted" and status.error is not None else "ended"
        time.sleep(SECONDS_BETWEEN_LOOKS)  # a launcher gave up, but the job's own process goes on


def _note_death(folder: Path, error: Exception) -> None:
    status = read_status(folder)
    assert status is not None
    how = str(error) if isinstance(error, ProcessDiedError) else "a signal"
    told = (
        f"{DIED}{how}, often for lack of memory. Its log has what it did last; sweep.resume passes over it, and "
        "sweep.retry=true runs it again"
    )
    seconds = (datetime.now().astimezone() - datetime.fromisoformat(status.started)).total_seconds()
    write_status(folder, status.end("failed", seconds=seconds, error=told))


def _run_child(work: Callable[[], Any], told: IO[bytes]) -> NoReturn:
    """Run `work` in the child process, write the exception that it raises, and end the process."""
    with suppress(OSError):
        os.setpgid(0, 0)
    if sys.platform == "linux":  # a parent that is killed takes its child with it
        ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    os.environ[OWN_PROCESS_VARIABLE] = ""
    atexit._clear()  # what the parent registered is for the parent's end
    atexit.register(multiprocessing.util._exit_function)  # type: ignore[attr-defined]  # ends workers of the child
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        work()
    except BaseException as error:  # also Ctrl-C, and the end that a job asks for
        _write_error(error, told)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _write_error(error: BaseException, told: IO[bytes]) -> None:
    """Write an exception as JSON: the name of its class and its arguments."""
    name, arguments = type(error).__name__, list(error.args)
    if _error_class(name) is not type(error) or not all(isinstance(each, str | int | None) for each in arguments):
        name, arguments = JobFailedError.__name__, [f"{name}: {error}"]
    told.write(json.dumps([name, arguments]).encode())
    told.flush()


def _error_class(name: str) -> type[BaseException] | None:
    """Return the exception of mtx or of Python itself with this name; None for any other name."""
    found = getattr(mtx.errors, name, None) or getattr(builtins, name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _result_of(pid: int, told: IO[bytes], while_waiting: Callable[[], None]) -> Sequence[Any]:
    """Wait for the end of a child process. Raises ProcessDiedError, or what the child raised."""
    ended = status = 0
    while not ended:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            time.sleep(SECONDS_BETWEEN_POLLS)  # a call that waits longer would miss a signal just before it
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                while_waiting()
        except KeyboardInterrupt:
            interrupt_group(pid)
    code = os.waitstatus_to_exitcode(status)
    if code:
        with suppress(ProcessLookupError, PermissionError):  # ranks and workers of the child
            os.killpg(pid, signal.SIGKILL)
        raise ProcessDiedError(signal.Signals(-code).name if code < 0 else f"itself, with exit code {code}")
    told.seek(0)
    if content := told.read():
        name, arguments = json.loads(content)
        error = (_error_class(name) or JobFailedError)(*arguments)
        if not isinstance(error, Exception):  # Ctrl-C, after which workers of a launcher would go on
            end_group(pid)
        raise error
    return ()
