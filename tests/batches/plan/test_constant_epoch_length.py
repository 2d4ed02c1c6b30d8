"""Plans brought to a number of batches, by hand and for any plan."""

import numpy as np
import pytest
from conf_options import options, target
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.plan.bucket import BucketPlanner
from mtx.batches.plan.constant_epoch_length import constant_num_batches, plan_with_num_batches
from mtx.batches.plan.packed_rows import PackedRowsPlanner
from mtx.batches.plan.planner import Lengths, Plan, Planner
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.batches.plan.sequential import SequentialPlanner
from mtx.batches.plan.sorted import SortedPlanner
from mtx.batches.plan.static_shapes import StaticShapesPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner


def a_plan(*, order: list[int], widths: bool = False) -> Plan:
    """Batches [3, 4, 6, 8], [0], [1, 2] of the cut; row 5 is too long, row 7 is left over."""
    return Plan(
        num_rows=9,
        rows=np.array([3, 4, 6, 8, 0, 1, 2], dtype=np.int32),
        offsets=np.array([0, 4, 5, 7]),
        order=np.array(order),
        dropped_length=np.array([5], dtype=np.int32),
        dropped_remainder=np.array([7], dtype=np.int32),
        widths=np.array([[4, 5], [9, 9], [6, 7]]) if widths else None,
    )


def lists(plan: Plan) -> list[list[int]]:
    return [rows.tolist() for rows in plan]


def test_a_plan_of_that_many_batches_stays_as_it_is() -> None:
    plan = a_plan(order=[2, 0, 1])
    assert plan_with_num_batches(plan, 3) is plan


def test_too_few_batches_halve_the_largest() -> None:
    """[3, 4, 6, 8] is halved, then one of its halves: of batches of two the first comes first."""
    made = plan_with_num_batches(a_plan(order=[0, 1, 2]), 5)
    assert lists(made) == [[3, 4], [6], [8], [0], [1, 2]]
    assert made.ledger() == a_plan(order=[0, 1, 2]).ledger()


def test_halves_are_served_far_from_each_other_unless_batches_come_as_they_were_cut() -> None:
    """Of batches 2, 0, 1 the second is halved: served at 1 and, 3 ÷ 2 later, at 2.5."""
    assert lists(plan_with_num_batches(a_plan(order=[2, 0, 1]), 4)) == [[1, 2], [3, 4], [0], [6, 8]]
    assert lists(plan_with_num_batches(a_plan(order=[0, 1, 2]), 4)) == [[3, 4], [6, 8], [0], [1, 2]]


def test_halves_are_padded_as_the_whole_was() -> None:
    made = plan_with_num_batches(a_plan(order=[2, 0, 1], widths=True), 4)
    assert made.widths is not None
    assert made.widths[made.order].tolist() == [[6, 7], [4, 5], [9, 9], [4, 5]]


def test_batches_are_halved_at_multiples() -> None:
    plan = RandomPlanner(batch_size=24).plan(Lengths.of([1] * 24), seed=0, epoch=0)
    sizes = [sorted(map(len, plan_with_num_batches(plan, num, multiple=8))) for num in (2, 3, 4)]
    assert sizes == [[8, 16], [8, 8, 8], [4, 4, 8, 8]]


def test_too_many_batches_leave_out_the_smallest_and_count_them() -> None:
    made = plan_with_num_batches(a_plan(order=[2, 0, 1], widths=True), 2)
    assert lists(made) == [[1, 2], [3, 4, 6, 8]]
    assert made.dropped_remainder.tolist() == [0, 7]
    assert made.widths is not None
    assert made.widths.tolist() == [[4, 5], [6, 7]]
    assert made.ledger() == {"num_pairs": 9, "batched": 6, "dropped_length": 1, "dropped_remainder": 2, "repeated": 0}


def test_where_rows_are_fewer_than_batches_some_come_again() -> None:
    made = plan_with_num_batches(a_plan(order=[2, 0, 1], widths=True), 10)
    assert sorted(lists(made)) == [[0], [1], [2], [3], [3], [4], [4], [6], [6], [8]]
    assert made.ledger()["repeated"] == 3
    assert made.widths is not None
    assert [made.widths[cut].tolist() for cut in made.order[-3:]] == [[4, 5]] * 3


def test_no_rows_make_no_batches() -> None:
    nothing = RandomPlanner().plan(Lengths.of([]), seed=0, epoch=0)
    assert plan_with_num_batches(nothing, 0) is nothing
    with pytest.raises(ValueError, match="a plan without rows cannot have 2 batches"):
        plan_with_num_batches(nothing, 2)


def test_one_batch_is_spare_and_a_quarter_of_the_root_unless_rows_alone_count() -> None:
    budget, fixed = TokenBudgetPlanner(), RandomPlanner()
    assert [constant_num_batches(budget, needed) for needed in (0, 1, 16, 100, 1600)] == [0, 2, 18, 103, 1611]
    assert [constant_num_batches(fixed, needed) for needed in (0, 1, 1000)] == [0, 1, 1000]
    assert constant_num_batches(fixed, 1000, num_excluded=1) == 1001


PLANNERS: list[Planner] = [
    TokenBudgetPlanner(max_tokens=40),
    TokenBudgetPlanner(max_tokens=40, batch_multiple=4, too_long="alone"),
    TokenBudgetPlanner(max_tokens=60, budget="area", length_multiple=8, shuffle=False),
    BucketPlanner(batch_size=5, num_buckets=3),
    RandomPlanner(batch_size=5),
    SequentialPlanner(batch_size=3, drop_last=True),
    SortedPlanner(max_tokens=40),
    StaticShapesPlanner(num_shapes=4, max_tokens=40),
    RandomTokensPlanner(real_tokens=90),
    PackedRowsPlanner(row_tokens=90, num_rows=2),
]


def test_every_sampler_is_among_them() -> None:
    assert {type(planner) for planner in PLANNERS} == {target("sampler", name) for name in options("sampler")}


@settings(max_examples=100, deadline=None)
@given(
    planner=st.sampled_from(PLANNERS),
    pairs=st.lists(st.tuples(st.integers(1, 45), st.integers(1, 45)), max_size=60),
    num_batches=st.integers(1, 80),
    epoch=st.integers(0, 5),
)
def test_any_plan_keeps_its_rows_in_batches_no_larger_than_they_were(
    planner: Planner, pairs: list[tuple[int, int]], num_batches: int, epoch: int
) -> None:
    lengths = Lengths.of([source for source, _ in pairs], [target for _, target in pairs])
    plan = planner.plan(lengths, seed=3, epoch=epoch)
    if not len(plan):
        return
    multiple = getattr(planner, "batch_multiple", 1)
    made = plan_with_num_batches(plan, num_batches, multiple=multiple)
    assert len(made) == len(list(made)) == num_batches
    assert sorted(made.order) == list(range(num_batches))
    assert all(len(rows) for rows in made)
    ledger, before = made.ledger(), plan.ledger()
    assert ledger["dropped_length"] == before["dropped_length"]
    if num_batches >= len(plan):
        assert ledger["batched"] == before["batched"]
        assert (ledger["repeated"] > 0) == (num_batches > len(plan.rows))
    else:
        assert ledger["repeated"] == before["repeated"] == 0
        left_out = sorted(map(len, plan))[: len(plan) - num_batches]
        assert ledger["dropped_remainder"] == before["dropped_remainder"] + sum(left_out)
    wholes = [set(rows.tolist()) for rows in plan]
    assert all(any(set(rows.tolist()) <= whole for whole in wholes) for rows in made), "batches are parts of batches"
    again = plan_with_num_batches(plan, num_batches, multiple=multiple)
    assert lists(again) == lists(made)


def test_a_packed_epoch_with_too_many_batches_does_not_always_lose_the_longest_pairs() -> None:
    """Six pairs fill a row each, and 24 pairs fill six rows: a batch of one row has one or four pairs."""
    lengths = Lengths(np.array([8] * 6 + [2] * 24, np.int32), np.zeros(30, np.int32))
    draft = PackedRowsPlanner(row_tokens=8, num_rows=1).draft(lengths)
    lost = [plan_with_num_batches(draft.plan(seed=0, epoch=epoch), 11).dropped_remainder for epoch in range(10)]
    assert {len(rows) for rows in lost} == {1, 4}
