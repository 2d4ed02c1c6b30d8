"""`OrderScorer`: n-gram counts by hand, leave-one-out, and shuffled words."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.score.ngram_counts import NgramCounts, Ngrams
from mtx.data.score.order import OrderModel, OrderScorer
from mtx.data.score.scorer import LeaveOutModel


def ngrams(*texts: list[int]) -> Ngrams:
    ids = np.array([token for text in texts for token in text], dtype=np.uint16)
    return Ngrams.of(np.array([len(text) for text in texts], dtype=np.int64), ids)


def batch(targets: list[str]) -> pa.RecordBatch:
    columns = {"src": [""] * len(targets), "tgt": targets}
    return pa.record_batch({name: pa.array(of, pa.large_string()) for name, of in columns.items()})


def test_ngrams_have_two_begins_and_one_end() -> None:
    found = ngrams([10, 11], [])
    assert found.rows.tolist() == [0, 0, 0, 1]
    assert found.tokens.tolist() == [10, 11, 2, 2]
    triples = [(key >> 32, key >> 16 & 0xFFFF, key & 0xFFFF) for key in found.triples.tolist()]
    assert triples == [(1, 1, 10), (1, 10, 11), (10, 11, 2), (1, 1, 2)]
    assert found.contexts(2).tolist() == [1, 10, 11, 1]
    empty = ngrams()
    assert len(empty.tokens) == 0


def test_gains_by_hand_with_and_without_own_counts() -> None:
    """Texts 10 11 and 10 12 of a vocabulary of 13 tokens; 6 positions with the two EOS."""
    texts = ngrams([10, 11], [10, 12])
    counts = NgramCounts.of([texts], 13)
    one, nothing = ngrams([10, 11]), ngrams([10, 11]).with_rows(np.array([False]))
    unigram = np.array([3, 2, 3]) / (6 + 13)
    pair = (np.array([2, 1, 1]) + 2 * unigram) / (np.array([2, 2, 1]) + 2)
    triple = (np.array([2, 1, 1]) + 2 * pair) / (np.array([2, 2, 1]) + 2)
    np.testing.assert_allclose(counts.gains(one, nothing), np.log(triple / unigram))
    unigram = np.array([2, 1, 2]) / (3 + 13)
    pair = (np.array([1, 0, 0]) + 2 * unigram) / (np.array([1, 1, 0]) + 2)
    triple = (np.array([1, 0, 0]) + 2 * pair) / (np.array([1, 1, 0]) + 2)
    np.testing.assert_allclose(counts.gains(one, one), np.log(triple / unigram))


def test_a_stream_is_counted_in_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts = [ngrams([10, 11 + n % 2], [10]) for n in range(9)]
    whole = tmp_path / "whole"
    whole.mkdir()
    NgramCounts.of(texts, 13).save(whole)
    monkeypatch.setattr("mtx.data.score.ngram_counts.LEAST_NEW_NGRAMS", 1)
    NgramCounts.of(iter(texts), 13).save(tmp_path)
    for file in whole.glob("*.npy"):
        assert np.array_equal(np.load(file), np.load(tmp_path / file.name)), file.name
    assert np.load(tmp_path / "ngrams_1_counts.npy").tolist() == [18, 18, 5, 4]


def sentences(num: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    parts = (
        ("der", "ein", "kein"),
        ("alte", "neue", "rote"),
        ("Hund", "Baum", "Weg"),
        ("steht", "geht"),
        ("hier", "dort"),
    )
    return [" ".join(rng.choice(words) for words in parts) for _ in range(num)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OrderModel:
    folder = tmp_path_factory.mktemp("order")
    OrderScorer().train(lambda: iter([batch(sentences(200, 0)), batch(["", "seltsam ganz anders"])]), folder)
    return OrderScorer().load(folder)


def scored(model: OrderModel, targets: list[str], *, in_sample: bool = False) -> np.ndarray:
    found: np.ndarray = model.scores(batch(targets), np.full(len(targets), in_sample))["score"].to_numpy()
    return found


def test_shuffled_words_have_lower_scores(model: OrderModel) -> None:
    good = sentences(100, 1)
    shuffled = [" ".join(random.Random(number).sample(text.split(), 5)) for number, text in enumerate(good)]
    assert np.mean(scored(model, good)[:, None] > scored(model, shuffled)) > 0.95


def test_a_target_of_the_sample_does_not_know_itself(model: OrderModel) -> None:
    rare = "seltsam ganz anders"
    assert scored(model, [rare], in_sample=True)[0] < 0.5 * scored(model, [rare])[0]
    assert isinstance(model, LeaveOutModel)
    both = {"src": [""], "tgt": ["der alte Hund"], "other_tgt": [rare]}
    originals = pa.record_batch({name: pa.array(of, pa.large_string()) for name, of in both.items()})
    found = model.scores_without(batch([rare]), originals, np.array([True]))["score"].to_numpy()
    np.testing.assert_allclose(found, scored(model, [rare], in_sample=True), rtol=0.05)


def test_the_target_of_another_pair_is_taken_off_by_its_own_membership(model: OrderModel) -> None:
    (target,) = sentences(1, seed=0)
    originals = batch(["unknown"]).append_column("other_tgt", pa.array([target], pa.large_string()))
    found = model.scores_without(batch([target]), originals, np.array([False]))
    assert found["score"] == model.scores(batch([target]), np.array([True]))["score"]


def test_empty_and_nasty_targets(model: OrderModel, tmp_path: Path) -> None:
    found = scored(model, ["", "\0", "彼は東京都に住んでいます", "x" * 100_000, "e\u0301"], in_sample=True)
    assert np.isnan(found).tolist() == [True, False, False, False, False]
    OrderScorer().train(lambda: iter([batch([""])]), tmp_path)
    assert np.isnan(scored(OrderScorer().load(tmp_path), ["", "a"])).tolist() == [True, False]
