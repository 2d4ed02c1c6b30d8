"""Text is stored once: what changes, what is selected, and what another choice builds."""

import json
import logging
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mtx.data.exchange.dataset_export import export_dataset
from mtx.data.exchange.dataset_import import import_datasets
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.none import NoFilter
from mtx.data.normalise import DefaultNormaliser, NoNormaliser
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.bpe import BPETokenization
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.manifest_digest import fields_with_digest
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.sources.local import LocalDownloader

TEXTS = [(f"{' ' * (i % 3)}sentence number {i % 40}", f"Satz Nummer {i % 40}{'!' * (i % 5)}") for i in range(120)]
BPE = {"vocab_size": 300, "min_frequency": 1}


def corpus(folder: Path) -> LocalDownloader:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps({"src": src, "tgt": tgt}) + "\n" for src, tgt in TEXTS))
    return LocalDownloader(path=path)


def store(root: Path, objects: Any = SQLiteObjectLayer, files: Any = ArrowFileLayer) -> Store:
    return Store(root=root / "store", objects=objects, files=files)


def prepared(where: Store, root: Path, *, filter_: Any = None, **options: Any) -> StageIds:
    tokenizer = BPETokenization(**BPE, **({"train_on": options.pop("train_on")} if "train_on" in options else {}))
    recipe = Recipe(corpus(root), HeldOut(validation=10), filter_ or DefaultFilter(), tokenizer, **options)
    return prepare(recipe, where)


def kinds(ids: StageIds) -> list[str]:
    return [name.split("-")[0] for name in ids.built]


def test_another_threshold_encodes_nothing_anew_with_a_vocabulary_of_the_text(tmp_path: Path) -> None:
    where = store(tmp_path)
    first = prepared(where, tmp_path, train_on="text")
    assert kinds(first) == [*("raw", "text", "split", "split", "filtered", "filtered"), "tokenizer", "encoded"]
    second = prepared(where, tmp_path, train_on="text", filter_=DefaultFilter(max_ratio=2.0))
    assert kinds(second) == ["filtered"]
    assert second.encoded == first.encoded
    assert second.tokenizer == first.tokenizer


def test_a_vocabulary_of_what_is_trained_on_follows_the_filter(tmp_path: Path) -> None:
    where = store(tmp_path)
    prepared(where, tmp_path)
    second = prepared(where, tmp_path, filter_=DefaultFilter(max_chars=20))
    assert kinds(second) == ["filtered", "tokenizer", "encoded"]


def test_only_texts_that_normalising_changes_are_stored(tmp_path: Path) -> None:
    where = store(tmp_path)
    ids = prepared(where, tmp_path)
    text = where.repo.get(ids.text["train"])
    assert text.n == len(TEXTS)
    assert text.payload is not None
    assert text.payload.num_rows == sum(src != src.strip() for src, _ in TEXTS)
    assert [(row["src"], row["tgt"]) for row in text.rows] == [(src.strip(), tgt) for src, tgt in TEXTS]
    assert text.metrics == {"changed": text.payload.num_rows}
    as_it_is = prepared(where, tmp_path, normalise=NoNormaliser())
    assert [(row["src"], row["tgt"]) for row in where.repo.get(as_it_is.text["train"]).rows] == TEXTS


def test_a_normal_form_is_applied_to_what_is_no_ascii(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"src": "cafe\u0301 ", "tgt": "Ｋａｆｆｅｅ"}) + "\n")
    for form, expected in (("NFC", ("caf\u00e9", "Ｋａｆｆｅｅ")), ("NFKC", ("caf\u00e9", "Kaffee"))):
        recipe = Recipe(
            LocalDownloader(path=path), HeldOut(), NoFilter(), BPETokenization(vocab_size=260),
            normalise=DefaultNormaliser(form=form),
        )  # fmt: skip
        ids = prepare(recipe, store(tmp_path))
        row = store(tmp_path).repo.get(ids.filtered["train"]).rows[0]
        assert (row["src"], row["tgt"]) == expected


STORAGES = [(SQLiteObjectLayer, ArrowFileLayer), (ObjectAccessLayer, FileAccessLayer)]


@pytest.mark.parametrize(("objects", "files"), STORAGES)
def test_rows_and_materialised_export_are_the_same_pairs(tmp_path: Path, objects: Any, files: Any) -> None:
    where = store(tmp_path / "a", objects, files)
    ids = prepared(where, tmp_path)
    selected = where.repo.get(ids.filtered["train"])
    assert selected.selects
    export_dataset(where, selected.id, tmp_path / "export")
    other = store(tmp_path / "b", objects, files)
    import_datasets(other, tmp_path / "export")
    materialised = other.repo.get(selected.id)
    assert materialised.selects == ()
    assert list(materialised.rows) == list(selected.rows)
    assert len(materialised) == len(selected)
    again = prepared(other, tmp_path)  # with the imported one in the place of a selection
    assert again.filtered == ids.filtered
    assert selected.id not in again.built


def test_a_selection_whose_text_is_gone_says_so(tmp_path: Path) -> None:
    from mtx.errors import DamagedError

    where = store(tmp_path)
    ids = prepared(where, tmp_path)
    where.repo.remove(ids.text["train"])
    with pytest.raises(DamagedError, match=f"consists of rows of {ids.text['train']}, which is no longer stored"):
        where.repo.get(ids.filtered["train"])
    assert prepared(where, tmp_path).built == [ids.text["train"]]


def test_a_store_of_an_earlier_version_is_told_of_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    where = store(tmp_path)
    manifest = {
        **{"format_version": 2, "id": "raw-train-0123456789abcdef", "languages": ["en", "de"], "metrics": {}, "n": 0},
        **{"name": "old", "payload": None, "provenance": {"revision": "1", "source": {}}, "split": "train"},
        "stage": "raw",
    }
    where.repo.oal.create("raw-train-0123456789abcdef", fields_with_digest(manifest))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        prepared(where, tmp_path)
    told = [message for message in caplog.messages if "earlier version" in message]
    assert len(told) == 1
    assert "1 datasets in" in told[0]
    assert "mtx task=gc yes=true removes them" in told[0]
    assert where.repo.manifest("raw-train-0123456789abcdef").name == "old", "it is left as it is"


def test_a_warm_run_looks_everything_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mtx

    overrides = [
        *("downloader=local", f"downloader.path={corpus(tmp_path).path}", f"storage.root={tmp_path / 's'}"),
        *("tokenizer.vocab_size=300", "datamodule.validation=10", "datamodule.test=5"),
    ]
    mtx.compose_datamodule(overrides).prepare_data()
    connections: list[str] = []
    manifests: Counter[str] = Counter()
    payloads: Counter[str] = Counter()
    connect, read_manifest, read_rows = sqlite3.connect, SQLiteObjectLayer._values, ArrowFileLayer.read

    def counted_connect(*args: Any, **options: Any) -> sqlite3.Connection:
        connections.append(str(args[0]))
        return connect(*args, **options)

    def counted_manifest(self: Any, name: str) -> Any:
        manifests[name] += 1
        return read_manifest(self, name)

    def counted_rows(self: Any, name: str) -> Any:
        payloads[name] += 1
        return read_rows(self, name)

    monkeypatch.setattr(sqlite3, "connect", counted_connect)
    monkeypatch.setattr(SQLiteObjectLayer, "_values", counted_manifest)  # of `read` and `find`
    monkeypatch.setattr(ArrowFileLayer, "read", counted_rows)
    warm = mtx.compose_datamodule(overrides)
    warm.prepare_data()
    warm.setup("fit")
    next(iter(warm.train_dataloader()))
    assert warm.ids is not None
    assert warm.ids.built == []
    assert len(connections) == 1
    assert set(manifests.values()) == {1}
    assert set(payloads.values()) == {1}
