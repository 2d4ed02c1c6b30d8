"""`threaded_map`: the results of a function in order, computed by threads a bounded number of items ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ITEMS_AHEAD = 8  # items that wait or are computed at once

T = TypeVar("T")
R = TypeVar("R")


def threaded_map(threads: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield the results of a function in the order of the items. `ThreadPoolExecutor.map` would read all items first.

    Args:
        threads: run the function, which should release the interpreter lock.
        function: is called once for each item.
        items: are read as needed, `ITEMS_AHEAD` before the current result.
    """
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(threads.submit(function, item))
        if len(waiting) > ITEMS_AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
