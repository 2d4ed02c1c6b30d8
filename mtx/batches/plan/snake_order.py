"""Order in which length classes are cut into batches: bands of similar longest side, passed in alternating direction.

In one band, classes go from longer targets to longer sources, in the next band from longer sources to longer targets.
So neighbouring classes are close in both lengths. All batches of a band have about the same number of pairs, since the
budget limits the longest side.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.batch_cutting import BatchCapacity, LengthRuns, cut_offsets
from mtx.batches.plan.planner import Int
from mtx.batches.plan.same_length_classes import LengthClasses

BAND_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # candidate widths of a band, in full batches


@dataclass(frozen=True)
class SnakeOrder:
    """A family of orders of length classes, one for each position of the band edges.

    Attributes:
        longest: int64 [number of classes], positions of the longer side.
        difference: int64 [number of classes], source minus target positions.
        batches_before: float64 [greatest length + 1], number of full batches that all shorter classes fill.
        width: width of a band, in full batches.
    """

    longest: Int
    difference: Int
    batches_before: NDArray[np.float64]
    width: float

    def order(self, *, phase: float = 0.0, is_reversed: bool = False) -> Int:
        """Return the classes in the order in which they are cut, int64 [number of classes], short ones first.

        Args:
            phase: shift of the band edges, from 0 to 1, as a share of the width.
            is_reversed: whether every band is passed in the opposite direction.
        """
        band = np.floor(self.batches_before / self.width + phase).astype(np.int64)
        band = np.unique(band, return_inverse=True)[1][
            self.longest
        ]  # numbers without gaps, so that directions alternate
        across = np.where(band % 2 == is_reversed, self.difference, -self.difference)
        return np.lexsort((self.longest, across, band))


def best_snake_order(classes: LengthClasses, count: Int, capacity: BatchCapacity) -> SnakeOrder:
    """Try all band widths and return the order with the lowest cost: padded positions plus the price of each batch.

    `count`, int64 [number of classes], holds the number of rows of each class that are cut together: all rows, or those
    of one pool. The price of a batch is that of `cut_offsets`. If costs are equal, the narrowest width wins.
    """
    longest = np.maximum(classes.source, classes.target)
    batches = np.bincount(longest, weights=longest * count) * 2 / capacity.slots
    present = count > 0

    def cost(snake: SnakeOrder) -> float:
        order = snake.order()
        order = order[present[order]]
        offsets, positions = cut_offsets(
            LengthRuns(classes.source[order], classes.target[order], count[order]), capacity
        )
        return positions + capacity.price * (len(offsets) - 1)

    snakes = [
        SnakeOrder(longest, classes.source - classes.target, np.cumsum(batches) - batches, width)
        for width in BAND_WIDTHS
    ]
    return min(snakes, key=cost)
