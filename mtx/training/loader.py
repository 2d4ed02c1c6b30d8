"""The loader that a Trainer gets: batches of token ids by an epoch's plan, resumed by number.

`PlanLoader` is no DataLoader: Lightning takes apart and rebuilds every DataLoader whose sampler it does not know, which
loses arguments or order. It needs no `use_distributed_sampler=False`. Nor does it hold one: a batch takes less time to
build than a DataLoader takes to send it between processes, so workers are threads (see `ahead.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from mtx.infra.dataset.collate import Batch, BatchFormat, Collator, EncodedPairs
from mtx.infra.dataset.plan.base import Draft, Lengths, Plan, longest
from mtx.infra.dataset.plan.share import Deal, Item, Served, deal, num_steps, resume
from mtx.training.ahead import ahead


class EncodedBatches(Dataset[Batch]):
    """Dataset of whole batches: indexed by rows (int64 [B], or any sequence), alone or with the widths to pad to.

    Also for a plain `DataLoader(dataset, sampler=EpochBatches(…), batch_size=None)`, at any number of workers. Those
    that are forked share the pairs; spawned ones get a copy each. Picklable, thread-safe.
    """

    def __init__(self, pairs: EncodedPairs, batch_format: BatchFormat) -> None:
        self.pairs = pairs
        self.batch_format = batch_format
        self._collate = {pin: Collator(pairs, batch_format, pin_memory=pin) for pin in (False, True)}
        self.size: int | None = None  # in the unit of the batches' budget, for Lightning's batch-size finder

    def __len__(self) -> int:
        return len(self.pairs) if self.size is None else self.size

    def of_epoch(self, epoch: int) -> "EncodedBatches":
        """Return the batches of one epoch: these, unless each epoch has ids of its own."""
        return self

    def __getitem__(self, item: Item) -> Batch:
        return self.built([item])[0]

    def built(self, items: Sequence[Item], *, pin_memory: bool = False) -> list[Batch]:
        """Make the batches of some items at once. What is to change all batches of a dataset overrides this."""
        rows, widths = zip(*(item if isinstance(item, tuple) else (item, (0, 0)) for item in items), strict=True)
        return self._collate[pin_memory](rows, widths)


class EpochBatches(Sampler[Item]):
    """The row arrays (int64 [B]) of one rank's batches in one epoch, with widths where the plan has them.

    Args:
        draft: a planner's work on the lengths of all rows.
        seed: of the order.
        rank: this process's place.
        world_size: number of processes.
        lengths: of all rows, by which ranks get batches of similar cost, or what gives those of an epoch; None: by
            their place in the cut.
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
        lengths: Lengths | Callable[[int], Lengths] | None = None,
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

    @property
    def planned_epoch(self) -> int:
        """The epoch whose batches are served: the first one where they are frozen."""
        return 0 if self.frozen else self.epoch

    def plan(self) -> Plan:
        """Return the epoch's plan over all ranks."""
        epoch = self.planned_epoch
        if self._planned is None or self._planned[0] != epoch:
            self._planned = (epoch, self.draft.plan(seed=self.seed, epoch=epoch))
        return self._planned[1]

    def dealt(self) -> tuple[Deal, int]:
        """Return the epoch's batches over all ranks, and the step that the next pass begins with."""
        plan, positions = self.plan(), None
        most_ranks = max([self.world_size, *(ranks for ranks, _ in self.served)])
        if self.lengths is not None and most_ranks > 1:  # those before dealt by it too
            lengths = self.lengths(self.planned_epoch) if callable(self.lengths) else self.lengths
            positions = (longest(plan, lengths) if plan.widths is None else plan.widths).sum(axis=1)
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
        self._passing: int | None = None  # the epoch of the pass that has begun
        self._served: list[tuple[int, int]] = []  # of it, by ranks before these
        self._num_served = 0  # steps that these ranks were handed

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        batches = self.batch_sampler
        epoch = batches.epoch
        self._passing, (self._served, self._num_served) = epoch, _until_now(batches)
        dataset, asked = self.dataset.of_epoch(batches.planned_epoch), iter(batches)
        batches.served = ()  # the next pass is a whole one
        for batch in self._built(dataset, asked):
            self._num_served += 1
            yield batch
        if batches.epoch == epoch:
            batches.epoch = epoch + 1

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, and what was served of it: pairs of a number of ranks and the steps each of them took."""
        batches = self.batch_sampler
        served = list(batches.served)  # what a pass that has not begun will go on behind
        if not served and self._passing == batches.epoch:
            served = [*self._served, (batches.world_size, self._num_served)]
        return {"epoch": batches.epoch, "served": [list(part) for part in served if part[1]]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass be what is left of `state["epoch"]`, also where other ranks than now served the rest."""
        batches = self.batch_sampler
        batches.epoch = int(state["epoch"])
        batches.served = [(int(ranks), int(steps)) for ranks, steps in state["served"]]

    def _built(self, dataset: EncodedBatches, asked: Iterator[Item]) -> Iterator[Batch]:
        pin = self.pin_memory and torch.accelerator.is_available()
        build = partial(dataset.built, pin_memory=pin)
        if self.num_workers:
            return ahead(build, asked, self.num_workers, pin_memory=pin)
        return (build([item])[0] for item in asked)


def _until_now(batches: EpochBatches) -> tuple[list[tuple[int, int]], int]:
    """Split what was served of an epoch into what other numbers of ranks served, and the last steps of this number."""
    served = list(batches.served)
    if served and served[-1][0] == batches.world_size:
        return served[:-1], served[-1][1]
    return served, 0
