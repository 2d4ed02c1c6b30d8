"""Stored scores beside the rows of a corpus."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.dataset import SelectedDataset, TranslationDataset
from mtx.data.score.score_ids import ScoreIds
from mtx.data.score.score_stage import score_texts
from mtx.data.score.score_table import ScoredCorpus, ScoreTable, shown_columns
from mtx.data.score.scorer import ScoreColumn, Scorer
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.errors import ConfigError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer


class LengthScorer(Scorer):
    """Lengths of both sides."""

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        return {"score": ScoreColumn("source"), "target": ScoreColumn("target", pa.int64())}

    def scores(self, pairs: pa.RecordBatch) -> Mapping[str, list[float] | list[int]]:
        return {
            "score": [float(len(text)) for text in pairs["src"].to_pylist()],
            "target": [len(text) for text in pairs["tgt"].to_pylist()],
        }


@pytest.fixture
def opened(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> ScoreTable:
    store = Store(root=tmp_path_factory.mktemp("s"), objects=SQLiteObjectLayer, files=ArrowFileLayer)
    for name, count in (("text-1", 4), ("text-2", 3)):
        rows = [{"src": "a" * number, "tgt": "b"} for number in range(count)]
        store.repo.add(
            TranslationDataset(id=name, name="x", stage="text", split="train", languages=("en", "de"), data=rows)
        )
    monkeypatch.setattr("mtx.data.score.score_stage.identity", lambda _: {"kind": "length"})
    scorer = LengthScorer()
    scored = {"len": score_texts(StageRunner(store), ["text-1", "text-2"], scorer)}
    parts = [SelectedDataset("text-1", 2), SelectedDataset("text-2", 3)]  # two rows of the first are above its cap
    return ScoreTable.open(store.repo, parts, {"len": scorer}, scored)


def test_the_rows_of_parts_are_joined_and_cut_to_their_caps(opened: ScoreTable) -> None:
    assert opened.table.column_names == ["len", "len.target"]
    assert opened.table["len"].to_pylist() == [0.0, 1.0, 0.0, 1.0, 2.0]
    assert opened.take(np.array([1, 4]))["len"].to_pylist() == [1.0, 2.0]
    assert opened.take(np.array([2, 3]))["len.target"].to_pylist() == [1, 1]
    assert opened.take(np.array([], dtype=np.int64))["len"].to_pylist() == []


def test_columns_are_appended_by_row_number(opened: ScoreTable) -> None:
    batches = [pa.record_batch({"row": pa.array(rows, pa.uint32())}) for rows in ([0, 4], [])]
    found = list(opened.batches(iter(batches), "row"))
    assert found[0].to_pydict() == {"row": [0, 4], "len": [0.0, 2.0], "len.target": [1, 1]}
    assert found[1].num_rows == 0
    taken = pa.record_batch({"row": pa.array([0]), "len": [1.0]})
    with pytest.raises(ConfigError, match=r"the corpus and a scorer both have the column len\. Leave it out"):
        list(opened.batches(iter([taken]), "row"))


def test_only_the_scorers_that_a_filter_reads_count() -> None:
    scorers = {"len": LengthScorer(), "other": LengthScorer()}
    corpus = ScoredCorpus(scorers, {name: ScoreIds({"text-1": f"scores-{name}"}) for name in scorers})
    assert corpus.read_by(None).ids() == [["len", ["scores-len"]], ["other", ["scores-other"]]]
    assert corpus.read_by(("len.target",)).ids() == [["len", ["scores-len"]]]
    assert corpus.read_by(("target",)).ids() == corpus.ids(), "a last part may mean either"
    assert corpus.read_by(()).ids() == []


def test_two_scorers_cannot_give_one_column() -> None:
    class Nested(LengthScorer):
        @property
        def columns(self) -> Mapping[str, ScoreColumn]:
            return {"b.target": ScoreColumn("x")}

    assert list(shown_columns({"a": LengthScorer()})) == ["a", "a.target"]
    with pytest.raises(ConfigError, match=r"two scorers give the column a\.b\.target\. Give one of them another name"):
        shown_columns({"a": Nested(), "a.b": LengthScorer()})
