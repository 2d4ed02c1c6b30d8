"""A rank's share of an epoch: every rank takes the same number of steps, and no pair is repeated."""

import numpy as np

from mtx.infra.dataset.plan.base import Int, Plan


def num_steps(plan: Plan, world_size: int) -> int:
    """Return the steps that every rank takes: enough for all batches, unless there are fewer rows than that takes."""
    return min(-(-len(plan) // world_size), len(plan.rows) // world_size)


def share(plan: Plan, *, rank: int, world_size: int) -> list[Int]:
    """Return the batches of one rank, in order: number `rank` of each group of `world_size` neighbouring batches.

    Where the last group lacks batches, its largest ones are split in two until each rank has one; where it has too
    few rows for that, the groups before it are split along with it. So a batch is never larger than planned.
    """
    dealt = _dealt(plan, world_size)
    return [rows for number, rows in enumerate(dealt) if number % world_size == rank]


def left_out(plan: Plan, world_size: int) -> Int:
    """Return the rows that no rank gets, ascending: only where there are fewer rows than steps × ranks take."""
    if world_size == 1:
        return np.empty(0, dtype=np.int64)
    dealt = _dealt(plan, world_size)
    return np.setdiff1d(plan.rows, np.concatenate(dealt) if dealt else [])


def _dealt(plan: Plan, world_size: int) -> list[Int]:
    wanted = num_steps(plan, world_size) * world_size
    first = len(plan) // world_size * world_size  # batches from here on are split
    if wanted <= first:
        return [plan[batch] for batch in range(wanted)]
    sizes = np.diff(plan.offsets)[plan.order]
    while sizes[first:].sum() < wanted - first:
        first -= world_size
    return [plan[batch] for batch in range(first)] + _split([plan[b] for b in range(first, len(plan))], wanted - first)


def _split(batches: list[Int], parts: int) -> list[Int]:
    while len(batches) < parts:
        largest = max(range(len(batches)), key=lambda number: len(batches[number]))
        batches[largest : largest + 1] = np.array_split(batches[largest], 2)
    return batches
