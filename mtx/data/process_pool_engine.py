"""`ProcessPoolEngine`, which runs the tasks of a stage in several processes of this machine.

The workers are started at the first stage with several tasks, and are used by all later stages. A worker is a new
Python process, and not a fork, because threads and locks of libraries do not survive a fork.
"""

import logging
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from multiprocessing.connection import Connection, wait
from types import FunctionType
from typing import Any, ClassVar, TypeVar, cast

from mtx.components.checked_options import Count, component
from mtx.container_limits import available_bytes, quota_cores
from mtx.data.engine_map_call import MAX_DEATHS, MapCall
from mtx.data.engine_protocol import Engine, InProcessEngine
from mtx.data.worker_process import WorkerProcess, ending
from mtx.errors import StoreError
from mtx.library_errors import library_reason

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKER_BYTES = 1 << 30  # memory of a worker with a task of a million pairs
OUTCOMES = ("result", "error", "unsendable")  # messages that end a task
PICKLE_ERRORS = (pickle.PicklingError, AttributeError, TypeError)


@component("engine", frozen=False, eq=False)
class ProcessPoolEngine(Engine):
    """Runs tasks in a pool of processes on this machine. Results do not depend on the number of processes.

    A stage with one task runs in this process. If a worker is killed, its task is repeated. If it was killed by
    SIGKILL, as for lack of memory, the pool goes on with one process less. The workers end with this process, also if
    it is killed. What cannot be pickled runs in this process, and so does all if no worker can start.

    Args:
        workers: number of processes; null: one for each core that the process may use, but only one for each GB of free
            memory. Limits of a container count. 1: no other process is started.
    """

    kind: ClassVar[str] = "engine/local"
    version: ClassVar[int] = 1

    workers: Count | None = None

    def __post_init__(self) -> None:
        self._is_cancelled = False
        self._pool: list[WorkerProcess] = []
        self._num_threads = 1  # of each worker in the pool
        self._limit: int | None = None  # workers after some were killed or could not start
        self._here = InProcessEngine()

    def map(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Run the task for each item, and yield the results in the order of the items.

        Raises:
            StoreError: an item ended three workers, as for lack of memory.
        """
        workers = min(self.workers or max(len(self._pool), default_workers()), len(items))
        if workers < 2 or sys.platform == "win32" or (payload := _pickled(task)) is None:
            yield from self._here.map(task, items)
            return
        self._is_cancelled = False
        self._start(workers if self._limit is None else min(workers, self._limit))
        try:
            yield from self._results(MapCall(task=task, payload=payload, items=items))
            self._release()
        except Exception:
            self._release()
            raise
        except BaseException:  # Ctrl-C, or the caller stops early: the workers have items of this task
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

    def _start(self, workers: int) -> None:
        """Start workers until the pool has `workers`, each with its share of the cores."""
        num_threads = max(1, quota_cores() // max(1, workers))
        if num_threads != self._num_threads:
            self.close()
            self._num_threads = num_threads
        while len(self._pool) < workers and self._add_worker():
            pass

    def _add_worker(self) -> bool:
        """Start one more worker; return False if the operating system refuses."""
        try:
            self._pool.append(WorkerProcess.started(self._num_threads))
        except OSError as error:
            self._limit = len(self._pool)
            log.warning("only %d processes of engine=local could be started: %s", self._limit, library_reason(error))
            return False
        return True

    def _release(self) -> None:
        """Wait for the items that the workers still have, and let the workers forget the task."""
        try:
            for worker in list(self._pool):
                while worker.item_number is not None and (message := worker.message()) is not None:
                    if message[0] in OUTCOMES:
                        worker.item_number = None
                if worker.item_number is not None or not worker.forget_task():
                    self._remove(worker)
        except BaseException:
            self.close()
            raise

    def _remove(self, worker: WorkerProcess) -> int:
        """Take a worker that has ended out of the pool, and return its exit code."""
        worker.connection.close()
        self._pool.remove(worker)
        return worker.process.wait()

    def _results(self, call: MapCall) -> Iterator[Any]:
        for number in range(len(call.items)):
            while number not in call.results:
                self._send(call)
                busy = {worker.connection: worker for worker in self._pool if worker.item_number is not None}
                left = call.here or (call.waiting if not self._pool else None)
                if left and not self._is_cancelled:
                    call.run_here(left.popleft())
                elif not busy:
                    return  # cancelled
                else:
                    for connection in wait(list(busy)):
                        self._receive(busy[cast(Connection, connection)], call)
            self._send(call)  # the workers go on while the caller uses the result
            is_result, content = call.results.pop(number)
            if not is_result:
                raise content
            yield content

    def _send(self, call: MapCall) -> None:
        """Give an item to each idle worker."""
        for worker in self._pool:
            if worker.item_number is not None or self._is_cancelled:
                continue
            while call.waiting and worker.item_number is None:
                number = call.waiting.popleft()
                try:
                    item = pickle.dumps(call.items[number])
                except PICKLE_ERRORS as error:
                    _warn_unsendable(library_reason(error))
                    call.here.append(number)
                    continue
                worker.item_number = number  # also if the worker has ended, which `wait` reports
                worker.send_item(call.payload, item)

    def _receive(self, worker: WorkerProcess, call: MapCall) -> None:
        """Take a message of a worker, or give its item to another one if it has ended."""
        number = cast(int, worker.item_number)
        message = worker.message()
        if message is None:
            self._replace(worker, call)
            return
        what, content = message
        if what not in OUTCOMES:
            return
        worker.item_number = None
        if (reason := call.take(number, what, content, where="a process of engine=local")) is not None:
            _warn_unsendable(reason)

    def _replace(self, worker: WorkerProcess, call: MapCall) -> None:
        """Give the item of a worker that has ended back, and start another worker if that can help."""
        number, code = cast(int, worker.item_number), self._remove(worker)
        call.waiting.appendleft(number)
        if not worker.is_ready:
            self._limit = len(self._pool)
            log.warning(
                "a process of engine=local could not start: it was ended by %s, and standard error shows why; the "
                "stage goes on with %s",
                ending(code),
                f"{self._limit} processes" if self._limit else "this process alone",
            )
            return
        call.deaths[number] += 1
        if call.deaths[number] == MAX_DEATHS:
            raise StoreError(
                f"{MAX_DEATHS} processes of engine=local ended at the same task, the last one by {ending(code)}. "
                "If memory is short, set engine.workers=1; the finished tasks are kept"
            )
        if code == -signal.SIGKILL and self._pool:
            self._limit = len(self._pool)
            log.warning(
                "a process of engine=local was ended by SIGKILL, as for lack of memory; its task is repeated by %d",
                self._limit,
            )
            return
        log.warning("a process of engine=local was ended by %s; another one repeats its task", ending(code))
        self._add_worker()


def default_workers() -> int:
    """Return the number of processes for which the cores and the free memory suffice, at least 1."""
    free = available_bytes()
    return max(1, quota_cores() if free is None else min(quota_cores(), free // WORKER_BYTES))


class _TaskPickler(pickle.Pickler):
    """Finds out whether a task has parts of `__main__`, which is another module in a worker."""

    has_main = False

    def reducer_override(self, value: Any) -> Any:
        """Look at classes and functions, and pickle everything as usual."""
        if isinstance(value, type | FunctionType) and value.__module__ == "__main__":
            self.has_main = True
        return NotImplemented


def _pickled(task: Callable[..., Any]) -> bytes | None:
    """Return the task as a worker receives it; None: it cannot be pickled, or a worker could not find its parts."""
    buffer = BytesIO()
    pickler = _TaskPickler(buffer)
    try:
        pickler.dump(task)
    except PICKLE_ERRORS as error:
        log.warning(
            "a stage runs in one process, because its task cannot be sent to another one: %s", library_reason(error)
        )
        return None
    return None if pickler.has_main else buffer.getvalue()


def _warn_unsendable(reason: object) -> None:
    log.warning("a task runs in this process, because it cannot be sent to or from another one: %s", reason)
