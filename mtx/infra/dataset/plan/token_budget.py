"""Batches under a token budget: as many pairs as fit, with almost no padding.

The order in which rows are cut decides the padding. Sorted by (source, target), as most tools do it, a batch that
reaches from one source length into the next holds the longest targets of the one and the shortest of the other.
Here rows lie in bands of nearly the same longest side, and within a band they go from "target longer" to "source
longer", in the next band the other way round: a snake. Neighbours are close in both lengths, and since the budget
counts the longest side, all batches of a band hold the same number of pairs and fill up.

How broad bands are best depends on how much text there is; some widths are tried on the counts of the length classes,
which takes milliseconds, and the best is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

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
from mtx.infra.dataset.plan.classes import LengthClasses, group_by, length_classes
from mtx.infra.dataset.plan.cut import Room, Runs, cut, split

BAND_BUDGETS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)  # widths of bands, in full batches
SPARE = 200  # one batch in so many is kept spare, so that nearly every way to cut an epoch fits the fixed number
ATTEMPTS = 8  # ways to cut an epoch that are tried before the first epoch's way is taken again


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
        batch_multiple: the number of pairs of a batch is a multiple of this, except where fewer fit, and in the last
            batch of the cut.
        length_multiple: positions are rounded up to a multiple of this by the collate function; counted here.
        num_batches_multiple: the number of batches is a multiple of this (such as the number of ranks), reached by
            splitting batches, as far as there are pairs enough.
        window: pairs in the pool that a batch is taken from; None: all. Smaller pools mix more lengths and so pad
            more.
        shuffle: False: every epoch the same batches, served from short to long.
    """

    max_tokens: int = 4096
    budget: Literal["side", "area"] = "side"
    max_pairs: int | None = None
    too_long: Literal["drop", "alone"] = "drop"
    batch_multiple: int = 1
    length_multiple: int = 1
    num_batches_multiple: int = 1
    window: int | None = None
    shuffle: bool = True

    def __post_init__(self) -> None:
        for name in ("max_tokens", "batch_multiple", "length_multiple", "num_batches_multiple"):
            check_at_least(f"sampler.{name}", getattr(self, name), 1)
        for name in ("max_pairs", "window"):
            if getattr(self, name) is not None:
                check_at_least(f"sampler.{name}", getattr(self, name), 1)
        check_choice("sampler.budget", self.budget, ("side", "area"))
        check_choice("sampler.too_long", self.too_long, ("drop", "alone"))
        check_flag("sampler.shuffle", self.shuffle)

    @property
    def room(self) -> Room:
        """How many pairs fit into a batch."""
        return Room(
            max_tokens=self.max_tokens,
            area=self.budget == "area",
            max_pairs=self.max_pairs or self.max_tokens,
            multiple=self.batch_multiple,
        )

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> "TokenBudgetDraft":
        """Find the length classes, the best width of bands and the number of batches."""
        rows, dropped = candidates(len(lengths), excluded)
        too_long = self._too_long(lengths)[rows]
        alone = rows[too_long]
        rows = rows[~too_long]
        if self.too_long == "drop":
            dropped, alone = np.union1d(dropped, alone), alone[:0]
        classes = length_classes(
            lengths.source[rows], lengths.target[rows], multiple=self.length_multiple, limit=self.max_tokens
        )
        return TokenBudgetDraft(self, len(lengths), rows, classes, alone, dropped)

    def _too_long(self, lengths: Lengths) -> Mask:
        def positions(side: NDArray[np.int32]) -> NDArray[np.int32]:
            return -(-side // self.length_multiple) * self.length_multiple

        mask = np.empty(len(lengths), dtype=np.bool_)
        for part in chunks(len(lengths)):
            source, target = positions(lengths.source[part]), positions(lengths.target[part])
            longest = source + target if self.budget == "area" else np.maximum(source, target)
            mask[part] = longest > self.max_tokens
        return mask


class TokenBudgetDraft(Draft):
    """What all epochs of a token-budget planner share: length classes, the width of bands, the number of batches.

    Args:
        planner: the options.
        num_rows: rows that a plan accounts for.
        rows: int32 [n], those to cut into batches, ascending.
        classes: the length classes of `rows`.
        alone: int32, rows that make a batch each.
        dropped: int32, rows left out for their length, ascending.
    """

    def __init__(
        self, planner: TokenBudgetPlanner, num_rows: int, rows: Rows, classes: LengthClasses, alone: Rows, dropped: Rows
    ) -> None:
        self._planner, self._num_rows, self._rows, self._classes = planner, num_rows, rows, classes
        self._alone, self._dropped = alone, dropped
        self._room = planner.room
        self._num_pools = max(1, -(-len(rows) // (planner.window or MAX_ROWS)))
        cost, self._cost = np.unique(np.maximum(classes.source, classes.target), return_inverse=True)
        pools = self._pools(None)
        pool_count = np.bincount(classes.of_row[pools[0]], minlength=len(classes))
        slots = np.bincount(self._cost, weights=cost[self._cost] * pool_count) * 2 / self._room.slots
        self._budgets_before = np.cumsum(slots) - slots  # full batches that a pool fills with rows of lower cost
        self._width = self._best_width(pool_count)

        runs = self._runs(pools, self._order())
        offsets, _ = cut(runs, self._room)
        num_batches = len(offsets) - 1
        wanted = len(alone) + num_batches + (num_batches // SPARE if planner.shuffle else 0)
        wanted = -(-wanted // planner.num_batches_multiple) * planner.num_batches_multiple
        self._num_cut = len(split(runs, offsets, wanted - len(alone), multiple=planner.batch_multiple)) - 1

    def __len__(self) -> int:
        return self._num_cut + len(self._alone)

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`: bands shifted, rows of equal length permuted, batches shuffled."""
        if self._planner.shuffle:
            random = generator(seed, epoch)
            pools, order, offsets = self._shuffled(random)
            serving = random.permutation(len(self))
        else:
            pools, order = self._pools(None), self._order()
            offsets = self._offsets(pools, order)
            serving = np.arange(len(self))
        rank = np.empty(len(order), dtype=np.uint16)
        rank[order] = np.arange(len(order))
        ranks = (rank, rank[::-1] if False else (len(order) - 1 - rank).astype(np.uint16))
        rows = [
            group_by(ranks[k % 2][self._classes.of_row[pool]], pool, len(order)) for k, pool in enumerate(pools)
        ]
        return Plan(
            num_rows=self._num_rows,
            rows=np.concatenate([self._rows[np.concatenate(rows)], self._alone]),
            offsets=np.concatenate([offsets, len(self._rows) + 1 + np.arange(len(self._alone))]),
            order=serving,
            dropped_length=self._dropped,
            dropped_remainder=self._dropped[:0],
        )
