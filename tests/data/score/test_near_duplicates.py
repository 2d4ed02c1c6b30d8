"""Near-duplicates: the Jaccard index by hand and by brute force, clusters, memory budgets, and bad input."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import mtx.data.score.near_duplicate_search as search
from mtx.data.score.minhash import MinHash, ngram_hashes
from mtx.data.score.near_duplicate_search import NearDuplicateSearch, least_memory_gb
from mtx.data.score.near_duplicates import BANDS, NGRAM, ROWS_PER_BAND, NearDuplicatesScorer
from mtx.data.score.normal_form import normal_pairs
from mtx.errors import ConfigError
from mtx.testing import check_scorer

MINHASH = MinHash(NGRAM, BANDS, ROWS_PER_BAND)
WORDS = [f"{name}ing" for name in "abcdefghijklmnopqr"] + ["houses", "villages"]


def table(*pairs: tuple[str, str]) -> pa.Table:
    schema = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
    return pa.Table.from_pylist([{"src": src, "tgt": tgt} for src, tgt in pairs], schema=schema)


def scored(*pairs: tuple[str, str], **options: Any) -> dict[str, list[Any]]:
    return check_scorer(NearDuplicatesScorer(**options), table(*pairs)).to_pydict()


def corpus(num_pairs: int = 1500) -> pa.Table:
    """Return pairs of which many are edits of others: words replaced, in Latin script and in one without spaces."""
    rng = random.Random(5)
    pairs: list[tuple[str, str]] = []
    for _ in range(num_pairs):
        if pairs and rng.random() < 0.6:
            words = rng.choice(pairs)[0].split()
            for _ in range(rng.randrange(3)):
                words[rng.randrange(len(words))] = rng.choice(WORDS)
        else:
            words = rng.choices(WORDS, k=rng.randrange(3, 30))
        pairs.append((" ".join(words), "".join(chr(0x3042 + WORDS.index(word.lower())) for word in words)))
    return table(*pairs)


def exact(pairs: pa.Table) -> np.ndarray:
    """Return the Jaccard index of all pairs of rows by their sets of n-grams."""
    texts = normal_pairs(pairs.combine_chunks().to_batches()[0])
    grams, starts = ngram_hashes(texts.codes, texts.offsets, NGRAM)
    _, numbers = np.unique(grams, return_inverse=True)
    found = np.zeros((len(pairs), numbers.max() + 1), dtype=np.float32)
    found[np.repeat(np.arange(len(pairs)), np.diff(starts)), numbers] = 1
    shared, sizes = found @ found.T, found.sum(axis=1)
    return shared / (sizes[:, None] + sizes - shared)


def test_the_score_is_minus_the_jaccard_index_with_an_earlier_pair() -> None:
    # 12345678 + separator + x has the 5-grams 12345 … 45678, 5678|, 678|x; with 9 instead of 8 three of six differ.
    found = scored(("12345678", "x"), ("12345679", "x"), ("other text", "y"), ("12345678", "X "), ngram=5)
    assert found["score"] == [0.0, 0.0, 0.0, -1.0], "3 of 9 is below 0.5"
    assert found["cluster"] == [0, 1, 2, 0]
    assert found["size"] == [2, 1, 1, 2]
    long = "abcdefghijklmnopqrstuvwxyz"
    # 26 letters, separator and one letter: 24 5-grams. A changed last letter of the source changes three of them.
    found = scored((long, "x"), (long[:-1] + "!", "x"), bands=64, rows_per_band=1)
    assert found["score"] == [0.0, -(24 - 3) / (24 + 3)]
    assert found["size"] == [1, 1], "21 of 27 is below 0.8"
    assert scored((long, "x"), (long[:-1] + "!", "x"), bands=64, rows_per_band=1, min_jaccard=0.77)["size"] == [2, 2]


def test_texts_of_any_script_and_size() -> None:
    line = "x" * 100_000
    pairs = [("", ""), (line, line), ("שָׁלוֹם", "\x00"), ("日本語の文です", "と")]
    found = scored(*pairs, ("", ""), (line, line + "x"), ("日本語の文です", "と"))
    assert found["score"] == [0.0, 0.0, 0.0, 0.0, -1.0, -1.0, -1.0]
    assert found["cluster"] == [0, 1, 2, 3, 0, 1, 3]
    assert scored(("a", "b")) == {"score": [0.0], "cluster": [0], "size": [1]}


def test_compiled_kernels_and_numpy_agree() -> None:
    texts = normal_pairs(corpus(80).combine_chunks().to_batches()[0])
    compiled, plain = (MINHASH.band_hashes(texts.codes, texts.offsets, compiled=flag) for flag in (True, False))
    np.testing.assert_array_equal(compiled[0], plain[0])
    np.testing.assert_array_equal(compiled[1], plain[1])
    one, other = (np.random.default_rng(0).integers(0, 80, 500) for _ in range(2))
    found = [MINHASH.jaccard(texts.codes, texts.offsets, one, other, compiled=flag) for flag in (True, False)]
    np.testing.assert_array_equal(*found)
    assert (found[0] > 0).any()


def test_pairs_above_the_bound_are_found_and_verified_exactly(tmp_path: Path) -> None:
    pairs = corpus()
    indices = exact(pairs)
    found = NearDuplicateSearch(MINHASH, 0.8, 2.0).find(lambda: iter(pairs.to_batches()), len(pairs), tmp_path)
    earlier = np.tril(indices, -1)
    similar = earlier.max(axis=1) >= 0.8
    assert similar.sum() > 300
    assert np.mean(found.highest[similar] >= 0.8) >= 0.99
    # Each value that is found is the index of some earlier pair.
    for row in np.flatnonzero(found.highest):
        assert np.abs(earlier[row] - found.highest[row]).min() < 1e-6
    ends = indices[np.arange(len(pairs)), found.cluster]
    assert ends[found.size == 2].min() >= 0.8 - 1e-6
    sizes = np.bincount(found.cluster, minlength=len(pairs))
    np.testing.assert_array_equal(sizes[found.cluster], found.size)
    np.testing.assert_array_equal(found.cluster[found.cluster], found.cluster)


def test_a_small_memory_budget_spills_to_files_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = corpus(400)

    def batches() -> Iterator[pa.RecordBatch]:
        return iter(pairs.to_batches(150))

    results = []
    monkeypatch.setattr(search, "WORKING_BYTES", 0)
    for memory_gb, per_pair in (
        (2.0, 72),
        (0.001, 2400),
    ):  # leaves room for about 100 candidates
        monkeypatch.setattr(search, "BYTES_PER_PAIR", per_pair)
        folder = tmp_path / str(memory_gb)
        folder.mkdir()
        results.append(NearDuplicateSearch(MINHASH, 0.8, memory_gb).find(batches, len(pairs), folder))
        assert not [path for path in folder.rglob("*") if path.is_file()], "files are removed when they are read"
    for name in ("highest", "cluster", "size"):
        np.testing.assert_array_equal(*(getattr(result, name) for result in results))


def test_a_memory_budget_that_is_too_small_names_the_least_one(tmp_path: Path) -> None:
    pairs = table(("a", "b"))
    least = least_memory_gb(1)
    with pytest.raises(ConfigError, match=rf"at least {least} GB .* Set score.near_duplicates.memory_gb={least} or"):
        NearDuplicateSearch(MINHASH, 0.8, least - 0.001).find(lambda: iter(pairs.to_batches()), 1, tmp_path)
    NearDuplicateSearch(MINHASH, 0.8, least).find(lambda: iter(pairs.to_batches()), 1, tmp_path)
    with pytest.raises(ConfigError, match="among at most 4,294,967,295 pairs, but there are 4,294,967,296"):
        NearDuplicateSearch(MINHASH, 0.8, 2000.0).find(lambda: iter(()), 1 << 32, tmp_path)


def test_a_budget_beyond_the_memory_of_the_machine_is_no_error(tmp_path: Path) -> None:
    pairs = table(("a", "b"), ("a", "b"))
    found = NearDuplicateSearch(MINHASH, 0.8, 2e6).find(lambda: iter(pairs.to_batches()), 2, tmp_path)
    assert found.highest.tolist() == [0, 1]


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"score.near_duplicates.min_jaccard is a number from 0.5 to 1, but is 0.2"):
        NearDuplicatesScorer(min_jaccard=0.2)
    assert NearDuplicatesScorer(memory_gb=0.5).identity_fields() == NearDuplicatesScorer().identity_fields()
