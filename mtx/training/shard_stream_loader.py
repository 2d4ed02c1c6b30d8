"""Loader of a streamed training split: the batches of one shard after another, each shard planned by itself.

Within a shard, a `PlanLoader` serves the plan of the sampler; the seed of the plan depends on the number of the shard.
So the order of batches is a function of (list of shards, seed, epoch), and time decides nothing.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data.distributed import DistributedSampler

from mtx.batches.collate import Batch
from mtx.batches.plan.planner import Planner
from mtx.batches.plan.rank_assignment import Item
from mtx.batches.process_rank import process_rank
from mtx.errors import EmptyDatasetError
from mtx.training.loader import PlanLoader
from mtx.training.served_shard import Ledger, Parts, PassedShard, ServedShard, merged, summed, without_last
from mtx.training.split_loader import LoaderSettings
from mtx.training.streamed_shards import OpenedShard, StreamedShards


def shard_seed(seed: int, shard: int) -> int:
    """Return the seed of the plan of a shard, which is independent of those of all other shards."""
    return int(np.random.SeedSequence([seed, shard]).generate_state(1, np.uint64)[0])


class StreamPosition(DistributedSampler[Item]):
    """The place of a loader in its stream: the epoch, and what earlier runs have served of it.

    It is a `DistributedSampler`, so that Lightning and Fabric do not put a sampler of their own around the loader.

    Args:
        rank: rank of this process and number of ranks; None: those of `torch.distributed`.
    """

    def __init__(self, rank: tuple[int, int] | None) -> None:
        self._given_rank = rank
        self.epoch = 0
        self.resumed: list[PassedShard] = []  # what earlier runs have served of the epoch; the next pass continues it
        self.is_finished = False  # a pass has reached the last batch, and nothing has set the epoch since
        self.on_set_epoch: Callable[[], None] | None = None  # not called: a stream does not know its steps

    @property
    def sampler(self) -> "StreamPosition":
        """This object, because Lightning calls `set_epoch` on a loader's `batch_sampler.sampler`."""
        return self

    @property
    def planned_epoch(self) -> int:
        """The epoch of the next pass."""
        return self.epoch

    @property
    def world_size(self) -> int:
        """The number of ranks."""
        return (self._given_rank or process_rank())[1]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass; a new epoch clears what earlier runs have served."""
        self.is_finished = False
        if epoch != self.epoch:
            self.epoch, self.resumed = epoch, []

    def __iter__(self) -> Iterator[Item]:
        raise TypeError("a stream has no sampler of its own. Iterate over the loader: for batch in loader")

    def __len__(self) -> int:
        raise TypeError("the number of batches of a stream is known only at its end")


class ShardStreamLoader:
    """Loader that serves the shards of a source in turn; a pass over all of them is one epoch.

    The state tells how many steps of each shard were served, so a run resumes with the very next batch, on any number
    of ranks. The `row_ids` of a batch are number of the shard × rows of a shard + number of the pair in the shard.

    Args:
        shards: opens the shards.
        planner: forms the batches of each shard.
        settings: what all loaders of the run share.

    Attributes:
        tell_end: called before the last batch of an epoch is served, because a Trainer needs the length then.
        unknown_length: the result of `len` before the length is known, for a Trainer; None: an error.
    """

    def __init__(self, shards: StreamedShards, planner: Planner, settings: LoaderSettings) -> None:
        self.batch_sampler = StreamPosition(settings.rank)
        self.tell_end: Callable[[], None] | None = None
        self.unknown_length: int | None = None
        self._shards = shards
        self._planner = planner
        self._settings = settings
        self._epoch = 0  # of the pass that has begun last
        self._passed: list[PassedShard] = []  # the shards that this pass has left behind
        self._current: ServedShard | None = None
        self._length: tuple[int, int] | None = None  # number of ranks, and steps of each in an epoch, once it is known
        self._is_resumed_at_end = False  # whether earlier runs have served all of the epoch
        self._has_begun = False  # whether a pass has begun since a state was loaded

    @property
    def sampler(self) -> StreamPosition:
        """The place in the stream, for tools that require this attribute."""
        return self.batch_sampler

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass, as transformers' Trainer does."""
        self.batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        position = self.batch_sampler
        if self._length is not None and self._length[0] == position.world_size:
            return self._length[1]
        if position.resumed and self._is_resumed_at_end:
            return sum(steps for passed in position.resumed for _, steps in passed.parts)
        if self.unknown_length is None:
            raise TypeError("the number of batches of a stream is known only after one epoch")
        return self.unknown_length

    def first_shard(self) -> PlanLoader:
        """Return the loader of shard 0. Raises EmptyDatasetError if it has no batch."""
        shard = self._shards.open(0)
        assert shard is not None
        return self._plan_loader(shard)

    def __iter__(self) -> Iterator[Batch]:
        position = self.batch_sampler
        if position.is_finished:
            position.set_epoch(position.epoch + 1)
        self._epoch, resumed, position.resumed = position.epoch, position.resumed, []
        self._passed, self._current, self._has_begun = resumed[:-1], None, True
        with closing(self._epoch_shards([passed.parts for passed in resumed])) as shards:
            group: list[ServedShard] | None = _next_group(shards)
            while group:
                *empty, now = group
                self._passed += [shard.passed() for shard in empty]
                self._current, group = now, None
                for batch in now.loader or ():
                    now.steps += 1
                    if now.steps == now.num_left:  # a Trainer must know before the last batch that it is the last one
                        group = _next_group(shards)
                        if not (group and group[-1].num_left):
                            self._end()
                    yield self._with_row_ids(batch, now.shard.ids.number)
                group = _next_group(shards) if group is None else group
                self._passed.append(now.passed())
                self._current = None
        if position.epoch == self._epoch:
            position.set_epoch(self._epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, `served` in it as a list of [number of ranks, steps of each rank], and both by shard."""
        position = self.batch_sampler
        shards = position.resumed
        if self._has_begun and position.epoch == self._epoch:
            shards = self._served_shards()
        waits = not self._has_begun and self._is_resumed_at_end and bool(position.resumed)
        return {
            "is_at_end": waits or (position.is_finished and position.epoch == self._epoch),
            "length": None if self._length is None else list(self._length),
            "epoch": position.epoch,
            "served": [list(part) for part in merged([passed.parts for passed in shards])],
            "shards": [[[list(part) for part in passed.parts], passed.ledger] for passed in shards],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass yield the rest of an epoch; steps that `served` lacks, but `shards` has, are repeated."""
        shards = [PassedShard([(int(r), int(n)) for r, n in parts], ledger) for parts, ledger in state["shards"]]
        counted = sum(steps for passed in shards for _, steps in passed.parts)
        undone = counted - sum(int(steps) for _, steps in state["served"])
        left = without_last([passed.parts for passed in shards], undone)
        position = self.batch_sampler
        position.set_epoch(int(state["epoch"]))
        position.resumed = [PassedShard(parts, passed.ledger) for parts, passed in zip(left, shards, strict=False)]
        self._has_begun = False
        self._is_resumed_at_end = bool(state["is_at_end"]) and not undone
        self._length = None if state["length"] is None else (int(state["length"][0]), int(state["length"][1]))

    def ledger(self) -> Ledger:
        """Return what became of the rows of all shards with which the last pass has begun; see `served_shard`."""
        shards = self._served_shards()
        return {"epoch": self._epoch, "shards": len(shards), **summed([passed.ledger for passed in shards])}

    def _served_shards(self) -> list[PassedShard]:
        return self._passed if self._current is None else [*self._passed, self._current.passed()]

    def _end(self) -> None:
        """Note the end of the epoch: a loop may take the last batch, and never ask for another."""
        self.batch_sampler.is_finished = True
        served = merged([passed.parts for passed in self._served_shards()])
        if len(served) == 1:  # else several numbers of ranks have served the epoch
            self._length = served[0]
        if self.tell_end is not None:
            self.tell_end()

    def _epoch_shards(self, served: list[Parts]) -> Generator[ServedShard, None, None]:
        """Yield the shards of the epoch that are left, with the steps of them that earlier runs have served."""
        begin = max(len(served) - 1, 0)
        with closing(self._shards.ahead(self._epoch, begin)) as opened:
            for place, shard in enumerate(opened, begin):
                earlier = served[place] if place < len(served) else []
                try:
                    loader = self._plan_loader(shard)
                except EmptyDatasetError:  # no pair is left, or fewer than there are ranks
                    yield ServedShard(shard, None, earlier)
                    continue
                loader.batch_sampler.restore(self._epoch, earlier)
                yield ServedShard(shard, loader, earlier)

    def _plan_loader(self, shard: OpenedShard) -> PlanLoader:
        settings = replace(self._settings, seed=shard_seed(self._settings.seed, shard.ids.number))
        return settings.loader("train", shard.split, self._planner)

    def _with_row_ids(self, batch: Batch, shard: int) -> Batch:
        if "row_ids" in batch and shard:
            batch["row_ids"] = batch["row_ids"] + shard * self._shards.rows_per_shard
        return batch


def _next_group(shards: Iterator[ServedShard]) -> list[ServedShard]:
    """Return the next shards up to the first one that has a batch; without such a shard, all that are left."""
    group: list[ServedShard] = []
    for shard in shards:
        group.append(shard)
        if shard.num_left:
            break
    return group
