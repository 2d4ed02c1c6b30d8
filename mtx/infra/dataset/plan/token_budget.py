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
from mtx.infra.dataset.plan.classes import LengthClasses, chunks, group_by, length_classes
from mtx.infra.dataset.plan.cut import Room, Runs, cut, split
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
        sides = lengths if len(rows) == len(lengths) else Lengths(lengths.source[rows], lengths.target[rows])
        classes = length_classes(sides, multiple=self.length_multiple, limit=self.max_tokens)

        pools = _pools(classes, self.window, None)
        snake = best_snake(classes, _count(classes, pools[0]), self.room())
        runs = _runs(classes, pools, snake.order())
        offsets, _ = cut(runs, self.room())
        if self.shuffle:
            spare = (len(offsets) - 1) // SPARE
            offsets = split(runs, offsets, len(offsets) - 1 + spare, multiple=self.batch_multiple)
        return TokenBudgetDraft(
            planner=self,
            num_rows=len(lengths),
            rows=None if len(rows) == len(lengths) else rows,
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
        def positions(side: NDArray[np.int32]) -> NDArray[np.int32]:
            return -(-side // self.length_multiple) * self.length_multiple

        mask = np.empty(len(rows), dtype=np.bool_)
        for part in chunks(len(rows)):
            source, target = positions(lengths.source[rows[part]]), positions(lengths.target[rows[part]])
            needed = source + target if self.budget == "area" else np.maximum(source, target)
            mask[part] = needed > self.max_tokens
        return mask


@dataclass(frozen=True, kw_only=True)
class TokenBudgetDraft(Draft):
    """What all epochs of a token-budget planner share.

    Attributes:
        planner: the options.
        num_rows: rows that a plan accounts for.
        rows: int32 [n], the rows that are cut into batches, ascending; None: all.
        classes: the length classes of these rows.
        snake: the order of the classes.
        num_cut: batches that these rows are cut into.
        alone: int32, rows that make a batch each, ascending.
        dropped: int32, rows left out for their length, ascending.
    """

    planner: TokenBudgetPlanner
    num_rows: int
    rows: Rows | None
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
        rank = np.empty(len(order), dtype=np.uint16)
        rank[order] = np.arange(len(order))
        ways = rank, (len(order) - 1 - rank.astype(np.int64)).astype(np.uint16)  # every other pool goes back
        of_row = self.classes.of_row
        served = np.concatenate(
            [group_by(ways[number % 2][of_row[pool]], pool, len(order)) for number, pool in enumerate(pools)]
        )
        return Plan(
            num_rows=self.num_rows,
            rows=np.concatenate([served if self.rows is None else self.rows[served], self.alone]),
            offsets=np.concatenate([offsets, offsets[-1] + 1 + np.arange(len(self.alone))]),
            order=np.arange(len(self)) if random is None else random.permutation(len(self)),
            dropped_length=self.dropped,
            dropped_remainder=self.dropped[:0],
        )

    def _cut(self, random: np.random.Generator | None) -> tuple[list[Rows], Int, Int]:
        """Return pools of rows, the order of classes, and the offsets of exactly `num_cut` batches."""
        if random is not None:
            pools = _pools(self.classes, self.planner.window, random)
            for _ in range(ATTEMPTS):
                order = self.snake.order(phase=random.random(), turned=bool(random.integers(2)))
                offsets = self._offsets(pools, order)
                if len(offsets) - 1 == self.num_cut:
                    return pools, order, offsets
        pools = _pools(self.classes, self.planner.window, None)  # the draft's own, which gives the number
        order = self.snake.order()
        offsets = self._offsets(pools, order)
        return pools if random is None else [random.permutation(pool) for pool in pools], order, offsets

    def _offsets(self, pools: list[Rows], order: Int) -> Int:
        runs = _runs(self.classes, pools, order)
        return split(runs, cut(runs, self.planner.room())[0], self.num_cut, multiple=self.planner.batch_multiple)


def _pools(classes: LengthClasses, window: int | None, random: np.random.Generator | None) -> list[Rows]:
    """Deal the rows out into pools of at most `window`, all of about the same longest sides, so of the same cost.

    Within a pool, rows of the same class are in random order; without `random`, in that of the dataset.
    """
    rows = np.arange(len(classes.of_row), dtype=np.int32)
    if random is not None:
        random.shuffle(rows)
    num_pools = -(-len(rows) // window) if window else 1
    if num_pools <= 1:
        return [rows]
    cost, rank = np.unique(np.maximum(classes.source, classes.target), return_inverse=True)
    rows = group_by(rank.astype(np.uint16)[classes.of_row[rows]], rows, len(cost))
    return [rows[number::num_pools] for number in range(num_pools)]


def _count(classes: LengthClasses, pool: Rows) -> Int:
    """Return the rows of each class in a pool, int64 [number of classes]."""
    if len(pool) == len(classes.of_row):
        return classes.count
    return np.bincount(classes.of_row[pool], minlength=len(classes))


def _runs(classes: LengthClasses, pools: list[Rows], order: Int) -> Runs:
    """Return the runs of all pools: one from short to long, the next from long to short, and so on."""
    names, counts = [], []
    for number, pool in enumerate(pools):
        way = order if number % 2 == 0 else order[::-1]
        count = _count(classes, pool)[way]
        names.append(way[count > 0])
        counts.append(count[count > 0])
    name = np.concatenate(names)
    return Runs(classes.source[name], classes.target[name], np.concatenate(counts))
