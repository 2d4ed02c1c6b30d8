"""Buckets by hand: where they end, who shares a batch, what is left over."""

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.plan.bucket import BucketPlanner
from mtx.batches.plan.planner import Lengths, Plan, padding_ratios


def batches(plan: Plan) -> list[list[int]]:
    return [rows.tolist() for rows in plan]


def edges(lengths: list[int], **options: Any) -> list[int]:
    return BucketPlanner(**{"batch_size": 1, **options}).edges(np.array(lengths, dtype=np.int32)).tolist()


def test_ten_pairs_by_hand() -> None:
    #                      0  1  2  3  4  5  6  7  8  9
    lengths = Lengths.of([5, 1, 9, 2, 4, 1, 8, 2, 5, 9], [1, 1, 3, 1, 2, 2, 2, 9, 4, 1])
    planner = BucketPlanner(batch_size=2, boundaries=[2, 5], by="source", shuffle=False)
    # up to 2: 1, 3, 5, 7, by target 1, 3, 5, 7; up to 5: 0, 4, 8, in full batches 0, 4; above: 2, 6, 9, 2 after 6
    assert batches(planner.plan(lengths, seed=0, epoch=0)) == [[1, 3], [5, 7], [0, 4], [8], [6, 2], [9]]


@pytest.mark.parametrize("by", ["source", "target", "max"])
def test_a_draft_tells_where_its_buckets_end(by: Any) -> None:
    lengths = Lengths.of([1, 1, 2, 3, 3, 9], [7, 7, 8, 8, 9, 9])
    draft = BucketPlanner(batch_size=1, num_buckets=9, by=by).draft(lengths)
    # a bucket for each length, as there are few; the longer sides are 7, 7, 8, 8, 9, 9
    expected = {"source": {"source": [1, 2, 3]}, "target": {"target": [7, 8]}}
    assert draft.edges(seed=0, epoch=3) == expected.get(by, {"source": [7, 8], "target": [7, 8]})


def test_only_the_rows_of_a_pool_are_ordered() -> None:
    lengths = Lengths.of([5, 5, 5, 5], [4, 3, 2, 1])
    planner = BucketPlanner(batch_size=1, by="source", pool_batches=2, shuffle=False)
    assert batches(planner.plan(lengths, seed=0, epoch=0)) == [[1], [0], [3], [2]]


def test_what_fills_no_batch_is_dropped_and_counted() -> None:
    lengths = Lengths.of([1, 1, 1, 9, 9])
    plan = BucketPlanner(batch_size=2, boundaries=[5], drop_last=True, shuffle=False).plan(lengths, seed=0, epoch=0)
    assert batches(plan) == [[0, 1], [3, 4]]
    assert plan.dropped_remainder.tolist() == [2]


def test_every_row_of_a_bucket_is_left_over_at_some_time_and_none_always() -> None:
    draft = BucketPlanner(batch_size=4, boundaries=[5], drop_last=True).draft(Lengths.of([1, 2, 3, 4, 5, 9, 9]))
    dropped = [draft.plan(seed=0, epoch=epoch).dropped_remainder.tolist() for epoch in range(40)]
    assert {row for rows in dropped for row in rows} == {0, 1, 2, 3, 4, 5, 6}
    assert all(len(rows) == 3 for rows in dropped)
    assert {row for rows in dropped for row in rows if row < 5} == {0, 1, 2, 3, 4}
    assert all({5, 6} <= set(rows) for rows in dropped), "a bucket given by hand may never fill a batch"


@pytest.mark.parametrize(
    ("by", "groups"), [("source", [{0, 1}, {2, 3}]), ("target", [{0, 2}, {1, 3}]), ("max", [{0}, {1, 2, 3}])]
)
def test_the_side_that_decides(by: Any, groups: list[set[int]]) -> None:
    lengths = Lengths.of([1, 1, 9, 9], [1, 9, 1, 9])
    plan = BucketPlanner(batch_size=9, boundaries=[5], by=by).plan(lengths, seed=0, epoch=0)
    assert sorted(map(sorted, batches(plan))) == sorted(map(sorted, groups))


def test_few_different_lengths_are_buckets_of_their_own() -> None:
    assert edges([3, 3, 3, 7, 7, 20], num_buckets=3) == [3, 7]


def test_equal_mass_gives_buckets_of_as_many_tokens() -> None:
    # 1 × 6, 2 × 3, 3 × 2, 6 × 1, 12 × 1 are 6, 6, 6, 6 and 12 of 36 tokens: thirds end at 12 and 24
    lengths = [1] * 6 + [2] * 3 + [3] * 2 + [6, 12]
    assert edges(lengths, num_buckets=3) == [2, 6]


def test_geometric_buckets_grow_by_a_factor() -> None:
    assert edges(list(range(1, 82)), num_buckets=4, boundaries="geometric") == [3, 9, 27]


def test_optimal_buckets_pad_least() -> None:
    # {1, 2}, {8, 9, 10} wastes 1 × 5 + 2 + 1; any other edge at least 6 × 1 for the 2 or 10
    assert edges([1] * 5 + [2, 8, 9, 10], num_buckets=2, boundaries="optimal") == [2]


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=30),
    num_buckets=st.integers(1, 4),
    weight=st.integers(1, 9),
)
def test_optimal_is_what_trying_all_edges_gives(lengths: list[int], num_buckets: int, weight: int) -> None:
    lengths = lengths + [lengths[0]] * weight

    def wasted(ends: tuple[int, ...]) -> int:
        return sum(min(end for end in (*ends, max(lengths)) if end >= length) - length for length in lengths)

    found = tuple(edges(lengths, num_buckets=num_buckets, boundaries="optimal"))
    values = sorted(set(lengths))[:-1]
    tried = [ends for k in range(min(num_buckets, len(values) + 1)) for ends in combinations(values, k)]
    assert len(found) < num_buckets
    assert wasted(found) == min(map(wasted, tried))


def test_optimal_chooses_among_many_lengths_in_bounded_time() -> None:
    lengths = np.random.default_rng(0).integers(1, 100_000, 20_000).astype(np.int32)
    found = BucketPlanner(boundaries="optimal", num_buckets=16).edges(lengths)
    assert len(found) == 15
    assert np.all(np.diff(found) > 3000)


def test_a_bucket_too_small_for_a_batch_joins_the_next_and_the_last_the_one_before() -> None:
    lengths = [1] * 4 + [2] + [3] * 4 + [9]
    assert edges(lengths, batch_size=4) == [1]
    assert edges(lengths, batch_size=5) == [2]
    assert edges(lengths, batch_size=6) == []
    assert edges(lengths, batch_size=2) == [1]


def test_full_batches_never_mix_buckets_and_are_shuffled_within_and_across() -> None:
    lengths = Lengths.of(np.random.default_rng(0).integers(1, 101, 2000))
    draft = BucketPlanner(batch_size=8, boundaries=[25, 50, 75]).draft(lengths)
    plans = [draft.plan(seed=0, epoch=epoch) for epoch in range(2)]
    for plan in plans:
        buckets = [set(np.searchsorted([25, 50, 75], lengths.source[rows]).tolist()) for rows in plan]
        assert all(len(bucket) == 1 for bucket in buckets)
        followed = [min(bucket) for bucket in buckets]
        assert sum(a != b for a, b in pairwise(followed)) > len(plan) / 2
        assert len(plan) == len(draft)
    assert not {frozenset(rows.tolist()) for rows in plans[0]} & {frozenset(rows.tolist()) for rows in plans[1]}


@pytest.mark.parametrize("boundaries", ["equal_mass", "geometric", "optimal"])
def test_pools_and_buckets_save_padding(boundaries: Any) -> None:
    random = np.random.default_rng(0)
    source = np.exp(random.normal(2.3, 0.9, 20_000)).astype(np.int32) + 1
    lengths = Lengths.of(source, (source * np.exp(random.normal(0.1, 0.25, 20_000))).astype(np.int32) + 1)

    def ratio(**options: Any) -> float:
        return padding_ratios(BucketPlanner(boundaries=boundaries, **options).plan(lengths, seed=0, epoch=0), lengths)[
            "padding_ratio"
        ]

    one, plain, ordered = ratio(num_buckets=1, pool_batches=1), ratio(pool_batches=1), ratio()
    assert ordered < 0.8 * plain < 0.4 * one
