"""Planted noise is scored without what models have learned from the pairs that it is made from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx.components.checked_options import component
from mtx.data.dataset import SelectedDataset, TranslationDataset
from mtx.data.score.contamination import ContaminationScorer
from mtx.data.score.planted_noise import PlantedPairs, planted_noise
from mtx.data.score.planted_noise_scores import noise_scores, without_held_out
from mtx.data.score.planted_pair_scores import PlantedPairScores, original_pairs
from mtx.data.score.score_ids import Inputs, ScoreIds
from mtx.data.score.score_stage import score_texts
from mtx.data.score.scorer import CorpusScorer, Mask, Sample, ScoreColumn, TrainedScorer
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer

TEXTS = pa.table({"src": [f"quelle {n} a b c" for n in range(40)], "tgt": [f"target {n} d e f" for n in range(40)]})
ALL = np.ones(40, dtype=np.bool_)


@component("score.recorder")
class RecordingScorer(TrainedScorer):
    """Scores each pair 1, or 0 if its original was in the sample."""

    kind = "score/recorder"
    version = 1

    sample_pairs: int = 10
    seed: int = 0

    def train(self, sample: Sample, folder: Path) -> None:
        (folder / "empty.json").write_text("{}")

    def load(self, folder: Path) -> "RecordingModel":
        return RecordingModel()


class RecordingModel:
    def scores(self, pairs: pa.RecordBatch, in_sample: Mask) -> Any:
        return pa.array(np.where(in_sample, 0.0, 1.0))

    def scores_without(self, pairs: pa.RecordBatch, originals: pa.RecordBatch, in_sample: Mask) -> Any:
        assert originals.schema.names == ["src", "tgt", "other_tgt"]
        assert len(originals) == len(pairs)
        return pa.array(np.where(in_sample, 0.0, 1.0))


def test_originals_are_the_pair_and_the_other_target() -> None:
    planted = planted_noise(TEXTS, per_kind=5, seed=0)
    merged = planted["merged"]
    for row, made, pair in zip(
        merged.rows, merged.pairs.to_pylist(), original_pairs(TEXTS, merged, ALL).to_pylist(), strict=True
    ):
        assert pair["tgt"] == f"target {row} d e f"
        assert made["tgt"] == f"{pair['tgt']} {pair['other_tgt']}"
    shifted = planted["shifted"]
    assert shifted.other_rows.tolist() == [(row + 1) % 40 for row in shifted.rows]
    assert original_pairs(TEXTS, shifted, ALL)["other_tgt"].to_pylist() == shifted.pairs["tgt"].to_pylist()
    others = original_pairs(TEXTS, planted["misaligned"], ALL)["other_tgt"].to_pylist()
    assert others == planted["misaligned"].pairs["tgt"].to_pylist()
    assert set(original_pairs(TEXTS, planted["copied"], ALL)["other_tgt"].to_pylist()) == {""}


@pytest.mark.parametrize(("sample_pairs", "share"), [(40, 0.0), (10, 0.75)])
def test_only_originals_in_the_sample_are_taken_off(tmp_path: Path, sample_pairs: int, share: float) -> None:
    store = Store(root=tmp_path, objects=SQLiteObjectLayer, files=ArrowFileLayer)
    of = {"name": "x", "stage": "text", "split": "train", "languages": ("en", "de")}
    store.repo.add(TranslationDataset(id="text-1", data=TEXTS, **of))  # type: ignore[arg-type]
    scorer = RecordingScorer(sample_pairs=sample_pairs)
    scored = {"r": score_texts(StageRunner(store), ["text-1"], scorer)}
    found = noise_scores(store, [SelectedDataset("text-1", 40)], {"r": scorer}, scored, per_kind=40, seed=0)
    assert found["r"]["shuffled"].mean() == share, "of all 40 pairs, each made into one bad pair"


@component("score.places")
class PlaceScorer(CorpusScorer):
    """Scores each pair by its place in the corpus, and by the number of all pairs."""

    kind = "score/places"
    version = 1

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        return {"score": ScoreColumn("place"), "size": ScoreColumn("pairs")}

    def corpus_columns(self, corpus: Sample, num_pairs: int, scratch: Path) -> Mapping[str, pa.Array]:
        return {"score": pa.array(np.arange(float(num_pairs))), "size": pa.array(np.full(num_pairs, float(num_pairs)))}


def test_good_and_bad_pairs_are_compared_with_the_pool_alone() -> None:
    inputs: Inputs = {"p": (PlaceScorer(), ScoreIds({}))}
    pool = TEXTS.slice(0, 4)
    scores = PlantedPairScores(None, inputs, pool, np.arange(4))  # type: ignore[arg-type]  # no model is read
    made = TEXTS.slice(10, 2)
    in_place = scores.scored(PlantedPairs(np.array([3, 1]), made, np.array([0, -1])))
    assert in_place["p"].to_pylist() == [2.0, 0.0], "without pair 0, whose target the first bad pair has"
    assert in_place["p.size"].to_pylist() == [3.0, 3.0]
    swapped = scores.scored(PlantedPairs(np.array([3, 1]), made, np.array([1, 3])))
    assert swapped["p"].to_pylist() == [3.0, 1.0], "both stand in the place of their originals"
    beside = scores.scored(PlantedPairs(np.array([3, 1]), made, np.array([-1, -1]), stands_beside=True))
    assert beside["p"].to_pylist() == [4.0, 5.0]
    of_corpus = pa.table({"p": [7.0] * 4, "p.size": [99.0] * 4, "z": [1.0] * 4})
    assert scores.with_pool_columns(of_corpus).to_pydict() == {
        "p": [0.0, 1.0, 2.0, 3.0],
        "p.size": [4.0] * 4,
        "z": [1.0] * 4,
    }


def test_only_other_targets_in_the_sample_are_given() -> None:
    shifted = planted_noise(TEXTS, per_kind=40, seed=0)["shifted"]
    in_sample = np.arange(40) < 10
    others = original_pairs(TEXTS, shifted, in_sample)["other_tgt"].to_pylist()
    assert [other != "" for other in others] == in_sample[shifted.other_rows].tolist()


def test_planted_punctuation_has_many_targets() -> None:
    targets = planted_noise(TEXTS, per_kind=40, seed=0)["punctuation"].pairs["tgt"].to_pylist()
    assert len(set(targets)) > 25


def test_a_scorer_that_compares_with_held_out_pairs_gets_no_noise(tmp_path: Path) -> None:
    store = Store(root=tmp_path, objects=SQLiteObjectLayer, files=ArrowFileLayer)
    of = {"name": "x", "stage": "text", "split": "train", "languages": ("en", "de")}
    store.repo.add(TranslationDataset(id="text-1", data=TEXTS, **of))  # type: ignore[arg-type]
    scorer = ContaminationScorer()
    found = noise_scores(store, [SelectedDataset("text-1", 40)], {"c": scorer}, {"c": ScoreIds({})}, per_kind=2, seed=0)
    assert found == {}
    values = {name: np.array([1.0, np.nan]) for name in ("c.source", "c.target", "c.overlap")} | {"r": np.arange(2.0)}
    seen = without_held_out({"r": RecordingScorer(), "c": scorer}, values)
    assert {name: of.tolist() for name, of in seen.items()} == {
        "c.source": [1.0],
        "c.target": [1.0],
        "c.overlap": [1.0],
        "r": [0.0],
    }
