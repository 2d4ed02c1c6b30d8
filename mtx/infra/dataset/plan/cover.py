"""Chooses a few shapes (source positions, target positions) that hold all rows with little padding.

Works on cells, counts of rows of about the same two lengths, so its cost does not grow with the corpus. Two
steps: dynamic programming finds the best shapes of a plain kind, then each side of each shape is moved as long as
that saves padding. On real text the second step takes away two fifths of the padding that the first one leaves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtx.infra.dataset.plan.base import Int

Float = NDArray[np.float64]

MAX_EDGES = 96  # lengths of a side that a shape may end at; on real text more of them cost time and save nothing
BAND_EDGES = 40  # lengths of a side that dynamic programming chooses from, at a cost growing with their fourth power
MAX_IN_BAND = 12  # shapes of one band
REACH = 8  # edges up and down that a side may be moved by at once
MAX_SWEEPS = 20
TOO_SMALL = 2**40  # positions; above those of any shape
ENOUGH = 0.0005  # a sweep that saves less of all positions than this is the last


@dataclass(frozen=True)
class Cells:
    """Rows, counted by the positions that hold them; all int64 [number of cells], all values at least 1."""

    source: Int
    target: Int
    count: Int

    def turned(self) -> "Cells":
        """Return the same with source and target swapped."""
        return Cells(self.target, self.source, self.count)


def edges(length: Int, count: Int, most: int) -> Int:
    """Return at most `most` of the lengths, int64, ascending, the greatest among them: all, or those of equal mass."""
    value, place = np.unique(length, return_inverse=True)
    if len(value) <= most:
        return value
    mass = np.cumsum(np.bincount(place, weights=count * length))
    places = np.searchsorted(mass, mass[-1] * np.arange(1, most) / most)
    return np.union1d(value[places], value[-1:]).astype(np.int64)


def coarse(source: Int, target: Int, count: Int) -> tuple[Cells, Int]:
    """Round lengths up to edges; return the cells, and the number of the cell of each class, int64."""
    source_edges, target_edges = edges(source, count, MAX_EDGES), edges(target, count, MAX_EDGES)
    code = np.searchsorted(source_edges, source) * len(target_edges) + np.searchsorted(target_edges, target)
    present, cell = np.unique(code, return_inverse=True)
    held = np.bincount(cell, weights=count).astype(np.int64)
    return Cells(source_edges[present // len(target_edges)], target_edges[present % len(target_edges)], held), cell


def cover(cells: Cells, num_shapes: int) -> Int:
    """Return at most `num_shapes` shapes, int64 [k, 2], ascending by positions.

    Each row goes to the smallest shape that holds it (`homes`). The last shape holds every row.
    """
    by_source = banded(cells, num_shapes)
    by_target = banded(cells.turned(), num_shapes)[:, ::-1]
    found = [moved(cells, shapes) for shapes in (by_source, by_target)]
    return ascending(min(found, key=lambda shapes: positions(cells, shapes)))


def ascending(shapes: Int) -> Int:
    """Return the shapes, int64 [k, 2], by positions, then source, each once."""
    shapes = np.unique(shapes, axis=0)
    ordered: Int = shapes[np.lexsort((shapes[:, 0], shapes.sum(axis=1)))]
    return ordered


def homes(cells: Cells, shapes: Int) -> Int:
    """Return the number of the smallest shape that holds each cell, int64 [number of cells]."""
    number: Int = np.argmin(_sizes(cells, shapes), axis=0)
    return number


def two_homes(cells: Cells, shapes: Int) -> tuple[Int, Int]:
    """Return `homes`, and where each cell would go without that shape, int64 [number of cells] both.

    The second is of no use for cells that one shape alone holds.
    """
    sizes = _sizes(cells, shapes)
    first: Int = np.argmin(sizes, axis=0)
    sizes[first, np.arange(len(first))] = TOO_SMALL
    second: Int = np.argmin(sizes, axis=0)
    return first, second


def positions(cells: Cells, shapes: Int) -> int:
    """Return the padded positions of all rows, both sides, each in the smallest shape that holds it."""
    return int((_sizes(cells, shapes).min(axis=0) * cells.count).sum())


def banded(cells: Cells, num_shapes: int) -> Int:
    """Return the best shapes, int64 [k, 2], of this kind: bands of the source, each cut into parts of the target.

    Dynamic programming within every possible band, for each number of parts; then over the bands. The last shape is
    as long as the longest source and the longest target. Exact if either side has at most BAND_EDGES lengths.
    """
    source = edges(cells.source, cells.count, BAND_EDGES)
    target = edges(cells.target, cells.count, BAND_EDGES)
    grid = np.zeros((len(source) + 1, len(target) + 1))
    np.add.at(
        grid,
        (np.searchsorted(source, cells.source) + 1, np.searchsorted(target, cells.target) + 1),
        cells.count,
    )
    until = grid.cumsum(axis=0).cumsum(axis=1)
    first, last = np.triu_indices(len(grid), 1)  # a band: after edge `first`, up to edge `last`, counted from 1
    rows = until[last] - until[first]  # [bands, target edges + 1], up to each target edge
    top = np.where(last == len(source), len(target), (rows < rows[:, -1:]).sum(axis=1))
    parts = _parts(rows, source[last - 1], target, top, min(MAX_IN_BAND, num_shapes))

    best = np.full((num_shapes + 1, len(grid)), np.inf)  # [shapes used, source edges]
    best[0, 0] = 0
    chosen = np.zeros((num_shapes + 1, len(grid), 2), dtype=np.int64)  # parts of the last band, its first edge
    for used in range(1, num_shapes + 1):
        for number, costs in enumerate(parts.costs[:used], 1):
            whole = np.full((len(grid), len(grid)), np.inf)
            whole[first, last] = costs
            total = best[used - number][:, None] + whole
            better = np.flatnonzero(total.min(axis=0) < best[used])
            best[used, better] = total.min(axis=0)[better]
            chosen[used, better] = np.stack([np.full(len(better), number), total.argmin(axis=0)[better]], axis=1)

    band_number = {band: number for number, band in enumerate(zip(first.tolist(), last.tolist(), strict=True))}
    used, edge = int(best[:, -1].argmin()), len(grid) - 1
    shapes: list[tuple[int, int]] = []
    while used:
        number, start = chosen[used, edge].tolist()
        band = band_number[start, edge]
        ends = parts.ends(band, number, int(top[band]))
        shapes += [(int(source[edge - 1]), int(target[end - 1])) for end in ends]
        used, edge = used - number, start
    return np.asarray(shapes, dtype=np.int64)


@dataclass(frozen=True)
class _Parts:
    """Best cuts of every band.

    Attributes:
        costs: float64 [bands] for 1, 2, … parts: positions of the band.
        choices: int64 [bands, target edges + 1] for 2, 3, … parts: the edge before the last part.
    """

    costs: list[Float]
    choices: list[Int]

    def ends(self, band: int, number: int, top: int) -> list[int]:
        """Return the edges, counted from 1, at which the parts of a band end, the last one first."""
        ends = [top]
        for choice in reversed(self.choices[: number - 1]):
            ends.append(int(choice[band, ends[-1]]))
        return ends


def _parts(rows: Float, width: Int, target: Int, top: Int, most: int) -> _Parts:
    bands = np.arange(len(rows))
    size = width[:, None] + np.concatenate([[0], target])  # positions of a row in the part that ends at an edge
    best = rows * size
    best[:, 0] = np.inf
    cost = (rows[:, None, :] - rows[:, :, None]) * size[:, None, :]  # [bands, after this edge, up to this one]
    cost[:, *np.tril_indices(rows.shape[1])] = np.inf
    costs, choices = [best[bands, top]], []
    for _ in range(most - 1):
        total = best[:, :, None] + cost
        choices.append(total.argmin(axis=1))
        best = total.min(axis=1)
        costs.append(best[bands, top])
    return _Parts(costs, choices)


def moved(cells: Cells, shapes: Int) -> Int:
    """Move the sides of the shapes, one at a time, to where they save most; the largest shape stays."""
    shapes = ascending(shapes)
    lengths = cells.source, cells.target
    known = np.unique(cells.source), np.unique(cells.target)
    sizes = _sizes(cells, shapes)
    total = positions(cells, shapes)
    for _ in range(MAX_SWEEPS):
        before = total
        later = np.minimum.accumulate(sizes[::-1], axis=0)[::-1]  # the smallest shape from this one on
        earlier = np.full_like(later[0], TOO_SMALL)
        for number in range(len(shapes) - 1):
            others = np.minimum(earlier, later[number + 1])
            for side in (0, 1):
                place = np.searchsorted(known[side], shapes[number, side])
                ends = known[side][max(0, place - REACH) : place + REACH + 1]
                shapes[number, side] = ends[_saved(cells, lengths, side, others, shapes[number], ends).argmax()]
            sizes[number] = _sizes(cells, shapes[number : number + 1])[0]
            earlier = np.minimum(earlier, sizes[number])
        total = int((np.minimum(earlier, sizes[-1]) * cells.count).sum())
        if before - total <= ENOUGH * total:
            break
    return shapes


def _saved(cells: Cells, lengths: tuple[Int, Int], side: int, others: Int, shape: Int, ends: Int) -> Int:
    """Return the positions saved by a shape beside `others`, int64, for each place where one side of it may end."""
    held = np.flatnonzero((lengths[1 - side] <= shape[1 - side]) & (lengths[side] <= ends[-1]))
    gain: Int = np.maximum(others[held] - (ends[:, None] + shape[1 - side]), 0)
    gain[lengths[side][held] > ends[:, None]] = 0
    saved: Int = gain @ cells.count[held]
    return saved


def _sizes(cells: Cells, shapes: Int) -> Int:
    """Return the positions of each shape where it holds a cell, else TOO_SMALL, int64 [k, cells]."""
    holds = (cells.source <= shapes[:, :1]) & (cells.target <= shapes[:, 1:])
    return np.where(holds, shapes.sum(axis=1)[:, None], TOO_SMALL)
