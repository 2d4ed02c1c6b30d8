"""Groups of pairs for attention: the cheapest cuts of the order by length, compared with all cuts."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from mtx.training.reference.attention_groups import GROUP_COST, attention_groups


def cost(groups: list[Any], queries: np.ndarray, keys: np.ndarray) -> int:
    return sum(len(pairs) * int(queries[pairs].max()) * int(keys[pairs].max()) + GROUP_COST for pairs in groups)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_cut_of_the_order_by_length_costs_less(seed: int) -> None:
    random = np.random.default_rng(seed)
    queries = np.rint(4 * 1.45 ** np.arange(11)).astype(np.int64)  # no two lengths share a class
    keys = queries + random.integers(0, 3, 11)
    order = random.permutation(11)
    queries, keys = queries[order], keys[order]
    found = attention_groups(queries, keys)
    assert np.sort(np.concatenate(found)).tolist() == list(range(11))
    by_length = np.argsort(queries + keys)
    least = min(
        cost([by_length[begin:end] for begin, end in zip((0, *cuts), (*cuts, 11), strict=True)], queries, keys)
        for number in range(11)
        for cuts in combinations(range(1, 11), number)
    )
    assert cost(found, queries, keys) == least
    assert 1 < len(found) < 11


def test_short_pairs_share_a_group_and_long_ones_have_their_own() -> None:
    queries, keys = np.array([3, 100, 5, 4, 102, 0]), np.array([4, 101, 3, 0, 100, 7])
    assert [pairs.tolist() for pairs in attention_groups(queries, keys)] == [[0, 2, 3], [1, 4]]


def test_no_pair_has_queries() -> None:
    assert attention_groups(np.zeros(2, np.int64), np.ones(2, np.int64)) == []
