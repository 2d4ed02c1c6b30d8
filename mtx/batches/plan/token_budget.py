"""The token-budget planner: batches filled up to a token budget, with almost no padding.

The padding depends on the order in which rows are cut into batches. Most tools sort rows by (source, target) length. A
batch that spans two source lengths then mixes the longest targets of one with the shortest of the other. A batch of one
source length has targets of any length. This planner uses the order of `snake_order.py` and the cuts of
`batch_cutting.py`.

Each epoch shifts the bands of the order, shuffles the rows of equal lengths, and shuffles the batches. The number of
batches is fixed: if the cuts of an epoch give fewer, some batches are split.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mtx.batches.plan.batch_cutting import BatchCapacity, LengthRuns, cut_offsets, split_offsets
from mtx.batches.plan.length_mixing import mixed_order
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
from mtx.batches.plan.pools import LengthPools, length_pools
from mtx.batches.plan.same_length_classes import LengthClasses, length_classes, row_chunks
from mtx.batches.plan.snake_order import SnakeOrder, best_snake_order
from mtx.components.checked_options import Count, Multiple, component
from mtx.components.identity import LATER
from mtx.errors import ConfigError

BATCHES_PER_SPARE = 200  # one batch per this many is added, so that the cuts of nearly every epoch fit the fixed number
MAX_ATTEMPTS = 8  # random cuts of an epoch that are tried before the draft's own cuts are used
MIN_WINDOW_PAIRS = 1000  # pairs; a pool takes about 0.1 ms, and batches of smaller pools pad as much as random ones


@component("sampler")
class TokenBudgetPlanner(Planner):
    """Cuts batches of at most `max_tokens` padded positions; the batches change each epoch.

    Args:
        max_tokens: largest number of padded positions in a batch; see `budget`.
        budget: `side`: `max_tokens` limits each side (pairs × longest sentence); `area`: it limits both sides together
            (pairs × (longest source + longest target)).
        max_pairs: largest number of pairs in a batch; None: only `max_tokens` limits.
        too_long: how a pair is handled that alone exceeds the budget. `drop` leaves it out, counted as
            `dropped_length`. `alone` puts it into a batch of its own, which exceeds the budget.
        batch_multiple: the number of pairs in a batch is a multiple of this, or less than this.
        length_multiple: positions are rounded up to a multiple of this number; the budget limits the rounded positions.
        window: number of pairs, at least 1,000, in the pool from which batches are cut; None: all pairs. In smaller
            pools, lengths in a batch differ more, and padding grows.
        shuffle: False: the same batches in every epoch, from short to long.
        mix_lengths: whether the batches of an update have different lengths: those of the ranks in a step, and
            neighbouring ones, which may be accumulated. Needs `shuffle`.
    """

    kind: ClassVar[str] = "sampler/token_budget"
    version: ClassVar[int] = 1

    max_tokens: Count = 4096
    budget: Literal["side", "area"] = "side"
    max_pairs: Count | None = None
    too_long: Literal["drop", "alone"] = "drop"
    batch_multiple: Multiple = 1
    length_multiple: Multiple = 1
    window: Annotated[int, Field(ge=MIN_WINDOW_PAIRS)] | None = None
    shuffle: bool = True
    mix_lengths: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        if self.mix_lengths and not self.shuffle:
            raise ConfigError(
                "sampler.mix_lengths=true needs batches in random order, but sampler.shuffle is false. "
                "Set sampler.shuffle=true or sampler.mix_lengths=false"
            )

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> "TokenBudgetDraft":
        """Compute the length classes, their best order, and the number of batches."""
        rows, dropped = candidate_rows(len(lengths), excluded)
        too_long = self._long_row_mask(lengths, rows)
        alone, rows = rows[too_long], rows[~too_long]
        if self.too_long == "drop":
            dropped, alone = np.union1d(dropped, alone), alone[:0]
        classes = length_classes(lengths, rows, multiple=self.length_multiple, limit=self.max_tokens)
        pools = length_pools(classes, self.window, None)
        snake = best_snake_order(classes, pools.count(0), self.capacity())
        runs = pools.runs(snake.order())
        offsets, _ = cut_offsets(runs, self.capacity())
        if self.shuffle:
            spare = (len(offsets) - 1) // BATCHES_PER_SPARE
            offsets = split_offsets(runs, offsets, len(offsets) - 1 + spare, multiple=self.batch_multiple)
        return TokenBudgetDraft(
            planner=self,
            num_rows=len(lengths),
            classes=classes,
            snake=snake,
            num_cut=len(offsets) - 1,
            alone=alone,
            dropped=dropped,
        )

    def capacity(self) -> BatchCapacity:
        """Return the limits on the number of pairs in a batch."""
        return BatchCapacity(
            max_tokens=self.max_tokens,
            area=self.budget == "area",
            max_pairs=self.max_pairs or self.max_tokens,
            multiple=self.batch_multiple,
        )

    def _long_row_mask(self, lengths: Lengths, rows: Rows) -> Mask:
        def positions(side: NDArray[np.int32]) -> Int:
            return -(-side.astype(np.int64) // self.length_multiple) * self.length_multiple

        masks = [np.empty(0, dtype=np.bool_)]
        for part in row_chunks(rows):
            source, target = positions(lengths.source[part]), positions(lengths.target[part])
            needed = source + target if self.budget == "area" else np.maximum(source, target)
            masks.append(needed > self.max_tokens)
        return np.concatenate(masks)


@dataclass(frozen=True, kw_only=True)
class TokenBudgetDraft(Draft):
    """Data that all epochs of a token-budget planner share.

    Attributes:
        planner: the planner, with its options.
        num_rows: number of rows for which a plan accounts.
        classes: length classes of the rows that are cut into batches.
        snake: order of the classes.
        num_cut: number of batches into which these rows are cut.
        alone: int32, rows that form a batch each, ascending.
        dropped: int32, rows dropped because of their length, ascending.
    """

    planner: TokenBudgetPlanner
    num_rows: int
    classes: LengthClasses
    snake: SnakeOrder
    num_cut: int
    alone: Rows
    dropped: Rows

    def __len__(self) -> int:
        return self.num_cut + len(self.alone)

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`: bands are shifted, rows of equal length and batches are shuffled."""
        random = random_generator(seed, epoch) if self.planner.shuffle else None
        pools, order, offsets = self._cut_epoch(random)
        rows = pools.rows(order, random)
        return Plan(
            num_rows=self.num_rows,
            rows=np.concatenate([rows, self.alone]) if len(self.alone) else rows,
            offsets=np.concatenate([offsets, offsets[-1] + 1 + np.arange(len(self.alone))]),
            order=self._order(random),
            dropped_length=self.dropped,
            dropped_remainder=self.dropped[:0],
            mixes_lengths=self.planner.mix_lengths,
        )

    def _order(self, random: np.random.Generator | None) -> Int:
        if random is None:
            return np.arange(len(self))
        return mixed_order(len(self), random) if self.planner.mix_lengths else random.permutation(len(self))

    def _cut_epoch(self, random: np.random.Generator | None) -> tuple[LengthPools, Int, Int]:
        """Return the pools of rows, the order of classes, and the offsets of exactly `num_cut` batches."""
        if random is not None:
            pools = length_pools(self.classes, self.planner.window, random)
            for _ in range(MAX_ATTEMPTS):
                order = self.snake.order(phase=random.random(), is_reversed=bool(random.integers(2)))
                offsets = self._offsets(pools.runs(order))
                if len(offsets) - 1 == self.num_cut:
                    return pools, order, offsets
        pools, order = length_pools(self.classes, self.planner.window, None), self.snake.order()
        return pools, order, self._offsets(pools.runs(order))  # the same cuts as in the draft, which gave `num_cut`

    def _offsets(self, runs: LengthRuns) -> Int:
        return split_offsets(
            runs, cut_offsets(runs, self.planner.capacity())[0], self.num_cut, multiple=self.planner.batch_multiple
        )
