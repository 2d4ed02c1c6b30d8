"""Pools of rows: each batch is cut from one pool, and batches of smaller pools have less similar lengths."""

from dataclasses import dataclass

import numpy as np

from mtx.batches.plan.batch_cutting import LengthRuns
from mtx.batches.plan.planner import Int, Rows
from mtx.batches.plan.same_length_classes import ClassIds, LengthClasses


@dataclass(frozen=True)
class LengthPools:
    """All rows, dealt into pools with about the same distribution of lengths.

    Attributes:
        classes: length classes of the rows.
        by_cost: int64 [number of classes], the classes in the order in which their rows were dealt.
        members: one int64 array per pool: the positions of its rows in the order of dealing. Empty if there is one pool
            of all rows.
    """

    classes: LengthClasses
    by_cost: Int
    members: list[Int]

    def count(self, pool: int) -> Int:
        """Return the number of rows of each class in one pool, int64 [number of classes]."""
        if not self.members:
            return self.classes.count
        return np.bincount(self._names()[self.members[pool]], minlength=len(self.classes))

    def runs(self, order: Int) -> LengthRuns:
        """Return the runs to cut, pool after pool: the classes of each pool in `order` and in reverse order in turn."""
        classes = self.classes
        if not self.members:
            return LengthRuns(classes.source[order], classes.target[order], classes.count[order])
        names, counts = [], []
        of_row = self._names()
        for number, members in enumerate(self.members):
            way = order if number % 2 == 0 else order[::-1]
            count = np.bincount(of_row[members], minlength=len(classes))[way]
            names.append(way[count > 0])
            counts.append(count[count > 0])
        name = np.concatenate(names)
        return LengthRuns(classes.source[name], classes.target[name], np.concatenate(counts))

    def rows(self, order: Int, random: np.random.Generator | None) -> Rows:
        """Return the rows of `runs(order)`, int32 [n]; `random`, if given, shuffles the rows of each class."""
        if not self.members:
            return self.classes.rows_in(order, random)
        rows, of_row = self.classes.rows_in(self.by_cost, random), self._names()
        rank = np.empty(len(order), dtype=np.uint16)
        rank[order] = np.arange(len(order))
        ways = rank, rank.max() - rank
        parts = []
        for number, members in enumerate(self.members):
            key = ways[number % 2][of_row[members]]
            parts.append(rows[members[np.argsort(key, kind="stable")]])
        return np.concatenate(parts)

    def _names(self) -> ClassIds:
        """Return the class of each position in the order of dealing, uint16 [n]."""
        return np.repeat(self.by_cost.astype(np.uint16), self.classes.count[self.by_cost])


def length_pools(classes: LengthClasses, window: int | None, random: np.random.Generator | None) -> LengthPools:
    """Deal rows into as few pools as possible of at most `window` rows each; `window=None` makes one pool.

    Rows are sorted by their longer side and dealt to the pools in turn. So all pools cost about the same and give about
    the same number of batches in every epoch. `random` chooses the first pool of each round.
    """
    by_cost = np.argsort(np.maximum(classes.source, classes.target), kind="stable")
    num_rows = len(classes.rows)
    num_pools = -(-num_rows // window) if window else 1
    if num_pools <= 1:
        return LengthPools(classes, by_cost, [])
    rounds = np.arange(0, num_rows, num_pools)
    first = np.zeros(len(rounds), dtype=np.int64) if random is None else random.integers(num_pools, size=len(rounds))
    members = [rounds + (pool - first) % num_pools for pool in range(num_pools)]
    return LengthPools(classes, by_cost, [places[places < num_rows] for places in members])
