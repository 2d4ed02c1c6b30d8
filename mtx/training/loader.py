"""The loader that a Trainer gets: batches of token ids by an epoch's plan, resumed by number.

`PlanLoader` is no DataLoader: Lightning takes apart and rebuilds every DataLoader whose sampler it does not know, which
loses arguments or order. It needs no `use_distributed_sampler=False`. Nor does it hold one: a batch takes less time to
build than a DataLoader takes to send it between processes, so workers are threads (see `_ahead`).
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from mtx.infra.dataset.collate import Batch, BatchFormat, EncodedPairs, collate_rows
from mtx.infra.dataset.plan.base import Draft, Lengths, Plan, longest
from mtx.infra.dataset.plan.share import Deal, Item, Served, deal, num_steps, resume

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
        lengths: of all rows, by which ranks get batches of similar cost; None: by their place in the cut.
        join: lose no row for equal steps, as evaluation wants it; see `mtx.infra.dataset.plan.share.deal`.
        frozen: every epoch has the batches of the first one.
    """

    def __init__(
        self,
        draft: Draft,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        lengths: Lengths | None = None,
        join: bool = False,
        frozen: bool = False,
    ) -> None:
        self.draft = draft
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.lengths = lengths
        self.join = join
        self.frozen = frozen
        self.epoch = 0
        self.served: Served = ()  # what a run before this one has served of the epoch
        self.on_set_epoch: Callable[[], None] | None = None
        self._planned: tuple[int, Plan] | None = None

    @property
    def sampler(self) -> "EpochBatches":
        """Itself: Lightning calls `set_epoch` on a loader's `sampler` and on its batch sampler's `sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass serves; what was served of another one no longer counts."""
        if epoch != self.epoch:
            self.epoch, self.served = epoch, ()
        if self.on_set_epoch is not None:
            self.on_set_epoch()

    def plan(self) -> Plan:
        """Return the epoch's plan over all ranks."""
        epoch = 0 if self.frozen else self.epoch
        if self._planned is None or self._planned[0] != epoch:
            self._planned = (epoch, self.draft.plan(seed=self.seed, epoch=epoch))
        return self._planned[1]

    def dealt(self) -> tuple[Deal, int]:
        """Return the epoch's batches over all ranks, and the step that the next pass begins with."""
        plan, positions = self.plan(), None
        if self.lengths is not None and self.world_size > 1:
            positions = (longest(plan, self.lengths) if plan.widths is None else plan.widths).sum(axis=1)
        if self.served:
            return resume(plan, self.world_size, self.served, positions=positions)
        return deal(plan, self.world_size, positions=positions, join=self.join), 0

    def num_left(self) -> int:
        """Return how many steps the next pass takes."""
        dealt, start = self.dealt()
        return len(dealt) - start

    def __len__(self) -> int:
        """Return the steps of a whole epoch, the same in every epoch."""
        plan = self.plan()
        return num_steps(len(plan), len(plan.rows), self.world_size)

    def __iter__(self) -> Iterator[Item]:
        dealt, start = self.dealt()
        return dealt.items(rank=self.rank, start=start)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_planned": None, "on_set_epoch": None}


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
        self._served: list[tuple[int, int]] = []  # of the epoch, by ranks before these
        self._num_served = 0  # steps that these ranks were handed

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        batches = self.batch_sampler
        epoch = batches.epoch
        self._served, self._num_served = _until_now(batches)
        pin = self.pin_memory and torch.accelerator.is_available()
        asked = iter(batches)
        batches.served = ()  # the next pass is a whole one
        for batch in self._built(asked):
            self._num_served += 1
            yield {name: tensor.pin_memory() for name, tensor in batch.items()} if pin else batch
        if batches.epoch == epoch:
            batches.epoch = epoch + 1
            self._served, self._num_served = [], 0

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, and what was served of it: pairs of a number of ranks and the steps each of them took."""
        served = [*self._served, (self.batch_sampler.world_size, self._num_served)]
        return {"epoch": self.batch_sampler.epoch, "served": [list(part) for part in served if part[1]]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass be what is left of `state["epoch"]`, also where other ranks than now served the rest."""
        batches = self.batch_sampler
        batches.epoch = int(state["epoch"])
        batches.served = [(int(ranks), int(steps)) for ranks, steps in state["served"]]

    def _built(self, asked: Iterator[Item]) -> Iterator[Batch]:
        if not self.num_workers:
            return map(self.dataset.__getitem__, asked)
        return _ahead(self.dataset, asked, self.num_workers)


def _until_now(batches: EpochBatches) -> tuple[list[tuple[int, int]], int]:
    """Split what was served of an epoch into what other numbers of ranks served, and the last steps of this number."""
    served = list(batches.served)
    if served and served[-1][0] == batches.world_size:
        return served[:-1], served[-1][1]
    return served, 0


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
