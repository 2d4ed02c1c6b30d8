"""Cuts and splits of runs, and the snake that orders them, by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.plan.batch_cutting import BatchCapacity, LengthRuns, cut_offsets, split_offsets
from mtx.batches.plan.planner import Lengths
from mtx.batches.plan.same_length_classes import length_classes
from mtx.batches.plan.snake_order import SnakeOrder, best_snake_order


def capacity(max_tokens: int, *, area: bool = False, max_pairs: int = 10**6, multiple: int = 1) -> BatchCapacity:
    return BatchCapacity(max_tokens=max_tokens, area=area, max_pairs=max_pairs, multiple=multiple)


def runs(*classes: tuple[int, int, int]) -> LengthRuns:
    source, target, count = np.array(classes, dtype=np.int64).reshape(-1, 3).T
    return LengthRuns(source, target, count)


@pytest.mark.parametrize(
    ("made", "source", "target", "pairs"),
    [
        (capacity(20), 4, 5, 4),
        (capacity(20, area=True), 4, 5, 2),
        (capacity(20, max_pairs=3), 4, 5, 3),
        (capacity(100, multiple=8), 5, 4, 16),
        (capacity(100, multiple=8), 25, 4, 4),
        (capacity(20), 21, 1, 1),
    ],
    ids=["side", "area", "max_pairs", "multiple", "fewer than the multiple", "one too long"],
)
def test_room(made: BatchCapacity, source: int, target: int, pairs: int) -> None:
    assert made(source, target) == pairs


def test_batches_are_filled_across_runs() -> None:
    # 6 pairs of (2, 2) are full. The seventh goes with both of (3, 3); with (4, 6), only 2 would fit.
    offsets, positions = cut_offsets(runs((2, 2, 7), (3, 3, 2), (4, 6, 1)), capacity(12))
    assert offsets.tolist() == [0, 6, 9, 10]
    assert positions == 6 * 4 + 3 * 6 + 1 * 10


def test_a_batch_ends_early_where_the_next_row_would_lengthen_the_others() -> None:
    # 4 pairs of (5, 5) would fit, but (40 + 10) / 22 is more than (12 + 10) / 12.
    offsets, positions = cut_offsets(runs((2, 2, 3), (5, 5, 1)), capacity(20))
    assert offsets.tolist() == [0, 3, 4]
    assert positions == 3 * 4 + 1 * 10


def test_batches_keep_to_the_multiple_and_leave_the_rest_for_the_next() -> None:
    offsets, _ = cut_offsets(runs((3, 3, 7), (4, 4, 4), (9, 9, 3)), capacity(32, multiple=4))
    # 7 of (3, 3) and one of (4, 4): (64 + 16) / 50 is less than the (24 + 16) / 24 of 4. The other 3 of (4, 4) have no
    # room for one of (9, 9): a batch of fewer than 4. Of (9, 9) fit 3.
    assert offsets.tolist() == [0, 8, 11, 14]


def test_nothing_is_cut_into_no_batch() -> None:
    offsets, positions = cut_offsets(runs(), capacity(10))
    assert (offsets.tolist(), positions) == ([0], 0)


def test_splits_save_most_padding_first_then_halve_the_largest() -> None:
    made, one = runs((2, 2, 3), (5, 5, 1)), np.array([0, 4])
    assert split_offsets(made, one, 1, multiple=1).tolist() == [0, 4]
    assert split_offsets(made, one, 2, multiple=1).tolist() == [0, 3, 4]
    assert split_offsets(made, one, 3, multiple=1).tolist() == [0, 1, 3, 4]
    assert split_offsets(made, one, 4, multiple=1).tolist() == [0, 1, 2, 3, 4]
    assert split_offsets(made, one, 9, multiple=1).tolist() == [0, 1, 2, 3, 4], "a batch of one is not split"


def test_what_follows_a_split_is_padded_less_too() -> None:
    # At 2, the 4 rows after it save 2 each; at 3, the 3 rows after it save 6 each.
    assert split_offsets(runs((5, 5, 2), (4, 4, 1), (2, 2, 3)), np.array([0, 6]), 2, multiple=1).tolist() == [0, 3, 6]


def test_the_batch_that_saves_most_is_split() -> None:
    # Batch 0 saves 2 × (2 + 0) at place 2; batch 1 saves 3 × (4 + 0) at place 7.
    made = runs((3, 9, 2), (5, 9, 2), (5, 5, 3), (9, 5, 1))
    assert split_offsets(made, np.array([0, 4, 8]), 3, multiple=1).tolist() == [0, 4, 7, 8]
    assert split_offsets(made, np.array([0, 4, 8]), 4, multiple=1).tolist() == [0, 2, 4, 7, 8]


@settings(deadline=None)
@given(rows=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=8))
def test_no_other_place_to_split_a_batch_saves_more(rows: list[tuple[int, int]]) -> None:
    def padded(place: int) -> int:
        parts = (rows[:place], rows[place:])
        return sum(len(part) * (max(s for s, _ in part) + max(t for _, t in part)) for part in parts)

    _, place, _ = split_offsets(runs(*((s, t, 1) for s, t in rows)), np.array([0, len(rows)]), 2, multiple=1).tolist()
    assert padded(place) == min(map(padded, range(1, len(rows))))


def test_splits_keep_to_the_multiple() -> None:
    made = runs((2, 2, 3), (5, 5, 5))
    assert split_offsets(made, np.array([0, 8]), 2, multiple=2).tolist() == [0, 4, 8], "3 would save more, but is odd"
    assert split_offsets(made, np.array([0, 8]), 9, multiple=2).tolist() == [0, 2, 4, 6, 8]


sizes = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40)), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    classes=sizes,
    max_tokens=st.integers(30, 300),
    area=st.booleans(),
    multiple=st.integers(1, 8),
    max_pairs=st.integers(1, 50),
    more=st.integers(0, 30),
)
def test_cuts_and_splits_keep_to_budget_and_multiple(
    classes: list[tuple[int, int, int]], max_tokens: int, area: bool, multiple: int, max_pairs: int, more: int
) -> None:
    made = runs(*classes)
    rows = [(source, target) for source, target, count in classes for _ in range(count)]
    offsets, positions = cut_offsets(made, capacity(max_tokens, area=area, max_pairs=max_pairs, multiple=multiple))
    slots = []
    for wanted in (0, len(offsets) - 1 + more):
        ends = split_offsets(made, offsets, wanted, multiple=multiple)
        assert ends[0] == 0
        assert ends[-1] == len(rows)
        assert len(ends) - 1 <= max(wanted, len(offsets) - 1)
        total = 0
        for start, end in zip(ends.tolist(), ends.tolist()[1:], strict=False):
            pairs = end - start
            source, target = (max(side) for side in zip(*rows[start:end], strict=True))
            tokens = pairs * (source + target if area else max(source, target))
            assert tokens <= max_tokens or pairs == 1
            assert pairs <= max_pairs
            assert pairs % multiple == 0 or pairs < multiple
            total += pairs * (source + target)
        slots.append(total)
    assert slots[0] == positions
    assert slots[1] <= slots[0]


def test_the_snake_turns_at_each_band() -> None:
    pairs = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (3, 3)]
    lengths = Lengths.of([source for source, _ in pairs], [target for _, target in pairs])
    classes = length_classes(lengths, np.arange(7, dtype=np.int32), multiple=1, limit=100)
    longest = np.maximum(classes.source, classes.target)
    snake = SnakeOrder(longest, classes.source - classes.target, np.array([0.0, 0.0, 1.0, 2.0]), 1.0)

    def order(**options: object) -> list[tuple[int, int]]:
        names = snake.order(**options)  # type: ignore[arg-type]
        return list(zip(classes.source[names].tolist(), classes.target[names].tolist(), strict=True))

    assert order() == [(1, 1), (2, 1), (2, 2), (1, 2), (1, 3), (3, 3), (3, 1)]
    assert order(is_reversed=True) == [(1, 1), (1, 2), (2, 2), (2, 1), (3, 1), (3, 3), (1, 3)]
    wide = SnakeOrder(snake.longest, snake.difference, snake.batches_before, 2.0)
    names = wide.order(phase=0.5)  # bands: lengths 1; 2 and 3
    assert classes.source[names].tolist() == [1, 3, 2, 2, 3, 1, 1]
    assert classes.target[names].tolist() == [1, 1, 1, 2, 3, 2, 3]


def test_the_best_width_has_no_more_padding_than_any_other() -> None:
    random = np.random.default_rng(0)
    source = random.integers(1, 60, 4000)
    lengths = Lengths.of(source, np.maximum(1, source + random.integers(-20, 20, 4000)))
    classes = length_classes(lengths, np.arange(4000, dtype=np.int32), multiple=1, limit=1000)
    made = capacity(1000)

    def cost(width: float) -> float:
        names = SnakeOrder(best.longest, best.difference, best.batches_before, width).order()
        offsets, positions = cut_offsets(
            LengthRuns(classes.source[names], classes.target[names], classes.count[names]), made
        )
        return positions + made.price * (len(offsets) - 1)

    best = best_snake_order(classes, classes.count, made)
    costs = {width: cost(width) for width in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)}
    assert costs[best.width] == min(costs.values()) < max(costs.values())
