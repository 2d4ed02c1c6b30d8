"""The packed-rows planner: each batch has the same number of rows, and a row holds several whole pairs.

`histogram_packing.py` decides which lengths share a row. That depends on the lengths alone, so every epoch has the same
number of rows. An epoch chooses at random which pairs of a length go into which row, and which rows share a batch.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mtx.batches.plan.histogram_packing import pattern_rows, row_patterns
from mtx.batches.plan.pairs_that_fit import check_all_pairs_fit, pairs_that_fit
from mtx.batches.plan.planner import (
    Draft,
    Int,
    Lengths,
    Mask,
    Plan,
    Planner,
    Rows,
    random_generator,
)
from mtx.components.checked_options import Count, component


@component("sampler")
class PackedRowsPlanner(Planner):
    """Packs pairs into rows of `row_tokens` positions; a batch has `num_rows` rows, so all batches have one shape.

    A pair is never split. A pair that alone exceeds a row is counted as `dropped_length`; `check_lengths` refuses such
    pairs. The planner needs `datamodule.batch_format=causal`, whose rows hold source and target in one sequence.

    Args:
        row_tokens: positions of a row.
        num_rows: rows of a batch.
    """

    kind: ClassVar[str] = "sampler/packed_rows"
    version: ClassVar[int] = 1

    row_tokens: Count = 1024
    num_rows: Count = 8

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> "PackedRowsDraft":
        """Find the rows of all epochs from the histogram of the lengths, source and target together."""
        rows, tokens, dropped = pairs_that_fit(lengths, excluded, self.row_tokens)
        places, offsets = pattern_rows(row_patterns(np.bincount(tokens).astype(np.int64), self.row_tokens))
        return PackedRowsDraft(
            planner=self,
            num_rows=len(lengths),
            rows=rows[np.argsort(tokens, kind="stable")],
            class_sizes=np.unique(tokens, return_counts=True)[1].astype(np.int64),
            places=np.argsort(places, kind="stable"),
            offsets=offsets,
            dropped=dropped,
        )

    def check_lengths(self, lengths: Lengths, *, excluded: Mask | None = None) -> None:
        """Raise ConfigError if pairs that are not excluded have more than `row_tokens` tokens."""
        check_all_pairs_fit(lengths, excluded, self.row_tokens, holder="a row", option="sampler.row_tokens")


@dataclass(frozen=True, kw_only=True)
class PackedRowsDraft(Draft):
    """Data that all epochs of a packed-rows planner share.

    Attributes:
        planner: the planner, with its options.
        num_rows: number of pairs for which a plan accounts.
        rows: int32 [n], pairs in the order of their lengths.
        class_sizes: int64, number of pairs of each length, the shortest length first.
        places: int64 [n], place of each pair of `rows` among all places of the packed rows.
        offsets: int64 [packed rows + 1], first place of each packed row.
        dropped: int32, pairs dropped because of their length, ascending.
    """

    planner: PackedRowsPlanner
    num_rows: int
    rows: Rows
    class_sizes: Int
    places: Int
    offsets: Int
    dropped: Rows

    @property
    def num_packed_rows(self) -> int:
        """Number of packed rows in an epoch."""
        return len(self.offsets) - 1

    def __len__(self) -> int:
        return -(-self.num_packed_rows // self.planner.num_rows)

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`: pairs of equal length change places, and packed rows are shuffled."""
        random = random_generator(seed, epoch)
        placed = np.empty_like(self.rows)
        placed[self.places] = self._shuffled_rows(random)
        order = random.permutation(self.num_packed_rows)
        sizes = np.diff(self.offsets)[order]
        ends = np.cumsum(sizes)
        within = np.arange(len(placed)) - np.repeat(ends - sizes, sizes)
        cuts = np.append(ends[self.planner.num_rows - 1 :: self.planner.num_rows], ends[-1:])
        shape = (self.planner.num_rows, self.planner.row_tokens)
        return Plan(
            num_rows=self.num_rows,
            rows=placed[np.repeat(self.offsets[:-1][order], sizes) + within],
            offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.unique(cuts)]),
            order=random.permutation(len(self)),
            dropped_length=self.dropped,
            dropped_remainder=self.dropped[:0],
            widths=np.tile(np.array(shape, dtype=np.int64), (len(self), 1)),
            is_packed=True,
        )

    def _shuffled_rows(self, random: np.random.Generator) -> Rows:
        """Return `rows` with the pairs of each length in random order."""
        order = random.permutation(len(self.rows))
        of_length = np.repeat(np.arange(len(self.class_sizes)), self.class_sizes)
        return self.rows[order[np.argsort(of_length[order], kind="stable")]]
