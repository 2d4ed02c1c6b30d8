"""Draft and base class of the bucket, random and sequential planners: batches of a fixed number of pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.planner import (
    Draft,
    Int,
    Lengths,
    Mask,
    Plan,
    Planner,
    Rows,
    candidate_rows,
    random_generator,
)
from mtx.components.checked_options import Count, component


@dataclass(frozen=True, kw_only=True)
class FixedSizeDraft(Draft):
    """Groups of rows from which batches of a fixed size are cut.

    Attributes:
        num_rows: number of rows for which a plan accounts.
        groups: int32 arrays; rows of one group may share a batch. Rows are in dataset order; no group is empty.
        keys: int32 arrays, one per group: keys by which the rows of a pool are sorted; None: rows are not sorted.
        batch_size: number of pairs in a batch.
        pool_batches: number of batches in a pool.
        drop_last: whether to drop the last, incomplete batch of each group.
        shuffle: whether to shuffle the rows of each group, and the batches.
        dropped: int32, rows dropped because of their length, ascending.
        cuts: return value of `edges`: for each side, the greatest length of each group but the last.
    """

    num_rows: int
    groups: list[Rows]
    keys: list[NDArray[np.int32]] | None = None
    batch_size: int
    pool_batches: int = 1
    drop_last: bool
    shuffle: bool
    dropped: Rows
    cuts: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        rest = 0 if self.drop_last else self.batch_size - 1
        return sum((len(group) + rest) // self.batch_size for group in self.groups)

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`. The rows of a group's incomplete batch are chosen at random, not by length."""
        random = random_generator(seed, epoch) if self.shuffle else None
        rows: list[Rows] = [self.dropped[:0]]
        remainder: list[Rows] = [self.dropped[:0]]
        ends: list[Int] = []  # end of each batch in `rows`
        num_rows = 0
        for number, group in enumerate(self.groups):
            drawn = np.arange(len(group)) if random is None else random.permutation(len(group))
            full, rest = np.split(drawn, [len(group) // self.batch_size * self.batch_size])
            if self.keys is not None:
                pool = np.arange(len(full)) // (self.batch_size * self.pool_batches)
                full = full[np.lexsort((self.keys[number][full], pool))]
            if self.drop_last:
                remainder.append(group[rest])
                rest = rest[:0]
            rows += [group[full], group[rest]]
            num_served = len(full) + len(rest)
            ends.append(num_rows + np.minimum(np.arange(0, num_served, self.batch_size) + self.batch_size, num_served))
            num_rows += num_served
        return Plan(
            num_rows=self.num_rows,
            rows=np.concatenate(rows),
            offsets=np.concatenate([np.zeros(1, dtype=np.int64), *ends]),
            order=np.arange(len(self)) if random is None else random.permutation(len(self)),
            dropped_length=self.dropped,
            dropped_remainder=np.sort(np.concatenate(remainder)),
        )

    def edges(self, *, seed: int, epoch: int) -> Mapping[str, Sequence[int]]:
        """Return `cuts`, which is the same in every epoch."""
        return self.cuts


@component("sampler")
class FixedSizePlanner(Planner):
    """Base class of the random and sequential planners: all rows are one group; the class sets `SHUFFLE`."""

    SHUFFLE: ClassVar[bool]
    is_length_agnostic: ClassVar[bool] = True

    batch_size: Count = 64
    drop_last: bool = False

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> FixedSizeDraft:
        """Put all rows into one group."""
        rows, dropped = candidate_rows(len(lengths), excluded)
        return FixedSizeDraft(
            num_rows=len(lengths),
            groups=[rows],
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            shuffle=self.SHUFFLE,
            dropped=dropped,
        )
