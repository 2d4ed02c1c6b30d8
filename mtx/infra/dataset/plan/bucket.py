"""Batches of a fixed number of pairs, all from one bucket of similar lengths."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtx.errors import ConfigError
from mtx.infra.dataset.plan.base import (
    Int,
    Lengths,
    Mask,
    Planner,
    candidates,
    check_at_least,
    check_choice,
    check_flag,
)
from mtx.infra.dataset.plan.fixed import FixedSizeDraft

Boundaries = Literal["equal_mass", "geometric", "optimal"] | Sequence[int]
STRATEGIES = ("equal_mass", "geometric", "optimal")

MAX_EDGES = 512  # values that `optimal` chooses from: it costs num_buckets × this², some 0.1 s


@dataclass(frozen=True, kw_only=True)
class BucketPlanner(Planner):
    """Cuts batches of `batch_size` pairs; pairs of different buckets never share a batch.

    Every epoch shuffles within and across buckets.

    Args:
        batch_size: pairs of a batch. Each bucket has at most one batch of fewer.
        num_buckets: buckets to form at most. Buckets with less than one batch join the next longer one, so small
            datasets have fewer. No effect if `boundaries` are given.
        boundaries: where a bucket ends: `equal_mass`: buckets of about the same number of tokens; `geometric`:
            each the same factor longer; `optimal`: the least padding, if all were padded to the bucket's end; or
            the lengths themselves, ascending: each is the greatest length of a bucket, and what is longer makes one
            more bucket.
        by: the length that decides on the bucket: `source`, `target`, or `max`, the longer of the two.
        pool_batches: within a bucket, so many batches at a time are ordered by the other side's length (with
            `by=max`: by source minus target) before they are cut, for less padding. 1: not ordered.
        drop_last: leave out what fills no batch: fewer than `batch_size` pairs of each bucket, others in each epoch.
        shuffle: False: the same batches in every epoch, served from short to long.
    """

    batch_size: int = 64
    num_buckets: int = 32
    boundaries: Boundaries = "equal_mass"
    by: Literal["source", "target", "max"] = "max"
    pool_batches: int = 50
    drop_last: bool = False
    shuffle: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_buckets", "pool_batches"):
            check_at_least(f"sampler.{name}", getattr(self, name), 1)
        check_choice("sampler.by", self.by, ("source", "target", "max"))
        for name in ("drop_last", "shuffle"):
            check_flag(f"sampler.{name}", getattr(self, name))
        if isinstance(self.boundaries, str):
            check_choice("sampler.boundaries", self.boundaries, STRATEGIES)
            return
        edges = _ascending(self.boundaries)
        if edges is None:
            raise ConfigError(
                f"sampler.boundaries are {', '.join(STRATEGIES)} or ascending lengths of at least 0, "
                f"but are {self.boundaries}. Set sampler.boundaries=[10,20,40] for four buckets"
            )
        object.__setattr__(self, "boundaries", edges)

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> "FixedSizeDraft":
        """Put all rows into buckets."""
        rows, dropped = candidates(len(lengths), excluded)
        source, target = lengths.source[rows], lengths.target[rows]
        length = {"source": source, "target": target, "max": np.maximum(source, target)}[self.by]
        other = {"source": target, "target": source, "max": source - target}[self.by]
        edges = self.edges(length)
        bucket = np.searchsorted(edges, length, side="left")
        by_bucket = np.argsort(bucket, kind="stable")
        buckets = [part for part in np.split(by_bucket, np.cumsum(np.bincount(bucket))) if len(part)]
        return FixedSizeDraft(
            num_rows=len(lengths),
            groups=[rows[part] for part in buckets],
            keys=None if self.pool_batches == 1 else [other[part] for part in buckets],
            batch_size=self.batch_size,
            pool_batches=self.pool_batches,
            drop_last=self.drop_last,
            shuffle=self.shuffle,
            dropped=dropped,
            cuts=dict.fromkeys(("source", "target") if self.by == "max" else (self.by,), edges.tolist()),
        )

    def edges(self, length: NDArray[np.int32]) -> Int:
        """Return the greatest length of each bucket but the last, int64, ascending, given all lengths, int32 [n]."""
        if not isinstance(self.boundaries, str):
            return np.asarray(self.boundaries, dtype=np.int64)
        value, count = np.unique(length.astype(np.int64), return_counts=True)
        if len(value) <= self.num_buckets:
            edges = value[:-1]
        elif self.boundaries == "equal_mass":
            edges = _equal_mass(value, count, self.num_buckets)
        elif self.boundaries == "geometric":
            edges = np.unique(np.geomspace(max(1, value[0]), value[-1], self.num_buckets + 1)[1:-1].astype(np.int64))
        else:
            edges = _optimal(value, count, self.num_buckets)
        return _with_full_batches(edges, value, count, self.batch_size)


def _ascending(values: object) -> tuple[int, ...] | None:
    """Return `values` if they are whole numbers of at least 0, each above the one before; else None."""
    if not isinstance(values, Sequence | np.ndarray):
        return None
    numbers = [int(value) for value in values if isinstance(value, int | np.integer) and not isinstance(value, bool)]
    ascending = all(earlier < later for earlier, later in pairwise((-1, *numbers)))
    return tuple(numbers) if ascending and len(numbers) == len(values) else None


def _equal_mass(value: Int, count: Int, num_buckets: int) -> Int:
    """Return the values at which (value × count), summed up, passes each of `num_buckets` equal parts."""
    mass = np.cumsum(np.maximum(value, 1) * count)
    parts = mass[-1] * np.arange(1, num_buckets) // num_buckets
    return np.unique(value[np.searchsorted(mass, parts, side="left")])


def _optimal(value: Int, count: Int, num_buckets: int) -> Int:
    """Return the edges with which padding each value up to its bucket's end takes the fewest positions.

    By dynamic programming over the edges; where there are more than 512 values, over 512 of equal mass.
    """
    edge = value if len(value) <= MAX_EDGES else np.union1d(_equal_mass(value, count, MAX_EDGES), value[-1:])
    until = np.concatenate([[0], np.cumsum(count)[np.searchsorted(value, edge)]])  # rows up to edge k - 1
    edge = np.concatenate([[0], edge])
    slots = (until[None, :] - until[:, None]) * edge[None, :].astype(np.float64)  # [after this edge, up to this one]
    slots[np.tril_indices(len(edge))] = np.inf
    best = slots[0]
    choices = []
    for _ in range(num_buckets - 1):
        total = best[:, None] + slots
        choices.append(total.argmin(axis=0))
        best = total.min(axis=0)
    edges, last = [], len(edge) - 1
    for choice in reversed(choices):
        last = int(choice[last])
        edges.append(int(edge[last]))
    return np.asarray(edges[::-1], dtype=np.int64)


def _with_full_batches(edges: Int, value: Int, count: Int, batch_size: int) -> Int:
    """Leave out edges until each bucket has at least `batch_size` rows, or there is one bucket."""
    rows = np.concatenate([[0], np.cumsum(count)])
    kept: list[int] = []
    before = 0
    for edge, until in zip(edges.tolist(), rows[np.searchsorted(value, edges, side="right")].tolist(), strict=True):
        if until - before >= batch_size and rows[-1] - until >= batch_size:
            kept.append(edge)
            before = until
    return np.asarray(kept, dtype=np.int64)
