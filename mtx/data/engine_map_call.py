"""`MapCall`: what an engine with worker processes knows during one call of its `map`."""

import pickle
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtx.library_errors import library_reason

MAX_DEATHS = 3  # number of workers that may end unexpectedly at one item, before the stage fails


@dataclass(kw_only=True)
class MapCall:
    """The items of a task, by number: those that wait, and the outcomes of those that have finished.

    Attributes:
        task: runs for each item.
        payload: the pickled task.
        items: the items, in the order of the results.
        waiting: numbers of items that no worker has.
        here: numbers of items that this process runs, since they cannot be sent.
        results: by number, True and the result, or False and the error.
        deaths: workers that have ended at an item.
    """

    task: Callable[[Any], Any]
    payload: bytes
    items: Sequence[Any]
    waiting: deque[int] = field(init=False)
    here: deque[int] = field(default_factory=deque)
    results: dict[int, tuple[bool, Any]] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.waiting = deque(range(len(self.items)))

    def finish(self, number: int, is_result: bool, content: Any) -> None:
        """Keep the outcome of an item. After an error, no later item is started, since the stage ends with it."""
        self.results[number] = is_result, content
        if not is_result:
            for numbers in (self.waiting, self.here):
                for later in [other for other in numbers if other > number]:
                    numbers.remove(later)

    def run_here(self, number: int) -> None:
        """Run the task for an item in this process."""
        try:
            self.finish(number, True, self.task(self.items[number]))
        except Exception as error:
            self.finish(number, False, error)

    def take(self, number: int, what: str, content: Any, *, where: str) -> object | None:
        """Keep the outcome that a worker has sent, as in `engine_worker.py`.

        Args:
            number: number of the item.
            what: the kind of the outcome: `result`, `error` or `unsendable`.
            content: the pickled outcome; for `unsendable`, the reason.
            where: what the worker is, for the traceback of an error.

        Returns:
            None, or the reason why the outcome cannot be read. This process then runs the item.
        """
        try:
            if what == "result":
                self.finish(number, True, pickle.loads(content))
                return None
            if what == "error":
                error = pickle.loads(content[0])
                error.add_note(f"The task ran in {where}:\n{content[1]}")
                self.finish(number, False, error)
                return None
        except Exception as error:  # whatever the code of a class raises
            content = library_reason(error)
        self.here.append(number)
        reason: object = content
        return reason
