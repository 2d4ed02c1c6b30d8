"""A rank's share of an epoch: every rank takes the same number of steps."""

import numpy as np

from mtx.infra.dataset.plan.base import Int, Plan


def num_steps(num_batches: int, world_size: int) -> int:
    """Steps of every rank: batches are dealt in groups of `world_size`, and the last group is filled by splitting."""
    return -(-num_batches // world_size)


def share(plan: Plan, *, rank: int, world_size: int) -> list[Int]:
    """Return the batches of one rank, in order: batch `rank` of each group of `world_size` neighbouring batches.

    Where the last group lacks batches, its largest ones are split in two until each rank has one, so that no pair
    is repeated or lost. Where it has fewer rows than ranks, that group is left out.
    """
    whole = len(plan) // world_size
    batches = [plan[step * world_size + rank] for step in range(whole)]
    rest = [plan[batch] for batch in range(whole * world_size, len(plan))]
    if rest:
        parts = _split(rest, world_size)
        if len(parts) == world_size:
            batches.append(parts[rank])
    return batches


def _split(batches: list[Int], parts: int) -> list[Int]:
    batches = list(batches)
    while len(batches) < parts:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        if len(batches[largest]) < 2:
            break
        head, tail = np.array_split(batches[largest], 2)
        batches[largest : largest + 1] = [head, tail]
    return batches
