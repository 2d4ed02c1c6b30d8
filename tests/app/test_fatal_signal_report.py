"""A run that a signal ends is told in one line; a run that ends by itself is not."""

import atexit
import faulthandler
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from mtx import process_group
from mtx.app.fatal_signal_report import end_with_this_process, ended_by, watch_process
from mtx.own_process import OWN_PROCESS_VARIABLE

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run(work: Callable[[], object], **variables: str) -> tuple[int, str]:
    """Run `work` in a watched process; return its exit code, and what it and its watch wrote to standard error."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writes, 2)
            os.close(writes)
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            atexit._clear()
            os.environ.update(variables)
            os.environ.setdefault(OWN_PROCESS_VARIABLE, str(os.getpid()))
            watch_process()
            work()
            atexit._run_exitfuncs()
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as file:
        told = file.read()  # until the watch has ended, too
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
