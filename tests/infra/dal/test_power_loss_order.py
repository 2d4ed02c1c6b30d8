"""What a power failure spares depends on the order of calls: content synced, then named, then the folder synced."""

import os
import sqlite3
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from mtx.data.dataset import TranslationDataset
from mtx.data.repo import DatasetRepo
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.artifact import FolderArtifactLayer
from mtx.infra.dal.atomic_file import make_folder
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import DATABASE, SQLiteObjectLayer

Calls = list[str]  # such as "sync one.arrow": content or folder; "name one.arrow": renamed, or linked, to that name


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """Record syncs and renames below `tmp_path`; temporary names as `*`."""
    recorded: Calls = []

    def told(path: Path) -> str:
        name = str(path.relative_to(tmp_path))
        return "/".join("*" if part.startswith(".") and part != "." else part for part in name.split("/"))

    def watch(call: str, path_of: Callable[..., Path]) -> None:
        original = getattr(os, call)

        @wraps(original)
        def watched(*given: Any, **options: Any) -> Any:
            path = path_of(*given)
            done = original(*given, **options)
            if path.is_relative_to(tmp_path):
                recorded.append(f"{'sync' if call == 'fsync' else 'name'} {told(path)}")
            return done

        monkeypatch.setattr(os, call, watched)

    watch("fsync", lambda descriptor: Path(f"/proc/self/fd/{descriptor}").readlink())
    for call in ("rename", "replace", "link"):
        watch(call, lambda _, new: Path(new))
    return recorded


def dataset() -> TranslationDataset:
    rows = [{"src": "a", "tgt": "b"}]
    return TranslationDataset(id="one", name="one", stage="raw", split="train", languages=("en", "de"), data=rows)


def written(path: str, at: str = "store") -> Calls:
    """A file that appears under its name only with its content, and whose name is synced."""
    return [f"sync {at}/*", f"name {at}/{path}", f"sync {at}"]


MADE = ["sync store", "sync ."]  # the folders of the store and of its locks, in their parents


def test_arrow_payload_is_whole_before_json_manifests_name_it(calls: Calls, tmp_path: Path) -> None:
    store = tmp_path / "store"
    DatasetRepo(fal=ArrowFileLayer(location=store), oal=JSONFileObjectLayer(location=store)).add(dataset())
    assert calls == [*MADE, *written("one.arrow"), "sync store", *written("one.json", at="store/manifests")]


def test_json_lines_are_whole_before_the_shelf_names_them(calls: Calls, tmp_path: Path) -> None:
    store = tmp_path / "store"
    DatasetRepo(fal=FileAccessLayer(location=store), oal=ObjectAccessLayer(location=store)).add(dataset())
    assert calls == [*MADE, *written("one.types.json"), *written("one.jsonl"), *written("manifests.json")]


def test_payload_is_whole_before_sqlite_is_told_of_it(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    oal = SQLiteObjectLayer(location=store)
    create = oal.create
    monkeypatch.setattr(oal, "create", lambda name, value: calls.append(f"manifest {name}") or create(name, value))
    DatasetRepo(fal=ArrowFileLayer(location=store), oal=oal).add(dataset())
    made = calls.index("manifest one")
    assert calls[:made] == [*MADE, *written("one.arrow")]
    assert calls[-2:] == [f"name store/{DATABASE}", "sync store"]  # a database is made apart, and whole by then


def test_files_of_an_artifact_and_its_manifest_are_synced_before_it_has_its_name(calls: Calls, tmp_path: Path) -> None:
    layer = FolderArtifactLayer(location=tmp_path / "store")
    layer.get_or_build("one", lambda at: (at / "tokenizer.json").write_text("{}") and None, {})
    inside = ["sync store/*/tokenizer.json", "sync store/*/*", "name store/*/manifest.json", "sync store/*"]
    assert calls == [*MADE, *inside, "name store/one", "sync store"]


def test_a_removed_artifact_is_gone_for_good_before_its_files_are(calls: Calls, tmp_path: Path) -> None:
    layer = FolderArtifactLayer(location=tmp_path / "store")
    layer.get_or_build("one", lambda at: (at / "tokenizer.json").write_text("{}") and None, {})
    calls.clear()
    layer.delete("one")
    assert calls == ["name store/*", "sync store"]


def test_folders_that_are_made_are_synced_in_their_parents_from_the_innermost(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    make_folder(tmp_path / "there/a/b")
    assert calls == ["sync there/a", "sync there"]
    make_folder(tmp_path / "there/a/b")
    assert calls == ["sync there/a", "sync there"]  # nothing made, nothing to sync


def test_sqlite_writes_ahead_and_syncs_each_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []
    settings: list[tuple[int, str]] = []
    connect = sqlite3.connect

    def traced(*given: Any, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*given, **options)

        def trace(statement: str) -> None:
            statements.append(statement)
            if statement.startswith("INSERT INTO manifest"):  # by then the connection that commits has its settings
                db.set_trace_callback(None)
                (synchronous,), (mode,) = db.execute("PRAGMA synchronous"), db.execute("PRAGMA journal_mode")
                settings.append((synchronous[0], mode[0]))

        db.set_trace_callback(trace)
        return db

    monkeypatch.setattr(sqlite3, "connect", traced)
    SQLiteObjectLayer(location=tmp_path).create("one", {"n": 1})
    assert settings == [(2, "wal")]  # 2: FULL
    assert "BEGIN IMMEDIATE" in statements
