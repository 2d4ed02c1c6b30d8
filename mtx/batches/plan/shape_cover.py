"""Choose a few shapes (source positions, target positions) that hold all rows with little padding.

The algorithm works on cells, which count rows of about the same two lengths, so its time does not grow with the corpus.
First, dynamic programming finds the best shapes of a simple kind (`banded_shapes`). Then each side of each shape is
moved as long as that saves padding (`refined_shapes`). On real text, the second step removes two fifths of the padding
that is left after the first.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.planner import Int

Float = NDArray[np.float64]

MAX_EDGES = 96  # candidate lengths for each side of a shape; on real text, more take time and save no padding
MAX_BAND_EDGES = 40  # candidate lengths for dynamic programming, whose time grows with their fourth power
MAX_BAND_SHAPES = 12  # largest number of shapes in one band
MAX_EDGE_MOVE = 8  # candidate lengths by which a side may move up or down at once
MAX_PASSES = 20  # passes over all shapes
TOO_SMALL = 2**40  # size of a shape, in positions, for a cell that does not fit; above the size of any shape
MIN_SAVED_SHARE = 0.0005  # share of all positions; a pass that saves less than this is the last


@dataclass(frozen=True)
class Cells:
    """Number of rows by the positions that hold them.

    All arrays are int64 [number of cells], with values of at least 1.
    """

    source: Int
    target: Int
    count: Int

    def transposed(self) -> "Cells":
        """Return the cells with source and target swapped."""
        return Cells(self.target, self.source, self.count)


def edge_lengths(length: Int, count: Int, most: int) -> Int:
    """Return at most `most` of the lengths, int64, ascending, always with the greatest.

    If there are more different lengths, those are chosen that divide the tokens into parts of equal size.
    """
    value, place = np.unique(length, return_inverse=True)
    if len(value) <= most:
        return value
    mass = np.cumsum(np.bincount(place, weights=count * length))
    places = np.searchsorted(mass, mass[-1] * np.arange(1, most) / most)
    return np.union1d(value[places], value[-1:]).astype(np.int64)


def coarse_cells(source: Int, target: Int, count: Int) -> tuple[Cells, Int]:
    """Round lengths up to candidate lengths; return the cells, and the cell number of each class, int64."""
    source_edges, target_edges = edge_lengths(source, count, MAX_EDGES), edge_lengths(target, count, MAX_EDGES)
    code = np.searchsorted(source_edges, source) * len(target_edges) + np.searchsorted(target_edges, target)
    present, cell = np.unique(code, return_inverse=True)
    held = np.bincount(cell, weights=count).astype(np.int64)
    return Cells(source_edges[present // len(target_edges)], target_edges[present % len(target_edges)], held), cell


def covering_shapes(cells: Cells, num_shapes: int) -> Int:
    """Return at most `num_shapes` shapes, int64 [k, 2], ascending by the sum of their positions.

    Each row goes to the smallest shape that holds it (`home_shapes`). The last shape holds every row.
    """
    by_source = banded_shapes(cells, num_shapes)
    by_target = banded_shapes(cells.transposed(), num_shapes)[:, ::-1]
    found = [refined_shapes(cells, shapes) for shapes in (by_source, by_target)]
    return sorted_shapes(min(found, key=lambda shapes: padded_positions(cells, shapes)))


def sorted_shapes(shapes: Int) -> Int:
    """Return the distinct shapes, int64 [k, 2], sorted by the sum of their positions, then by source."""
    shapes = np.unique(shapes, axis=0)
    ordered: Int = shapes[np.lexsort((shapes[:, 0], shapes.sum(axis=1)))]
    return ordered


def home_shapes(cells: Cells, shapes: Int) -> Int:
    """Return the number of the smallest shape that holds each cell, int64 [number of cells]."""
    number: Int = np.argmin(_shape_sizes(cells, shapes), axis=0)
    return number


def home_and_next_shapes(cells: Cells, shapes: Int) -> tuple[Int, Int]:
    """Return the smallest and the second smallest shape that hold each cell, as numbers, int64 [number of cells] each.

    The second is meaningless for cells that only one shape holds.
    """
    sizes = _shape_sizes(cells, shapes)
    first: Int = np.argmin(sizes, axis=0)
    sizes[first, np.arange(len(first))] = TOO_SMALL
    second: Int = np.argmin(sizes, axis=0)
    return first, second


def padded_positions(cells: Cells, shapes: Int) -> int:
    """Return the padded positions of all rows, both sides, if each row is in the smallest shape that holds it."""
    return int((_shape_sizes(cells, shapes).min(axis=0) * cells.count).sum())


def banded_shapes(cells: Cells, num_shapes: int) -> Int:
    """Return the best shapes, int64 [k, 2], that are bands of source lengths divided by target length.

    Dynamic programming finds the best parts of every possible band, then the best bands. The last shape is as long as
    the longest source and the longest target. The result is exact if neither side has more than MAX_BAND_EDGES lengths.
    """
    source = edge_lengths(cells.source, cells.count, MAX_BAND_EDGES)
    target = edge_lengths(cells.target, cells.count, MAX_BAND_EDGES)
    grid = np.zeros((len(source) + 1, len(target) + 1))
    np.add.at(
        grid,
        (np.searchsorted(source, cells.source) + 1, np.searchsorted(target, cells.target) + 1),
        cells.count,
    )
    until = grid.cumsum(axis=0).cumsum(axis=1)
    first, last = np.triu_indices(len(grid), 1)  # a band lies after edge `first`, up to edge `last`; edges count from 1
    rows = until[last] - until[first]  # [bands, target edges + 1], number of rows up to each target edge
    top = np.where(last == len(source), len(target), (rows < rows[:, -1:]).sum(axis=1))
    parts = _best_parts(rows, source[last - 1], target, top, min(MAX_BAND_SHAPES, num_shapes))

    best = np.full((num_shapes + 1, len(grid)), np.inf)  # [shapes used, source edges]
    best[0, 0] = 0
    chosen = np.zeros(
        (num_shapes + 1, len(grid), 2), dtype=np.int64
    )  # number of parts of the last band, its first edge
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
class _BandParts:
    """The best divisions of every band into parts.

    Attributes:
        costs: one float64 array [bands] for each of 1, 2, … parts: positions of the band.
        choices: one int64 array [bands, target edges + 1] for each of 2, 3, … parts: the edge before the last part.
    """

    costs: list[Float]
    choices: list[Int]

    def ends(self, band: int, number: int, top: int) -> list[int]:
        """Return the edges, counted from 1, at which the parts of a band end, the last part first."""
        ends = [top]
        for choice in reversed(self.choices[: number - 1]):
            ends.append(int(choice[band, ends[-1]]))
        return ends


def _best_parts(rows: Float, width: Int, target: Int, top: Int, most: int) -> _BandParts:
    bands = np.arange(len(rows))
    size = width[:, None] + np.concatenate([[0], target])  # positions of a row in the part that ends at each edge
    best = rows * size
    best[:, 0] = np.inf
    cost = (rows[:, None, :] - rows[:, :, None]) * size[:, None, :]  # [bands, after this edge, up to this edge]
    cost[:, *np.tril_indices(rows.shape[1])] = np.inf
    costs, choices = [best[bands, top]], []
    for _ in range(most - 1):
        total = best[:, :, None] + cost
        choices.append(total.argmin(axis=1))
        best = total.min(axis=1)
        costs.append(best[bands, top])
    return _BandParts(costs, choices)


def refined_shapes(cells: Cells, shapes: Int) -> Int:
    """Move the sides of the shapes, one at a time, to the lengths that save most positions; the largest shape stays."""
    shapes = sorted_shapes(shapes)
    lengths = cells.source, cells.target
    known = np.unique(cells.source), np.unique(cells.target)
    sizes = _shape_sizes(cells, shapes)
    total = padded_positions(cells, shapes)
    for _ in range(MAX_PASSES):
        before = total
        later = np.minimum.accumulate(sizes[::-1], axis=0)[::-1]  # the smallest shape from this one on
        earlier = np.full_like(later[0], TOO_SMALL)
        for number in range(len(shapes) - 1):
            others = np.minimum(earlier, later[number + 1])
            for side in (0, 1):
                place = np.searchsorted(known[side], shapes[number, side])
                ends = known[side][max(0, place - MAX_EDGE_MOVE) : place + MAX_EDGE_MOVE + 1]
                shapes[number, side] = ends[
                    _saved_positions(cells, lengths, side, others, shapes[number], ends).argmax()
                ]
            sizes[number] = _shape_sizes(cells, shapes[number : number + 1])[0]
            earlier = np.minimum(earlier, sizes[number])
        total = int((np.minimum(earlier, sizes[-1]) * cells.count).sum())
        if before - total <= MIN_SAVED_SHARE * total:
            break
    return shapes


def _saved_positions(cells: Cells, lengths: tuple[Int, Int], side: int, others: Int, shape: Int, ends: Int) -> Int:
    """Return the positions that a shape saves, int64, for each length in `ends` of its `side`.

    `others` holds the positions of a row of each cell in the smallest of the other shapes.
    """
    held = np.flatnonzero((lengths[1 - side] <= shape[1 - side]) & (lengths[side] <= ends[-1]))
    gain: Int = np.maximum(others[held] - (ends[:, None] + shape[1 - side]), 0)
    gain[lengths[side][held] > ends[:, None]] = 0
    saved: Int = gain @ cells.count[held]
    return saved


def _shape_sizes(cells: Cells, shapes: Int) -> Int:
    """Return the positions of each shape if it holds a cell, else TOO_SMALL, int64 [k, cells]."""
    holds = (cells.source <= shapes[:, :1]) & (cells.target <= shapes[:, 1:])
    return np.where(holds, shapes.sum(axis=1)[:, None], TOO_SMALL)
