"""Training pairs that stand in held-out splits, worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.score.contamination import ContaminationScorer
from mtx.testing import check_scorer


def batch(*pairs: tuple[str, str]) -> pa.RecordBatch:
    schema = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
    return pa.RecordBatch.from_pylist([{"src": src, "tgt": tgt} for src, tgt in pairs], schema=schema)


HELD_OUT = batch(("The end.", "Das Ende"), ("a b c d e", "彼は東京に住む"), ("", "..."), ("x", ""))


def scored(folder: Path, *pairs: tuple[str, str], **options: Any) -> dict[str, list[float]]:
    scorer = ContaminationScorer(**options)
    scorer.train(lambda: iter([HELD_OUT]), folder)
    model = scorer.load(folder)
    found = model.scores(batch(*pairs), np.zeros(len(pairs), dtype=np.bool_))
    assert model.scores(batch(), np.zeros(0, dtype=np.bool_))["overlap"].to_pylist() == []
    return {name: array.to_pylist() for name, array in found.items()}


def test_equal_sides_are_found_whatever_case_white_space_and_punctuation(tmp_path: Path) -> None:
    pairs = [("THE  end!", "Schluss"), ("Ende", "das ENDE."), ("das ende", "the end"), ("", ""), ("?", "...")]
    found = scored(tmp_path, *pairs)
    assert found["source"] == [-1.0, 0.0, 0.0, 0.0, 0.0]
    assert found["target"] == [0.0, -1.0, 0.0, 0.0, -1.0], "punctuation alone is compared as it is"


def test_overlap_is_the_share_of_ngrams_of_the_side_with_more(tmp_path: Path) -> None:
    # The source has the 3-grams a b c, b c d, c d z: two of three. Without spaces, characters are words: 東京に of 2.
    found = scored(tmp_path, ("a b, c d z", "q"), ("q", "東京にも"), ("the end", "q"), ("q r s t", ""), ngram=3)
    assert found["overlap"] == [-2 / 3, -0.5, -1.0, 0.0]
    found = scored(tmp_path, ("bcdq", "q"), ("q", "は東京"), ngram=3, unit="character")
    assert found["overlap"] == [-0.5, -1.0]


def test_the_contract_of_scorers_holds_and_held_out_pairs_have_no_score() -> None:
    found = check_scorer(ContaminationScorer(ngram=2), pa.Table.from_batches([HELD_OUT]))
    assert all(np.isnan(value) for column in found.to_pydict().values() for value in column)


@pytest.mark.parametrize("text", ["word " * 20_000, "か\u3099" * 50_000, "\x00", "שָׁלוֹם"])
def test_texts_of_any_script_and_size(tmp_path: Path, text: str) -> None:
    scorer = ContaminationScorer()
    scorer.train(lambda: iter([batch((text, text))]), tmp_path)
    found = scorer.load(tmp_path).scores(batch((text, text)), np.zeros(1, dtype=np.bool_))
    assert [found[name].to_pylist() for name in ("source", "target")] == [[-1.0], [-1.0]]
