"""Threads that build the next batches while the model works on the current batch.

Building a batch takes less time than sending it between processes, and the compiled kernels release the GIL.
Threads need no start of processes, no copies of the data, and no shared memory, which is small in containers.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

import torch

from mtx.batches.collate import Batch

Request = TypeVar("Request")

# A thread builds a group of batches in one task: each task costs time to hand over, and needs the GIL once.
MAX_GROUP_BATCHES = 16
MAX_GROUP_BYTES = 2 * 1024**2  # limits the size of a group, so a group has fewer batches if batches are large
MAX_UNTHREADED_BYTES = 512 * 1024  # of a group without threads: its batches are still in the cache when they are used
GROUPS_PER_THREAD = 2  # queued groups per thread: one in progress, one ready


def prefetched_batches(
    build: Callable[[list[Request]], list[Batch]],
    asked: Iterator[Request],
    num_threads: int,
    *,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Yield the batches of the items in `asked`, in the same order, built by threads ahead of time.

    Args:
        build: builds the batches of a list of items; several threads call `build` at once.
        asked: the items of which batches are built; read by the calling thread, no further ahead than needed.
        num_threads: number of threads, at least 1. The threads end when the iteration ends or is abandoned.
        pin_memory: true if `build` pins memory. Each thread then selects the accelerator of the calling thread.
            Otherwise, a thread would also open the first accelerator, which belongs to another rank.

    If `build` raises an exception, that exception is raised when the first batch of its group is due.
    """
    begin = None
    if pin_memory:
        begin = partial(torch.accelerator.set_device_index, torch.accelerator.current_device_index())
    with ThreadPoolExecutor(num_threads, thread_name_prefix="mtx-loader", initializer=begin) as threads:
        waiting: deque[Future[list[Batch]]] = deque()
        size = _GroupSize(MAX_GROUP_BYTES)
        try:
            while True:
                while len(waiting) < GROUPS_PER_THREAD * num_threads and (some := list(islice(asked, size.at_once))):
                    waiting.append(threads.submit(build, some))
                if not waiting:
                    return
                made = waiting.popleft().result()
                size.learn(made)
                made.reverse()
                while made:  # pop(), so that a yielded batch is not kept in memory
                    yield made.pop()
        finally:
            threads.shutdown(cancel_futures=True)


def grouped_batches(build: Callable[[list[Request]], list[Batch]], asked: Iterator[Request]) -> Iterator[Batch]:
    """Yield the batches of the items in `asked`, in the same order, built a few at a time by the calling thread.

    One call of `build` for four batches takes about a tenth less time than four calls.
    """
    size = _GroupSize(MAX_UNTHREADED_BYTES)
    while some := list(islice(asked, size.at_once)):
        made = build(some)
        size.learn(made)
        made.reverse()
        while made:
            yield made.pop()


class _GroupSize:
    """How many batches the next group has: as many as fit into `max_bytes` if each is as large as the largest so far.

    The first group has one batch: its size in bytes is not known yet, and it is ready sooner. A group has at most twice
    as many batches as the one before it, since later batches may be larger.
    """

    def __init__(self, max_bytes: int) -> None:
        self.at_once = 1
        self._max_bytes, self._largest = max_bytes, 1

    def learn(self, made: list[Batch]) -> None:
        """Set the size of the next group after one with the batches `made`."""
        self._largest = max(self._largest, *(sum(tensor.nbytes for tensor in batch.values()) for batch in made))
        self.at_once = min(max(self._max_bytes // self._largest, 1), 2 * len(made), MAX_GROUP_BATCHES)
