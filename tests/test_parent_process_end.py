"""A worker of a launcher ends with the process that started it."""

import multiprocessing
import os
import queue
import signal
import time
from multiprocessing.connection import Connection
from types import SimpleNamespace

import pytest

from mtx import own_process
from mtx.own_process import end_with_starting_process


def job(pipe: Connection) -> None:
    end_with_starting_process.cache_clear()
    own_process.PARENT_CHECK_S = 0.02
    end_with_starting_process()
    pipe.send(os.getpid())
    time.sleep(60)


def sweep(pipe: Connection) -> None:
    multiprocessing.get_context("fork").Process(target=job, args=(pipe,)).start()
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_worker_ends_with_the_process_of_its_sweep() -> None:
    fork = multiprocessing.get_context("fork")
    reads, writes = fork.Pipe(duplex=False)
    driver = fork.Process(target=sweep, args=(writes,))
    driver.start()
    worker = reads.recv()
    os.kill(worker, 0)  # alive
    writes.close()
    driver.kill()
    driver.join()
    assert reads.poll(30)
    with pytest.raises(EOFError):  # the worker held the other end of the pipe
        reads.recv()


def test_a_process_of_its_own_has_no_such_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_process, "end_with", pytest.fail)
    end_with_starting_process.cache_clear()
    end_with_starting_process()


@pytest.mark.parametrize("is_direct", [False, True])
def test_a_process_of_the_fork_server_ends_with_the_process_that_asked_for_it(
    is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, writes = os.pipe()
    ended: queue.Queue[int] = queue.Queue()
    parent = SimpleNamespace(pid=os.getppid() if is_direct else os.getpid(), sentinel=reads)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)
    monkeypatch.setattr(os, "_exit", ended.put)
    monkeypatch.setattr(own_process, "end_with", lambda parent: ended.put(parent))
    end_with_starting_process.cache_clear()
    try:
        end_with_starting_process()
        if is_direct:
            assert ended.get(timeout=10) == os.getppid()
        else:
            with pytest.raises(queue.Empty):  # the process that asked is alive
                ended.get(timeout=0.1)
    finally:
        os.close(writes)
    assert is_direct or ended.get(timeout=10) == 1
    os.close(reads)
    end_with_starting_process.cache_clear()
