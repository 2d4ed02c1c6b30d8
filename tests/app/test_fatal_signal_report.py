"""A run that a signal ends is told in one line; a run that ends by itself is not."""

import atexit
import faulthandler
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mtx import process_group
from mtx.app.fatal_signal_report import ended_by, watch_process
from mtx.own_process import OWN_PROCESS_VARIABLE, end_with_this_process, fork_job, keep_native_lines_in

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run(work: Callable[[], object], *, is_read: bool = True, **variables: str) -> tuple[int, str]:
    """Run `work` in a watched process; return its exit code, and what it and its watch wrote to standard error.

    Nobody reads standard error unless `is_read`.
    """
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reads)
            os.dup2(writes, 2)
            os.close(writes)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            atexit._clear()
            os.environ.update(variables)
            os.environ.setdefault(OWN_PROCESS_VARIABLE, str(os.getpid()))
            watch_process()
            work()
            sys.stderr.flush()
            atexit._run_exitfuncs()
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as file:
        told = file.read() if is_read else ""  # until the watch has ended, too
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), told


def kill_self(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def fork_a_process_that_ends() -> None:
    """As Lightning's ddp_fork and multiprocessing do; the forked process runs what is registered for the exit."""
    pid = os.fork()
    if pid == 0:
        atexit._run_exitfuncs()
        os._exit(0)
    os.waitpid(pid, 0)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL, signal.SIGBUS, signal.SIGTERM])
def test_a_signal_is_told_in_one_line_and_stays_the_exit_code(number: signal.Signals) -> None:
    code, told = run(kill_self(number))
    assert code == -number
    assert told.count("\n") == 1
    assert told.startswith("mtx: the run was ended by ")
    assert "The store is intact" in told
    assert "ckpt=last" in told


def test_the_end_of_a_forked_process_is_not_the_end_of_the_run() -> None:
    code, told = run(fork_a_process_that_ends)
    assert code == -signal.SIGKILL
    assert told.startswith("mtx: the run was ended by ")


@pytest.mark.parametrize("work", [lambda: None, lambda: print("an end of its own", file=sys.stderr)])
def test_an_end_of_its_own_is_not_told(work: Callable[[], object]) -> None:
    code, told = run(work)
    assert code == 0
    assert "ended by" not in told


def abort_in_native_code(log: Path | None = None) -> None:
    """As tokenizers does: native code writes to file descriptor 2, not to Python's stream."""
    if log is not None:
        keep_native_lines_in(log)
    print("a line of Python", file=sys.stderr, flush=True)
    os.write(2, b"a warning of a library\nmemory allocation of 8000000000 bytes failed\n")
    os.abort()


def test_lines_of_an_abort_follow_the_message_if_there_is_no_log() -> None:
    code, told = run(abort_in_native_code)
    assert code == -signal.SIGABRT
    first, second, message, native = told.splitlines()
    assert {first, second} == {"a line of Python", "a warning of a library"}
    assert message.startswith("mtx: the run was ended by SIGABRT")
    assert native == "memory allocation of 8000000000 bytes failed"


def test_lines_of_an_abort_are_in_the_log_of_the_run(tmp_path: Path) -> None:
    code, told = run(lambda: abort_in_native_code(tmp_path / "mtx.log"))
    assert code == -signal.SIGABRT
    assert told.splitlines()[2].startswith("mtx: the run was ended by SIGABRT")
    assert told.count("\n") == 3
    written = (tmp_path / "mtx.log").read_text(encoding="utf-8")
    assert written == "printed by a library: memory allocation of 8000000000 bytes failed\n"


def abort_in_a_fork(log: Path) -> None:
    """As a job of a sweep does."""
    pid = fork_job()
    if pid == 0:
        abort_in_native_code(log)
    os.waitpid(pid, 0)
    print("the job has failed", file=sys.stderr)


def test_lines_of_a_job_that_aborts_are_in_its_log_and_the_run_goes_on(tmp_path: Path) -> None:
    code, told = run(lambda: abort_in_a_fork(tmp_path / "mtx.log"))
    assert code == 0
    assert set(told.splitlines()) == {"a line of Python", "a warning of a library", "the job has failed"}
    assert "8000000000" in (tmp_path / "mtx.log").read_text(encoding="utf-8")


def panic_that_is_caught(log: Path | None = None) -> None:
    if log is not None:
        keep_native_lines_in(log)
    os.write(2, b"\nthread 'main' panicked at a.rs:5:26:\nindex\nnote: run with `RUST_BACKTRACE=1` to see more\n")


def test_a_panic_that_becomes_an_error_of_mtx_goes_to_the_log(tmp_path: Path) -> None:
    assert run(lambda: panic_that_is_caught(tmp_path / "mtx.log")) == (0, "")
    assert "panicked" in (tmp_path / "mtx.log").read_text(encoding="utf-8")


def test_a_panic_that_becomes_an_error_of_mtx_is_shown_if_there_is_no_log() -> None:
    code, told = run(panic_that_is_caught)
    assert code == 0
    assert told.startswith("thread 'main' panicked")


def job_of_a_run_that_is_killed(log: Path) -> Callable[[], None]:
    """Return work that is killed while its forked job goes on, which holds the pipe to the watch."""

    def work() -> None:
        run_id, (noted, notes) = os.getpid(), os.pipe()
        if fork_job() == 0:
            keep_native_lines_in(log)
            os.write(notes, b".")
            while os.getppid() == run_id:
                time.sleep(0.01)
            abort_in_native_code()
        os.read(noted, 1)
        os.kill(run_id, signal.SIGKILL)

    return work


def test_a_job_that_outlives_its_killed_run_keeps_its_log_and_its_standard_error(tmp_path: Path) -> None:
    code, told = run(job_of_a_run_that_is_killed(tmp_path / "mtx.log"))
    assert code == -signal.SIGKILL
    assert "mtx: the run was ended by " in told
    assert "a warning of a library" in told
    assert (tmp_path / "mtx.log").read_text(encoding="utf-8").endswith("8000000000 bytes failed\n")


def test_a_forked_process_that_is_no_job_writes_to_no_file_that_has_the_number_of_the_pipe(tmp_path: Path) -> None:
    def work() -> None:
        if (pid := os.fork()) == 0:
            for number in range(20):  # one of them gets the number of the closed pipe
                (tmp_path / f"{number}").open("wb", buffering=0)
            keep_native_lines_in(tmp_path / "mtx.log")
            os._exit(0)
        os.waitpid(pid, 0)

    assert run(work) == (0, "")
    assert {path.read_bytes() for path in tmp_path.iterdir()} <= {b""}


def outlived_by_a_child() -> None:
    """As a service that a logger starts does."""
    if os.fork() == 0:
        time.sleep(0.3)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in a process that is no Python
        os.write(2, b"written later\n")
        os.write(2, b"written last\n")
        os._exit(0)


def test_a_process_that_outlives_the_run_keeps_its_standard_error() -> None:
    assert run(outlived_by_a_child) == (0, "written later\nwritten last\n")


def test_a_process_that_runs_more_than_the_command_is_not_forked() -> None:
    assert run(kill_self(signal.SIGKILL), **{OWN_PROCESS_VARIABLE: "1"}) == (-signal.SIGKILL, "")


def test_a_rank_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ended_by(signal.SIGABRT).startswith("mtx: rank 1: the run was ended by SIGABRT, often for lack of memory. ")


def test_a_stop_by_a_user_is_no_lack_of_memory() -> None:
    assert "memory" not in ended_by(signal.SIGTERM)
    assert "memory" in ended_by(None)


def start_a_child_with_a_worker(number: int) -> Callable[[], None]:
    """Return work that starts a process in a group of its own, as a sweep does, which starts another one."""

    def work() -> None:
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as workers of submitit do
            time.sleep(60)
            os._exit(0)
        with suppress(OSError):
            os.setpgid(pid, pid)
        end_with_this_process(pid)
        time.sleep(0.1)  # until the worker ignores the signal
        os.kill(os.getpid(), number)

    return work


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_end_with_the_process_of_their_sweep(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "SECONDS_TO_END", 0.2)
    began = time.monotonic()
    code, told = run(start_a_child_with_a_worker(number))  # until no process has standard error open
    assert code == -number
    assert told.startswith("mtx: the run was ended by ")
    assert time.monotonic() - began < 30


def test_jobs_end_also_if_nobody_reads_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "SECONDS_TO_END", 0.2)
    reads, held = os.pipe()  # each process of the run inherits `held`
    code, _ = run(start_a_child_with_a_worker(signal.SIGTERM), is_read=False)
    os.close(held)
    assert code == -signal.SIGTERM
    ready, _, _ = select.select([reads], [], [], 30)
    assert ready, "a worker goes on"
    assert os.read(reads, 1) == b""
    os.close(reads)
