"""Splits by documents and clusters, contaminated pairs, and scorers over a whole corpus or against held-out pairs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.concatenated_corpus import Corpus
from mtx.data.filter.none import NoFilter
from mtx.data.preparation import Recipe, StageIds, prepare, prepare_scores
from mtx.data.score.contamination import ContaminationScorer
from mtx.data.score.duplicates import DuplicatesScorer
from mtx.data.score.near_duplicates import NearDuplicatesScorer
from mtx.data.score.score_stage import rows_in_texts
from mtx.data.split import LEAK, TEST, TRAIN, VALIDATION, HeldOut, split_assignment
from mtx.data.split_groups import _column_hashes
from mtx.data.store import Store
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import ConfigError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA

DOCUMENTS = 20
ROWS = tuple(
    (f"sentence {number} of a text about {number * 7919}", f"Satz {number}", f"doc{number % DOCUMENTS}")
    for number in range(100)
)


@dataclass(frozen=True, kw_only=True)
class Documents(Downloader):
    """Pairs with a column `document`."""

    rows: tuple[tuple[str, str, str | None], ...] = ROWS
    validation: tuple[tuple[str, str, str | None], ...] = ()

    def info(self) -> SourceInfo:
        identity: Any = {"rows": [list(row) for row in (*self.rows, *self.validation)]}
        return SourceInfo("given", ("en", "de"), "1", identity, ("train", *(["validation"] * bool(self.validation))))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        rows = self.rows if split == "train" else self.validation
        columns = [pa.array([row[place] for row in rows], pa.large_string()) for place in range(3)]
        yield pa.record_batch(columns, schema=pa.schema([*PAIR_SCHEMA, ("document", pa.large_string())]))


def store(root: Path) -> Store:
    return Store(root=root / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer)


def recipe(*, held_out: HeldOut | None = None, **options: Any) -> Recipe:
    source = Documents(**options)
    return Recipe(source, held_out or HeldOut(validation=10, test=10), NoFilter(), ByteTokenization())


def rows_by_split(root: Path, made: StageIds) -> dict[str, list[dict[str, Any]]]:
    return {split: list(store(root).repo.get(name).rows) for split, name in made.split.items()}


def test_groups_are_held_out_as_a_whole_and_equal_sources_elsewhere_are_leaks() -> None:
    texts = [pa.array(side, pa.large_string()) for side in (["a", "b", "c", "a", "d", "e"], ["x"] * 6)]
    table = pa.table(texts, names=["src", "tgt"])
    groups = np.array([1, 1, 5, 5, 9, 9], dtype=np.uint64)
    assert split_assignment(table, HeldOut(validation=1, test=1), groups=groups).tolist() == [
        *(VALIDATION, VALIDATION, TRAIN, LEAK, TEST, TEST),
    ]
    kept = split_assignment(table, HeldOut(validation=1, drop_leaks=False), groups=groups)
    assert kept.tolist() == [VALIDATION, VALIDATION, TRAIN, TRAIN, TRAIN, TRAIN]
    own = split_assignment(table, HeldOut(), groups=groups, own_groups=[np.array([9], dtype=np.uint64)])
    assert own.tolist() == [TRAIN] * 4 + [LEAK] * 2
    own = split_assignment(table, HeldOut(drop_leaks=False), groups=groups, own_groups=[np.array([9], dtype=np.uint64)])
    assert own.tolist() == [TRAIN] * 6
    with pytest.raises(ConfigError, match="none of the 6 pairs is left for training, because pairs with the same talk"):
        split_assignment(table, HeldOut(validation=5), groups=groups, noun="talk")


def test_no_document_is_in_two_splits(tmp_path: Path) -> None:
    made = prepare(recipe(held_out=HeldOut(validation=10, test=10, by="document")), store(tmp_path))
    documents = {split: {row["document"] for row in rows} for split, rows in rows_by_split(tmp_path, made).items()}
    assert {split: len(found) for split, found in documents.items()} == {"train": 16, "validation": 2, "test": 2}
    assert not documents["train"] & (documents["validation"] | documents["test"])
    plain = prepare(recipe(), store(tmp_path))
    assert plain.split["train"] != made.split["train"]
    assert plain.text == made.text


def test_documents_of_the_sources_own_validation_split_leave_the_training_split(tmp_path: Path) -> None:
    own = (("something else", "etwas anderes", "doc3"),)
    made = prepare(recipe(validation=own, held_out=HeldOut(by="document")), store(tmp_path))
    train = store(tmp_path).repo.manifest(made.split["train"])
    assert (train.n, train.metrics["dropped"]) == (95, {"in_held_out": 5})


def test_pairs_without_a_document_are_documents_of_their_own(tmp_path: Path) -> None:
    rows = tuple((src, tgt, None) for src, tgt, _ in ROWS)
    made = prepare(recipe(rows=rows, held_out=HeldOut(validation=10, by="document")), store(tmp_path))
    plain = prepare(recipe(rows=rows, held_out=HeldOut(validation=10)), store(tmp_path))
    found = [[row["src"] for row in rows_by_split(tmp_path, ids)["validation"]] for ids in (made, plain)]
    assert found[0] == found[1]


def test_a_column_that_is_missing_names_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"datamodule.split_by .* but is 'doc'. Choose one of cluster, document"):
        prepare(recipe(held_out=HeldOut(validation=10, by="doc")), store(tmp_path))


def test_near_duplicates_are_on_one_side_of_a_split_by_cluster(tmp_path: Path) -> None:
    text = "a sentence of some length that {} many near copies, which differ only at their end: {}"
    families = [(number // 4, number % 4) for number in range(80)]
    rows = tuple((text.format(f"family {n} with name {n * 7919}", end), "x" * n, None) for n, end in families)
    made = prepare(recipe(rows=rows, held_out=HeldOut(validation=8, by="cluster")), store(tmp_path))
    found = rows_by_split(tmp_path, made)
    by_split = {split: {len(row["tgt"]) for row in rows} for split, rows in found.items()}
    assert len(found["validation"]) == 8
    assert not by_split["train"] & by_split["validation"]


def test_contaminated_pairs_are_counted_and_dropped_by_option(tmp_path: Path) -> None:
    own = (("SENTENCE 3 of a text about 23757!", "neu", "v"), ("other", "satz 5.", "v"), ("third", "Satz 5", "v"))
    made = prepare(recipe(validation=own, held_out=HeldOut()), store(tmp_path))
    train = store(tmp_path).repo.manifest(made.split["train"])
    assert (train.n, train.metrics["contaminated"]) == (
        100,
        {"pairs": 2, "source": 1, "target": 1, "ngram": 2},
    )
    made = prepare(recipe(validation=own, held_out=HeldOut(drop_contaminated=True)), store(tmp_path))
    train = store(tmp_path).repo.manifest(made.split["train"])
    assert (train.n, train.metrics["dropped"]) == (98, {"contaminated": 2})
    assert [row["source"] for row in train.metrics["rejects"]["contaminated"]] == [ROWS[3][0], ROWS[5][0]]
    unsplit = prepare(recipe(held_out=HeldOut()), store(tmp_path))
    assert "contaminated" not in store(tmp_path).repo.manifest(unsplit.split["train"]).metrics


def test_pairs_that_share_an_ngram_are_counted_and_dropped_by_option(tmp_path: Path) -> None:
    shared = "one two three four five six seven eight"
    rows = ((f"They said: {shared.upper()}.", "a", None), (shared[4:], "b", None), *ROWS[:20])
    own = ((f"{shared}, nine", "neu", "v"),)
    numbers = {}
    for option in (False, True, "ngram"):
        held_out = HeldOut(drop_contaminated=option)
        made = prepare(recipe(rows=rows, validation=own, held_out=held_out), store(tmp_path))
        train = store(tmp_path).repo.manifest(made.split["train"])
        assert train.metrics["contaminated"] == {"pairs": 0, "source": 0, "target": 0, "ngram": 1}
        numbers[option] = train.n
    assert numbers == {False: 22, True: 22, "ngram": 21}


def test_named_sets_count_as_held_out(tmp_path: Path) -> None:
    extra = Documents(rows=(("sentence 7 of a text about 55433?", "?", None),))
    base = replace(recipe(held_out=HeldOut(drop_leaks=False, drop_contaminated=True)), validation_sets={"news": extra})
    made = prepare(base, store(tmp_path))
    train = store(tmp_path).repo.manifest(made.split["train"])
    assert (train.n, train.metrics["dropped"]) == (99, {"contaminated": 1})


def test_contamination_is_scored_after_the_split_and_held_out_rows_have_no_score(tmp_path: Path) -> None:
    scorers = {"contamination": ContaminationScorer(), "duplicates": DuplicatesScorer()}
    made = prepare(replace(recipe(), scorers=scorers), store(tmp_path))
    repo = store(tmp_path).repo
    (scores,) = (repo.get(name).rows for name in made.scores["contamination"].values())
    held_out = {row["row"] for split in ("validation", "test") for row in repo.get(made.split[split]).rows}
    assert len(held_out) == 20
    assert {number for number, row in enumerate(scores) if np.isnan(row["source"])} == held_out
    assert list(made.scores) == ["contamination", "duplicates"]
    again = prepare_scores(replace(recipe(), scorers=scorers), store(tmp_path))
    assert again.built == []
    with pytest.raises(ConfigError, match=r"the scorer contamination compares .* but none are held out. Set"):
        prepare(replace(recipe(held_out=HeldOut()), scorers=scorers), store(tmp_path))


def test_rows_of_a_corpus_with_a_cap_are_found_in_the_whole_texts() -> None:
    assert rows_in_texts(np.arange(6), [2, 3, 1], [5, 3, 4]).tolist() == [0, 1, 5, 6, 7, 8]


def test_scores_of_a_corpus_are_built_once_and_a_killed_build_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorers = {"near_duplicates": NearDuplicatesScorer()}
    found = NearDuplicatesScorer.corpus_columns

    def failing(self: NearDuplicatesScorer, corpus: Any, num_pairs: int, scratch: Path) -> Any:
        (scratch / "leftover").write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setattr(NearDuplicatesScorer, "corpus_columns", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare_scores(replace(recipe(), scorers=scorers), store(tmp_path))
    assert not list((tmp_path / "store" / "scratch").rglob("leftover"))
    monkeypatch.setattr(NearDuplicatesScorer, "corpus_columns", found)
    first = prepare_scores(replace(recipe(), scorers=scorers), store(tmp_path))
    assert [name.split("-")[0] for name in first.built] == ["columns", "scores"]
    second = prepare_scores(replace(recipe(), scorers=scorers), store(tmp_path))
    assert (second.built, second.scored["near_duplicates"].scores) == ([], first.scored["near_duplicates"].scores)


class Tagged(Corpus):
    """One sentence with two tags, and no document."""

    def __init__(self) -> None:
        self.prefixes, self.grouping_sides = (">>de<< ", ">>fr<< "), []

    def batches(self, split: str) -> Iterator[pa.RecordBatch]:
        sources = pa.array([">>de<< a", ">>fr<< a"], pa.large_string())
        documents = pa.array([None, None], pa.large_string())
        yield pa.record_batch([sources, sources, documents], names=["src", "tgt", "document"])


def test_pairs_without_a_document_are_grouped_by_the_sentence_without_its_tag() -> None:
    first, second = _column_hashes(Tagged(), "train", "document", 0)
    assert first == second


def test_either_side_must_leave_pairs_and_ignores_empty_texts() -> None:
    pairs = pa.table({"src": ["a", "b", "c", "", "d"], "tgt": ["", "", "", "e", "f"]}, schema=PAIR_SCHEMA)
    own = pa.table({"src": ["g"], "tgt": [""]}, schema=PAIR_SCHEMA)
    held_out = HeldOut(drop_leaks="either_side")
    assert set(split_assignment(pairs, held_out, wanted=(), own=[own])) == {TRAIN}
    found = split_assignment(pairs, HeldOut(validation=1, drop_leaks="either_side"))
    assert sorted(found) == [TRAIN] * 4 + [VALIDATION]
    chain = pa.table({"src": ["a", "b", "c"], "tgt": ["x", "x", "x"]}, schema=PAIR_SCHEMA)
    with pytest.raises(ConfigError, match=r"drop_leaks=either_side leaves none of the 3 pairs.*drop_leaks=true"):
        split_assignment(chain, HeldOut(validation=1, drop_leaks="either_side"))
