"""Data loader for training and evaluation: yields batches of token ids in the order of an epoch's plan.

`PlanLoader` is not a `torch.utils.data.DataLoader`. Lightning rebuilds each DataLoader whose sampler it does not know,
and may lose arguments or the order of batches. With `PlanLoader`, a Trainer does not need
`use_distributed_sampler=False`.
`PlanLoader` builds batches in threads (see `prefetch.py`), because building a batch takes less time than sending it
between processes.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Batch, Collator
from mtx.batches.plan.planner import Draft, Lengths, Plan, max_lengths
from mtx.batches.plan.rank_assignment import (
    Item,
    RankBatches,
    ServedSteps,
    assigned_batches,
    num_steps,
    remaining_batches,
)
from mtx.batches.schema import supported_schema
from mtx.data.token_rows import EncodedPairs
from mtx.training.prefetch import prefetched_batches


class EncodedBatches(Dataset[Batch]):
    """Dataset of whole batches: an index is an array of row numbers (int64 [B], or any sequence), or (rows, widths).

    The widths are the source and target positions to which the batch is padded; without widths, each side is padded to
    its longest text.
    A plain `DataLoader(dataset, sampler=EpochBatches(…), batch_size=None)` also accepts this dataset, with any number
    of workers. Forked workers share the pairs in memory; spawned workers get a copy each. Picklable, thread-safe.
    """

    def __init__(self, pairs: EncodedPairs, batch_format: BatchFormat) -> None:
        self.pairs = pairs
        self.batch_format = batch_format
        self._collate = {pin: Collator(pairs, batch_format, pin_memory=pin) for pin in (False, True)}
        self.size: int | None = None  # Lightning's batch-size finder takes len() as an upper bound of the batch budget

    def __len__(self) -> int:
        return len(self.pairs) if self.size is None else self.size

    def of_epoch(self, epoch: int) -> "EncodedBatches":
        """Return the dataset for one epoch: this object; `SampledBatches` returns other token ids for each epoch."""
        return self

    def __getitem__(self, item: Item) -> Batch:
        return self.build_batches([item])[0]

    def build_batches(self, items: Sequence[Item], *, pin_memory: bool = False) -> list[Batch]:
        """Build the batches of several items in one call; override this method to change every batch of a dataset."""
        rows, widths = zip(*(item if isinstance(item, tuple) else (item, (0, 0)) for item in items), strict=True)
        return self._collate[pin_memory](rows, widths)


class SourceBatches(EncodedBatches):
    """Dataset of batches for prediction: the source side, and `row_ids`, the line numbers of the texts from 0."""

    def build_batches(self, items: Sequence[Item], *, pin_memory: bool = False) -> list[Batch]:
        """Build the source-side batches of several items in one call."""
        made = super().build_batches(items, pin_memory=pin_memory)
        return [self._source(batch, item, pin_memory) for batch, item in zip(made, items, strict=True)]

    def _source(self, batch: Batch, item: Item, pin_memory: bool) -> Batch:
        kept = {name: batch[name] for name in supported_schema(self.batch_format.names).source_names}
        row_ids = torch.as_tensor(item[0] if isinstance(item, tuple) else item)
        return {**kept, "row_ids": row_ids.pin_memory() if pin_memory else row_ids}


class EpochBatches(Sampler[Item]):
    """Sampler that yields the row numbers (int64 [B]) of one rank's batches in an epoch, and the plan's widths if any.

    Args:
        draft: the prepared plan of a planner for the lengths of all rows.
        seed: seed of the order of batches.
        rank: rank of this process.
        world_size: number of ranks.
        lengths: lengths of all rows, or a function that returns the lengths of an epoch. They are used to give the
            ranks batches of similar cost in each step. None: batches are assigned in the order in which the planner cut
            them.
        join: drop no row to give all ranks the same number of steps, as evaluation needs; see
            `mtx.batches.plan.rank_assignment.assigned_batches`.
        frozen: every epoch has the batches of epoch 0.
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
        self.served: ServedSteps = ()  # (number of ranks, steps) that earlier runs have trained on in this epoch
        self.on_set_epoch: Callable[[], None] | None = None
        self._planned: tuple[int, Plan] | None = None

    @property
    def sampler(self) -> "EpochBatches":
        """This object, because Lightning calls `set_epoch` on a loader's `sampler` and on `batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass; a new epoch clears the steps that earlier runs have trained on."""
        if epoch != self.epoch:
            self.epoch, self.served = epoch, ()
        if self.on_set_epoch is not None:
            self.on_set_epoch()

    @property
    def planned_epoch(self) -> int:
        """The epoch whose plan the next pass uses; always 0 if `frozen` is true."""
        return 0 if self.frozen else self.epoch

    def plan(self) -> Plan:
        """Return the plan of the epoch, with the batches of all ranks."""
        epoch = self.planned_epoch
        if self._planned is None or self._planned[0] != epoch:
            self._planned = (epoch, self.draft.plan(seed=self.seed, epoch=epoch))
        return self._planned[1]

    def rank_batches(self) -> tuple[RankBatches, int]:
        """Return the epoch's batches as assigned to all ranks, and the number of the next pass's first step."""
        plan, positions = self.plan(), None
        most_ranks = max([self.world_size, *(ranks for ranks, _ in self.served)])
        if self.lengths is not None and most_ranks > 1:  # earlier runs also used the lengths to assign batches to ranks
            lengths = self.lengths(self.planned_epoch) if callable(self.lengths) else self.lengths
            positions = (max_lengths(plan, lengths) if plan.widths is None else plan.widths).sum(axis=1)
        if self.served:
            return remaining_batches(plan, self.world_size, self.served, positions=positions)
        return assigned_batches(plan, self.world_size, positions=positions, join=self.join), 0

    def num_left(self) -> int:
        """Return the number of steps in the next pass, which is less than an epoch if a run resumes within an epoch."""
        dealt, start = self.rank_batches()
        return len(dealt) - start

    def __len__(self) -> int:
        """Return the number of steps of a whole epoch, which is the same in every epoch."""
        plan = self.plan()
        return num_steps(len(plan), len(plan.rows), self.world_size)

    def __iter__(self) -> Iterator[Item]:
        dealt, start = self.rank_batches()
        return dealt.items(rank=self.rank, start=start)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_planned": None, "on_set_epoch": None}


class PlanLoader:
    """Loader that builds batches, has an exact `len`, and stores the position within the epoch in its `state_dict`.

    One pass is one epoch. Lightning calls `set_epoch` through `batch_sampler` before each pass. If nothing calls
    `set_epoch`, each pass is the next epoch.

    Args:
        dataset: builds a batch from its row numbers.
        batches: yields the row numbers of each batch.
        num_workers: threads that build batches ahead of time, from the first `next` to the end of the pass; 0: no
            threads.
        pin_memory: copy batches into pinned memory, if there is an accelerator.
    """

    def __init__(
        self, dataset: EncodedBatches, batches: EpochBatches, *, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        self.dataset = dataset
        self.batch_sampler = batches
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self._passing: int | None = None  # the epoch of the pass that has begun
        self._served: list[tuple[int, int]] = []  # (number of ranks, steps) of earlier runs in that epoch
        self._num_served = 0  # steps of this run in that epoch

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        batches = self.batch_sampler
        epoch = batches.epoch
        self._passing, (self._served, self._num_served) = epoch, _served_steps(batches)
        dataset, asked = self.dataset.of_epoch(batches.planned_epoch), iter(batches)
        batches.served = ()  # the next pass is a whole epoch
        for batch in self._built(dataset, asked):
            self._num_served += 1
            yield batch
        if batches.epoch == epoch:
            batches.epoch = epoch + 1

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, and a list of [number of ranks, steps of each rank] already trained on in that epoch."""
        batches = self.batch_sampler
        served = list(batches.served)  # set if the loaded state has not been used by a pass yet
        if not served and self._passing == batches.epoch:
            served = [*self._served, (batches.world_size, self._num_served)]
        return {"epoch": batches.epoch, "served": [list(part) for part in served if part[1]]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass yield the rest of epoch `state["epoch"]`; the saved run may have had other ranks."""
        batches = self.batch_sampler
        batches.epoch = int(state["epoch"])
        batches.served = [(int(ranks), int(steps)) for ranks, steps in state["served"]]

    def _built(self, dataset: EncodedBatches, asked: Iterator[Item]) -> Iterator[Batch]:
        pin = self.pin_memory and torch.accelerator.is_available()
        build = partial(dataset.build_batches, pin_memory=pin)
        if self.num_workers:
            return prefetched_batches(build, asked, self.num_workers, pin_memory=pin)
        return (build([item])[0] for item in asked)


def _served_steps(batches: EpochBatches) -> tuple[list[tuple[int, int]], int]:
    """Split the steps trained on in an epoch into those of other numbers of ranks, and the last ones of this number."""
    served = list(batches.served)
    if served and served[-1][0] == batches.world_size:
        return served[:-1], served[-1][1]
    return served, 0
