"""Slices of held-out pairs: each pair is in one slice, at the right place, and nothing is lost."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mtx.evaluation.slices import category_slicing, decile_slicing, length_slicing, rarest_word_slicing
from mtx.records.held_out_sentences import complete_held_out, read_columns, write_likelihoods
from mtx.records.slice_sums import slice_columns, slice_report


def test_lengths_are_counted_in_characters_and_empty_slices_are_left_out() -> None:
    found = length_slicing(pa.array(["", "a" * 25, "é" * 26, "a" * 100_000]))
    assert found.labels == ("0 to 25 characters", "26 to 50", "more than 200")
    assert found.of_pair.tolist() == [0, 0, 1, 2]


def test_the_rarest_word_is_looked_up_in_the_training_text() -> None:
    training = pa.array(["The dog, the cat"] * 5 + ["the bird! 'dog'"] * 5)  # the 15, dog 10, cat 5, bird 5
    found = rarest_word_slicing(pa.array(["the THE", "a dog", "dog", "the cat", "?!", ""]), training)
    assert [found.labels[i] for i in found.of_pair] == [
        "10 to 99 times",
        "0 times",
        "10 to 99 times",
        "1 to 9 times",
        "1,000 times or more",
        "1,000 times or more",
    ]


def test_text_without_spaces_is_judged_by_its_rarest_character() -> None:
    found = rarest_word_slicing(pa.array(["光光", "光闇", "x"]), pa.array(["光光光光光光光光光光水"] * 30 + ["闇"]))
    assert [found.labels[i] for i in found.of_pair] == ["100 to 999 times", "1 to 9 times", "0 times"]


def test_no_training_text_makes_each_word_unknown() -> None:
    found = rarest_word_slicing(pa.array(["a b"]), pa.array([], pa.string()))
    assert found.labels == ("0 times",)


def test_a_column_is_sliced_by_its_most_frequent_values() -> None:
    values = pa.array(["b", "a", "b", None, *["b", "a", *(f"v{i}" for i in range(20))] * 10, *["b"] * 20])
    found = category_slicing("column.domain", values)
    assert found is not None
    assert (found.labels[0], found.labels[-2:], len(found.labels)) == ("b", ("other values", "no value"), 14)
    assert found.of_pair[:4].tolist() == [0, 1, 0, 13]
    assert category_slicing("column.domain", pa.array(["a", "a"])) is None
    assert category_slicing("column.id", pa.array([str(i) for i in range(300)])) is None
    assert category_slicing("column.note", pa.array([f"free text {i}" for i in range(20)])) is None
    booleans = category_slicing("column.flag", pa.array([True, False, True] * 7))
    assert booleans is not None
    assert booleans.labels == ("True", "False")


def test_deciles_have_equal_numbers_of_pairs_and_pairs_without_score_are_apart() -> None:
    found = decile_slicing("score.order", np.array([*range(100), np.nan]))
    assert found is not None
    assert np.bincount(found.of_pair).tolist() == [10] * 10 + [1]
    assert found.labels[-1] == "no value"
    assert found.labels[1] == "9.9 to 19.8"
    close = decile_slicing("score.close", 1 + np.arange(100) / 1e6)
    assert close is not None
    assert close.labels[:2] == ("at most 1.00001", "1.00001 to 1.00002")
    assert decile_slicing("score.order", np.full(5, np.nan)) is None
    assert decile_slicing("score.order", np.ones(5)) is None


def test_nats_and_bytes_of_slices_add_up_to_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(rng.random(2000) < 0.5)  # the dataset has pairs that are not evaluated
    write_likelihoods(tmp_path, np.stack([rows, rng.gamma(2, 50, len(rows)), rng.integers(1, 300, len(rows))]))
    slicings = [
        length_slicing(pa.array(["x" * n for n in rng.integers(0, 250, 2000)])),
        decile_slicing("score.a", rng.normal(size=2000)),
        category_slicing("column.domain", pa.array(rng.choice(["law", "news", "talk"], 2000))),
    ]
    given = [one for one in slicings if one is not None]
    is_first = np.where(np.arange(2000) % 3 == 0, 1, -1)
    columns = {**slice_columns(given), "is_first": is_first}
    complete_held_out(tmp_path, digest="one", documents=None, scores=None, columns=columns)
    table = read_columns(tmp_path, ("row", "nats", "target_bytes", "slice.column.domain", "is_first"))
    assert table is not None
    assert table["slice.column.domain"].to_pylist() == given[2].of_pair[rows].tolist()
    for slices in slice_report(tmp_path, given).slices.values():
        assert sum(one.nats or 0 for one in slices) == pytest.approx(float(table["nats"].to_numpy().sum()), rel=1e-9)
        assert sum(one.target_bytes for one in slices) == table["target_bytes"].to_numpy().sum()
        assert sum(one.num_pairs for one in slices) == len(rows)
        assert sum(one.num_first for one in slices) == sum(rows % 3 == 0)
    assert slice_report(tmp_path / "none", given).slices == {}
