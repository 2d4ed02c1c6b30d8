"""Data loader for training and evaluation: yields batches of token ids in the order of an epoch's plan.

`PlanLoader` is not a `torch.utils.data.DataLoader`. Lightning rebuilds each DataLoader whose sampler it does not know,
and may lose arguments or the order of batches. With `PlanLoader`, a Trainer does not need
`use_distributed_sampler=False`.
`PlanLoader` builds batches in threads (see `prefetch.py`), because building a batch takes less time than sending it
between processes. docs/howto/tools.md lists the tools with which these classes work.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from mtx.batches.collate import Batch
from mtx.batches.plan.planner import Draft, Lengths, Plan, row_costs
from mtx.batches.plan.rank_assignment import (
    Item,
    RankBatches,
    ServedSteps,
    assigned_batches,
    num_steps,
    remaining_batches,
)
from mtx.batches.process_rank import check_rank_is_known, given_ranks, process_rank
from mtx.errors import ConfigError
from mtx.training.accelerate_gradient_state import told_to_accelerate
from mtx.training.batch_datasets import EncodedBatches, SourceBatches
from mtx.training.prefetch import grouped_batches, prefetched_batches

__all__ = ["EncodedBatches", "EpochBatches", "PlanLoader", "SourceBatches"]


class EpochBatches(DistributedSampler[Item]):
    """Sampler that yields the row numbers (int64 [B]) of one rank's batches in an epoch, and the plan's widths if any.

    If nothing calls `set_epoch`, each pass is the next epoch. The class is a `DistributedSampler`, so Lightning and
    Fabric do not put a sampler of their own around it. Such a sampler would divide the batches among the ranks again.

    Args:
        draft: the prepared plan of a planner for the lengths of all rows.
        seed: seed of the order of batches.
        rank: rank of this process; None: the rank in `torch.distributed` when a pass begins, if it is initialized.
        world_size: number of ranks, given together with `rank`.
        lengths: lengths of all rows, or a function that returns the lengths of an epoch. They are used to give the
            ranks batches of similar cost in each step. None: batches are assigned in the order in which the planner cut
            them.
        join: drop no row to give all ranks the same number of steps, as evaluation needs; see
            `mtx.batches.plan.rank_assignment.assigned_batches`.
        frozen: every epoch has the batches of epoch 0.
        is_flat: batches have no padding, so their cost is the number of real tokens.
    """

    def __init__(
        self,
        draft: Draft,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        lengths: Lengths | Callable[[int], Lengths] | None = None,
        join: bool = False,
        frozen: bool = False,
        is_flat: bool = False,
    ) -> None:
        self.draft, self.is_flat = draft, is_flat
        self.seed = seed
        self._given_rank = given_ranks(rank, world_size)
        self.lengths = lengths
        self.join = join
        self.frozen = frozen
        self.epoch = 0
        self.served: ServedSteps = ()  # (number of ranks, steps) that earlier runs have trained on in this epoch
        self.on_set_epoch: Callable[[], None] | None = None
        self._planned: tuple[int, Plan] | None = None
        self._is_finished = False  # a pass has reached the last batch of the epoch, and nothing has set the epoch since

    @property
    def sampler(self) -> "EpochBatches":
        """This object, because Lightning calls `set_epoch` on a loader's `sampler` and on `batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass; a new epoch clears the steps that earlier runs have trained on."""
        self._is_finished = False
        if epoch != self.epoch:
            self.epoch, self.served = epoch, ()
        if self.on_set_epoch is not None:
            self.on_set_epoch()

    def set_rank(self, rank: int, world_size: int) -> None:
        """Set the rank of this process and the number of ranks, if `torch.distributed` does not know them.

        Raises:
            ConfigError: `rank` is not from 0 to `world_size` - 1.
        """
        self._given_rank = given_ranks(rank, world_size)

    @property
    def rank(self) -> int:  # type: ignore[override]  # an attribute in torch's class, whose constructor is not called
        """The rank of this process, from 0."""
        return (self._given_rank or process_rank())[0]

    @property
    def world_size(self) -> int:
        """The number of ranks."""
        return (self._given_rank or process_rank())[1]

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
            positions = row_costs(plan, lengths, is_flat=self.is_flat)
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

    def begin_pass(self) -> tuple[Iterator[Item], int]:
        """Begin a pass: return its items and their number. If the last pass was whole, this one is the next epoch.

        Raises:
            ConfigError: this process is one of several ranks, and its rank is not known.
        """
        if self._given_rank is None:
            check_rank_is_known()
        if self._is_finished:
            self.advance(self.epoch)
        return self.epoch_items()

    def epoch_items(self) -> tuple[Iterator[Item], int]:
        """Return the items of the next pass and their number, without a change of the epoch."""
        dealt, start = self.rank_batches()
        return dealt.items(rank=self.rank, start=start), len(dealt) - start

    def end_pass(self, epoch: int) -> None:
        """Let the next pass be the epoch after `epoch`, unless something has chosen another epoch meanwhile."""
        self._is_finished = self.epoch == epoch

    def advance(self, epoch: int) -> None:
        """Set the epoch after `epoch`, whose pass has ended, unless something has chosen another epoch meanwhile."""
        if self.epoch == epoch:
            self.restore(epoch + 1, ())

    def restore(self, epoch: int, served: ServedSteps) -> None:
        """Let the next pass be the rest of an epoch, after the steps that earlier runs have trained on."""
        self.epoch, self.served, self._is_finished = epoch, served, False

    def __iter__(self) -> "EpochPass":
        if self.served:
            raise ConfigError(
                "the loader's state was loaded, so its next pass begins with the next batch by itself, and batches "
                "would be skipped twice. Iterate over the loader instead of skip_first_batches(loader, n)"
            )
        return EpochPass(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_planned": None, "on_set_epoch": None}


class EpochPass(Iterator[Item]):
    """One pass over `EpochBatches`. It has a state, as the `StatefulDataLoader` of torchdata needs for a resume."""

    def __init__(self, batches: EpochBatches) -> None:
        self._batches = batches
        self._items: Iterator[Item] | None = None  # None: the pass has not begun
        self._epoch = self._num_left = self._num_done = 0
        self._earlier: ServedSteps = ()

    def __next__(self) -> Item:
        if self._items is None:
            self._items, self._num_left = self._batches.begin_pass()
            self._epoch, (self._earlier, self._num_done) = self._batches.epoch, _served_steps(self._batches)
            self._batches.served = ()
        self._num_left -= 1
        if self._num_left <= 0:  # a loop may take exactly len() items, and never ask whether there is another
            self._batches.end_pass(self._epoch)
        item = next(self._items)
        self._num_done += 1
        return item

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, and a list of [number of ranks, steps of each rank] served so far, as `PlanLoader` does."""
        if self._items is None:
            return {"epoch": self._batches.epoch, "served": [list(part) for part in self._batches.served]}
        served = [*self._earlier, (self._batches.world_size, self._num_done)]
        return {"epoch": self._epoch, "served": [list(part) for part in served if part[1]]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the pass of a saved state; the saved run may have had another number of ranks."""
        self._items = None
        self._batches.restore(int(state["epoch"]), [(int(ranks), int(steps)) for ranks, steps in state["served"]])


class PlanLoader:
    """Loader that builds batches, has an exact `len`, and stores the position within the epoch in its `state_dict`.

    One pass is one epoch, and ends with its last batch. Lightning calls `set_epoch` through `batch_sampler` before each
    pass. If nothing calls `set_epoch`, each pass is the next epoch.

    Args:
        dataset: builds a batch from its row numbers; `len(dataset)` is the number of pairs.
        batches: yields the row numbers of each batch.
        num_workers: threads that build batches ahead of time, from the first `next` to the end of the pass; 0: no
            threads.
        pin_memory: copy batches into pinned memory, if there is an accelerator.

    Attributes:
        end_of_dataloader: True from the last batch of a pass on; accelerate reads it.
        remainder: 0, since no pair is repeated to fill up ranks; accelerate reads it.
        num_workers: 0, since there are no worker processes; tools read it to make a DataLoader from this loader.
        prefetch_factor: None, as for a DataLoader without worker processes.
    """

    end_of_dataloader = False
    remainder = 0
    num_workers = 0
    prefetch_factor: int | None = None

    def __init__(
        self, dataset: EncodedBatches, batches: EpochBatches, *, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        self.dataset = dataset
        self.batch_sampler = batches
        self.pin_memory = pin_memory
        self._num_threads = num_workers
        self._passing: int | None = None  # the epoch of the pass that has begun
        self._served: list[tuple[int, int]] = []  # (number of ranks, steps) of earlier runs in that epoch
        self._num_served = 0  # steps of this run in that epoch

    @property
    def sampler(self) -> SequentialSampler:
        """The order in which a batch is served, for tools that require this attribute; `batch_sampler` gives batches.

        accelerate's `skip_first_batches` only reads its class. With `overfit_batches`, Lightning does not change a
        loader with a sampler of this class.
        """
        return SequentialSampler(self.dataset)

    @staticmethod
    def collate_fn(batch: Batch) -> Batch:
        """Return the batch: the dataset has built it whole. For a DataLoader that a tool makes from this loader."""
        return batch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass, as transformers' Trainer and accelerate do."""
        self.batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        batches = self.batch_sampler
        asked, num_left = batches.begin_pass()
        epoch = batches.epoch
        self._passing, (self._served, self._num_served) = epoch, _served_steps(batches)
        dataset = self.dataset.of_epoch(batches.planned_epoch)
        batches.served = ()  # the next pass is a whole epoch
        with told_to_accelerate(self):
            for number, batch in enumerate(self._built(dataset, asked), 1):
                self._num_served += 1
                self.end_of_dataloader = number == num_left
                if self.end_of_dataloader:  # a loop may take exactly len() batches, and never ask for another
                    batches.end_pass(epoch)
                yield batch
        batches.advance(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, and a list of [number of ranks, steps of each rank] already trained on in that epoch."""
        batches = self.batch_sampler
        served = list(batches.served)  # set if the loaded state has not been used by a pass yet
        if not served and self._passing == batches.epoch:
            served = [*self._served, (batches.world_size, self._num_served)]
        return {"epoch": batches.epoch, "served": [list(part) for part in served if part[1]]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass yield the rest of epoch `state["epoch"]`; the saved run may have had other ranks."""
        self.batch_sampler.restore(int(state["epoch"]), [(int(ranks), int(steps)) for ranks, steps in state["served"]])

    def _built(self, dataset: EncodedBatches, asked: Iterator[Item]) -> Iterator[Batch]:
        pin = self.pin_memory and torch.accelerator.is_available()
        build = partial(dataset.build_batches, pin_memory=pin)
        if self._num_threads:
            return prefetched_batches(build, asked, self._num_threads, pin_memory=pin)
        return grouped_batches(build, asked)


def _served_steps(batches: EpochBatches) -> tuple[list[tuple[int, int]], int]:
    """Split the steps trained on in an epoch into those of other numbers of ranks, and the last ones of this number."""
    served = list(batches.served)
    if served and served[-1][0] == batches.world_size:
        return served[:-1], served[-1][1]
    return served, 0
