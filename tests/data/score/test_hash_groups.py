"""Groups of rows by hash, in parts: the same as in one piece, and as other libraries find."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mtx.data.score import hash_groups
from mtx.data.score.hash_groups import (
    cluster_sizes,
    distinct_rows,
    first_equal_rows,
    join_clusters,
    pairs_with_one_hash,
)

HALF = 1 << 32
HASHES = st.lists(st.sampled_from([0, 1, 2, HALF, HALF + 1, HALF - 1, (1 << 64) - 1, 1 << 63]), max_size=60)


@pytest.fixture(params=[1, 3, 1 << 22], autouse=True)
def rows_per_part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_groups, "ROWS_PER_PART", request.param)


@given(HASHES)
def test_the_first_row_with_the_hash_of_each_row(hashes: list[int]) -> None:
    found = first_equal_rows(np.array(hashes, dtype=np.uint64))
    assert found.dtype == np.uint32
    assert found.tolist() == [hashes.index(each) for each in hashes]
    assert distinct_rows(found).tolist() == sorted({hashes.index(each) for each in hashes})


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5))
def test_each_row_is_paired_with_some_rows_of_its_hash_before_it(hashes: list[int], most: int) -> None:
    keys = np.array([HALF * each + row for row, each in enumerate(hashes)], dtype=np.uint64)
    keys.sort()
    pairs = [divmod(int(key), HALF) for part in pairs_with_one_hash(keys, most) for key in part]
    same = {each: [row for row, other in enumerate(hashes) if other == each] for each in hashes}
    expected = [(row, rows[at - back]) for rows in same.values() for at, row in enumerate(rows)
                for back in range(1, min(at, most) + 1)]  # fmt: skip
    assert sorted(pairs) == sorted(expected)


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*2 * [st.integers(0, n - 1)])))))
def test_clusters_are_the_connected_components(case: tuple[int, list[tuple[int, int]]]) -> None:
    n, links = case
    of_links = np.array([HALF * max(link) + min(link) for link in links], dtype=np.uint64)
    # Two calls give what one call with all links gives.
    cluster = join_clusters(np.arange(n, dtype=np.uint32), of_links[: len(links) // 2])
    cluster = join_clusters(cluster, of_links[len(links) // 2 :])
    ends = np.array(links, dtype=np.int64).reshape(-1, 2)
    _, label = connected_components(coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n)))
    first, of_row, sizes = np.unique(label, return_index=True, return_counts=True)[1], label, np.bincount(label)
    assert cluster.tolist() == first[of_row].tolist()
    assert cluster_sizes(cluster).tolist() == sizes[of_row].tolist()


def test_a_row_takes_few_bytes_while_groups_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_groups, "ROWS_PER_PART", 1 << 12)
    n = 1 << 18
    rng = np.random.default_rng(0)
    of_row = rng.integers(0, 1 << 64, n, dtype=np.uint64)
    of_row[rng.random(n) < 0.2] = of_row[0]
    keys = (of_row & np.uint64(0xFFFFFFFF00000000)) | np.arange(n, dtype=np.uint64)
    keys.sort()
    links = np.stack([np.arange(1, n, 7), np.arange(0, n - 1, 7)]).astype(np.uint64)
    tracemalloc.start()
    try:
        for name, least, find in (
            ("first rows", 20, lambda: first_equal_rows(of_row)),  # beside the hashes
            ("distinct rows", 13, lambda: distinct_rows(np.arange(n, dtype=np.uint32))),
            ("pairs", 4, lambda: [len(part) for part in pairs_with_one_hash(keys, 2)]),
            ("clusters", 20, lambda: join_clusters(np.arange(n, dtype=np.uint32), (links[0] << 32) | links[1])),
            ("sizes", 24, lambda: cluster_sizes(np.arange(n, dtype=np.uint32))),
        ):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            find()
            assert (tracemalloc.get_traced_memory()[1] - before) / n < least, name
    finally:
        tracemalloc.stop()
