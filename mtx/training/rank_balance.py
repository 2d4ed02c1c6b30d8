"""Compute, from a plan alone, how evenly the batches of an epoch are distributed over several ranks."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.planner import NO_PADDING, Int, Lengths
from mtx.batches.plan.rank_assignment import RankBatches
from mtx.training.loader import EpochBatches


def rank_report(batches: EpochBatches, world_size: int, lengths: Lengths, length_multiple: int = 1) -> dict[str, Any]:
    """Report how the next epoch of `batches` is distributed over `world_size` ranks.

    The imbalance of a step is the largest number of padded tokens of a rank, divided by the mean over the ranks. Padded
    tokens of both sides count, or real tokens with `NO_PADDING` as `length_multiple`, and the imbalance is at least 1.

    Returns:
        `world_size`; `num_steps`, the steps of each rank; `left_out`, the number of pairs that no rank gets.
        `imbalance` is the mean imbalance over the steps, and `imbalance_p95` its 95th percentile.
        `length_variation` is the standard deviation over the steps of the mean length of a step's pairs, divided by its
        mean. These three are None if there is no step.
    """
    asked = copy.copy(batches)
    asked.set_rank(0, world_size)
    asked.served = ()
    dealt, _ = asked.rank_batches()
    tokens = padded_tokens(dealt, lengths, length_multiple=length_multiple)
    uneven = tokens.max(axis=1) / tokens.mean(axis=1) if len(tokens) else None
    return {
        "world_size": world_size,
        "num_steps": len(dealt),
        "left_out": len(dealt.left_out),
        "imbalance": None if uneven is None else float(uneven.mean()),
        "imbalance_p95": None if uneven is None else float(np.percentile(uneven, 95)),
        "length_variation": _length_variation(dealt, lengths),
    }


def _length_variation(dealt: RankBatches, lengths: Lengths) -> float | None:
    """Return the variation over steps of the mean length of the pairs that all ranks get in a step."""
    if not len(dealt):
        return None
    pairs = (dealt.ends - dealt.starts).reshape(-1, dealt.world_size).sum(axis=1)
    means = real_tokens(dealt, lengths).sum(axis=1) / pairs
    return float(means.std() / means.mean()) if means.mean() else 0.0


def real_tokens(dealt: RankBatches, lengths: Lengths) -> Int:
    """Return the real tokens of both sides that each rank gets in each step, int64 [steps, ranks]."""
    both = lengths.source[dealt.plan.rows].astype(np.int64) + lengths.target[dealt.plan.rows]
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(both)])
    tokens: Int = (before[dealt.ends] - before[dealt.starts]).reshape(-1, dealt.world_size)
    return tokens


def padded_tokens(dealt: RankBatches, lengths: Lengths, *, length_multiple: int = 1) -> Int:
    """Return the padded tokens of both sides that each rank gets in each step, int64 [steps, ranks].

    With `NO_PADDING` as `length_multiple`, they are the real tokens.
    """
    widths = dealt.plan.widths
    if length_multiple == NO_PADDING:
        return real_tokens(dealt, lengths)
    if dealt.plan.is_packed and widths is not None:
        slots: Int = widths.prod(axis=1)[dealt.cut].reshape(-1, dealt.world_size)
        return slots
    if widths is not None:
        positions = widths[dealt.cut]
    else:
        sides = [
            _max_by_range(side[dealt.plan.rows], dealt.starts, dealt.ends) for side in (lengths.source, lengths.target)
        ]
        positions = np.stack(sides, axis=1)
    rounded = -(-positions // length_multiple) * length_multiple
    tokens: Int = ((dealt.ends - dealt.starts) * rounded.sum(axis=1)).reshape(-1, dealt.world_size)
    return tokens


def _max_by_range(values: NDArray[np.int32], starts: Int, ends: Int) -> Int:
    """Return the maximum of each range `values[start:end]`, int64; no range may be empty."""
    if not len(starts):
        return np.empty(0, dtype=np.int64)
    padded = np.append(values, np.int32(0))  # reduceat needs every index, also the last end, to be below the length
    places = np.stack([starts, ends], axis=1).reshape(-1)
    return np.maximum.reduceat(padded, places)[::2].astype(np.int64)
