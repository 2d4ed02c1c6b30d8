"""Mix lengths over the batches of an update, for batches of similar lengths.

An update of the weights uses the batches that several ranks process together, or that are accumulated in turn.
If these batches have different lengths, the update sees the whole corpus, not only its short or its long pairs.
"""

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.planner import Int

NUM_RANGES = 8  # ranges of lengths; any 8 neighbouring batches from a multiple of 8 on have one batch of each range
MIXED_GROUPS = 16  # groups whose batches have similar costs; more groups mix lengths better, and balance costs worse


def mixed_order(num_batches: int, random: np.random.Generator) -> Int:
    """Return a random order of batches in which neighbours have different lengths, int64 [num_batches].

    Batches are numbered in cut order, in which neighbouring numbers have similar lengths.
    """
    num_blocks = num_batches // NUM_RANGES
    shuffled = random.permutation(num_batches)
    left_over, mixed = np.sort(shuffled[: num_batches % NUM_RANGES]), np.sort(shuffled[num_batches % NUM_RANGES :])
    ranges = random.permuted(mixed.reshape(NUM_RANGES, num_blocks), axis=1)
    blocks = random.permuted(ranges.T, axis=1)
    order: Int = np.concatenate([blocks.reshape(-1), random.permutation(left_over)]).astype(np.int64)
    return order


def mixed_groups(costs: NDArray[np.float64], lengths: NDArray[np.float64], world_size: int) -> Int:
    """Group batches of similar costs and different lengths, one batch for each rank.

    Args:
        costs: float64 [n], cost of each batch; n is a multiple of `world_size`.
        lengths: float64 [n], length of the pairs of each batch.
        world_size: number of ranks.

    Returns:
        Numbers of the batches, int64 [n]; each `world_size` in turn form a group.
    """
    size = MIXED_GROUPS * world_size
    window, place = np.divmod(np.arange(len(costs)), size)
    by_cost = np.argsort(costs, kind="stable")
    by_length = by_cost[np.lexsort((lengths[by_cost], window))]  # within each window of similar costs
    num_groups = np.minimum(MIXED_GROUPS, (len(costs) - window * size) // world_size)
    # the batches of a window are dealt to its groups in turn, back and forth, so each group has short and long ones
    member, group = np.divmod(place, num_groups)
    group = np.where(member % 2, num_groups - 1 - group, group)
    grouped = np.empty(len(costs), dtype=np.int64)
    grouped[window * size + group * world_size + member] = by_length
    return grouped
