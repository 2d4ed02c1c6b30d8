"""The (source, target) sort that other planners are compared with."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.plan.planner import Lengths, padding_ratios
from mtx.batches.plan.sorted import SortedPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner


def test_rows_are_sorted_by_source_then_target_and_cut_when_the_next_would_exceed_the_budget() -> None:
    lengths = Lengths.of([3, 5, 3, 9, 5, 3], [6, 5, 4, 8, 6, 4])
    plan = SortedPlanner(max_tokens=12, shuffle=False).plan(lengths, seed=0, epoch=0)
    # (3, 4) (3, 4) make 8; (3, 6) with them would make 18, and with (5, 5) it makes 12.
    assert [rows.tolist() for rows in plan] == [[2, 5], [0, 1], [4], [3]]


def test_epochs_permute_rows_of_equal_lengths_only() -> None:
    lengths = Lengths.of([2] * 6 + [4] * 3)
    for epoch in range(3):
        plan = SortedPlanner(max_tokens=12).plan(lengths, seed=0, epoch=epoch)
        assert sorted(sorted(rows.tolist()) for rows in plan) == [[0, 1, 2, 3, 4, 5], [6, 7, 8]]


pairs = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=60)


@settings(deadline=None)
@given(rows=pairs, max_tokens=st.integers(12, 60), max_pairs=st.one_of(st.none(), st.integers(1, 4)))
def test_cuts_are_those_of_a_loop_over_rows(
    rows: list[tuple[int, int]], max_tokens: int, max_pairs: int | None
) -> None:
    expected: list[list[tuple[int, int]]] = [[]]
    for row in sorted(rows):
        batch = [*expected[-1], row]
        longest = max(max(pair) for pair in batch)
        if len(batch) * longest > max_tokens or len(batch) > (max_pairs or len(batch)):
            expected.append([])
        expected[-1].append(row)
    planner = SortedPlanner(max_tokens=max_tokens, max_pairs=max_pairs, shuffle=False)
    plan = planner.plan(Lengths.of(*zip(*rows, strict=True)), seed=0, epoch=0)
    assert [[rows[number] for number in batch] for batch in plan] == expected


def test_it_pads_far_more_than_the_token_budget_planner() -> None:
    random = np.random.default_rng(0)
    source = np.clip(random.lognormal(2, 0.8, 20_000), 1, 200).astype(int)
    target = np.clip(source * random.lognormal(0, 0.3, 20_000), 1, 200).astype(int)
    lengths = Lengths.of(source, target)
    by_sort, by_budget = (
        padding_ratios(planner.plan(lengths, seed=0, epoch=0), lengths)["padding_ratio"]
        for planner in (SortedPlanner(), TokenBudgetPlanner())
    )
    assert by_budget < 0.7 * by_sort
