"""Fewer batches without losing a row: the smallest are put together, as long as none gets larger than the largest.

For epochs that come out with more batches than were promised, where each row has to be served.
"""

from dataclasses import replace

import numpy as np

from mtx.infra.dataset.plan.base import Int, Lengths, Plan, longest


def merged(
    plan: Plan, num_batches: int, lengths: Lengths, *, length_multiple: int = 1, batch_multiple: int = 1
) -> Plan:
    """Return `plan` with `num_batches` batches, or as few above that as can be had. Deterministic.

    A batch put together has at most as many pairs, and as many padded positions of either side, as the plan's largest.

    Args:
        plan: an epoch, without widths.
        num_batches: how many are wanted, at least 1.
        lengths: of all rows.
        length_multiple: what positions are rounded up to a multiple of.
        batch_multiple: batches have a multiple of this many pairs, or fewer than this.
    """
    if plan.widths is not None or len(plan) <= num_batches:
        return plan
    sizes = np.diff(plan.offsets)
    sides = -(-longest(plan, lengths) // length_multiple) * length_multiple
    room = np.append((sizes[:, None] * sides).max(axis=0), sizes.max())
    into = np.arange(len(plan))  # the batch of the cut that each is put into
    waiting = np.argsort((sizes[:, None] * sides).sum(axis=1), kind="stable")
    for _ in range(len(plan) - num_batches):
        found = _pair(waiting, sizes, sides, room, batch_multiple)
        if found is None:
            break
        first, second = found
        sizes[first] += sizes[second]
        sides[first] = np.maximum(sides[first], sides[second])
        into[into == second] = first
        waiting = waiting[waiting != second]
        waiting = waiting[np.argsort((sizes[waiting, None] * sides[waiting]).sum(axis=1), kind="stable")]
    return _put_together(plan, into)


def _pair(waiting: Int, sizes: Int, sides: Int, room: Int, batch_multiple: int) -> tuple[int, int] | None:
    """Return the two smallest batches that fit into one: the one that comes first in the cut, and the other."""
    for place, one in enumerate(waiting[:-1]):
        others = waiting[place + 1 :]
        pairs = sizes[one] + sizes[others]
        needed = np.column_stack([pairs[:, None] * np.maximum(sides[one], sides[others]), pairs])
        fits = (needed <= room).all(axis=1) & ((pairs % batch_multiple == 0) | (pairs < batch_multiple))
        if fits.any():
            other = others[np.argmax(fits)]
            return int(min(one, other)), int(max(one, other))
    return None


def _put_together(plan: Plan, into: Int) -> Plan:
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
