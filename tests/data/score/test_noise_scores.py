"""Planted noise is scored without what models have learned from the pairs that it is made from."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx.components.checked_options import component
from mtx.data.dataset import SelectedDataset, TranslationDataset
from mtx.data.score.noise_scores import noise_scores
from mtx.data.score.planted_noise import planted_noise
from mtx.data.score.planted_pair_scores import original_pairs
from mtx.data.score.score_stage import score_texts
from mtx.data.score.scorer import Mask, Sample, TrainedScorer
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer

TEXTS = pa.table({"src": [f"quelle {n} a b c" for n in range(40)], "tgt": [f"target {n} d e f" for n in range(40)]})


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
        merged.rows, merged.pairs.to_pylist(), original_pairs(TEXTS, merged).to_pylist(), strict=True
    ):
        assert pair["tgt"] == f"target {row} d e f"
        assert made["tgt"] == f"{pair['tgt']} {pair['other_tgt']}"
    shifted = planted["shifted"]
    assert shifted.other_rows.tolist() == [(row + 1) % 40 for row in shifted.rows]
    assert original_pairs(TEXTS, shifted)["other_tgt"].to_pylist() == shifted.pairs["tgt"].to_pylist()
    others = original_pairs(TEXTS, planted["misaligned"])["other_tgt"].to_pylist()
    assert others == planted["misaligned"].pairs["tgt"].to_pylist()
    assert set(original_pairs(TEXTS, planted["copied"])["other_tgt"].to_pylist()) == {""}


@pytest.mark.parametrize(("sample_pairs", "share"), [(40, 0.0), (10, 0.75)])
def test_only_originals_in_the_sample_are_taken_off(tmp_path: Path, sample_pairs: int, share: float) -> None:
    store = Store(root=tmp_path, objects=SQLiteObjectLayer, files=ArrowFileLayer)
    of = {"name": "x", "stage": "text", "split": "train", "languages": ("en", "de")}
    store.repo.add(TranslationDataset(id="text-1", data=TEXTS, **of))  # type: ignore[arg-type]
    scorer = RecordingScorer(sample_pairs=sample_pairs)
    scored = {"r": score_texts(StageRunner(store), ["text-1"], scorer)}
    found = noise_scores(store, [SelectedDataset("text-1", 40)], {"r": scorer}, scored, per_kind=40, seed=0)
    assert found["r"]["shuffled"].mean() == share, "of all 40 pairs, each made into one bad pair"
