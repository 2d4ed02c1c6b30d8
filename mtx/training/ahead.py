"""Batches built by threads while the model works on earlier ones.

Building a batch takes less time than sending it between processes, and the compiled kernels leave the interpreter to
others. So threads do what the processes of a DataLoader would, without starting any, without copies of the data, and
without shared memory, of which containers have little.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

import torch

from mtx.infra.dataset.collate import Batch

Asked = TypeVar("Asked")

# Handing over is not free, and a thread that builds some batches in one go needs the interpreter once for all of them.
AT_ONCE = 16
AT_ONCE_BYTES = 2 * 1024**2  # of large batches fewer are built at once
AHEAD = 2  # groups of batches for each thread: one in the making, one ready


def ahead(
    build: Callable[[list[Asked]], list[Batch]], asked: Iterator[Asked], num_threads: int, *, pin_memory: bool = False
) -> Iterator[Batch]:
    """Yield the batches of `asked`, in its order, built by threads.

    Args:
        build: makes the batches of a part of `asked`; called by several threads at once.
        asked: what batches are wanted; read by the calling thread, no further ahead than needed.
        num_threads: at least 1. They end with the iteration, also where it is dropped half-way.
        pin_memory: whether `build` pins memory; threads then use the accelerator of the calling thread. They would
            open the first one else, beside that of this rank.

    What `build` raises is raised where its first batch is due.
    """
    begin = None
    if pin_memory:
        begin = partial(torch.accelerator.set_device_index, torch.accelerator.current_device_index())
    with ThreadPoolExecutor(num_threads, thread_name_prefix="mtx-loader", initializer=begin) as threads:
        waiting: deque[Future[list[Batch]]] = deque()
        at_once = 1  # until the size of a batch is known, which also makes the first one come soon
        try:
            while True:
                while len(waiting) < AHEAD * num_threads and (some := list(islice(asked, at_once))):
                    waiting.append(threads.submit(build, some))
                if not waiting:
                    return
                made = waiting.popleft().result()
                at_once = min(max(AT_ONCE_BYTES // _num_bytes(made[0]), 1), AT_ONCE)
                made.reverse()
                while made:  # one that was yielded is not held
                    yield made.pop()
        finally:
            threads.shutdown(cancel_futures=True)


def _num_bytes(batch: Batch) -> int:
    return max(sum(tensor.nbytes for tensor in batch.values()), 1)
