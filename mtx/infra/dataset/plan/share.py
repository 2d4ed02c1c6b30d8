"""A rank's share of an epoch: every rank takes the same number of steps, and no pair is repeated."""

import numpy as np

from mtx.infra.dataset.plan.base import Int, Plan

Item = Int | tuple[Int, tuple[int, int]]  # rows of a batch; with the source and target positions that it is padded to


def num_steps(plan: Plan, world_size: int) -> int:
    """Return the steps that every rank takes: enough for all batches, unless there are fewer rows than that takes."""
    return min(-(-len(plan) // world_size), len(plan.rows) // world_size)


def share(plan: Plan, *, rank: int, world_size: int) -> list[Int]:
    """Return the batches of one rank, in order: number `rank` of each group of `world_size` neighbouring batches.

    Where the last group lacks batches, its largest ones are split in two until each rank has one; where it has too
    few rows for that, the groups before it are split along with it. So a batch is never larger than planned.
    """
    return [rows for rows, _ in _dealt(plan, world_size)[rank::world_size]]


def items(plan: Plan, *, rank: int, world_size: int) -> list[Item]:
    """Return the batches of `share` as a loader asks for them: with the positions to pad to, where the plan has them.

    What was split is padded as before.
    """
    dealt = _dealt(plan, world_size)[rank::world_size]
    if plan.widths is None:
        return [rows for rows, _ in dealt]
    source, target = plan.widths[plan.order].T.tolist()
    return [(rows, (source[batch], target[batch])) for rows, batch in dealt]


def left_out(plan: Plan, world_size: int) -> Int:
    """Return the rows that no rank gets, ascending: only where there are fewer rows than steps × ranks take."""
    if world_size == 1:
        return np.empty(0, dtype=np.int64)
    dealt = _dealt(plan, world_size)
    return np.setdiff1d(plan.rows, np.concatenate([rows for rows, _ in dealt]) if dealt else [])


def _dealt(plan: Plan, world_size: int) -> list[tuple[Int, int]]:
    """Return the rows of each batch, and the number of the planned batch that they come from."""
    wanted = num_steps(plan, world_size) * world_size
    first = len(plan) // world_size * world_size  # batches from here on are split
    if wanted <= first:
        return [(plan[batch], batch) for batch in range(wanted)]
    sizes = np.diff(plan.offsets)[plan.order]
    while sizes[first:].sum() < wanted - first:
        first -= world_size
    whole = [(plan[batch], batch) for batch in range(len(plan))]
    return whole[:first] + _split(whole[first:], wanted - first)


def _split(batches: list[tuple[Int, int]], parts: int) -> list[tuple[Int, int]]:
    while len(batches) < parts:
        largest = max(range(len(batches)), key=lambda number: len(batches[number][0]))
        rows, batch = batches[largest]
        batches[largest : largest + 1] = [(half, batch) for half in np.array_split(rows, 2)]
    return batches
