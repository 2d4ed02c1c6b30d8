"""Processes as an engine: results in order, killed workers replaced, errors raised, and no child that stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mtx.data.engine_worker import _outcome
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


def test_a_killed_process_is_replaced_and_no_item_is_lost_or_returned_twice(
    engine: ProcessPoolEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = list(engine.map(partial(pid_and, tmp_path), range(8)))
    assert [number for _, number in results] == list(range(8))
    assert len({pid for pid, _ in results}) in (2, 3)
    assert os.getpid() not in {pid for pid, _ in results}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        str(number): "xx" if number == 2 else "x" for number in range(8)
    }
    assert "a process of engine=local was ended by SIGKILL; another one repeats its task" in caplog.messages


def test_the_error_of_a_task_is_raised_in_place_of_its_result_and_all_processes_end(engine: ProcessPoolEngine) -> None:
    results = engine.map(int, ["0", "x", "0"])
    assert next(results) == 0
    pids = [worker.process.pid for worker in engine._pool]
    with pytest.raises(ValueError, match="invalid literal"):
        next(results)
    assert len(pids) == 2
    assert not any(map(is_running, pids))


def test_an_item_that_ends_each_process_is_an_error_that_names_the_remedy(engine: ProcessPoolEngine) -> None:
    with pytest.raises(StoreError, match=r"3 processes .* the last one by exit code 3\. .* set engine\.workers=1"):
        list(engine.map(os._exit, [3, 3]))


SLEEPING = """
import time
from mtx.data.process_pool_engine import ProcessPoolEngine
engine = ProcessPoolEngine(workers=2)
import mtx.data.process_pool_engine as module
start = module._start_worker
def told():
    worker = start()
    print(worker.process.pid, flush=True)
    return worker
module._start_worker = told
list(engine.map(time.sleep, [60, 60]))
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_the_processes_end_with_the_process_that_started_them(sign: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPING], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        pids = [int(run.stdout.readline()) for _ in range(2)]
        assert all(map(is_running, pids))
        run.send_signal(sign)
        assert run.wait(timeout=60) != 0
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

    is_result, error = _outcome(fail, b"N.")
    assert (is_result, str(error)) == (False, "LocalError: what went wrong")


def test_the_number_of_processes_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"engine\.workers"):
        ProcessPoolEngine(workers=0)
