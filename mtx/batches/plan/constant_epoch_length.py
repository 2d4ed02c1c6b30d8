"""Give every epoch the same number of batches although row lengths change between epochs, as with subword sampling.

A planner makes as many batches as the lengths of an epoch need. Lightning needs one number of steps before training. So
the number is that of one epoch plus a reserve, and each plan is adjusted to it.
"""

import heapq
from dataclasses import replace
from math import isqrt

import numpy as np

from mtx.batches.plan.planner import Int, Plan, Planner


def constant_num_batches(planner: Planner, needed: int, *, num_excluded: int = 0) -> int:
    """Return the number of batches of every epoch, given that one epoch needs `needed` batches.

    The reserve is one batch plus a quarter of the square root of `needed`. On real text, the standard deviation of the
    number of batches over epochs is a tenth of the square root. This was measured for 10 to 1,500 batches. There is no
    reserve if the number of batches depends only on the number of rows and no row is excluded.
    """
    if not needed or planner.is_length_agnostic:
        return needed + bool(needed and num_excluded)
    return needed + 1 + isqrt(needed) // 4


def plan_with_num_batches(plan: Plan, num_batches: int, *, multiple: int = 1) -> Plan:
    """Return `plan` with exactly `num_batches` batches, none larger than before. Deterministic.

    If the plan has too few batches, those with most rows are halved. If it has too many, those with fewest rows are
    dropped, or the last ones of a packed plan. Their rows are counted as `dropped_remainder`. If there are fewer rows
    than batches, some rows are repeated.

    Args:
        plan: plan of an epoch.
        num_batches: number of batches of the result.
        multiple: a batch of at least twice this many pairs is split at a multiple of it.

    Raises:
        ValueError: the plan has no rows, but `num_batches` is above 0.
    """
    if len(plan) > num_batches:
        return _plan_without_smallest(plan, len(plan) - num_batches)
    if len(plan) < num_batches:
        if not len(plan.rows):
            raise ValueError(f"a plan without rows cannot have {num_batches} batches")
        plan = _plan_with_halves(plan, min(num_batches, len(plan.rows)), multiple)
    return _plan_with_repeats(plan, num_batches - len(plan))


def _plan_without_smallest(plan: Plan, surplus: int) -> Plan:
    sizes = np.diff(plan.offsets)
    left_out = np.zeros(len(plan), dtype=np.bool_)
    # The rows of packed batches are equally full, so few pairs in a batch would mean long pairs: the order is random.
    left_out[(plan.order[::-1] if plan.is_packed else np.argsort(sizes, kind="stable"))[:surplus]] = True
    of_row = np.repeat(left_out, sizes)
    number = np.cumsum(~left_out) - 1  # new number of each batch that is kept
    lost = np.setdiff1d(plan.rows[of_row], plan.rows[~of_row])  # without rows that are also in a kept batch
    return replace(
        plan,
        rows=plan.rows[~of_row],
        offsets=_offsets(sizes[~left_out]),
        order=number[plan.order[~left_out[plan.order]]],
        dropped_remainder=np.union1d(plan.dropped_remainder, lost),
        widths=None if plan.widths is None else plan.widths[~left_out],
    )


def _plan_with_halves(plan: Plan, num_batches: int, multiple: int) -> Plan:
    sizes = np.diff(plan.offsets).tolist()
    waiting = [(-size, cut, size) for cut, size in enumerate(sizes)]
    heapq.heapify(waiting)
    parts: list[list[int]] = [[] for _ in sizes]
    for _ in range(num_batches - len(sizes)):
        _, cut, size = heapq.heappop(waiting)
        half = size // 2 // multiple * multiple or size // 2
        for part in (size - half, half):
            heapq.heappush(waiting, (-part, cut, part))
    for _, cut, size in waiting:
        parts[cut].append(size)
    num_parts = np.array([len(of_cut) for of_cut in parts])
    cut_of_part = np.repeat(np.arange(len(sizes)), num_parts)
    return replace(
        plan,
        offsets=_offsets([size for of_cut in parts for size in sorted(of_cut, reverse=True)]),
        order=_part_order(plan.order, cut_of_part, num_parts),
        widths=None if plan.widths is None else plan.widths[cut_of_part],
    )


def _part_order(order: Int, cut: Int, num_parts: Int) -> Int:
    """Return an order in which the parts of a batch are far apart; plans in cut order keep the cut order."""
    served = np.empty(len(order), dtype=np.float64)
    served[order] = np.arange(len(order))
    part = np.arange(len(cut)) - np.repeat(np.cumsum(num_parts) - num_parts, num_parts)
    share = part / num_parts[cut]
    if np.array_equal(order, np.arange(len(order))):
        return np.arange(len(cut))
    return np.argsort((served[cut] + share * len(order)) % len(order), kind="stable")


def _plan_with_repeats(plan: Plan, times: int) -> Plan:
    """Repeat `times` rows, each in a batch of its own."""
    if not times:
        return plan
    again = np.resize(np.arange(len(plan.rows)), times)
    cut = np.searchsorted(plan.offsets, again, side="right") - 1
    return replace(
        plan,
        rows=np.concatenate([plan.rows, plan.rows[again]]),
        offsets=np.concatenate([plan.offsets, plan.offsets[-1] + 1 + np.arange(times)]),
        order=np.concatenate([plan.order, len(plan) + np.arange(times)]),
        widths=None if plan.widths is None else np.concatenate([plan.widths, plan.widths[cut]]),
    )


def _offsets(sizes: Int | list[int]) -> Int:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
