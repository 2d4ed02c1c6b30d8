"""A mixture on its way to ids: stored once a source, each pair with its source, drops counted by source."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mtx.components.identity import JSON
from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.filter_protocol import PairFilter
from mtx.data.filter.none import NoFilter
from mtx.data.filter.selection import SelectionFilter
from mtx.data.filter.selection_check import SelectionCheck
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import DataError, EmptyDatasetError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.protocols import FileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import PAIR_SCHEMA, Downloader, SourceInfo
from mtx.infra.dataset.sources.mixture import MixtureDownloader

Texts = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Given(Downloader):
    pairs: Texts
    validation: Texts = ()

    def info(self) -> SourceInfo:
        identity: dict[str, JSON] = {
            "pairs": [list(pair) for pair in self.pairs],
            "validation": [list(p) for p in self.validation],
        }
        return SourceInfo(
            "given", ("en", "de"), str(len(self.pairs)), identity, ("train", *["validation"][: len(self.validation)])
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        rows = self.pairs if split == "train" else self.validation
        yield from pa.Table.from_pylist([{"src": s, "tgt": t} for s, t in rows], schema=PAIR_SCHEMA).to_batches()


NEWS = Given(pairs=(("a", "A1"), ("b", "B"), ("", "C"), ("b", "B")))
WEB = Given(pairs=(("b", "B"), ("d", "D"), ("e", "e"), ("f", "F"), ("g", "G")))


def store(root: Path, files: type[FileLayer] = ArrowFileLayer) -> Store:
    return Store(root=root / "store", objects=SQLiteObjectLayer, files=files)


def prepared(
    where: Store, held_out: HeldOut | None = None, filter_: PairFilter | None = None, **options: Any
) -> StageIds:
    mixture = MixtureDownloader(**{"sources": {"news": NEWS, "web": WEB}, **options})
    return prepare(Recipe(mixture, held_out or HeldOut(), filter_ or DefaultFilter(), ByteTokenization()), where)


def rows(where: Store, dataset_id: str) -> list[tuple[Any, ...]]:
    """Return source text, target text and source of each pair."""
    return [(row["src"], row["tgt"], row["source"]) for row in where.repo.get(dataset_id).rows]


@pytest.mark.parametrize("files", [ArrowFileLayer, FileAccessLayer])
def test_each_pair_carries_its_source_and_drops_are_counted_by_source(tmp_path: Path, files: Any) -> None:
    where = store(tmp_path, files)
    ids = prepared(where, caps={"web": 4})
    train = where.repo.get(ids.filtered["train"])
    assert rows(where, train.id) == [("a", "A1", 0), ("b", "B", 0), ("d", "D", 1), ("f", "F", 1)]
    assert train.metrics["dropped"] == {"capped": 1, "duplicate": 2, "empty_source": 1, "identical": 1}
    assert train.metrics["sources"] == {
        "news": {"pairs": 4, "dropped": {"empty_source": 1, "duplicate": 1}, "kept": 2},
        "web": {"pairs": 5, "dropped": {"capped": 1, "duplicate": 1, "identical": 1}, "kept": 2},
    }
    assert train.rows.column("row").to_pylist() == [0, 1, 5, 7]
    assert where.repo.get(ids.encoded["train"]).n == 4 + 4, "all rows of the text, each source up to its cap"


def test_a_source_is_stored_once_whatever_the_mixture(tmp_path: Path) -> None:
    where = store(tmp_path)
    alone = prepare(Recipe(WEB, HeldOut(), NoFilter(), ByteTokenization()), where)
    mixed = prepared(where)
    assert mixed.raw == {"news/train": mixed.raw["news/train"], "web/train": alone.raw["train"]}
    assert mixed.raw["news/train"] in mixed.built
    assert mixed.raw["web/train"] not in mixed.built
    assert prepared(where, weights={"news": 1, "web": 3}).built == [], "another weight builds nothing"
    capped = prepared(where, caps={"web": 2}).built
    assert [name.split("-")[0] for name in capped] == ["split", "filtered", "encoded"], (
        "another cap reads nothing again"
    )
    turned = prepared(where, sources={"web": WEB, "news": NEWS})
    assert rows(where, turned.filtered["train"])[0] == ("b", "B", 0), "of duplicates, the first source has it"


def test_raw_pairs_have_no_source(tmp_path: Path) -> None:
    where = store(tmp_path)
    assert where.repo.get(prepared(where).raw["web/train"]).rows.table.column_names == ["src", "tgt"]


def test_what_is_held_out_comes_from_all_sources_and_no_sentence_is_in_two_splits(tmp_path: Path) -> None:
    where = store(tmp_path)
    many = [
        Given(pairs=tuple((f"s {i}", f"{tag} {i}") for i in range(0, 300, step))) for tag, step in (("x", 1), ("y", 2))
    ]
    ids = prepared(where, HeldOut(validation=40, test=40), sources={"x": many[0], "y": many[1]})
    found = {split: rows(where, dataset_id) for split, dataset_id in ids.filtered.items()}
    sentences = {split: {row[0] for row in of} for split, of in found.items()}
    assert not sentences["train"] & sentences["validation"]
    assert not sentences["validation"] & sentences["test"]
    for split, of in found.items():
        told = where.repo.manifest(ids.filtered[split]).metrics["sources"]
        for number, name in enumerate("xy"):
            kept = sum(row[2] == number for row in of)
            assert kept > 0
            assert told[name] == {"pairs": kept, "dropped": {}, "kept": kept}  # type: ignore[call-overload, index]


def test_a_split_of_one_source_is_the_mixtures_and_its_sentences_are_kept_out_of_all(tmp_path: Path) -> None:
    where = store(tmp_path)
    news = Given(pairs=(("a", "A"), ("b", "B")), validation=(("d", "D!"),))
    ids = prepared(where, HeldOut(validation=1), sources={"news": news, "web": WEB})
    assert rows(where, ids.filtered["validation"]) == [("d", "D!", 0)]
    train = where.repo.manifest(ids.filtered["train"])
    assert train.metrics["sources"]["web"] == {  # type: ignore[call-overload, index]
        "pairs": 5,
        "dropped": {"in_held_out": 1, "identical": 1, "duplicate": 1},
        "kept": 2,
    }


def test_a_source_that_nothing_is_left_of_is_an_error_where_it_has_a_share(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = {"news": NEWS, "junk": Given(pairs=(("x", "x"), ("", "y")))}
    told = r"the source 'junk' of the mixture has no training pair left; dropped: 1 empty_source, 1 identical"
    with pytest.raises(EmptyDatasetError, match=told):
        prepared(store(tmp_path), sources=sources, temperature=2)
    prepared(store(tmp_path), sources=sources)
    assert "the source 'junk' of the mixture has no training pair left" in caplog.text


@dataclass(frozen=True, kw_only=True)
class LosesSources(PairFilter):
    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        for batch in pair_batches(pairs):
            yield batch.select(["src", "tgt"])


def test_a_filter_that_loses_the_sources_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"returned the columns src, tgt, but row is missing"):
        prepared(store(tmp_path), filter_=LosesSources())


def test_a_filter_that_changes_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ShoutsTexts returned pairs that are not in its input.*normalise=default"):
        prepared(store(tmp_path), filter_=ShoutsTexts())


@dataclass(frozen=True, kw_only=True)
class ShoutsTexts(PairFilter):
    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        for batch in pair_batches(pairs):
            yield batch.set_column(0, "src", pa.compute.utf8_upper(batch.column("src")))


@dataclass(frozen=True, kw_only=True)
class KeepsTheShort(PairFilter):
    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        for batch in pair_batches(pairs):
            short = pa.compute.less(pa.compute.utf8_length(batch.column("tgt")), 2)
            for row in range(batch.num_rows):  # cut otherwise than it came
                yield batch.slice(row, 1).filter(short.slice(row, 1))


def test_a_filter_of_a_users_own_that_streams_batches_works(tmp_path: Path) -> None:
    where = store(tmp_path)
    ids = prepared(where, filter_=KeepsTheShort())
    kept = [("b", "B", 0), ("", "C", 0), ("b", "B", 0), *((s, t, 1) for s, t in WEB.pairs)]
    assert rows(where, ids.filtered["train"]) == kept


def test_batches_keep_all_columns_texts_first() -> None:
    mixed = pa.record_batch([pa.array([3], pa.uint16()), ["a"], ["b"], [0.5]], names=["source", "src", "tgt", "score"])
    expected = pa.schema([*PAIR_SCHEMA, pa.field("source", pa.uint16()), pa.field("score", pa.float64())])
    assert [batch.schema for batch in pair_batches([mixed])] == [expected]
    assert [batch.schema for batch in pair_batches([mixed.slice(0, 0)])] == [expected]
    assert [batch.schema for batch in pair_batches(pa.Table.from_batches([mixed]).slice(0, 0))] == [expected]


@dataclass(frozen=True, kw_only=True)
class RepeatsBatches(PairFilter):
    is_backwards: bool = False

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        for batch in pair_batches(pairs):
            yield from [batch.slice(2), batch.slice(0, 2)] if self.is_backwards else [batch, batch]


@pytest.mark.parametrize("is_inner", [False, True])
@pytest.mark.parametrize("is_backwards", [False, True])
def test_a_filter_that_repeats_or_reorders_batches_is_told(tmp_path: Path, is_backwards: bool, is_inner: bool) -> None:
    own = RepeatsBatches(is_backwards=is_backwards)
    with pytest.raises(DataError, match=r"returned a pair twice, or changed the order of the pairs"):
        prepared(store(tmp_path), filter_=SelectionFilter(before=own) if is_inner else own)


@pytest.mark.parametrize("numbers", [[0, 1, 1], [1, 0]])
def test_row_numbers_of_32_bits_in_another_order_are_told(numbers: list[int]) -> None:
    rows = pa.array(numbers, pa.uint32())
    given = pa.table({"src": ["a"] * len(rows), "tgt": ["b"] * len(rows), "row": rows}).to_batches()
    with pytest.raises(DataError, match=r"returned a pair twice"):
        list(SelectionCheck(NoFilter(), iter(given)).checked_batches(iter(given)))
