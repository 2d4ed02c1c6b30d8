"""Batches cut from rows sorted by (source, target) length under a token budget: what most tools do, to compare with."""

from dataclasses import dataclass

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
    check_flag,
    generator,
)
from mtx.infra.dataset.plan.classes import LengthClasses, chunks, length_classes
from mtx.infra.dataset.plan.cut import Room, Runs


@dataclass(frozen=True, kw_only=True)
class SortedPlanner(Planner):
    """Cuts batches greedily from rows sorted by source length, then target length.

    Each batch takes rows until the next one would exceed the budget. A pair that exceeds it by itself is dropped,
    counted under `dropped_length`. Lengths above 256 are sorted and counted rounded up, by less than 1 %.

    Args:
        max_tokens: padded positions of a side of a batch: pairs × longest side.
        max_pairs: pairs of a batch at most; None: as many as the budget holds.
        shuffle: serve the batches in random order, and permute the rows of equal lengths, in each epoch anew; False:
            the same batches in every epoch, served from short to long.
    """

    max_tokens: int = 4096
    max_pairs: int | None = None
    shuffle: bool = True

    def __post_init__(self) -> None:
        check_at_least("sampler.max_tokens", self.max_tokens, 1)
        if self.max_pairs is not None:
            check_at_least("sampler.max_pairs", self.max_pairs, 1)
        check_flag("sampler.shuffle", self.shuffle)

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> "SortedDraft":
        """Sort and cut: an epoch changes neither."""
        rows, dropped = candidates(len(lengths), excluded)
        too_long = above(self.max_tokens, lengths, rows)
        dropped, rows = np.union1d(dropped, rows[too_long]), rows[~too_long]
        classes = length_classes(lengths, rows, multiple=1, limit=self.max_tokens)
        order = np.lexsort((classes.target, classes.source))
        room = Room(max_tokens=self.max_tokens, area=False, max_pairs=self.max_pairs or self.max_tokens, multiple=1)
        return SortedDraft(
            num_rows=len(lengths),
            classes=classes,
            order=order,
            offsets=fill(Runs(classes.source[order], classes.target[order], classes.count[order]), room),
            shuffle=self.shuffle,
            dropped=dropped,
        )


@dataclass(frozen=True, kw_only=True)
class SortedDraft(Draft):
    """What all epochs of a sorted planner share.

    Attributes:
        num_rows: rows that a plan accounts for.
        classes: the rows that are cut into batches, by length.
        order: int64 [number of classes], the classes, sorted.
        offsets: int64 [number of batches + 1], of the batches in the sorted rows.
        shuffle: permute the rows of equal lengths, and the batches.
        dropped: int32, rows left out for their length, ascending.
    """

    num_rows: int
    classes: LengthClasses
    order: Int
    offsets: Int
    shuffle: bool
    dropped: Rows

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`."""
        random = generator(seed, epoch) if self.shuffle else None
        return Plan(
            num_rows=self.num_rows,
            rows=self.classes.rows_in(self.order, random),
            offsets=self.offsets,
            order=np.arange(len(self)) if random is None else random.permutation(len(self)),
            dropped_length=self.dropped,
            dropped_remainder=self.dropped[:0],
        )


def above(max_tokens: int, lengths: Lengths, rows: Rows) -> Mask:
    """Return which of `rows` have a side of more than `max_tokens` positions, bool [number of rows]."""
    masks = [np.empty(0, dtype=np.bool_)]
    masks += [np.maximum(lengths.source[part], lengths.target[part]) > max_tokens for part in chunks(rows)]
    return np.concatenate(masks)


def fill(runs: Runs, room: Room) -> Int:
    """Cut greedily, each batch as full as it gets; return the offsets, int64 [number of batches + 1]."""
    sizes = [0]
    pairs = source = target = 0  # of the batch so far
    for run_source, run_target, left in zip(
        runs.source.tolist(), runs.target.tolist(), runs.count.tolist(), strict=True
    ):
        grown = max(source, run_source), max(target, run_target)
        taken = min(left, max(room(*grown) - pairs, 0))
        if taken:
            pairs, (source, target) = pairs + taken, grown
        if taken == left:
            continue
        sizes.append(pairs)
        full, pairs = divmod(left - taken, room(run_source, run_target))
        sizes += [room(run_source, run_target)] * full
        source, target = (run_source, run_target) if pairs else (0, 0)
    return np.cumsum(sizes + [pairs] * (pairs > 0), dtype=np.int64)
