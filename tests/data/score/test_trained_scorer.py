"""A scorer that trains on the corpus: its model is an artifact of the store, and its columns are stored once."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mtx.components.checked_options import component
from mtx.data.dataset import SelectedDataset, TranslationDataset
from mtx.data.exchange.dataset_export import export_dataset
from mtx.data.exchange.dataset_import import import_datasets
from mtx.data.garbage_collection import store_leftovers
from mtx.data.score.corpus_score_stage import score_corpus
from mtx.data.score.score_stage import corpus_sample, sample_mask, score_texts
from mtx.data.score.scorer import CorpusScorer, Mask, Sample, ScoreColumn, Scorer, Scores, TrainedScorer
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.data.verify import verify_store
from mtx.errors import ConfigError, DamagedError, DataError, EmptyDatasetError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.sqlite import SQLiteObjectLayer

TEXTS = ["a", "bb", "ccc", "dddd", ""]


@component("score.toy")
class MeanLengthScorer(TrainedScorer):
    """Minus the distance of the source length from the mean length of the sample."""

    kind = "score/toy"
    version = 1

    sample_pairs: int = 500_000
    seed: int = 0

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        return {"score": ScoreColumn("minus the distance from the mean"), "seen": ScoreColumn("in sample", pa.bool_())}

    def train(self, sample: Sample, folder: Path) -> None:
        lengths = np.concatenate([pc.utf8_length(batch["src"]).to_numpy() for batch in sample()])
        assert len(lengths) == sum(batch.num_rows for batch in sample()), "the sample can be read again"
        (folder / "toy.json").write_text(json.dumps(float(lengths.mean())))

    def load(self, folder: Path) -> "MeanLengthModel":
        return MeanLengthModel(json.loads((folder / "toy.json").read_text()))


class MeanLengthModel:
    def __init__(self, mean: float) -> None:
        self.mean = mean

    def scores(self, pairs: pa.RecordBatch, in_sample: Mask) -> Mapping[str, Any]:
        lengths = pc.utf8_length(pairs["src"]).to_numpy().astype(float)
        lengths[lengths == 0] = np.nan
        return {"score": pa.array(-np.abs(lengths - self.mean)), "seen": pa.array(in_sample)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(root=tmp_path, objects=SQLiteObjectLayer, files=ArrowFileLayer)
    for name, texts in (("text-1", TEXTS), ("text-2", ["eeeee"])):
        rows = [{"src": text, "tgt": "x"} for text in texts]
        store.repo.add(
            TranslationDataset(id=name, name="x", stage="text", split="train", languages=("en", "de"), data=rows)
        )
    return store


@pytest.mark.parametrize("kind", ["model", "columns"])
def test_a_model_is_checked_once_for_all_texts(store: Store, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    open_model = store.models.open

    def counted(name: str, *, full: bool = False) -> Path:
        checked.append((name, full))
        return open_model(name, full=full)

    monkeypatch.setattr(store.models, "open", counted)
    if kind == "model":
        ids = score_texts(StageRunner(store), ["text-1", "text-2"], MeanLengthScorer())
    else:
        parts = [SelectedDataset("text-1", 5), SelectedDataset("text-2", 1)]
        ids = score_corpus(StageRunner(store), parts, ConstantCorpusScorer())
    assert checked.count((str(ids.model), True)) == 1


def test_a_model_is_trained_once_on_all_texts_and_scores_each_text(store: Store) -> None:
    runner = StageRunner(store)
    ids = score_texts(runner, ["text-1", "text-2"], MeanLengthScorer(), name="toy")
    assert ids.model is not None
    assert runner.built == [ids.model, ids.scores["text-1"], ids.scores["text-2"]]
    mean = (1 + 2 + 3 + 4 + 0 + 5) / 6
    first = store.repo.get(ids.scores["text-1"])
    found = [row["score"] for row in first.rows]
    assert found[:4] == [-abs(length - mean) for length in (1, 2, 3, 4)]
    assert np.isnan(found[4])
    assert first.metrics == {"scored": {"score": 4}, "without_score": {"score": 1}}
    assert [row["seen"] for row in first.rows] == [True] * 5
    again = StageRunner(store)
    reused = score_texts(again, ["text-1", "text-2"], MeanLengthScorer(), name="other name")
    assert (reused.scores, reused.model, again.built) == (ids.scores, ids.model, [])
    assert reused.built_s is None
    assert reused.trained_s is None
    other = score_texts(StageRunner(store), ["text-1"], MeanLengthScorer(seed=1))
    assert other.model != ids.model
    assert other.scores["text-1"] != ids.scores["text-1"]


def test_scores_do_not_depend_on_the_number_of_shards(store: Store) -> None:
    ids = score_texts(StageRunner(store), ["text-1"], MeanLengthScorer(sample_pairs=3))
    whole = store.repo.get(ids.scores["text-1"]).rows.table
    store.repo.remove(ids.scores["text-1"])
    again = score_texts(StageRunner(store, shard_rows=2), ["text-1"], MeanLengthScorer(sample_pairs=3))
    assert len(store.repo.manifest(again.scores["text-1"]).shards) == 3
    assert again.scores == ids.scores
    sharded = store.repo.get(again.scores["text-1"]).rows.table
    assert sharded["seen"].to_pylist() == whole["seen"].to_pylist()
    assert sum(whole["seen"].to_pylist()) == 3, "the sample is bounded"
    np.testing.assert_array_equal(sharded["score"].to_numpy(), whole["score"].to_numpy())


def test_a_killed_scorer_resumes_with_the_shards_that_it_has_finished(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    scores = MeanLengthModel.scores

    def failing(self: MeanLengthModel, pairs: pa.RecordBatch, in_sample: Mask) -> Mapping[str, Any]:
        scored.append(pairs.num_rows)
        if len(scored) == 3:
            raise KeyboardInterrupt
        return scores(self, pairs, in_sample)

    monkeypatch.setattr(MeanLengthModel, "scores", failing)
    with pytest.raises(KeyboardInterrupt):
        score_texts(StageRunner(store, shard_rows=2), ["text-1"], MeanLengthScorer())
    score_texts(StageRunner(store, shard_rows=2), ["text-1"], MeanLengthScorer())
    assert scored == [2, 2, 1, 1], "only the interrupted shard is scored again"


def test_the_sample_is_random_seeded_and_in_order() -> None:
    texts = [Rows(pa.table({"src": [str(n) for n in range(60)], "tgt": ["x"] * 60})) for _ in range(2)]
    rows, sample = corpus_sample(texts, 30, 0)
    assert len(rows) == 30
    assert (np.diff(rows) > 0).all()
    assert rows.min() < 60 <= rows.max(), "of both texts"
    assert [text for batch in sample() for text in batch["src"].to_pylist()] == [str(row % 60) for row in rows]
    assert np.array_equal(rows, corpus_sample(texts, 30, 0)[0])
    assert not np.array_equal(rows, corpus_sample(texts, 30, 1)[0])
    mask = sample_mask(rows, 50, 20)
    assert np.flatnonzero(mask).tolist() == [row - 50 for row in rows.tolist() if 50 <= row < 70]


def test_a_model_is_verified_and_is_an_orphan_without_its_text(store: Store) -> None:
    ids = score_texts(StageRunner(store), ["text-2"], MeanLengthScorer())
    assert verify_store(store, full=True).findings == []
    store.repo.remove("text-2")
    reasons = {leftover.path.name: leftover.reason for leftover in store_leftovers(store)}
    assert reasons[str(ids.model)] == "built from text-2, which is missing"
    assert reasons[ids.scores["text-2"]] == "built from text-2, which is missing"


def test_a_corpus_without_pairs_and_scores_without_a_model_are_refused(store: Store) -> None:
    empty = pa.table({"src": pa.array([], pa.large_string()), "tgt": pa.array([], pa.large_string())})
    store.repo.add(
        TranslationDataset(id="text-3", name="x", stage="text", split="train", languages=("en", "de"), data=empty)
    )
    with pytest.raises(EmptyDatasetError, match="MeanLengthScorer trains on the corpus, but the corpus has no pair"):
        score_texts(StageRunner(store), ["text-3"], MeanLengthScorer())
    with pytest.raises(DataError, match="scores only with its model"):
        MeanLengthScorer().scores(empty)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"score": [1.0]}, "must return the columns score, seen, but returned score"),
        ({"score": [1.0], "seen": [True, False]}, "returned 2 scores for 1 pairs"),
        ({"score": ["x"], "seen": [True]}, "must return score of type double, but returned other values"),
    ],
)
def test_columns_are_checked(store: Store, monkeypatch: pytest.MonkeyPatch, returned: Any, message: str) -> None:
    monkeypatch.setattr(MeanLengthModel, "scores", lambda *_: returned)
    with pytest.raises(DataError, match=message):
        score_texts(StageRunner(store), ["text-2"], MeanLengthScorer())


def test_scores_can_be_exported_and_imported(store: Store, tmp_path: Path) -> None:
    ids = score_texts(StageRunner(store), ["text-1"], MeanLengthScorer())
    export_dataset(store, ids.scores["text-1"], tmp_path / "export", inputs=True)
    other = Store(root=tmp_path / "other", objects=SQLiteObjectLayer, files=ArrowFileLayer)
    import_datasets(other, tmp_path / "export")
    scores = other.repo.get(ids.scores["text-1"])
    assert scores.rows.schema.names == ["score", "seen"]
    np.testing.assert_array_equal(
        scores.rows.column("score").to_numpy(), store.repo.get(scores.id).rows.column("score").to_numpy()
    )
    assert other.repo.exists("text-1")
    with pytest.raises(DataError, match=r"format=moses writes texts, but scores-train-.* holds scores"):
        export_dataset(store, ids.scores["text-1"], tmp_path / "moses", format="moses")


@component("score.numbers")
class RowScorer(Scorer):
    """Minus the row number of each pair."""

    kind = "score/numbers"
    version = 1
    is_of_texts = False

    def check_corpus(self, num_pairs: Sequence[int]) -> None:
        if sum(num_pairs) > 10:
            raise ConfigError("too large")

    def scores(self, pairs: pa.RecordBatch) -> Scores:
        return pa.array(-pairs["row"].to_numpy().astype(float))


def test_scores_by_row_number_are_not_reused_at_another_place(store: Store) -> None:
    runner = StageRunner(store)
    alone = score_texts(runner, ["text-2"], RowScorer()).scores["text-2"]
    mixed = score_texts(runner, ["text-1", "text-2"], RowScorer()).scores["text-2"]
    found = [runner.repo.get(name).rows.table["score"].to_pylist() for name in (alone, mixed)]
    assert found == [[0.0], [-5.0]]


@component("score.whole")
class RefusingCorpusScorer(CorpusScorer):
    """Refuses each corpus."""

    kind = "score/whole"
    version = 1

    def check_corpus(self, num_pairs: Sequence[int]) -> None:
        raise ConfigError(f"does not fit {list(num_pairs)}")

    def corpus_columns(self, corpus: Sample, num_pairs: int, scratch: Path) -> Mapping[str, pa.Array]:
        raise NotImplementedError


@component("score.constant")
class ConstantCorpusScorer(CorpusScorer):
    """Scores each pair with 1."""

    kind = "score/constant"
    version = 1

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        return {"score": ScoreColumn("one")}

    def corpus_columns(self, corpus: Sample, num_pairs: int, scratch: Path) -> Mapping[str, pa.Array]:
        return {"score": pa.array([1.0] * num_pairs)}


def flip_last_byte(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("kind", ["model", "columns"])
def test_no_score_is_built_from_a_damaged_model_of_any_size(
    store: Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtx.infra.dal.artifact.SMALL_BYTES", 0)  # each artifact counts as a large one
    parts = [SelectedDataset("text-1", 5)]

    def score() -> list[str]:
        if kind == "model":
            return list(score_texts(StageRunner(store), ["text-1"], MeanLengthScorer(), name="toy").scores.values())
        return list(score_corpus(StageRunner(store), parts, ConstantCorpusScorer()).scores.values())

    for scores_id in score():
        store.repo.remove(scores_id)
    (folder,) = (store.models.open(name) for name in store.models.get_all_names())
    flip_last_byte(next(path for path in sorted(folder.iterdir()) if path.name != "manifest.json"))
    with pytest.raises(DamagedError, match="has changed on disk: SHA-256"):
        score()


def test_a_scorer_over_the_corpus_checks_it_first(store: Store) -> None:
    parts = [SelectedDataset("text-1", 2), SelectedDataset("text-2", 1)]
    with pytest.raises(ConfigError, match=r"does not fit \[5, 1\]"):
        score_corpus(StageRunner(store), parts, RefusingCorpusScorer())
