"""The sorted planner, a baseline: rows sorted by (source, target) length, cut under a token budget as most tools do."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mtx.batches.plan.batch_cutting import BatchCapacity, LengthRuns
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
from mtx.batches.plan.same_length_classes import LengthClasses, length_classes, row_chunks
from mtx.components.checked_options import Count, component


@component("sampler")
class SortedPlanner(Planner):
    """Cuts batches greedily from rows sorted by source length, then target length.

    Each batch takes rows until the next row would exceed the budget. A pair that alone exceeds the budget is dropped
    and counted as `dropped_length`. Lengths above 256 are rounded up by less than 1 % before sorting and counting.

    Args:
        max_tokens: largest number of padded positions in a batch, on each side: pairs × longest sentence.
        max_pairs: largest number of pairs in a batch; None: only `max_tokens` limits.
        shuffle: True: the order of the batches, and the rows of equal lengths, are shuffled in each epoch. False: the
            same batches in every epoch, from short to long.
    """

    kind: ClassVar[str] = "sampler/sorted"
    version: ClassVar[int] = 1

    max_tokens: Count = 4096
    max_pairs: Count | None = None
    shuffle: bool = True

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> "SortedDraft":
        """Sort the rows and cut them into batches; both are the same in all epochs."""
        rows, dropped = candidate_rows(len(lengths), excluded)
        too_long = long_row_mask(self.max_tokens, lengths, rows)
        dropped, rows = np.union1d(dropped, rows[too_long]), rows[~too_long]
        classes = length_classes(lengths, rows, multiple=1, limit=self.max_tokens)
        order = np.lexsort((classes.target, classes.source))
        capacity = BatchCapacity(
            max_tokens=self.max_tokens, area=False, max_pairs=self.max_pairs or self.max_tokens, multiple=1
        )
        return SortedDraft(
            num_rows=len(lengths),
            classes=classes,
            order=order,
            offsets=greedy_offsets(
                LengthRuns(classes.source[order], classes.target[order], classes.count[order]), capacity
            ),
            shuffle=self.shuffle,
            dropped=dropped,
        )


@dataclass(frozen=True, kw_only=True)
class SortedDraft(Draft):
    """Data that all epochs of a sorted planner share.

    Attributes:
        num_rows: number of rows for which a plan accounts.
        classes: length classes of the rows that are cut into batches.
        order: int64 [number of classes], the sorted classes.
        offsets: int64 [number of batches + 1], offsets of the batches in the sorted rows.
        shuffle: whether to shuffle the rows of equal lengths, and the batches.
        dropped: int32, rows dropped because of their length, ascending.
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
        random = random_generator(seed, epoch) if self.shuffle else None
        return Plan(
            num_rows=self.num_rows,
            rows=self.classes.rows_in(self.order, random),
            offsets=self.offsets,
            order=np.arange(len(self)) if random is None else random.permutation(len(self)),
            dropped_length=self.dropped,
            dropped_remainder=self.dropped[:0],
        )


def long_row_mask(max_tokens: int, lengths: Lengths, rows: Rows) -> Mask:
    """Return a mask of `rows`, bool, True if a side has more than `max_tokens` positions."""
    masks = [np.empty(0, dtype=np.bool_)]
    masks += [np.maximum(lengths.source[part], lengths.target[part]) > max_tokens for part in row_chunks(rows)]
    return np.concatenate(masks)


def greedy_offsets(runs: LengthRuns, capacity: BatchCapacity) -> Int:
    """Cut runs greedily into full batches, and return their offsets, int64 [number of batches + 1]."""
    sizes = [0]
    pairs = source = target = 0  # number of pairs and longest rows of the current batch
    for run_source, run_target, left in zip(
        runs.source.tolist(), runs.target.tolist(), runs.count.tolist(), strict=True
    ):
        grown = max(source, run_source), max(target, run_target)
        taken = min(left, max(capacity(*grown) - pairs, 0))
        if taken:
            pairs, (source, target) = pairs + taken, grown
        if taken == left:
            continue
        sizes.append(pairs)
        full, pairs = divmod(left - taken, capacity(run_source, run_target))
        sizes += [capacity(run_source, run_target)] * full
        source, target = (run_source, run_target) if pairs else (0, 0)
    return np.cumsum(sizes + [pairs] * (pairs > 0), dtype=np.int64)
