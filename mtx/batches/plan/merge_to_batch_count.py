"""Merge the smallest batches of a plan until it has a given number of batches; no row is dropped.

Epochs of mixtures use this if an epoch has more batches than the fixed number. A merged batch is never larger than the
largest batch of the plan.
"""

from dataclasses import replace

import numpy as np

from mtx.batches.plan.planner import Int, Lengths, Plan, max_lengths


def merged_plan(
    plan: Plan,
    num_batches: int,
    lengths: Lengths,
    *,
    length_multiple: int = 1,
    batch_multiple: int = 1,
    real_tokens: int | None = None,
) -> Plan:
    """Return `plan` with `num_batches` batches, or with as few above that as merging can reach. Deterministic.

    A merged batch has at most as many pairs, and on each side at most as many padded positions, as the plan's largest
    batch. With `real_tokens`, only the tokens of its pairs are limited.

    Args:
        plan: plan of an epoch. A plan with `widths` is returned unchanged.
        num_batches: wanted number of batches, at least 1.
        lengths: lengths of all rows.
        length_multiple: positions are rounded up to a multiple of this number.
        batch_multiple: the number of pairs in a merged batch is a multiple of this, or less than this.
        real_tokens: largest number of tokens in a batch without padding, source and target together; None: batches are
            padded.
    """
    if plan.widths is not None or len(plan) <= num_batches:
        return plan
    if real_tokens is not None:
        return _joined_plan(plan, _merged_by_tokens(plan, num_batches, lengths, real_tokens))
    sizes = np.diff(plan.offsets)
    sides = -(-max_lengths(plan, lengths) // length_multiple) * length_multiple
    capacity = np.append((sizes[:, None] * sides).max(axis=0), sizes.max())
    into = np.arange(len(plan))  # number of the batch into which each batch is merged
    waiting = np.argsort((sizes[:, None] * sides).sum(axis=1), kind="stable")
    for _ in range(len(plan) - num_batches):
        found = _smallest_pair(waiting, sizes, sides, capacity, batch_multiple)
        if found is None:
            break
        first, second = found
        sizes[first] += sizes[second]
        sides[first] = np.maximum(sides[first], sides[second])
        into[into == second] = first
        waiting = waiting[waiting != second]
        waiting = waiting[np.argsort((sizes[waiting, None] * sides[waiting]).sum(axis=1), kind="stable")]
    return _joined_plan(plan, into)


def _merged_by_tokens(plan: Plan, num_batches: int, lengths: Lengths, real_tokens: int) -> Int:
    """Return for each batch the number of the batch into which it is merged."""
    tokens = lengths.source[plan.rows].astype(np.int64) + lengths.target[plan.rows]
    sums = np.add.reduceat(tokens, plan.offsets[:-1])
    into = np.arange(len(plan))
    waiting = np.argsort(sums, kind="stable")
    for _ in range(len(plan) - num_batches):
        one, other = waiting[:2]  # if the two smallest do not fit into one batch, no two do
        if sums[one] + sums[other] > real_tokens:
            break
        first, second = min(one, other), max(one, other)
        sums[first] += sums[second]
        into[into == second] = first
        waiting = waiting[waiting != second]
        waiting = waiting[np.argsort(sums[waiting], kind="stable")]
    return into


def _smallest_pair(waiting: Int, sizes: Int, sides: Int, capacity: Int, batch_multiple: int) -> tuple[int, int] | None:
    """Return the numbers, ascending, of the two smallest batches that fit into one; None if no two fit."""
    for place, one in enumerate(waiting[:-1]):
        others = waiting[place + 1 :]
        pairs = sizes[one] + sizes[others]
        needed = np.column_stack([pairs[:, None] * np.maximum(sides[one], sides[others]), pairs])
        fits = (needed <= capacity).all(axis=1) & ((pairs % batch_multiple == 0) | (pairs < batch_multiple))
        if fits.any():
            other = others[np.argmax(fits)]
            return int(min(one, other)), int(max(one, other))
    return None


def _joined_plan(plan: Plan, into: Int) -> Plan:
    sizes = np.diff(plan.offsets)
    by_batch = np.argsort(into, kind="stable")
    starts = np.repeat(plan.offsets[:-1][by_batch], sizes[by_batch])
    ends = np.cumsum(sizes[by_batch])
    within = np.arange(len(plan.rows)) - np.repeat(ends - sizes[by_batch], sizes[by_batch])
    kept = np.unique(into)
    summed = np.bincount(into, weights=sizes, minlength=len(plan))[kept].astype(np.int64)
    stays = into == np.arange(len(plan))
    return replace(
        plan,
        rows=plan.rows[starts + within],
        offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(summed)]),
        order=np.searchsorted(kept, plan.order[stays[plan.order]]),
    )
