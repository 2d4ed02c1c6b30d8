"""Pools of rows: batches are cut from one pool at a time, so that smaller pools mix more lengths in a batch."""

from dataclasses import dataclass

import numpy as np

from mtx.infra.dataset.plan.base import Int, Rows
from mtx.infra.dataset.plan.classes import Class, LengthClasses
from mtx.infra.dataset.plan.cut import Runs


@dataclass(frozen=True)
class Pools:
    """All rows, dealt out into pools of about the same lengths.

    Attributes:
        classes: the rows, by length.
        by_cost: int64 [number of classes], the classes in the order in which their rows were dealt.
        members: for each pool, int64: places of its rows in that order. Empty if there is one pool, of all rows.
    """

    classes: LengthClasses
    by_cost: Int
    members: list[Int]

    def count(self, pool: int) -> Int:
        """Return the rows of each class in one pool, int64 [number of classes]."""
        if not self.members:
            return self.classes.count
        return np.bincount(self._names()[self.members[pool]], minlength=len(self.classes))

    def runs(self, order: Int) -> Runs:
        """Return the runs to cut: one pool with its classes in `order`, the next the other way round, and so on."""
        classes = self.classes
        if not self.members:
            return Runs(classes.source[order], classes.target[order], classes.count[order])
        names, counts = [], []
        of_row = self._names()
        for number, members in enumerate(self.members):
            way = order if number % 2 == 0 else order[::-1]
            count = np.bincount(of_row[members], minlength=len(classes))[way]
            names.append(way[count > 0])
            counts.append(count[count > 0])
        name = np.concatenate(names)
        return Runs(classes.source[name], classes.target[name], np.concatenate(counts))

    def rows(self, order: Int, random: np.random.Generator | None) -> Rows:
        """Return the rows of these runs, int32 [n]; those of one class are permuted by `random`, if given."""
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

    def _names(self) -> Class:
        """Return the class of each place, uint16 [n]."""
        return np.repeat(self.by_cost.astype(np.uint16), self.classes.count[self.by_cost])


def deal(classes: LengthClasses, window: int | None, random: np.random.Generator | None) -> Pools:
    """Deal rows out into as few pools as possible of at most `window` rows each; None: one pool.

    Rows are sorted by their longer side and dealt like cards, so that all pools cost about the same and give about
    the same number of batches in every epoch. `random` changes at each round which pool is first.
    """
    by_cost = np.argsort(np.maximum(classes.source, classes.target), kind="stable")
    num_rows = len(classes.rows)
    num_pools = -(-num_rows // window) if window else 1
    if num_pools <= 1:
        return Pools(classes, by_cost, [])
    rounds = np.arange(0, num_rows, num_pools)
    first = np.zeros(len(rounds), dtype=np.int64) if random is None else random.integers(num_pools, size=len(rounds))
    members = [rounds + (pool - first) % num_pools for pool in range(num_pools)]
    return Pools(classes, by_cost, [places[places < num_rows] for places in members])
