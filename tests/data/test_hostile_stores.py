"""Stores that somebody else has had a hand in: nothing outside is touched, and no error comes from libraries."""

import io
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mtx.app.command import compose
from mtx.data.exchange import dataset_import
from mtx.data.garbage_collection import store_leftovers
from mtx.data.remembered_sources import Seen, SourceMemory
from mtx.data.store import Store
from mtx.errors import DamagedError, InUseError, StoreError
from mtx.experiment.gc import gc
from mtx.experiment.run_context import Run
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dal.manifest_digest import fields_with_digest, json_bytes
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import HFDatasetDownloader

SOURCE = HFDatasetDownloader(dataset="some/name", language="de-en")
SEEN = Seen("0123abcd" * 5, ("de", "en"), ("train",), {}, datetime(2026, 1, 31, tzinfo=UTC))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=tmp_path / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer)


@pytest.mark.parametrize(
    "changed",
    [
        {"splits": [["a"], "train"]},
        {"splits": [{}, "train"]},
        {"splits": ["train", "train"]},
        {"seen_at": "9999-12-31T23:59:59-23:00"},
    ],
)
def test_a_sealed_record_of_other_types_is_not_relied_on(
    store: Store, changed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    memory = SourceMemory(store)
    memory.write(SOURCE, SEEN)
    fields = {**json.loads(memory.path(SOURCE).read_text()), **changed}
    memory.path(SOURCE).write_bytes(json_bytes(fields_with_digest(fields)))
    with caplog.at_level(logging.WARNING):
        assert memory.read(SOURCE) is None
    assert "mtx asks the server of the source instead" in caplog.text


def test_a_record_that_cannot_be_read_is_named(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    memory = SourceMemory(store)
    path = memory.path(SOURCE)
    path.mkdir(parents=True)  # as unreadable as a file without permissions, also for root
    with caplog.at_level(logging.WARNING):
        assert memory.read(SOURCE) is None
    assert f"the record of a source, {path}, cannot be read: Is a directory; mtx asks" in caplog.text


def test_a_sealed_record_that_names_no_source_is_not_relied_on(store: Store) -> None:
    memory = SourceMemory(store)
    memory.write(SOURCE, SEEN)
    fields = json.loads(memory.path(SOURCE).read_text())
    del fields["source"]
    memory.path(SOURCE).write_bytes(json_bytes(fields_with_digest(fields)))
    assert memory.read(SOURCE) is None


def test_a_marker_nested_too_deep_is_damaged(store: Store) -> None:
    store.root.mkdir()
    (store.root / "mtx-store.json").write_text("[" * 200_000)
    with pytest.raises(DamagedError, match=r"mtx-store.json, which tells the store's version, cannot be read"):
        store.check_version()


@pytest.mark.parametrize("place", ["scratch", "damaged", "damaged/datasets", "damaged/other"])
def test_what_lies_behind_a_link_is_never_removed(store: Store, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "home"
    outside.mkdir()
    (outside / "thesis.txt").write_text("years of work")
    link = store.root / place
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    for leftover in store_leftovers(store):
        leftover.remove()
    assert (outside / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_artifact_can_be_removed_and_built_again(store: Store, tmp_path: Path, kind: str) -> None:
    place = store.tokenizers.location / "tok"  # type: ignore[attr-defined]
    place.parent.mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    if kind == "file":
        place.write_text("no folder")
    else:
        place.symlink_to(tmp_path / "home")
    store.tokenizers.delete("tok")
    assert sorted(path.name for path in place.parent.iterdir()) == ["locks"]
    built = store.tokenizers.get_or_build("tok", lambda folder: _write(folder / "a"), {})
    assert (built / "a").read_text() == "1"
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_a_leftover_of_another_kind_than_expected_is_removed(store: Store) -> None:
    place = store.tokenizers.location / ".tok.tmp"  # type: ignore[attr-defined]
    place.parent.mkdir(parents=True)
    place.write_text("no folder")
    (leftover,) = store_leftovers(store)
    assert leftover.remove()
    assert not place.exists()


def test_a_leftover_that_cannot_be_removed_is_told_as_an_error_of_the_store(tmp_path: Path) -> None:
    layer = JSONFileObjectLayer(location=tmp_path)
    (tmp_path / "manifests" / ".a.json.0123456789ab.tmp").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"a\.json cannot be written: .*\. Nothing stored before has changed"):
        layer.create("a", {})


def _write(path: Path) -> None:
    path.write_text("1")


def test_the_folder_of_an_import_at_work_is_left_alone_and_that_of_a_killed_one_removed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def unpack(source: Path, into: Path, **options: Any) -> None:
        def tidy() -> None:
            (leftover,) = store_leftovers(store)
            with pytest.raises(InUseError):
                leftover.remove()

        with ThreadPoolExecutor(1) as another:
            another.submit(tidy).result()
        assert into.is_dir()
        seen.append(into.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset_import, "unpack", unpack)
    with pytest.raises(KeyboardInterrupt):
        dataset_import.import_datasets(store, tmp_path / "some.zip")
    assert len(seen) == 1
    assert list(store_leftovers(store)) == []
    left = store.scratch() / "import-0123456789ab"
    left.mkdir()
    (left / ".lock").touch()
    (left / "rows").write_bytes(b"12")
    (leftover,) = store_leftovers(store)
    assert leftover.remove()
    assert not left.exists()


def test_what_cannot_be_removed_does_not_keep_the_rest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (store.scratch() / name).touch()
    run = Run(
        compose([f"storage.root={store.root}", "task=gc"]),
        output_dir=store.root.with_name("out"),
        console=Console(width=200, record=True, file=io.StringIO()),
    )
    really = os.unlink

    def refuse(path: Any, **options: Any) -> None:
        if Path(path).name == "a":
            raise PermissionError(1, "Operation not permitted")
        really(path, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(StoreError, match=r"^1 could not be removed: .*scratch/a"):
        gc(run, yes=True)
    assert [path.name for path in store.scratch().iterdir()] == ["a"]
    assert "Removed 1, which frees 0 B." in run.console.export_text()
