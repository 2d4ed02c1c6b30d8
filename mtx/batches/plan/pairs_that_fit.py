"""Pairs that fit into a batch or a row by their tokens on both sides, for planners that fill them with whole pairs."""

from typing import NamedTuple

import numpy as np

from mtx.batches.plan.planner import Int, Lengths, Mask, Rows, candidate_rows
from mtx.errors import ConfigError


class FittingPairs(NamedTuple):
    """Pairs that a planner can place.

    Attributes:
        rows: int32 [n], row numbers of the pairs, ascending.
        tokens: int64 [n], tokens of each pair, source and target together; at least 1.
        dropped: int32, all other row numbers: excluded or too long, ascending.
    """

    rows: Rows
    tokens: Int
    dropped: Rows


def pairs_that_fit(lengths: Lengths, excluded: Mask | None, most: int) -> FittingPairs:
    """Return the pairs that are not excluded and have at most `most` tokens."""
    rows, dropped = candidate_rows(len(lengths), excluded)
    tokens = _pair_tokens(lengths, rows)
    fits = tokens <= most
    return FittingPairs(rows[fits], np.maximum(tokens[fits], 1), np.union1d(dropped, rows[~fits]))


def check_all_pairs_fit(lengths: Lengths, excluded: Mask | None, most: int, *, holder: str, option: str) -> None:
    """Check that no pair that is not excluded has more than `most` tokens.

    Args:
        lengths: the lengths of all pairs.
        excluded: which pairs the plan leaves out; None: none.
        most: the limit, in tokens.
        holder: what must hold a pair, for the message: a batch or a row.
        option: the key of the limit.

    Raises:
        ConfigError: some pairs are longer.
    """
    rows, _ = candidate_rows(len(lengths), excluded)
    tokens = _pair_tokens(lengths, rows)
    if num_long := int(np.count_nonzero(tokens > most)):
        longest = int(tokens.max())
        raise ConfigError(
            f"{holder} must hold the longest pair, but {option}={most} is smaller than {num_long:,} of {len(rows):,} "
            f"training pairs; the longest has {longest} tokens, source and target together. Set {option}={longest} or "
            "more, or leave long pairs out with datamodule.too_long=drop and lower datamodule.max_source_tokens and "
            "datamodule.max_target_tokens"
        )


def _pair_tokens(lengths: Lengths, rows: Rows) -> Int:
    return lengths.source[rows].astype(np.int64) + lengths.target[rows]
