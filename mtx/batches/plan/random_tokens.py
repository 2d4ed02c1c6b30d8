"""The random-tokens planner: batches in random order, each with nearly the same number of real tokens.

Without padding, the cost of a batch is the number of its real tokens, so pairs of any lengths can share a batch.
`packing.py` fills the batches.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mtx.batches.plan.constant_epoch_length import plan_with_num_batches
from mtx.batches.plan.packing import packed_offsets
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

SPARE_ROOM = 1 / 500  # share of the cap that stays free on average, so that nearly every order fits the batch count
MAX_ATTEMPTS = 8  # random orders of an epoch that are tried before the draft's own order is used


@component("sampler")
class RandomTokensPlanner(Planner):
    """Fills batches with pairs in random order up to `real_tokens` tokens; the batches change each epoch.

    All batches of an epoch get nearly the same number of tokens, so no batch is left over. A pair that alone exceeds
    the cap is counted as `dropped_length`; `check_lengths` refuses such pairs. Use it with
    `datamodule.batch_format=flat`, since padded batches of mixed lengths have much padding.

    Args:
        real_tokens: largest number of real tokens in a batch, source and target together.
        look_ahead: number of following pairs from which the last pair of a batch is chosen, so that the batch is full.
            A larger number fills batches more evenly, and moves pairs farther from their random places.
    """

    kind: ClassVar[str] = "sampler/random_tokens"
    version: ClassVar[int] = 1

    real_tokens: Count = 4096
    look_ahead: Count = 64

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> "RandomTokensDraft":
        """Count the tokens of each row, and find the number of batches that all epochs have."""
        rows, tokens, dropped = pairs_that_fit(lengths, excluded, self.real_tokens)
        return RandomTokensDraft(
            planner=self,
            num_rows=len(lengths),
            rows=rows,
            tokens=tokens.astype(np.int32),
            num_batches=self._num_batches(tokens),
            dropped=dropped,
        )

    def check_lengths(self, lengths: Lengths, *, excluded: Mask | None = None) -> None:
        """Raise ConfigError if pairs that are not excluded have more than `real_tokens` tokens."""
        check_all_pairs_fit(lengths, excluded, self.real_tokens, holder="a batch", option="sampler.real_tokens")

    def _num_batches(self, tokens: Int) -> int:
        """Return the smallest number of batches that is found to hold rows of these tokens in a random order."""
        if not len(tokens):
            return 0
        full = max(1, math.ceil(int(tokens.sum()) / (self.real_tokens * (1 - SPARE_ROOM))))
        wanted = min(full, len(tokens))  # with more batches than pairs, a plan would repeat pairs
        if (needed := self._num_packed(tokens, wanted)) <= wanted:
            return wanted
        # rows are long or of one length, so batches cannot be filled up
        wanted = min(len(tokens), needed + 1 + math.isqrt(needed) // 4)  # other orders may need more batches
        while (needed := self._num_packed(tokens, wanted)) > wanted:
            wanted = needed
        return wanted

    def _num_packed(self, tokens: Int, num_batches: int) -> int:
        order = draft_order(len(tokens))
        return len(packed_offsets(tokens[order], order, self.real_tokens, num_batches, self.look_ahead)) - 1


@dataclass(frozen=True, kw_only=True)
class RandomTokensDraft(Draft):
    """Data that all epochs of a random-tokens planner share.

    Attributes:
        planner: the planner, with its options.
        num_rows: number of rows for which a plan accounts.
        rows: int32 [n], rows that are packed into batches, ascending.
        tokens: int32 [n], tokens of these rows, source and target together.
        num_batches: number of batches of each epoch.
        dropped: int32, rows dropped because of their length, ascending.
    """

    planner: RandomTokensPlanner
    num_rows: int
    rows: Rows
    tokens: Rows
    num_batches: int
    dropped: Rows

    def __len__(self) -> int:
        return self.num_batches

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`: rows in random order, packed evenly, and the batches shuffled."""
        random = random_generator(seed, epoch)
        order, offsets = self._packed_epoch(random)
        plan = Plan(
            num_rows=self.num_rows,
            rows=self.rows[order],
            offsets=offsets,
            order=random.permutation(len(offsets) - 1),
            dropped_length=self.dropped,
            dropped_remainder=self.dropped[:0],
        )
        return plan_with_num_batches(plan, self.num_batches)

    def _packed_epoch(self, random: np.random.Generator) -> tuple[Int, Int]:
        """Return the order of the rows, and the offsets of at most `num_batches` batches."""
        for _ in range(MAX_ATTEMPTS):
            order, offsets = self._packed(random.permutation(len(self.rows)))
            if len(offsets) - 1 <= self.num_batches:
                return order, offsets
        return self._packed(draft_order(len(self.rows)))

    def _packed(self, order: Int) -> tuple[Int, Int]:
        tokens, planner = self.tokens[order].astype(np.int64), self.planner
        return order, packed_offsets(tokens, order, planner.real_tokens, self.num_batches, planner.look_ahead)


def draft_order(num_rows: int) -> Int:
    """Return the order of rows with which a draft finds its number of batches, which therefore always fits."""
    return random_generator(0, 0, purpose=1).permutation(num_rows)
