"""The same number of batches in every epoch where the lengths change from one to the next, as with subword sampling.

A planner makes as many batches as the lengths of an epoch ask for. Whoever counts the steps of a run beforehand, as
Lightning does, needs one number: that of some epoch and a few to spare. Here a plan is brought to it.
"""

import heapq
from dataclasses import replace
from math import isqrt

import numpy as np

from mtx.infra.dataset.plan.base import Int, Plan, Planner


def steady_number(planner: Planner, needed: int, *, num_excluded: int = 0) -> int:
    """Return how many batches all epochs get, given that one of them needs `needed`.

    One is spare, and a quarter of the square root: on real text the number varies by a tenth of the root (standard
    deviation over epochs, for 10 to 1,500 batches), and the epoch looked at may be a short one. None is spare where the
    planner counts rows alone and no row was too long, so that no epoch can need more.
    """
    if not needed or planner.counts_rows_alone:
        return needed + bool(needed and num_excluded)
    return needed + 1 + isqrt(needed) // 4


def with_num_batches(plan: Plan, num_batches: int, *, multiple: int = 1) -> Plan:
    """Return `plan` with exactly `num_batches` batches, none of them larger than it was.

    Where there are too few, those of most rows are halved until there are enough. Where there are too many, those of
    fewest rows are left out and their rows counted under `dropped_remainder`. Where there are fewer rows than batches,
    some rows are served again. Deterministic.

    Args:
        plan: an epoch.
        num_batches: how many there shall be.
        multiple: batches are cut at multiples of so many pairs, where they have twice as many.

    Raises ValueError where a plan without rows is to have batches.
    """
    if len(plan) > num_batches:
        return _without_smallest(plan, len(plan) - num_batches)
    if len(plan) < num_batches:
        if not len(plan.rows):
            raise ValueError(f"a plan without rows cannot have {num_batches} batches")
        plan = _halved(plan, min(num_batches, len(plan.rows)), multiple)
    return _repeated(plan, num_batches - len(plan))


def _without_smallest(plan: Plan, surplus: int) -> Plan:
    sizes = np.diff(plan.offsets)
    left_out = np.zeros(len(plan), dtype=np.bool_)
    left_out[np.argsort(sizes, kind="stable")[:surplus]] = True
    of_row = np.repeat(left_out, sizes)
    number = np.cumsum(~left_out) - 1  # of a batch among those that stay
    lost = np.setdiff1d(plan.rows[of_row], plan.rows[~of_row])  # some may be served in another batch too
    return replace(
        plan,
        rows=plan.rows[~of_row],
        offsets=_offsets(sizes[~left_out]),
        order=number[plan.order[~left_out[plan.order]]],
        dropped_remainder=np.union1d(plan.dropped_remainder, lost),
        widths=None if plan.widths is None else plan.widths[~left_out],
    )


def _halved(plan: Plan, num_batches: int, multiple: int) -> Plan:
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
        order=_order(plan.order, cut_of_part, num_parts),
        widths=None if plan.widths is None else plan.widths[cut_of_part],
    )


def _order(order: Int, cut: Int, num_parts: Int) -> Int:
    """Serve the parts of a batch as far from each other as possible, unless batches are served as they were cut."""
    served = np.empty(len(order), dtype=np.float64)
    served[order] = np.arange(len(order))
    part = np.arange(len(cut)) - np.repeat(np.cumsum(num_parts) - num_parts, num_parts)
    share = part / num_parts[cut]
    if np.array_equal(order, np.arange(len(order))):
        return np.arange(len(cut))
    return np.argsort((served[cut] + share * len(order)) % len(order), kind="stable")


def _repeated(plan: Plan, times: int) -> Plan:
    """Serve `times` rows again, each as a batch of its own."""
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
