"""Engines, which run the tasks of a stage.

A stage splits its input into ranges of rows, one task per range. An engine runs the tasks and returns their results in
order. Tasks are idempotent: a repeated task, as after a killed worker, reuses or rebuilds the same result.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")
Result = TypeVar("Result")


@runtime_checkable
class Engine(Protocol):
    """Protocol of an object that runs the tasks of a stage, in this process or elsewhere.

    Tasks, items and results must be picklable, and all workers must access the same store. An engine is not
    thread-safe: only one stage may use it at a time. An engine may have three further methods. `close()` ends its
    processes; a later call of `map` starts them again. `check_reachable()` is called before the first stage, and
    `check_workers(folder)` before each call of `map`, with the folder of the store that the tasks write to. Both raise
    an MtxError if tasks cannot run.
    """

    def map(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Run the task for each item, and yield the results in the order of the items.

        If a task fails, its error is raised in place of its result, and tasks that have not started are cancelled.
        """

    def cancel(self) -> None:
        """Start no further task, and let the running tasks finish. `map` then yields the finished results and stops."""


class InProcessEngine:
    """Runs all tasks one after the other in the current process."""

    def __init__(self) -> None:
        self._is_cancelled = False

    def map(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Run the task for each item lazily, when the caller asks for the item's result."""
        self._is_cancelled = False
        for item in items:
            if self._is_cancelled:
                return
            yield task(item)

    def cancel(self) -> None:
        """Start no further task."""
        self._is_cancelled = True
