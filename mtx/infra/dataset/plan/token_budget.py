"""Batches under a token budget: as many pairs as fit, with almost no padding.

The order in which rows are cut decides the padding. Sorted by (source, target), as most tools do it, a batch that
reaches from one source length into the next holds the longest targets of the one and the shortest of the other, and
a source of average length comes with targets of any length. `snake.py` has the order used here, `cut.py` the cuts.

Each epoch shifts the bands of the order, permutes the rows of equal lengths, and serves the batches in another order.
The number of batches is fixed: an epoch that comes out with fewer splits some.
"""

from dataclasses import dataclass
from typing import Literal

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
    check_choice,
    check_flag,
    generator,
)
from mtx.infra.dataset.plan.classes import LengthClasses, chunks, length_classes
from mtx.infra.dataset.plan.cut import Room, Runs, cut, split
from mtx.infra.dataset.plan.pools import Pools, deal
from mtx.infra.dataset.plan.snake import Snake, best_snake

SPARE = 200  # one batch in so many is added, so that nearly every way to cut an epoch fits the fixed number
ATTEMPTS = 8  # ways to cut an epoch that are tried before the draft's own is taken
MIN_WINDOW = 1000  # pairs; a pool costs some 0.1 ms, and batches from smaller ones are as good as random


@dataclass(frozen=True, kw_only=True)
class TokenBudgetPlanner(Planner):
    """Cuts batches of at most `max_tokens` padded positions, formed anew in each epoch.

    Args:
        max_tokens: padded positions of a batch; see `budget`.
        budget: `side`: each side has at most `max_tokens` (pairs × longest side); `area`: both sides together
            (pairs × (longest source + longest target)).
        max_pairs: pairs of a batch at most; None: as many as the budget holds.
        too_long: what to do with a pair that exceeds the budget by itself: `drop` it, counted under
            `dropped_length`, or serve it `alone`, the only batches above the budget.
        batch_multiple: batches have a multiple of this many pairs, or fewer than this.
        length_multiple: what the collate function rounds positions up to a multiple of; the budget holds for that.
        window: pairs in the pool that batches are cut from, at least 1,000; None: all. Smaller pools mix more
            lengths in a batch, and so pad more.
        shuffle: False: the same batches in every epoch, served from short to long.
    """

    max_tokens: int = 4096
    budget: Literal["side", "area"] = "side"
    max_pairs: int | None = None
    too_long: Literal["drop", "alone"] = "drop"
    batch_multiple: int = 1
    length_multiple: int = 1
    window: int | None = None
    shuffle: bool = True

    def __post_init__(self) -> None:
        for name in ("max_tokens", "batch_multiple", "length_multiple"):
            check_at_least(f"sampler.{name}", getattr(self, name), 1)
        for name, least in (("max_pairs", 1), ("window", MIN_WINDOW)):
            if getattr(self, name) is not None:
                check_at_least(f"sampler.{name}", getattr(self, name), least)
        check_choice("sampler.budget", self.budget, ("side", "area"))
        check_choice("sampler.too_long", self.too_long, ("drop", "alone"))
        check_flag("sampler.shuffle", self.shuffle)

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> "TokenBudgetDraft":
        """Find the length classes, the best order of them, and the number of batches."""
        rows, dropped = candidates(len(lengths), excluded)
        too_long = self._too_long(lengths, rows)
        alone, rows = rows[too_long], rows[~too_long]
        if self.too_long == "drop":
            dropped, alone = np.union1d(dropped, alone), alone[:0]
        classes = length_classes(lengths, rows, multiple=self.length_multiple, limit=self.max_tokens)
        pools = deal(classes, self.window, None)
        snake = best_snake(classes, pools.count(0), self.room())
        runs = pools.runs(snake.order())
        offsets, _ = cut(runs, self.room())
        if self.shuffle:
            spare = (len(offsets) - 1) // SPARE
            offsets = split(runs, offsets, len(offsets) - 1 + spare, multiple=self.batch_multiple)
        return TokenBudgetDraft(
            planner=self,
            num_rows=len(lengths),
            classes=classes,
            snake=snake,
            num_cut=len(offsets) - 1,
            alone=alone,
            dropped=dropped,
        )

    def room(self) -> Room:
        """Return how many pairs fit into a batch."""
        return Room(
            max_tokens=self.max_tokens,
            area=self.budget == "area",
            max_pairs=self.max_pairs or self.max_tokens,
            multiple=self.batch_multiple,
        )

    def _too_long(self, lengths: Lengths, rows: Rows) -> Mask:
        def positions(side: NDArray[np.int32]) -> Int:
            return -(-side.astype(np.int64) // self.length_multiple) * self.length_multiple

        masks = [np.empty(0, dtype=np.bool_)]
        for part in chunks(rows):
            source, target = positions(lengths.source[part]), positions(lengths.target[part])
            needed = source + target if self.budget == "area" else np.maximum(source, target)
            masks.append(needed > self.max_tokens)
        return np.concatenate(masks)


@dataclass(frozen=True, kw_only=True)
class TokenBudgetDraft(Draft):
    """What all epochs of a token-budget planner share.

    Attributes:
        planner: the options.
        num_rows: rows that a plan accounts for.
        classes: the rows that are cut into batches, by length.
        snake: the order of the classes.
        num_cut: batches that these rows are cut into.
        alone: int32, rows that make a batch each, ascending.
        dropped: int32, rows left out for their length, ascending.
    """

    planner: TokenBudgetPlanner
    num_rows: int
    classes: LengthClasses
    snake: Snake
    num_cut: int
    alone: Rows
    dropped: Rows

    def __len__(self) -> int:
        return self.num_cut + len(self.alone)

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`: bands shifted, rows of equal length permuted, batches shuffled."""
        random = generator(seed, epoch) if self.planner.shuffle else None
        pools, order, offsets = self._cut(random)
        rows = pools.rows(order, random)
        return Plan(
            num_rows=self.num_rows,
            rows=np.concatenate([rows, self.alone]) if len(self.alone) else rows,
            offsets=np.concatenate([offsets, offsets[-1] + 1 + np.arange(len(self.alone))]),
            order=np.arange(len(self)) if random is None else random.permutation(len(self)),
            dropped_length=self.dropped,
            dropped_remainder=self.dropped[:0],
        )

    def _cut(self, random: np.random.Generator | None) -> tuple[Pools, Int, Int]:
        """Return pools of rows, the order of classes, and the offsets of exactly `num_cut` batches."""
        if random is not None:
            pools = deal(self.classes, self.planner.window, random)
            for _ in range(ATTEMPTS):
                order = self.snake.order(phase=random.random(), turned=bool(random.integers(2)))
                offsets = self._offsets(pools.runs(order))
                if len(offsets) - 1 == self.num_cut:
                    return pools, order, offsets
        pools, order = deal(self.classes, self.planner.window, None), self.snake.order()
        return pools, order, self._offsets(pools.runs(order))  # as in the draft, where the number comes from

    def _offsets(self, runs: Runs) -> Int:
        return split(runs, cut(runs, self.planner.room())[0], self.num_cut, multiple=self.planner.batch_multiple)
