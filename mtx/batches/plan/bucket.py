"""The bucket planner: batches of a fixed number of pairs, each from one bucket of similar lengths."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mtx.batches.plan.fixed_size import FixedSizeDraft
from mtx.batches.plan.planner import (
    Int,
    Lengths,
    Mask,
    Planner,
    candidate_rows,
)
from mtx.components.checked_options import Count, component
from mtx.errors import ConfigError

Boundaries = Annotated[
    Literal["equal_mass", "geometric", "optimal"] | Sequence[int],
    Field(description="equal_mass, geometric, optimal, or ascending lengths, as [10,20,40] for four buckets"),
]
BOUNDARY_STRATEGIES = ("equal_mass", "geometric", "optimal")

MAX_EDGES = 512  # lengths from which `optimal` chooses; time is num_buckets × MAX_EDGES², about 0.1 s


@component("sampler")
class BucketPlanner(Planner):
    """Forms batches of `batch_size` pairs; all pairs of a batch are from one length bucket.

    Every epoch shuffles the rows of each bucket, and the batches of all buckets.

    Args:
        batch_size: number of pairs in a batch. Each bucket has at most one smaller batch.
        num_buckets: largest number of buckets. A bucket with less than one batch is merged with the next longer one, so
            small datasets have fewer buckets. Ignored if `boundaries` is a list.
        boundaries: length limits of the buckets. `equal_mass`: each bucket holds about the same number of tokens.
            `geometric`: each limit is larger than the one before by the same factor. `optimal`: the limits that
            minimize padding up to the bucket's limit. Or a list of ascending limits: the greatest length of each
            bucket; longer pairs form one more bucket.
        by: length that decides the bucket: `source`, `target`, or `max`, the longer of the two.
        pool_batches: for less padding, the pairs of this many batches of a bucket are sorted together by the other
            side's length, then split. With `by="max"`, they are sorted by source minus target length. 1: pairs are not
            sorted.
        drop_last: whether to drop the last, incomplete batch of each bucket; the dropped pairs change each epoch.
        shuffle: False: the same batches in every epoch, from short to long.
    """

    kind: ClassVar[str] = "sampler/bucket"
    version: ClassVar[int] = 1

    batch_size: Count = 64
    num_buckets: Count = 32
    boundaries: Boundaries = "equal_mass"
    by: Literal["source", "target", "max"] = "max"
    pool_batches: Count = 50
    drop_last: bool = False
    shuffle: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.boundaries, str):
            return
        edges = _ascending_boundaries(self.boundaries)
        if edges is None:
            raise ConfigError(
                f"sampler.boundaries is {', '.join(BOUNDARY_STRATEGIES)}, or a list of ascending lengths of at least "
                f"0, but is {self.boundaries}. Set 'sampler.boundaries=[10,20,40]' for four buckets"
            )
        object.__setattr__(self, "boundaries", edges)

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> "FixedSizeDraft":
        """Assign each row to its bucket."""
        rows, dropped = candidate_rows(len(lengths), excluded)
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
        """Return the greatest length of each bucket but the last, int64, ascending.

        `length`, int32 [n], holds the lengths of all rows.
        """
        if not isinstance(self.boundaries, str):
            return np.asarray(self.boundaries, dtype=np.int64)
        value, count = np.unique(length.astype(np.int64), return_counts=True)
        if len(value) <= self.num_buckets:
            edges = value[:-1]
        elif self.boundaries == "equal_mass":
            edges = _equal_mass_edges(value, count, self.num_buckets)
        elif self.boundaries == "geometric":
            edges = np.unique(np.geomspace(max(1, value[0]), value[-1], self.num_buckets + 1)[1:-1].astype(np.int64))
        else:
            edges = _optimal_edges(value, count, self.num_buckets)
        return _edges_of_full_buckets(edges, value, count, self.batch_size)


def _ascending_boundaries(values: object) -> tuple[int, ...] | None:
    """Return `values` as a tuple if they are ascending integers of at least 0, else None."""
    if not isinstance(values, Sequence | np.ndarray):
        return None
    numbers = [int(value) for value in values if isinstance(value, int | np.integer) and not isinstance(value, bool)]
    ascending = all(earlier < later for earlier, later in pairwise((-1, *numbers)))
    return tuple(numbers) if ascending and len(numbers) == len(values) else None


def _equal_mass_edges(value: Int, count: Int, num_buckets: int) -> Int:
    """Return the values at which the cumulative sum of value × count passes each of `num_buckets` equal parts."""
    mass = np.cumsum(np.maximum(value, 1) * count)
    parts = mass[-1] * np.arange(1, num_buckets) // num_buckets
    return np.unique(value[np.searchsorted(mass, parts, side="left")])


def _optimal_edges(value: Int, count: Int, num_buckets: int) -> Int:
    """Return the edges that minimize the positions of all rows, if each row is padded to the edge of its bucket.

    Dynamic programming finds them among all values, or, if there are more than 512, among 512 values of equal mass.
    """
    edge = value if len(value) <= MAX_EDGES else np.union1d(_equal_mass_edges(value, count, MAX_EDGES), value[-1:])
    until = np.concatenate([[0], np.cumsum(count)[np.searchsorted(value, edge)]])  # number of rows up to edge k - 1
    edge = np.concatenate([[0], edge])
    slots = (until[None, :] - until[:, None]) * edge[None, :].astype(np.float64)  # [after this edge, up to this edge]
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


def _edges_of_full_buckets(edges: Int, value: Int, count: Int, batch_size: int) -> Int:
    """Remove edges until each bucket has at least `batch_size` rows, or only one bucket is left."""
    rows = np.concatenate([[0], np.cumsum(count)])
    kept: list[int] = []
    before = 0
    for edge, until in zip(edges.tolist(), rows[np.searchsorted(value, edges, side="right")].tolist(), strict=True):
        if until - before >= batch_size and rows[-1] - until >= batch_size:
            kept.append(edge)
            before = until
    return np.asarray(kept, dtype=np.int64)
