"""The packed-rows planner: rows of whole pairs, filled by best fit on the histogram of lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtx.batches.plan.histogram_packing import RowPattern, pattern_rows, row_patterns
from mtx.batches.plan.packed_rows import PackedRowsPlanner
from mtx.batches.plan.planner import Lengths, Plan, batch_shapes, padding_ratios, row_costs
from mtx.batches.plan.rank_assignment import assigned_batches, remaining_batches
from mtx.errors import ConfigError
from mtx.training.rank_balance import padded_tokens
from mtx.training.tunable_batch_size import min_budget, planner_budget, planner_with_budget


def causal_lengths(num_rows: int) -> Lengths:
    random = np.random.default_rng(3)
    return Lengths.of(np.clip(random.lognormal(3.6, 0.7, num_rows), 3, 400).astype(np.int32), [0] * num_rows)


def test_the_longest_sequences_come_first_and_go_where_the_least_room_is_left() -> None:
    counts = np.bincount([6, 5, 5, 3, 2, 2, 2])
    # 6 and 5, 5 open rows of 10 with 4 and 0 left; 3 goes into the room of 4; 2, 2, 2 open a row
    assert sorted(row_patterns(counts, 10), key=lambda row: row.lengths) == [
        RowPattern(1, (2, 2, 2)),
        RowPattern(1, (5, 5)),
        RowPattern(1, (6, 3)),
    ]
    lengths, offsets = pattern_rows([RowPattern(2, (5, 5)), RowPattern(1, (6, 3))])
    assert lengths.tolist() == [5, 5, 5, 5, 6, 3]
    assert offsets.tolist() == [0, 2, 4, 6]


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(30, 64))
def test_every_sequence_is_in_one_row_and_at_most_one_row_is_half_empty(lengths: list[int], capacity: int) -> None:
    patterns = row_patterns(np.bincount(lengths).astype(np.int64) if lengths else np.zeros(1, np.int64), capacity)
    rows = [row.lengths for row in patterns for _ in range(row.num_rows)]
    assert sorted(length for row in rows for length in row) == sorted(lengths)
    assert all(sum(row) <= capacity for row in rows)
    assert sum(2 * sum(row) <= capacity for row in rows) <= 1, "two such rows would be one"


def used_rows(plan: Plan, lengths: Lengths, width: int) -> list[int]:
    """Return how many rows of `width` each batch needs, if each row takes the next pairs as long as they fit."""
    found = []
    for batch in plan:
        rows, room = 0, 0
        for length in lengths.source[batch].tolist():
            if length > room:
                rows, room = rows + 1, width
            room -= length
        found.append(rows)
    return found


def test_all_batches_have_one_shape_and_hardly_any_padding() -> None:
    lengths = causal_lengths(20_000)
    draft = PackedRowsPlanner(row_tokens=1024, num_rows=4).draft(lengths)
    for epoch in range(2):
        plan = draft.plan(seed=0, epoch=epoch)
        assert len(plan) == len(draft)
        assert np.unique(batch_shapes(plan, lengths), axis=0).tolist() == [[4, 1024, 0]]
        assert padding_ratios(plan, lengths)["padding_ratio"] < 0.005
        assert max(used_rows(plan, lengths, 1024)) == 4, "the collate function finds no more rows than planned"


def test_ranks_get_disjoint_rows_of_equal_cost_and_another_number_of_ranks_can_finish() -> None:
    lengths = causal_lengths(900)
    plan = PackedRowsPlanner(row_tokens=512, num_rows=3).plan(lengths, seed=1, epoch=0)
    dealt = assigned_batches(plan, 2, positions=row_costs(plan, lengths))
    ranks = [list(dealt.items(rank=rank)) for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1])
    assert all(isinstance(item, tuple) and item[1] == (3, 512) for rank in ranks for item in rank)
    served = [row for rank in ranks for item in rank for row in item[0].tolist()]
    assert sorted(served) == list(range(900))
    assert set(padded_tokens(dealt, lengths).flat) == {3 * 512}
    rest, start = remaining_batches(plan, 1, [(2, 4)], positions=row_costs(plan, lengths))
    done = [row for rank in ranks for item in rank[:4] for row in item[0].tolist()]
    assert start == 0
    assert sorted([*done, *(row for item in rest.items(rank=0) for row in item[0].tolist())]) == list(range(900))


def test_pairs_longer_than_a_row_are_refused_by_number_and_length() -> None:
    planner, lengths = PackedRowsPlanner(row_tokens=100), Lengths.of([50, 101, 180, 300, 7], [0] * 5)
    excluded = np.array([False, False, False, True, False])
    with pytest.raises(
        ConfigError,
        match=r"sampler\.row_tokens=100 is smaller than 2 of 4 training pairs; the longest has 180 tokens, source and "
        r"target together\. Set sampler\.row_tokens=180 or more",
    ):
        planner.check_lengths(lengths, excluded=excluded)
    PackedRowsPlanner(row_tokens=180).check_lengths(lengths, excluded=excluded)


def test_the_finder_of_batch_sizes_sets_the_rows_of_a_batch() -> None:
    planner, lengths = PackedRowsPlanner(row_tokens=64, num_rows=4), Lengths.of([3, 5], [0, 0])
    assert planner_budget(planner) == 4
    assert planner_with_budget(planner, 9) == PackedRowsPlanner(row_tokens=64, num_rows=9)
    assert min_budget(planner, lengths, None) == 1
