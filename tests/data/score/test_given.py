"""The scorer `given`: columns of the corpus, and files of other tools that must fit the corpus."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtx.components.identity import identity
from mtx.data.dataset import TranslationDataset
from mtx.data.score.given import GivenScorer
from mtx.data.score.planted_noise_scores import noise_scores
from mtx.data.score.score_stage import score_texts
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.errors import ConfigError, DataError, MtxError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.testing import check_scorer

ROWS = {"src": ["a", "b", "c", "d"], "tgt": ["w", "x", "y", "z"], "laser": [0.5, None, 2.0, -1.0], "tag": list("efgh")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(root=tmp_path / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer)
    store.repo.add(
        TranslationDataset(
            id="text-1", name="x", stage="text", split="train", languages=("en", "de"), data=pa.table(ROWS)
        )
    )
    return store


def scored(store: Store, scorer: GivenScorer, **runner: Any) -> Mapping[str, list[float | None]]:
    """Return the stored columns, with None for NaN."""
    ids = score_texts(StageRunner(store, **runner), ["text-1"], scorer, name="given")
    table = store.repo.get(ids.scores["text-1"]).rows.table
    return {
        name: [None if value != value else value for value in table[name].to_pylist()] for name in table.column_names
    }


def test_a_column_of_the_corpus_is_a_score_and_can_change_its_sign(store: Store) -> None:
    assert scored(store, GivenScorer(column="laser")) == {"score": [0.5, None, 2.0, -1.0]}
    assert scored(store, GivenScorer(column="laser", negate=True)) == {"score": [-0.5, None, -2.0, 1.0]}
    check_scorer(GivenScorer(column="laser"), pa.table(ROWS))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.txt", "0.5\n-2\nnan\n1e3\n"),
        ("s.scores", "0.5\n-2\n\n1000\n"),
        ("s.csv", "q\n0.5\n-2\nNaN\n1000\n"),
        ("s.tsv", "row\tq\n3\t1000\n1\t-2\n0\t0.5\n2\t\n"),
        ("S.TSV", "q\trow\n1000\t3\n-2\t1\n0.5\t0\n\t2\n"),
    ],
)
def test_a_file_has_a_line_for_each_raw_pair_in_order_or_with_its_row(
    store: Store, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    scorer = GivenScorer(path=str(tmp_path / name))
    assert scored(store, scorer, shard_rows=3) == {"score": [0.5, -2.0, None, 1000.0]}


def test_several_columns_of_a_parquet_file_keep_their_names(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    table = pa.table({"row": [3, 2, 0, 1], "a": [1, 2, 3, 4], "b": [True, False, None, True], "c": ["x"] * 4})
    pq.write_table(table, path)
    found = scored(store, GivenScorer(path=str(path), column=["b", "a"]))
    assert found == {"b": [None, 1.0, 0.0, 1.0], "a": [3.0, 4.0, 2.0, 1.0]}
    with pytest.raises(ConfigError, match=r"must have one column beside row, but has 3: a, b, c.*column=\[a,b\]'"):
        scored(store, GivenScorer(path=str(path)))
    with pytest.raises(ConfigError, match=r"has no column laser\. Its columns: a, b, c"):
        scored(store, GivenScorer(path=str(path), column="laser"))
    with pytest.raises(DataError, match=r"the column c of .* is of type string, such as 'x' in line 1"):
        scored(store, GivenScorer(path=str(path), column="c"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.txt", "1\n2\n", r"one score for each of the 4 raw pairs of the corpus, but has 2\. Score all pairs, or"),
        ("s.txt", "1\n2\n3\n4\n5\n", r"each of the 4 raw pairs of the corpus, but has 5\."),
        ("s.txt", "1\n2\nx\n4\n", r"a score is a number, but .* of type string, such as 'x' in line 3"),
        ("s.txt", "", r"cannot be read as a file of scores"),
        (
            "s.csv",
            "row,q\n0,1\n4,1\n-1,1\n",
            r"names 2 rows that the corpus does not have, such as -1\. It has 4 pairs",
        ),
        ("s.csv", "row,q\n0,1\n0,1\n", r"must name each row once, but names 1 row several times, such as 0"),
        ("s.csv", "row,q\n0,1\n2,1\n", r"scores for 2 of the 4 raw pairs .* none for 2, such as row 1.*partial=true"),
        ("s.csv", "row,q\na,1\n", r"the column row of .* must be whole numbers, but is of type string"),
        ("s.csv", "row\n0\n", r"must have one column beside row, but has 0: none"),
        ("s.parquet", "no parquet", r"cannot be read as a file of scores"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_numbers(
    store: Store, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(MtxError, match=message):
        scored(store, GivenScorer(path=str(tmp_path / name)))
    assert not [one for one in store.repo.show()["stage"] if one == "scores"], "nothing is stored"


def test_a_partial_file_leaves_pairs_without_a_score(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("row,q\n2,7\n0,1\n")
    assert scored(store, GivenScorer(path=str(path), partial=True)) == {"score": [1.0, None, 7.0, None]}
    path.write_text("row,q\n")
    assert scored(store, GivenScorer(path=str(path), partial=True)) == {"score": [None] * 4}


def test_an_edited_file_is_another_id_and_a_moved_one_is_not(tmp_path: Path) -> None:
    one, moved = tmp_path / "one.txt", tmp_path / "moved.txt"
    one.write_text("1\n2\n")
    moved.write_text("1\n2\n")
    before = identity(GivenScorer(path=str(one)))
    assert identity(GivenScorer(path=str(moved))) == before
    assert identity(GivenScorer(path=str(one), negate=True)) != before
    one.write_text("1\n2.5\n")
    assert identity(GivenScorer(path=str(one))) != before
    one.unlink()
    with pytest.raises(ConfigError, match=r"score\.given\.path=.*one\.txt cannot be read: No such file"):
        identity(GivenScorer(path=str(one)))
    with pytest.raises(ConfigError, match=r"must be a file, but is a folder"):
        identity(GivenScorer(path=str(tmp_path)))


def test_columns_that_are_missing_or_no_numbers_say_what_to_set(store: Store, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"the corpus has no column lazer\. Its columns: laser, tag\. .*columns=\[lazer\]"
    ):
        scored(store, GivenScorer(column="lazer"))
    with pytest.raises(
        DataError, match=r"the column tag of the corpus holds texts.*'downloader.columns=\{tag: float\}'"
    ):
        scored(store, GivenScorer(column="tag"))
    with pytest.raises(ConfigError, match=r"score\.given needs a column of the corpus or a file"):
        GivenScorer()
    with pytest.raises(ConfigError, match=r"must name each column once, but is a, a"):
        GivenScorer(column=["a", "a"])
    with pytest.raises(ConfigError, match=r"partial is for files"):
        GivenScorer(column="a", partial=True)
    (tmp_path / "s.txt").write_text("1\n" * 8)
    with pytest.raises(ConfigError, match=r"the scores of one source, but the corpus has 2\..*as a column"):
        score_texts(StageRunner(store), ["text-1", "text-1"], GivenScorer(path=str(tmp_path / "s.txt")))


def test_planted_noise_has_no_given_score(store: Store) -> None:
    scorer = GivenScorer(column="laser")
    ids = score_texts(StageRunner(store), ["text-1"], scorer)
    part: Any = type("Part", (), {"id": "text-1"})
    assert noise_scores(store, [part], {"given": scorer}, {"given": ids}, per_kind=2, seed=0) == {}


def test_scores_of_a_file_belong_to_rows_and_not_to_batches(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_text("".join(f"{number}\n" for number in range(20)))
    rows = pa.array(np.arange(20))
    texts = pa.array(["x"] * 20, pa.large_string())
    table = check_scorer(GivenScorer(path=str(path)), pa.table({"src": texts, "tgt": texts, "row": rows}))
    assert table["score"].to_pylist() == list(range(20))
