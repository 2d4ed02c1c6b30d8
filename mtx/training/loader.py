"""The loader that a Trainer gets: batches of token ids by an epoch's plan, resumed by number.

`PlanLoader` is no DataLoader: Lightning takes apart and rebuilds every DataLoader whose sampler it does not know, which
loses arguments or order. It needs no `use_distributed_sampler=False`. Nor does it hold one: a batch takes less time to
build than a DataLoader takes to send it between processes, so workers are threads (see `_ahead`).
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from mtx.infra.dataset.collate import Batch, BatchFormat, EncodedPairs, collate_rows
from mtx.infra.dataset.plan.base import Draft, Plan
from mtx.infra.dataset.plan.share import Item, items, num_steps

AT_ONCE = 16  # batches that a thread builds before it hands them over
AHEAD = 2  # such groups for each thread: one in the making, one ready


class EncodedBatches(Dataset[Batch]):
    """Dataset of whole batches: indexed by an array of rows (int64 [B]), alone or with the widths to pad to."""

    def __init__(self, pairs: EncodedPairs, batch_format: BatchFormat) -> None:
        self.pairs = pairs
        self.batch_format = batch_format

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, item: Item) -> Batch:
        rows, widths = item if isinstance(item, tuple) else (item, None)
        return collate_rows(self.pairs, rows, self.batch_format, widths=widths)


class EpochBatches(Sampler[Item]):
    """The row arrays (int64 [B]) of one rank's batches in one epoch, with widths where the plan has them.

    Args:
        draft: a planner's work on the lengths of all rows.
        seed: of the order.
        rank: this process's place.
        world_size: number of processes.
    """

    def __init__(self, draft: Draft, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.draft = draft
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0  # steps of the epoch that are skipped, on resume
        self._planned: tuple[int, Plan] | None = None

    @property
    def sampler(self) -> "EpochBatches":
        """Itself: Lightning calls `set_epoch` on a loader's `sampler` and on its batch sampler's `sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass serves."""
        self.epoch = epoch

    def plan(self) -> Plan:
        """Return the epoch's plan over all ranks."""
        if self._planned is None or self._planned[0] != self.epoch:
            self._planned = (self.epoch, self.draft.plan(seed=self.seed, epoch=self.epoch))
        return self._planned[1]

    def __len__(self) -> int:
        return num_steps(self.plan(), self.world_size)

    def __iter__(self) -> Iterator[Item]:
        return iter(items(self.plan(), rank=self.rank, world_size=self.world_size)[self.start :])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_planned": None}


class PlanLoader:
    """Iterates over batches; exact `len`; `state_dict` says how far the epoch is.

    One pass is one epoch. Whoever drives it calls `set_epoch` (Lightning does, through `batch_sampler`); if nobody
    does, each pass is the next epoch.

    Args:
        dataset: builds a batch from its rows.
        batches: the rows of each batch.
        num_workers: threads that build batches ahead, from the first `next` to the end of the pass; 0: none.
        pin_memory: put batches into pinned memory, if there is an accelerator to copy them to.
    """

    def __init__(
        self, dataset: EncodedBatches, batches: EpochBatches, *, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        self.dataset = dataset
        self.batch_sampler = batches
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self._num_served = 0  # steps of the epoch handed out so far, skipped ones included
        self._resume: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        batches = self.batch_sampler
        epoch = batches.epoch
        batches.start = 0
        if self._resume is not None:
            if self._resume["epoch"] == epoch:
                batches.start = self._resume["global_batches"] // batches.world_size
            self._resume = None
        self._num_served = batches.start
        pin = self.pin_memory and torch.accelerator.is_available()
        for batch in self._built(iter(batches)):
            self._num_served += 1
            yield {name: tensor.pin_memory() for name, tensor in batch.items()} if pin else batch
        if batches.epoch == epoch:
            batches.set_epoch(epoch + 1)
            self._num_served = 0

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its global batches were handed out, over all ranks."""
        served = self._num_served * self.batch_sampler.world_size
        return {"epoch": self.batch_sampler.epoch, "global_batches": served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass over `state["epoch"]` begin behind its `global_batches`."""
        self._resume = {"epoch": int(state["epoch"]), "global_batches": int(state["global_batches"])}

    def _built(self, asked: Iterator[Item]) -> Iterator[Batch]:
        if not self.num_workers:
            return map(self.dataset.__getitem__, asked)
        return _ahead(self.dataset, asked, self.num_workers)


def _ahead(dataset: EncodedBatches, asked: Iterator[Item], num_threads: int) -> Iterator[Batch]:
    """Yield the batches of `asked` in order, built by threads, some at a time, as handing over is not free.

    Copying rows leaves the interpreter to others (the compiled kernels release its lock), so threads do what processes
    would, without starting any, without copies of the data, and without shared memory, of which containers have little.
    """

    def build(some: list[Item]) -> list[Batch]:
        return [dataset[item] for item in some]

    with ThreadPoolExecutor(num_threads, thread_name_prefix="mtx-loader") as threads:
        waiting: deque[Future[list[Batch]]] = deque()
        try:
            while True:
                while len(waiting) < AHEAD * num_threads and (some := list(islice(asked, AT_ONCE))):
                    waiting.append(threads.submit(build, some))
                if not waiting:
                    return
                yield from waiting.popleft().result()
        finally:  # also when a pass is dropped half-way
            threads.shutdown(cancel_futures=True)
