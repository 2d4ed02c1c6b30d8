"""`ProcessPoolEngine`, which runs the tasks of a stage in several processes of this machine.

The workers are started at the first stage with several tasks, and are used by all later stages. A worker is a new
Python process, and not a fork, because threads and locks of libraries do not survive a fork.
"""

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, ClassVar, TypeVar, cast

from mtx.components.checked_options import Count, component
from mtx.cpu_count import granted_cores
from mtx.data.engine_protocol import Engine, InProcessEngine
from mtx.errors import StoreError

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Outcomes = dict[int, tuple[bool, Any]]  # by item: True and the result of its task, or False and its error

MAX_DEATHS = 3  # number of workers that may end unexpectedly at one item, before the stage fails
PICKLE_ERRORS = (pickle.PicklingError, AttributeError, TypeError)
# Ctrl-C also reaches the workers, but the process that started them ends them.
START = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from mtx.data.engine_worker import main; main()"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    task_number: int = -1  # number of the task that the worker has received
    item_number: int | None = None  # number of the item that the worker has; None: it is idle


@component("engine", frozen=False, eq=False)
class ProcessPoolEngine(Engine):
    """Runs tasks in a pool of processes on this machine. Results do not depend on the number of processes.

    A stage with one task runs in this process. If a worker is killed, another one repeats its task. The workers end
    with this process, also if it is killed. A task that cannot be pickled, as one with a class of `__main__`, runs in
    this process.

    Args:
        workers: number of processes; null: one for each core that the process may use. 1: no other process is started.
    """

    kind: ClassVar[str] = "engine/local"
    version: ClassVar[int] = 1

    workers: Count | None = None

    def __post_init__(self) -> None:
        self._is_cancelled = False
        self._pool: list[_Worker] = []
        self._num_tasks = 0
        self._here = InProcessEngine()

    def map(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Run the task for each item, and yield the results in the order of the items.

        Raises:
            StoreError: an item ended three workers, as for lack of memory.
        """
        workers = min(self.workers or granted_cores(), len(items))
        if workers < 2 or sys.platform == "win32" or (payload := _pickled(task)) is None:
            yield from self._here.map(task, items)
            return
        self._is_cancelled = False
        self._num_tasks += 1
        self._pool += [_start_worker() for _ in range(workers - len(self._pool))]
        try:
            yield from self._results(payload, items)
        except BaseException:  # also when the caller stops early: the workers have items of this task
            self.close()
            raise

    def cancel(self) -> None:
        """Start no further task, and let the running tasks finish."""
        self._is_cancelled = True
        self._here.cancel()

    def close(self) -> None:
        """End all workers at once. A later stage starts new ones."""
        pool, self._pool = self._pool, []
        for worker in pool:
            worker.process.kill()
        for worker in pool:
            worker.connection.close()
            worker.process.wait()

    def __getstate__(self) -> dict[str, Any]:
        return {"workers": self.workers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.workers = state["workers"]
        self.__post_init__()

    def _results(self, payload: bytes, items: Sequence[Any]) -> Iterator[Any]:
        waiting = deque(range(len(items)))
        results: Outcomes = {}
        deaths: Counter[int] = Counter()
        for number in range(len(items)):
            while number not in results:
                self._send(payload, items, waiting)
                busy = [worker for worker in self._pool if worker.item_number is not None]
                if not busy:
                    return  # cancelled
                for connection in wait([worker.connection for worker in busy]):
                    worker = next(worker for worker in busy if worker.connection is connection)
                    self._receive(worker, results, waiting, deaths)
            self._send(payload, items, waiting)  # the workers go on while the caller uses the result
            is_result, content = results.pop(number)
            if not is_result:
                raise content
            yield content

    def _send(self, payload: bytes, items: Sequence[Any], waiting: deque[int]) -> None:
        """Give an item to each idle worker."""
        for worker in self._pool:
            if worker.item_number is not None or not waiting or self._is_cancelled:
                continue
            worker.item_number = waiting.popleft()
            try:
                if worker.task_number != self._num_tasks:
                    worker.connection.send(("task", payload))
                    worker.task_number = self._num_tasks
                worker.connection.send(("item", pickle.dumps(items[worker.item_number])))
            except OSError:  # it has ended, which `wait` reports
                continue

    def _receive(self, worker: _Worker, results: Outcomes, waiting: deque[int], deaths: Counter[int]) -> None:
        """Take the result or the error of a worker's task, or replace the worker if it has ended."""
        number = cast(int, worker.item_number)
        try:
            is_result, content = worker.connection.recv()
        except (EOFError, OSError):
            code = worker.process.wait()
            deaths[number] += 1
            if deaths[number] == MAX_DEATHS:
                raise StoreError(
                    f"{MAX_DEATHS} processes of engine=local ended at the same task, the last one by {_cause(code)}. "
                    "If memory is short, set engine.workers=1; the finished tasks are kept"
                ) from None
            log.warning("a process of engine=local was ended by %s; another one repeats its task", _cause(code))
            worker.connection.close()
            self._pool[self._pool.index(worker)] = _start_worker()
            waiting.appendleft(number)
            return
        worker.item_number = None
        results[number] = is_result, content
        if not is_result:
            for later in [other for other in waiting if other > number]:  # the stage ends with this error
                waiting.remove(later)


def _pickled(task: Callable[..., Any]) -> bytes | None:
    """Return the task as a worker receives it; None: it cannot be pickled, or a worker could not find its parts."""
    try:
        payload = pickle.dumps(task)
    except PICKLE_ERRORS as error:
        log.warning("a stage runs in one process, because its task cannot be sent to another one: %s", error)
        return None
    return None if b"__main__" in payload else payload


def _start_worker() -> _Worker:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **ONE_THREAD, "TOKENIZERS_PARALLELISM": "false"},
        )
    connection = Connection(ours.detach())
    connection.send(("path", sys.path))
    return _Worker(process, connection)


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
