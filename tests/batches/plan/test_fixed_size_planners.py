"""Random and sequential batches, by hand."""

import numpy as np

from mtx.batches.plan.planner import Lengths, Plan
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.sequential import SequentialPlanner

SEVEN = Lengths.of([5, 3, 9, 1, 2, 2, 8])


def batches(plan: Plan) -> list[list[int]]:
    return [rows.tolist() for rows in plan]


def test_sequential_batches_lie_as_in_the_dataset() -> None:
    excluded = np.arange(7) == 1
    plan = SequentialPlanner(batch_size=2).plan(SEVEN, seed=0, epoch=5, excluded=excluded)
    assert batches(plan) == [[0, 2], [3, 4], [5, 6]]
    assert plan.dropped_length.tolist() == [1]
    assert batches(SequentialPlanner(batch_size=4).plan(SEVEN, seed=0, epoch=0)) == [[0, 1, 2, 3], [4, 5, 6]]


def test_sequential_drops_the_end() -> None:
    plan = SequentialPlanner(batch_size=4, drop_last=True).plan(SEVEN, seed=0, epoch=0)
    assert batches(plan) == [[0, 1, 2, 3]]
    assert plan.dropped_remainder.tolist() == [4, 5, 6]


def test_random_batches_have_all_rows_and_the_short_batch_comes_anywhere() -> None:
    draft = RandomPlanner(batch_size=3).draft(SEVEN)
    assert len(draft) == 3
    sizes = {tuple(map(len, batches(draft.plan(seed=0, epoch=epoch)))) for epoch in range(30)}
    assert sizes == {(3, 3, 1), (3, 1, 3), (1, 3, 3)}


def test_random_drops_any_row() -> None:
    draft = RandomPlanner(batch_size=3, drop_last=True).draft(SEVEN)
    dropped = {tuple(draft.plan(seed=0, epoch=epoch).dropped_remainder.tolist()) for epoch in range(60)}
    assert dropped == {(row,) for row in range(7)}


def test_every_row_is_first_about_as_often() -> None:
    draft = RandomPlanner(batch_size=1).draft(SEVEN)
    first = np.bincount([draft.plan(seed=0, epoch=epoch)[0][0] for epoch in range(700)], minlength=7)
    assert first.min() > 60
    assert first.max() < 145
