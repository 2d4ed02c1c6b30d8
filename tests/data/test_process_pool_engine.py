"""Processes as an engine: results in order, killed workers replaced, errors raised, and no child that stays."""

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mtx.data import process_pool_engine, worker_process
from mtx.data.engine_worker import outcome
from mtx.data.process_pool_engine import ProcessPoolEngine
from mtx.errors import ConfigError, StoreError


@pytest.fixture(scope="module")
def engine() -> Iterator[ProcessPoolEngine]:
    made = ProcessPoolEngine(workers=2)
    yield made
    made.close()


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")")[1].split()[0] != "Z"


def pid_and(marks: Path, number: int) -> tuple[int, int]:
    """Return the process and the item; item 2 ends its process when it is run for the first time."""
    with (marks / f"{number}").open("a") as file:
        file.write("x")
    if number == 2 and (marks / "2").read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)  # so that both processes get items
    return os.getpid(), number


def test_after_a_kill_fewer_processes_go_on_and_no_item_is_lost_or_returned_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = ProcessPoolEngine(workers=2)
    results = list(engine.map(partial(pid_and, tmp_path), range(8)))
    assert len(engine._pool) == 1
    engine.close()
    assert [number for _, number in results] == list(range(8))
    assert len({pid for pid, _ in results}) in (1, 2)
    assert os.getpid() not in {pid for pid, _ in results}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        str(number): "xx" if number == 2 else "x" for number in range(8)
    }
    message = "a process of engine=local was ended by SIGKILL, as for lack of memory; its task is repeated by 1"
    assert message in caplog.messages


def test_the_error_of_a_task_has_its_traceback_and_leaves_the_processes(engine: ProcessPoolEngine) -> None:
    results = engine.map(int, ["0", "x", "0"])
    assert next(results) == 0
    pids = [worker.process.pid for worker in engine._pool]
    with pytest.raises(ValueError, match="invalid literal") as raised:
        next(results)
    assert "engine_worker.py" in raised.value.__notes__[0]
    assert len(pids) == 2
    assert all(map(is_running, pids))


def slow_or_fail(marks: Path, number: int) -> None:
    if not number:
        raise ValueError
    time.sleep(0.2)
    (marks / f"{number}").touch()


def test_after_an_error_the_running_tasks_finish(engine: ProcessPoolEngine, tmp_path: Path) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # it has no text
        list(engine.map(partial(slow_or_fail, tmp_path), range(2)))
    assert (tmp_path / "1").exists()


def test_an_item_that_ends_each_process_is_an_error_that_names_the_remedy(engine: ProcessPoolEngine) -> None:
    with pytest.raises(StoreError, match=r"3 processes .* the last one by exit code 3\. .* set engine\.workers=1"):
        list(engine.map(os._exit, [3, 3]))


SLEEPING = """
import time
from mtx.data.process_pool_engine import ProcessPoolEngine
from mtx.data.worker_process import WorkerProcess
engine = ProcessPoolEngine(workers=2)
start = WorkerProcess.started
def told(num_threads):
    worker = start(num_threads)
    print(worker.process.pid, flush=True)
    return worker
WorkerProcess.started = told
list(engine.map(time.sleep, [60, 60]))
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_the_processes_end_with_the_process_that_started_them(sign: signal.Signals) -> None:
    command = [sys.executable, "-c", SLEEPING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0) as run:
        assert run.stdout is not None
        pids = [int(run.stdout.readline()) for _ in range(2)]
        assert all(map(is_running, pids))
        os.killpg(run.pid, sign) if sign == signal.SIGINT else run.kill()
        assert run.wait(timeout=60) != 0
        assert run.stderr is not None
        assert run.stderr.read().count(b"Traceback") == (sign == signal.SIGINT), "only that of the first process"
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


def test_a_cancelled_engine_yields_what_is_finished(engine: ProcessPoolEngine) -> None:
    list(engine.map(str, [1, 2]))  # both processes have started
    done = []
    for result in engine.map(time.sleep, [0.2] * 9):
        done.append(result)
        engine.cancel()
    assert 1 <= len(done) <= 4, "the items that the two processes had"


def test_one_item_or_one_worker_or_a_task_that_cannot_be_sent_runs_here(caplog: pytest.LogCaptureFixture) -> None:
    engine = ProcessPoolEngine(workers=2)
    assert list(engine.map(lambda _: os.getpid(), [1])) == [os.getpid()]
    assert list(ProcessPoolEngine(workers=1).map(lambda _: os.getpid(), [1, 2])) == [os.getpid()] * 2
    assert list(engine.map(lambda _: os.getpid(), [1, 2])) == [os.getpid()] * 2
    assert any(line.startswith("a stage runs in one process, because its task cannot") for line in caplog.messages)
    assert engine._pool == []


def test_an_error_that_does_not_pickle_keeps_its_text() -> None:
    class LocalError(Exception):
        pass

    def fail(item: object) -> None:
        raise LocalError("what went wrong")

    what, (error, trace) = outcome(fail, b"N.")
    assert (what, str(pickle.loads(error))) == ("error", "LocalError: what went wrong")
    assert "in fail" in trace


def result_and_log(number: int) -> object:
    print("to standard error")
    logging.getLogger("a.task").warning("number %d", number)
    return os.getpid(), os.environ["OMP_NUM_THREADS"]


def test_warnings_of_tasks_reach_this_process_and_cores_are_shared(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process_pool_engine, "quota_cores", lambda: 6)
    engine = ProcessPoolEngine(workers=2)
    found = list(engine.map(result_and_log, [1, 2]))
    engine.close()
    assert [threads for _, threads in found] == ["3", "3"]
    assert sorted(caplog.messages) == ["number 1", "number 2"]
    assert capfd.readouterr().out == ""


class Untakable:
    """Can be sent, but the other side cannot take it, except in the process with this id."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __reduce__(self) -> tuple[object, ...]:
        return (taken, (self.pid,))


def taken(pid: int) -> Untakable:
    if os.getpid() != pid:
        raise ValueError("not here")
    return Untakable(pid)


def local_function(number: int) -> object:
    return (lambda: number) if number else os.getpid()


def test_what_cannot_be_sent_to_or_from_a_process_runs_here(
    engine: ProcessPoolEngine, caplog: pytest.LogCaptureFixture
) -> None:
    functions = list(engine.map(local_function, [0, 3]))
    assert functions[0] != os.getpid()
    assert functions[1]() == 3
    assert list(engine.map(partial(pid_of, Untakable(os.getpid())), [1, 2])) == [os.getpid()] * 2
    assert list(engine.map(pid_of_one, [Untakable(os.getpid()), lambda: 0])) == [os.getpid()] * 2
    lines = [line for line in caplog.messages if line.startswith("a task runs in this process, because it cannot be ")]
    assert len(lines) == 5
    assert "ValueError: not here" in lines[1]


def pid_of(part: object, number: int) -> int:
    return os.getpid()


def pid_of_one(part: object) -> int:
    return os.getpid()


def test_a_task_whose_data_contain_the_word_main_is_sent(engine: ProcessPoolEngine) -> None:
    assert os.getpid() not in engine.map(partial(pid_of, "__main__"), [1, 2])


def test_processes_that_cannot_start_leave_the_work_to_this_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_process, "START", "raise SystemExit(7)")
    engine = ProcessPoolEngine(workers=2)
    assert list(engine.map(pid_of_one, [1, 2, 3])) == [os.getpid()] * 3
    assert list(engine.map(pid_of_one, [1, 2, 3])) == [os.getpid()] * 3
    assert sum("could not start: it was ended by exit code 7" in line for line in caplog.messages) == 2
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert list(ProcessPoolEngine(workers=2).map(pid_of_one, [1, 2])) == [os.getpid()] * 2
    assert "only 0 processes of engine=local could be started" in caplog.messages[-1]


def test_modules_of_the_working_folder_do_not_shadow_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "signal.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(elsewhere := tmp_path / "elsewhere")
    engine = ProcessPoolEngine(workers=2)
    found = list(engine.map(sys_path, [1, 2]))
    engine.close()
    assert [path[0] for path in found] == [str(elsewhere)] * 2


def sys_path(number: int) -> list[str]:
    return sys.path


def test_free_memory_and_the_cores_bound_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool_engine, "quota_cores", lambda: 32)
    for free, workers in ((None, 32), (5 << 30, 5), (1 << 20, 1), (1 << 40, 32)):
        monkeypatch.setattr(process_pool_engine, "available_bytes", lambda free=free: free)
        assert process_pool_engine.default_workers() == workers


def test_the_number_of_processes_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"engine\.workers"):
        ProcessPoolEngine(workers=0)
