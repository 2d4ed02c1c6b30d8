"""The order in which length classes are cut: bands of nearly the same longest side, each passed the other way round.

Within a band, classes go from "target longer" to "source longer", in the next band back again, so that neighbours
are close in both lengths. All batches of a band hold about as many pairs, since a budget counts the longest side.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtx.infra.dataset.plan.base import Int
from mtx.infra.dataset.plan.classes import LengthClasses
from mtx.infra.dataset.plan.cut import Room, Runs, cut

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of a band, in full batches


@dataclass(frozen=True)
class Snake:
    """Orders of length classes, as many as there are ways to place the bands.

    Attributes:
        longest: int64 [number of classes], positions of the longer side.
        difference: int64 [number of classes], source minus target positions.
        batches_before: float64 [longest of all + 1], the full batches that shorter classes fill.
        width: of a band, in full batches.
    """

    longest: Int
    difference: Int
    batches_before: NDArray[np.float64]
    width: float

    def order(self, *, phase: float = 0.0, turned: bool = False) -> Int:
        """Return the classes in the order to be cut, int64 [number of classes], short ones first.

        Args:
            phase: shifts the edges between bands; 0 to 1, in widths.
            turned: passes every band the other way round.
        """
        band = np.floor(self.batches_before / self.width + phase).astype(np.int64)
        band = np.unique(band, return_inverse=True)[1][self.longest]  # numbered without gaps, so that ways alternate
        across = np.where(band % 2 == turned, self.difference, -self.difference)
        return np.lexsort((self.longest, across, band))


def best_snake(classes: LengthClasses, count: Int, room: Room) -> Snake:
    """Try all widths of bands and return the one with the least padding.

    `count`, int64 [number of classes], are the rows of each class that are cut together: all, or those of one pool.
    A batch more costs as much as in `cut`. Of equal widths the narrowest wins.
    """
    longest = np.maximum(classes.source, classes.target)
    batches = np.bincount(longest, weights=longest * count) * 2 / room.slots
    present = count > 0

    def cost(snake: Snake) -> float:
        order = snake.order()
        order = order[present[order]]
        offsets, positions = cut(Runs(classes.source[order], classes.target[order], count[order]), room)
        return positions + room.price * (len(offsets) - 1)

    snakes = [Snake(longest, classes.source - classes.target, np.cumsum(batches) - batches, width) for width in WIDTHS]
    return min(snakes, key=cost)
