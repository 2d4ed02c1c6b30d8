"""Pools: all rows, about the same lengths in each, others together in each epoch."""

import numpy as np
import pytest

from mtx.batches.plan.planner import Lengths
from mtx.batches.plan.pools import length_pools
from mtx.batches.plan.same_length_classes import LengthClasses, length_classes


def classes_of(source: list[int], target: list[int]) -> LengthClasses:
    lengths = Lengths.of(source, target)
    return length_classes(lengths, np.arange(len(lengths), dtype=np.int32), multiple=1, limit=1000)


SEVEN = classes_of([1, 9, 4, 1, 6, 9, 2], [1, 9, 4, 1, 6, 9, 2])


def test_rows_are_dealt_from_short_to_long() -> None:
    pools = length_pools(SEVEN, 3, None)  # sorted: rows 0, 3 (1), 6 (2), 2 (4), 4 (6), 1, 5 (9)
    assert [members.tolist() for members in pools.members] == [[0, 3, 6], [1, 4], [2, 5]]
    order = np.arange(len(SEVEN))
    assert pools.rows(order, None).tolist() == [0, 2, 5, 4, 3, 6, 1], "the second pool goes from long to short"
    runs = pools.runs(order)
    assert runs.source.tolist() == [1, 4, 9, 6, 1, 2, 9]
    assert runs.count.tolist() == [1] * 7
    assert [pools.count(pool).sum() for pool in range(3)] == [3, 2, 2]


@pytest.mark.parametrize("window", [None, 7, 8])
def test_one_pool_has_all_rows(window: int | None) -> None:
    pools = length_pools(SEVEN, window, np.random.default_rng(0))
    assert pools.count(0).tolist() == SEVEN.count.tolist()
    assert sorted(pools.rows(np.arange(len(SEVEN)), None).tolist()) == list(range(7))


def test_random_deals_bring_other_rows_together_in_pools_of_the_same_cost() -> None:
    length = np.random.default_rng(0).permutation(np.arange(1, 901)).tolist()
    classes = classes_of(length, length)
    deals = []
    for seed in range(2):
        pools = length_pools(classes, 100, np.random.default_rng(seed))
        assert sorted(np.concatenate(pools.members).tolist()) == list(range(900))
        assert [len(members) for members in pools.members] == [100] * 9
        total = [int((pools.count(pool) * classes.source).sum()) for pool in range(9)]
        assert max(total) < 1.02 * min(total)
        deals.append({frozenset(members.tolist()) for members in pools.members})
    assert not deals[0] & deals[1]
    assert max(len(one & other) for one in deals[0] for other in deals[1]) < 40
