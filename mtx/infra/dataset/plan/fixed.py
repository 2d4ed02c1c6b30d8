"""Batches of a fixed number of pairs from groups of rows: what the bucket, random and sequential planners share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mtx.infra.dataset.plan.base import (
    Draft,
    Int,
    Lengths,
    Mask,
    Plan,
    Planner,
    Rows,
    candidates,
    check_at_least,
    check_flag,
    generator,
)


@dataclass(frozen=True, kw_only=True)
class FixedSizeDraft(Draft):
    """Groups of rows, from which batches of one size are cut.

    Attributes:
        num_rows: rows that a plan accounts for.
        groups: int32 each, rows that may share a batch, in the order of the dataset; none is empty.
        keys: int32 each, one for each group: what orders the rows of a pool; None: they are not ordered.
        batch_size: pairs of a batch.
        pool_batches: batches of a pool.
        drop_last: leave out what is left of a group after full batches.
        shuffle: permute the rows of each group, and the batches.
        dropped: int32, rows left out for their length, ascending.
        cuts: what `edges` returns: by side, the greatest length of each group but the last.
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
        """Return the batches of `epoch`. What is left of a group is chosen by chance, not by length."""
        random = generator(seed, epoch) if self.shuffle else None
        rows: list[Rows] = [self.dropped[:0]]
        remainder: list[Rows] = [self.dropped[:0]]
        ends: list[Int] = []  # of batches, within `rows`
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
        """Return `cuts`, the same in every epoch."""
        return self.cuts


@dataclass(frozen=True, kw_only=True)
class FixedSizePlanner(Planner):
    """Takes all rows as one group: what the random and sequential planners share. They say whether to shuffle."""

    SHUFFLE: ClassVar[bool]
    counts_rows_alone: ClassVar[bool] = True

    batch_size: int = 64
    drop_last: bool = False

    def __post_init__(self) -> None:
        check_at_least("sampler.batch_size", self.batch_size, 1)
        check_flag("sampler.drop_last", self.drop_last)

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> FixedSizeDraft:
        """Take all rows as one group."""
        rows, dropped = candidates(len(lengths), excluded)
        return FixedSizeDraft(
            num_rows=len(lengths),
            groups=[rows],
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            shuffle=self.SHUFFLE,
            dropped=dropped,
        )
