"""Batches put together: by hand, and no row lost nor a batch larger than the largest, on random plans."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.plan.bucket import BucketPlanner
from mtx.batches.plan.merge_to_batch_count import merged_plan
from mtx.batches.plan.planner import Lengths, Plan, batch_shapes
from mtx.batches.plan.token_budget import TokenBudgetPlanner

NONE = np.empty(0, dtype=np.int32)


def plan_of(batches: list[list[int]], order: list[int]) -> Plan:
    rows = np.array([row for batch in batches for row in batch], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, batches)])
    return Plan(len(rows), rows, offsets, np.array(order), NONE, NONE)


def as_lists(plan: Plan) -> list[list[int]]:
    return [rows.tolist() for rows in plan]


def test_the_smallest_two_that_fit_are_put_together() -> None:
    lengths = Lengths.of([4, 4, 4, 9, 2, 3])
    plan = plan_of([[0, 1, 2], [3], [4], [5]], order=[3, 0, 2, 1])
    # Padded positions of a side: 12, 9, 2, 3, and at most 3 pairs. The two smallest make 2 × 3 = 6.
    assert as_lists(merged_plan(plan, 3, lengths)) == [[0, 1, 2], [4, 5], [3]]
    # Then 3 pairs of 9 positions would be 27, and 12 is the largest: no more fit.
    assert as_lists(merged_plan(plan, 1, lengths)) == [[0, 1, 2], [4, 5], [3]]


def test_the_smallest_are_looked_for_anew_each_time_until_there_are_as_few_as_wanted() -> None:
    lengths = Lengths.of([2, 3, 4, 5, 5, 5, 5, 5])
    plan = plan_of([[0], [1], [2], [3], [4, 5, 6, 7]], order=[0, 1, 2, 3, 4])
    assert as_lists(merged_plan(plan, 4, lengths)) == [[0, 1], [2], [3], [4, 5, 6, 7]]
    # 2 × 3 positions are more than those of either batch of one.
    assert as_lists(merged_plan(plan, 3, lengths)) == [[0, 1], [2, 3], [4, 5, 6, 7]]


def test_the_smallest_goes_with_the_next_though_it_fits_the_largest_too() -> None:
    lengths = Lengths.of([1, 1, 9, 9, 0, 0, 9], [1, 1, 0, 0, 9, 9, 9])
    plan = plan_of([[0], [1], [2, 3], [4, 5], [6]], order=[0, 1, 2, 3, 4])
    # At most 2 pairs and 18 positions of a side, and the last batch with the first would have as many.
    assert as_lists(merged_plan(plan, 4, lengths)) == [[0, 1], [2, 3], [4, 5], [6]]


def test_enough_batches_stay_as_they_are() -> None:
    plan = plan_of([[0], [1]], order=[1, 0])
    assert merged_plan(plan, 2, Lengths.of([1, 1])) is plan


def test_multiples_of_pairs_are_kept() -> None:
    plan = plan_of([[0, 1, 2, 3], [4, 5, 6], [7, 8], [9]], order=[0, 1, 2, 3])
    # 1 + 2 pairs are fewer than 4, and stay so; 3 + 3 would be no multiple of it.
    put = merged_plan(plan, 2, Lengths.of([5] * 10), batch_multiple=4)
    assert as_lists(put) == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_positions_count_rounded_up() -> None:
    plan, lengths = plan_of([[0, 1, 2], [3], [4]], order=[0, 1, 2]), Lengths.of([5, 5, 5, 8, 1])
    assert len(merged_plan(plan, 2, lengths)) == 3, "2 × 8 is more than 3 × 5"
    assert len(merged_plan(plan, 2, lengths, length_multiple=8)) == 2, "and less than 3 × 8"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=200), st.integers(1, 20), st.booleans())
def test_no_row_is_lost_and_no_batch_is_larger_than_the_largest(source: list[int], fewer: int, by_tokens: bool) -> None:
    lengths = Lengths.of(source, source[::-1])
    planner = TokenBudgetPlanner(max_tokens=128) if by_tokens else BucketPlanner(batch_size=8)
    plan = planner.plan(lengths, seed=0, epoch=0)
    found = merged_plan(plan, max(1, len(plan) - fewer), lengths)
    assert found.ledger() == plan.ledger()
    assert max(1, len(plan) - fewer) <= len(found) <= len(plan)
    before, after = batch_shapes(plan, lengths), batch_shapes(found, lengths)
    assert after[:, 0].max() <= before[:, 0].max()
    largest, largest_put = ((of[:, :1] * of[:, 1:]).max(axis=0) for of in (before, after))
    assert (largest_put <= largest).all()
