"""A mixture on its way to ids: stored once a source, each pair with its source, drops counted by source."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mtx.data.filter.base import PairFilter
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.none import NoFilter
from mtx.data.pairs import MIXED_SCHEMA, Pairs, pair_batches
from mtx.data.pipeline import Recipe, StageIds, prepare
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import DataError, EmptyDatasetError
from mtx.identity import JSON
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.base import FileLayer
from mtx.infra.dal.fal import FileAccessLayer
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
    return [tuple(row.values()) for row in where.repo.get(dataset_id).rows]


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
    assert where.repo.get(ids.encoded["train"]).rows.table["source"].to_pylist() == [0, 0, 1, 1]


def test_a_source_is_stored_once_whatever_the_mixture(tmp_path: Path) -> None:
    where = store(tmp_path)
    alone = prepare(Recipe(WEB, HeldOut(), NoFilter(), ByteTokenization()), where)
    mixed = prepared(where)
    assert mixed.raw == {"news/train": mixed.raw["news/train"], "web/train": alone.raw["train"]}
    assert mixed.raw["news/train"] in mixed.built
    assert mixed.raw["web/train"] not in mixed.built
    assert prepared(where, weights={"news": 1, "web": 3}).built == [], "another weight builds nothing"
    capped = prepared(where, caps={"web": 2}).built
    assert [name.split("-")[0] for name in capped] == ["filtered", "encoded"], "another cap reads nothing again"
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
    with pytest.raises(DataError, match=r"keeps the columns src, tgt, but pairs of a mixture have 'source' as well"):
        prepared(store(tmp_path), filter_=LosesSources())


def test_batches_keep_a_source_of_the_mixtures_type_alone() -> None:
    mixed = pa.record_batch([["a"], ["b"], [3]], schema=MIXED_SCHEMA)
    assert [batch.schema for batch in pair_batches([mixed])] == [MIXED_SCHEMA]
    assert [batch.schema for batch in pair_batches([mixed.slice(0, 0)])] == [MIXED_SCHEMA]
    assert [batch.schema for batch in pair_batches(pa.Table.from_batches([mixed]).slice(0, 0))] == [MIXED_SCHEMA]
    texts = pa.record_batch([["a"], ["b"], ["a file's own"]], names=["src", "tgt", "source"])
    assert [batch.schema for batch in pair_batches([texts])] == [PAIR_SCHEMA]
