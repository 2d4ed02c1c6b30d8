"""How an epoch is dealt out to ranks, on plans made by hand and on any that hypothesis thinks of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.plan.planner import Lengths, Plan, max_lengths
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.rank_assignment import RankBatches, assigned_batches, num_steps, remaining_batches
from mtx.batches.plan.token_budget import TokenBudgetPlanner

SIZES = st.lists(st.integers(1, 5), max_size=12)


def planned(sizes: list[int], order: list[int] | None = None) -> Plan:
    none = np.empty(0, dtype=np.int32)
    return Plan(
        num_rows=sum(sizes),
        rows=np.arange(sum(sizes), dtype=np.int32),
        offsets=np.cumsum([0, *sizes]),
        order=np.arange(len(sizes))[::-1] if order is None else np.array(order),
        dropped_length=none,
        dropped_remainder=none,
    )


def batches(dealt: RankBatches, rank: int, start: int = 0) -> list[list[int]]:
    return [rows.tolist() for rows in dealt.items(rank=rank, start=start)]  # type: ignore[union-attr]


def rows_of(dealt: RankBatches, first: int = 0, end: int | None = None) -> list[int]:
    """The rows that all ranks get in steps `first` to `end`."""
    return [row for rank in range(dealt.world_size) for rows in batches(dealt, rank)[first:end] for row in rows]


def test_one_rank_gets_the_batches_in_the_order_of_the_plan() -> None:
    assert batches(assigned_batches(planned([1, 2, 3], order=[1, 0, 2]), 1), 0) == [[1, 2], [0], [3, 4, 5]]


def test_neighbours_of_the_cut_are_dealt_out_together() -> None:
    plan = planned([2, 2, 1, 1], order=[3, 0, 1, 2])
    dealt = assigned_batches(plan, 2)
    assert [batches(dealt, rank) for rank in range(2)] == [[[5], [0, 1]], [[4], [2, 3]]]


def test_the_largest_batch_is_split_where_one_is_missing() -> None:
    dealt = assigned_batches(planned([1, 4], order=[0, 1]), 3)
    assert [batches(dealt, rank) for rank in range(3)] == [[[0]], [[1, 2]], [[3, 4]]]


def test_batches_of_similar_cost_are_dealt_out_together_where_positions_are_known() -> None:
    dealt = assigned_batches(planned([2, 2, 2, 2], order=[0, 1, 2, 3]), 2, positions=np.array([5, 9, 5, 9]))
    assert [batches(dealt, rank) for rank in range(2)] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_too_few_rows_for_another_step_are_left_out_the_last_served_first() -> None:
    assert len(assigned_batches(planned([2]), 3)) == 0
    assert assigned_batches(planned([2]), 3).left_out.tolist() == [0, 1]
    dealt = assigned_batches(planned([1] * 5, order=[4, 0, 1, 2, 3]), 4)
    assert dealt.left_out.tolist() == [3]
    assert sorted(rows_of(dealt)) == [0, 1, 2, 4]


def test_evaluation_joins_what_would_be_left_out() -> None:
    dealt = assigned_batches(planned([1] * 5), 4, join=True)
    assert len(dealt.left_out) == 0
    assert len(dealt) == 1
    assert sorted(len(rows) for rank in range(4) for rows in batches(dealt, rank)) == [1, 1, 1, 2]
    assert sorted(rows_of(dealt)) == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(sizes=SIZES, world_size=st.integers(1, 6), join=st.booleans(), known=st.booleans())
def test_any_plan_is_dealt_out_whole_in_equal_steps(sizes: list[int], world_size: int, join: bool, known: bool) -> None:
    plan = planned(sizes)
    dealt = assigned_batches(plan, world_size, positions=np.arange(len(sizes)) if known else None, join=join)
    assert len(dealt) == num_steps(len(plan), len(plan.rows), world_size)
    for rank in range(world_size):
        assert len(batches(dealt, rank)) == len(dealt)
        assert all(batches(dealt, rank))
    assert sorted([*rows_of(dealt), *dealt.left_out.tolist()]) == list(range(sum(sizes)))
    enough = sum(sizes) >= -(-len(sizes) // world_size) * world_size or (join and sum(sizes) >= world_size)
    assert len(dealt.left_out) == 0 or not enough
    if not join:
        whole = [set(range(*ends)) for ends in zip(plan.offsets[:-1], plan.offsets[1:], strict=True)]
        assert all(any(set(rows) <= of for of in whole) for r in range(world_size) for rows in batches(dealt, r))


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    chain=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), max_size=4),
    last=st.integers(1, 5),
)
def test_an_epoch_begun_by_any_ranks_is_finished_by_others(
    sizes: list[int], chain: list[tuple[int, int]], last: int
) -> None:
    plan = planned(sizes)
    served: list[tuple[int, int]] = []
    rows: list[int] = []
    for world_size, steps in chain:
        if served and served[-1][0] == world_size:
            continue
        dealt, start = remaining_batches(plan, world_size, served)
        assert start == 0
        steps = min(steps, len(dealt))
        if steps:
            rows += rows_of(dealt, 0, steps)
            served.append((world_size, steps))
    dealt, start = remaining_batches(plan, last, served)
    assert start == (served[-1][1] if served and served[-1][0] == last else 0)
    rows += rows_of(dealt, start)
    assert len(rows) == len(set(rows))
    assert sorted([*rows, *dealt.left_out.tolist()]) == list(range(sum(sizes)))
    assert len(dealt.left_out) < last or not len(dealt)


def test_the_same_ranks_go_on_with_the_same_batches() -> None:
    plan = planned([3, 1, 2, 2, 4, 1, 1])
    whole = assigned_batches(plan, 3)
    dealt, start = remaining_batches(plan, 3, [(3, 2)])
    assert start == 2
    assert [batches(dealt, rank, start) for rank in range(3)] == [batches(whole, rank)[2:] for rank in range(3)]


@pytest.mark.parametrize("planner", [TokenBudgetPlanner(max_tokens=512), RandomPlanner(batch_size=16)])
@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_get_batches_of_similar_cost(planner: TokenBudgetPlanner | RandomPlanner, world_size: int) -> None:
    source = np.random.default_rng(1).geometric(0.08, 20_000).clip(max=100)
    lengths = Lengths.of(source, (source * 1.2).astype(np.int32))
    plan = planner.plan(lengths, seed=0, epoch=0)
    positions = max_lengths(plan, lengths).sum(axis=1)
    balance = {}
    for name, known in (("known", positions), ("unknown", None)):
        dealt = assigned_batches(plan, world_size, positions=known)
        cost = ((dealt.ends - dealt.starts) * positions[dealt.cut]).reshape(-1, world_size)
        balance[name] = float((cost.max(axis=1) / cost.mean(axis=1)).mean())
    assert balance["known"] < min(balance["unknown"], 1.12)
