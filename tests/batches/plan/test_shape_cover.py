"""Shapes that hold all rows, worked by hand and against every choice there is."""

from itertools import combinations, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.plan.shape_cover import (
    Cells,
    banded_shapes,
    coarse_cells,
    covering_shapes,
    edge_lengths,
    home_shapes,
    padded_positions,
    refined_shapes,
    sorted_shapes,
)

counted = st.dictionaries(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(1, 50), min_size=1, max_size=8)


def cells_of(rows: dict[tuple[int, int], int]) -> Cells:
    source, target = np.array(list(rows)).T
    return Cells(source, target, np.array(list(rows.values())))


def least_positions(cells: Cells, num_shapes: int) -> int:
    """Try every choice of shapes, the largest of all among them."""
    source, target = np.unique(cells.source).tolist(), np.unique(cells.target).tolist()
    every = [shape for shape in product(source, target) if shape != (source[-1], target[-1])]
    chosen = combinations(every, min(num_shapes - 1, len(every)))
    return min(padded_positions(cells, np.array([*shapes, (source[-1], target[-1])])) for shapes in chosen)


def test_two_shapes_are_one_for_the_many_short_rows_and_one_for_the_rest() -> None:
    cells = cells_of({(2, 2): 10, (5, 5): 1, (9, 9): 1})
    assert covering_shapes(cells, 2).tolist() == [[2, 2], [9, 9]]
    assert padded_positions(cells, covering_shapes(cells, 2)) == 10 * 4 + 2 * 18


def test_shapes_for_long_sources_and_for_long_targets_lie_beside_each_other() -> None:
    cells = cells_of({(2, 8): 100, (8, 2): 100, (9, 9): 1})
    assert covering_shapes(cells, 3).tolist() == [[2, 8], [8, 2], [9, 9]]
    assert home_shapes(cells, covering_shapes(cells, 3)).tolist() == [0, 1, 2]


def test_no_more_shapes_than_there_are_lengths() -> None:
    assert covering_shapes(cells_of({(3, 4): 7}), 32).tolist() == [[3, 4]]


def test_bands_alone_cannot_overlap_and_moving_sides_lets_them() -> None:
    cells = cells_of({(1, 9): 50, (2, 1): 50, (3, 9): 50, (4, 1): 50, (9, 9): 1})
    assert padded_positions(cells, refined_shapes(cells, banded_shapes(cells, 3))) <= padded_positions(
        cells, banded_shapes(cells, 3)
    )
    assert padded_positions(cells, covering_shapes(cells, 3)) == least_positions(cells, 3) == 100 * 12 + 100 * 5 + 18


@settings(max_examples=40, deadline=None)
@given(rows=counted, num_shapes=st.integers(1, 3))
def test_the_last_shape_holds_all_and_padding_is_near_the_least(
    rows: dict[tuple[int, int], int], num_shapes: int
) -> None:
    cells = cells_of(rows)
    shapes = covering_shapes(cells, num_shapes)
    assert len(shapes) <= num_shapes
    assert shapes[-1].tolist() == [cells.source.max(), cells.target.max()]
    assert shapes.tolist() == sorted_shapes(shapes).tolist()
    home = shapes[home_shapes(cells, shapes)]
    assert (home[:, 0] >= cells.source).all()
    assert (home[:, 1] >= cells.target).all()
    found, plain = padded_positions(cells, shapes), padded_positions(cells, banded_shapes(cells, num_shapes))
    least = least_positions(cells, num_shapes)
    assert least <= found <= plain
    assert found <= 1.25 * least


@settings(max_examples=40, deadline=None)
@given(rows=counted)
def test_two_bands_are_the_best_two_bands(rows: dict[tuple[int, int], int]) -> None:
    cells = cells_of(rows)
    top = cells.source.max(), cells.target.max()
    options = [padded_positions(cells, np.array([top]))]
    for edge in np.unique(cells.source)[:-1]:
        options.append(padded_positions(cells, np.array([(edge, cells.target[cells.source <= edge].max()), top])))
    for edge in np.unique(cells.target)[:-1]:
        options.append(padded_positions(cells, np.array([(top[0], edge), top])))
    assert padded_positions(cells, banded_shapes(cells, 2)) == min(options)


def test_edges_are_all_lengths_or_some_of_equal_mass_with_the_greatest() -> None:
    length, count = np.array([5, 3, 3, 9]), np.array([1, 1, 1, 1])
    assert edge_lengths(length, count, 3).tolist() == [3, 5, 9]
    many = np.arange(1, 1001)
    few = edge_lengths(many, np.ones(1000, dtype=np.int64), 4)
    assert few.tolist() == [500, 707, 866, 1000]  # k (k + 1) ÷ (1000 × 1001) first reaches quarters there


def test_coarse_cells_are_no_shorter_than_their_classes_and_lose_no_row() -> None:
    random = np.random.default_rng(2)
    source, target, count = random.integers(1, 2000, (3, 5000))
    cells, cell = coarse_cells(source, target, count)
    assert cells.count.sum() == count.sum()
    assert (cells.source[cell] >= source).all()
    assert (cells.target[cell] >= target).all()
    assert len(np.unique(cells.source)) <= 96
