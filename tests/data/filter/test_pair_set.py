from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.filter import pair_set
from mtx.data.filter.pair_set import PairSet


def add(pairs: PairSet, texts: list[tuple[str, str]]) -> list[bool]:
    sides = zip(*texts, strict=True) if texts else ((), ())
    return list(pairs.add(*(pa.array(list(side), pa.large_string()) for side in sides)))


def test_tells_new_pairs_from_those_of_the_same_and_of_earlier_calls() -> None:
    pairs = PairSet()
    assert add(pairs, [("a", "b"), ("b", "a"), ("a", "b"), ("", ""), ("a", "c")]) == [True, True, False, True, True]
    assert add(pairs, []) == []
    assert add(pairs, [("", ""), ("a", "d"), ("a", "c"), ("a", "d")]) == [False, True, False, False]


def test_nothing_is_forgotten_while_the_table_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_set, "SLOTS_PER_MOVE", 1000)
    pairs = PairSet()
    first = [(str(i), "x") for i in range(20_000)]
    assert all(add(pairs, first))
    assert len(pairs._slots) == 32_768
    assert not any(add(pairs, first))


def test_the_table_doubles_when_it_would_be_more_than_two_thirds_full() -> None:
    pairs = PairSet()
    add(pairs, [(str(i), "x") for i in range(2000)])
    add(pairs, [(str(i), "x") for i in range(2000, 2730)])
    assert len(pairs._slots) == 4096
    add(pairs, [("2730", "x")])
    assert len(pairs._slots) == 8192


@settings(max_examples=100, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=6))
def test_equals_a_python_set_where_every_pair_wants_the_same_slot(batches: list[list[int]]) -> None:
    def crowded(source: pa.Array, _target: pa.Array) -> np.ndarray:
        low = np.array([int(text) + 1 for text in source.to_pylist()], dtype=np.uint64)
        return np.stack([np.full_like(low, 2**64 - 1), low], axis=1)  # high bits choose the last slot

    known: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_set, "pair_hashes", crowded)
        patch.setattr(pair_set, "MIN_SLOTS", 4)
        pairs = PairSet()
        for batch in batches:
            expected = [number not in batch[:i] and number not in known for i, number in enumerate(batch)]
            assert add(pairs, [(str(number), "") for number in batch]) == expected
            known.update(batch)


def test_pairs_whose_hashes_end_alike_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def alike(source: pa.Array, _target: pa.Array) -> np.ndarray:
        high = np.array([int(text) for text in source.to_pylist()], dtype=np.uint64)
        return np.stack([high, np.full_like(high, 7)], axis=1)

    monkeypatch.setattr(pair_set, "pair_hashes", alike)
    assert add(PairSet(), [("1", ""), ("2", ""), ("1", "")]) == [True, True, False]


def test_a_hash_of_zero_which_stands_for_a_free_slot_is_remembered_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_set, "xxh3_128_digest", lambda _text: bytes(16))
    pairs = PairSet()
    assert add(pairs, [("a", "b")]) == [True]
    assert add(pairs, [("a", "b")]) == [False]


@settings(max_examples=30, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 60), max_size=30), max_size=8), high_bits=st.sampled_from([0, 3, 64]))
def test_a_set_that_writes_full_tables_to_files_equals_a_python_set(batches: list[list[int]], high_bits: int) -> None:
    def made(source: pa.Array, _target: pa.Array) -> np.ndarray:
        low = np.array([int(text) + 1 for text in source.to_pylist()], dtype=np.uint64)
        mixed = low * np.uint64(0x9E3779B97F4A7C15)
        high = mixed >> np.uint64(64 - high_bits) if 0 < high_bits < 64 else mixed * np.uint64(high_bits > 0)
        return np.stack([high, low], axis=1)  # several hashes with one first half, or all of them

    known: set[int] = set()
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(pair_set, "pair_hashes", made)
        patch.setattr(pair_set, "MIN_SLOTS", 4)
        pairs = PairSet(Path(folder), max_bytes=16 * pair_set.BYTES_PER_SLOT)
        for batch in batches:
            expected = [number not in batch[:i] and number not in known for i, number in enumerate(batch)]
            assert add(pairs, [(str(number), "") for number in batch]) == expected
            known.update(batch)
        assert not list(Path(folder).iterdir()), "temporary files have no name"


def test_a_table_for_the_expected_pairs_does_not_grow(tmp_path: Path) -> None:
    pairs, others = PairSet(num_pairs=20_000), PairSet(tmp_path, num_pairs=20_000)
    texts = [(str(i), "x") for i in range(20_000)]
    for each in (pairs, others):
        assert len(each._slots) == 32_768
        assert all(all(add(each, texts[start : start + 500])) for start in range(0, 20_000, 500))
        assert len(each._slots) == 32_768
        assert not any(add(each, texts))


@pytest.mark.parametrize("expected", [0, 20_000])
def test_the_table_stays_within_its_memory(tmp_path: Path, expected: int) -> None:
    pairs = PairSet(tmp_path, 4096 * pair_set.BYTES_PER_SLOT, expected)
    batches = [[(str(i), "x") for i in range(first, first + 500)] for first in range(0, 20_000, 500)]
    assert all(all(add(pairs, batch)) for batch in batches)
    assert len(pairs._slots) == 4096
    assert not any(any(add(pairs, batch)) for batch in batches)


@pytest.mark.parametrize("least", [0, 1 << 40])
def test_numpy_and_the_compiled_kernel_find_the_same(monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    monkeypatch.setattr(pair_set, "LEAST_COMPILED_SLOTS", least)
    rng = np.random.default_rng(3)
    crowded = np.uint64(0xFFFF_FFFF_0000_0000) + rng.integers(0, 12, (2_000, 2), dtype=np.uint64)
    spread = rng.integers(1, 2**64, (30_000, 2), dtype=np.uint64)
    hashes = np.concatenate([crowded, spread, spread[::3], np.array([[0, 1], [1, 0], [0, 1]], dtype=np.uint64)])
    hashes = hashes[rng.permutation(len(hashes))]
    pairs = PairSet()
    first: dict[tuple[int, ...], int] = {}
    for number, pair in enumerate(map(tuple, hashes.tolist())):
        first.setdefault(pair, number)
    expected = np.isin(np.arange(len(hashes)), list(first.values())).tolist()
    found = [pairs.add_hashes(hashes[start : start + 700]) for start in range(0, len(hashes), 700)]
    assert np.concatenate(found).tolist() == expected
