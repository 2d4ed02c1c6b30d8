"""How an epoch would be dealt out to several ranks, worked out from its plan, without running any."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.infra.dataset.plan.base import Int, Lengths
from mtx.infra.dataset.plan.share import Deal
from mtx.training.loader import EpochBatches


def ranks_report(batches: EpochBatches, world_size: int, lengths: Lengths, length_multiple: int = 1) -> dict[str, Any]:
    """Report the next epoch of `batches` as `world_size` ranks would take it.

    Returns:
        `world_size`; `num_steps` of each rank; `left_out`, the pairs that no rank gets; `imbalance`, the mean over
        steps of the largest number of padded tokens (both sides) of a rank ÷ the mean over ranks, at least 1, and
        `imbalance_p95`. Both are None where there is no step.
    """
    asked = copy.copy(batches)
    asked.rank, asked.world_size, asked.served = 0, world_size, ()
    dealt, _ = asked.dealt()
    tokens = padded_tokens(dealt, lengths, length_multiple=length_multiple)
    uneven = tokens.max(axis=1) / tokens.mean(axis=1) if len(tokens) else None
    return {
        "world_size": world_size,
        "num_steps": len(dealt),
        "left_out": len(dealt.left_out),
        "imbalance": None if uneven is None else float(uneven.mean()),
        "imbalance_p95": None if uneven is None else float(np.percentile(uneven, 95)),
    }


def padded_tokens(dealt: Deal, lengths: Lengths, *, length_multiple: int = 1) -> Int:
    """Return the padded tokens of both sides that each rank gets at each step, int64 [steps, ranks]."""
    widths = dealt.plan.widths
    if widths is not None:
        positions = widths[dealt.cut]
    else:
        sides = [_longest(side[dealt.plan.rows], dealt.starts, dealt.ends) for side in (lengths.source, lengths.target)]
        positions = np.stack(sides, axis=1)
    rounded = -(-positions // length_multiple) * length_multiple
    tokens: Int = ((dealt.ends - dealt.starts) * rounded.sum(axis=1)).reshape(-1, dealt.world_size)
    return tokens


def _longest(values: NDArray[np.int32], starts: Int, ends: Int) -> Int:
    """Return the greatest of `values[start:end]` for each pair of places, int64; none is empty."""
    if not len(starts):
        return np.empty(0, dtype=np.int64)
    padded = np.append(values, np.int32(0))  # an end may lie behind the last value
    places = np.stack([starts, ends], axis=1).reshape(-1)
    return np.maximum.reduceat(padded, places)[::2].astype(np.int64)
