"""Cut a sequence of rows into batches under a token budget.

The rows are given as runs of equal length. A corpus of any size has some ten thousand runs, so the time hardly grows
with the number of rows.
"""

from dataclasses import dataclass
from math import inf

import numpy as np

from mtx.batches.plan.planner import Int


@dataclass(frozen=True, kw_only=True)
class BatchCapacity:
    """Limits on the number of pairs in a batch.

    Attributes:
        max_tokens: largest number of padded positions in a batch: of each side, or of both sides together if `area`.
        area: whether `max_tokens` limits both sides together.
        max_pairs: largest number of pairs in a batch.
        multiple: the number of pairs is a multiple of this, if at least that many pairs fit.
    """

    max_tokens: int
    area: bool
    max_pairs: int
    multiple: int

    @property
    def slots(self) -> int:
        """Padded positions of a full batch, both sides together."""
        return self.max_tokens if self.area else 2 * self.max_tokens

    @property
    def price(self) -> float:
        """Cost of one additional batch, in padded positions; see `cut_offsets`."""
        return self.slots / 4

    def __call__(self, source: int, target: int) -> int:
        """Return the number of pairs that fit into a batch of `source` and `target` positions, at least 1."""
        pairs = self.max_tokens // (source + target if self.area else source if source > target else target)
        if pairs > self.max_pairs:
            pairs = self.max_pairs
        return pairs - pairs % self.multiple if pairs >= self.multiple else pairs or 1


@dataclass(frozen=True)
class LengthRuns:
    """Rows in the order in which they are cut into batches, as runs of equal length.

    Run i has `count[i]` rows of `source[i]` source positions and `target[i]` target positions. All arrays are int64
    [number of runs], with values of at least 1.
    """

    source: Int
    target: Int
    count: Int


def cut_offsets(runs: LengthRuns, capacity: BatchCapacity) -> tuple[Int, int]:
    """Cut runs into batches greedily, and end each batch where the relative padding is lowest.

    A batch takes runs while the budget allows. It then ends after the run at which (padded positions + a quarter of a
    full batch) ÷ real positions is lowest. This is usually the last run that fits; it is an earlier run if later rows
    would make all other rows longer. The quarter of a full batch is the cost of one more batch. On real text, this rule
    gives 0.2 % more batches than filling each batch, and 5 % less padding.

    Returns:
        The offsets of the batches, int64 [number of batches + 1], and the padded positions of all batches, both sides
        together.
    """
    source, target, count = runs.source.tolist(), runs.target.tolist(), runs.count.tolist()
    price, multiple = capacity.price, capacity.multiple
    sizes: list[int] = []
    positions = 0
    run, left = 0, count[0] if count else 0  # the next batch starts `left` rows before the end of `run`
    while run < len(count):
        fitting = capacity(source[run], target[run])
        full = (left - 1) // fitting  # full batches of equal rows have no padding; at least one row is left
        sizes.extend([fitting] * full)
        positions += full * fitting * (source[run] + target[run])
        left -= full * fitting
        best = (inf, 0, 0, run, left)  # score, pairs, padded positions, last run of the batch, rows left of that run
        pairs = longest_source = longest_target = real = 0
        end, end_left = run, left
        while True:
            new_source = source[end] if source[end] > longest_source else longest_source
            new_target = target[end] if target[end] > longest_target else longest_target
            taken = min(capacity(new_source, new_target) - pairs, end_left)
            if taken <= 0:
                break
            longest_source, longest_target = new_source, new_target
            length = source[end] + target[end]
            pairs += taken
            real += taken * length
            end_left -= taken
            surplus = pairs % multiple if pairs >= multiple else 0
            if surplus < taken:  # otherwise, the batch would end in an earlier run, whose score is known
                padded = (pairs - surplus) * (longest_source + longest_target)
                score = (padded + price) / (real - surplus * length) if pairs >= multiple else inf
                if score <= best[0]:
                    best = (score, pairs - surplus, padded, end, end_left + surplus)
            if end_left or end + 1 == len(count):
                break
            end += 1
            end_left = count[end]
        _, size, padded, run, left = best
        sizes.append(size)
        positions += padded
        if not left:
            run += 1
            left = count[run] if run < len(count) else 0
    return np.cumsum([0, *sizes], dtype=np.int64), positions


def split_offsets(runs: LengthRuns, offsets: Int, num_batches: int, *, multiple: int) -> Int:
    """Split batches until there are `num_batches`; each split is made where it saves most padding.

    Return the new offsets.

    Batches are split after a multiple of `multiple` pairs. The result has fewer batches than requested if no further
    split is possible.
    """
    while len(offsets) - 1 < num_batches:
        places = _best_splits(runs, offsets, multiple)[: num_batches - len(offsets) + 1]
        if not len(places):
            break
        offsets = np.union1d(offsets, places)
    return offsets


def _best_splits(runs: LengthRuns, offsets: Int, multiple: int) -> Int:
    """Return one split position for each batch that can be split, ordered by the positions saved, largest first."""
    ends = np.union1d(np.cumsum(runs.count), offsets[1:])  # ends of pieces; a piece is the part of one run in one batch
    run = np.searchsorted(np.cumsum(runs.count), ends, side="left")
    batch = np.searchsorted(offsets[1:], ends, side="left")
    batch_start, batch_end = offsets[batch], offsets[batch + 1]
    saved = np.zeros(len(ends), dtype=np.int64)
    for length in (runs.source[run], runs.target[run]):
        until = _running_maximum(length, batch)  # longest of the batch up to the end of this piece
        rest = np.append(_running_maximum(length[::-1], batch[-1] - batch[::-1])[::-1][1:], 0)  # longest after it
        longest = until[np.searchsorted(batch, batch, side="right") - 1]
        saved += (ends - batch_start) * (longest - until) + (batch_end - ends) * (longest - rest)
    possible = (ends < batch_end) & ((ends - batch_start) % multiple == 0)
    sizes = np.diff(offsets)
    middles = offsets[:-1] + sizes // 2 // multiple * multiple  # split a batch of equal rows in halves
    halves = np.flatnonzero(middles > offsets[:-1])
    place = np.concatenate([ends[possible], middles[halves]])
    owner = np.concatenate([batch[possible], halves])
    saving = np.concatenate([saved[possible], np.zeros(len(halves), dtype=np.int64)])
    by_owner = np.lexsort((place, -saving, owner))
    first = by_owner[np.flatnonzero(np.diff(owner[by_owner], prepend=-1))]
    return place[first][np.lexsort((owner[first], -sizes[owner[first]], -saving[first]))]


def _running_maximum(values: Int, group: Int) -> Int:
    """Return the running maximum of `values` within each group; group numbers are ascending."""
    height = int(values.max()) + 1
    return np.maximum.accumulate(values + group * height) - group * height
