"""Candidate pairs in memory and in a file: the same pairs, in pieces within the budget."""

from pathlib import Path

import numpy as np
import pytest

from mtx.data.score import candidate_pairs
from mtx.data.score.candidate_pairs import CandidatePairs

NUM_ROWS = 50


@pytest.mark.parametrize("num_parts", [2, 256])
@pytest.mark.parametrize("budget", [10**6, 40, 8])
def test_pieces_have_each_pair_once_in_order_and_about_the_budget(
    budget: int, num_parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate_pairs, "LEAST_PAIRS", 1)
    monkeypatch.setattr(candidate_pairs, "NUM_PARTS", num_parts)
    rng = np.random.default_rng(0)
    later, earlier = rng.integers(1, NUM_ROWS, 400).astype(np.uint64), rng.integers(0, 20, 400).astype(np.uint64)
    pairs = (later << np.uint64(32)) | earlier
    kept = CandidatePairs(tmp_path / "pairs.bin", NUM_ROWS, 2 * 8 * budget)
    for part in np.split(pairs, 20):
        kept.append(part)
    pieces = list(kept.pieces())
    assert np.array_equal(np.concatenate(pieces), np.unique(pairs))
    assert (tmp_path / "pairs.bin").exists() == (budget < 400)
    rows = [set((piece >> np.uint64(32)).tolist()) for piece in pieces]
    assert sum(map(len, rows)) == len(set.union(*rows)), "a row belongs to one piece"
    for piece, of in zip(pieces, rows, strict=True):
        assert len(piece) <= 2 * budget or len(of) == 1


def test_equal_pairs_take_memory_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_pairs, "LEAST_PAIRS", 1)
    kept = CandidatePairs(tmp_path / "pairs.bin", NUM_ROWS, 2 * 8 * 10)
    for _ in range(100):
        kept.append(np.array([1 << 32, 2 << 32], dtype=np.uint64))
    assert not (tmp_path / "pairs.bin").exists()
    assert [piece.tolist() for piece in kept.pieces()] == [[1 << 32, 2 << 32]]


def test_no_pairs_are_one_empty_piece(tmp_path: Path) -> None:
    assert [len(piece) for piece in CandidatePairs(tmp_path / "pairs.bin", 0, 0).pieces()] == [0]
