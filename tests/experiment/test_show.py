"""`task=show` beside damage: what can be read is listed, and what cannot is named."""

from pathlib import Path
from typing import Any

import pytest
from command_line import Mtx

from mtx.data.dataset import TranslationDataset
from mtx.data.store import Store
from mtx.experiment.show import short_revision
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTX_STORE", str(tmp_path / "store"))
    return Store(root=tmp_path / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer)


def damage(store: Store, name: str) -> None:
    manifest: Any = store.repo.oal.read(name)
    store.repo.oal.delete(name)
    store.repo.oal.create(name, {**manifest, "n": 77})


def test_damaged_manifests_are_named_and_all_others_listed(store: Store, mtx: Mtx) -> None:
    for name in ("raw-a", "raw-b"):
        rows = [{"src": "a", "tgt": "b"}]
        store.repo.add(
            TranslationDataset(id=name, name="small", stage="raw", split="train", languages=("en", "de"), data=rows)
        )
    for name in ("words-a", "words-b"):
        store.words.get_or_build(name, lambda path: path.joinpath("x").touch(), {"filtered": "raw-b"})
    damage(store, "raw-a")
    (store.words.open("words-a") / "manifest.json").write_text("{")
    told = mtx("task=show")
    assert told.code == 0, told.err
    assert "1 dataset in " in told.out
    for listed in ("raw-b", "words-b", "raw-a cannot be read: ", "words-a cannot be read: "):
        assert listed in told.out
    assert "2 cannot be read, as listed above. Check the whole store with mtx task=verify" in told.out


def test_where_nothing_can_be_read_it_is_not_said_to_be_empty(store: Store, mtx: Mtx) -> None:
    store.repo.add(
        TranslationDataset(id="raw-a", name="x", stage="raw", split="train", languages=("en", "de"), data=[])
    )
    damage(store, "raw-a")
    told = mtx("task=show")
    assert "No dataset" not in told.out
    assert "raw-a cannot be read: " in told.out


@pytest.mark.parametrize(
    ("revision", "shown"),
    [
        ("0123456789abcdef" * 4, "0123456789abcdef"),
        ("0123456789abcdef" * 2 + "01234567", "0123456789abcdef"),
        ("sha256:" + "A" * 64, "sha256:" + "A" * 16),
        ("encoded-validation-0123456789abcdef", "encoded-validation-0123456789abcdef"),
        ("v2024.1", "v2024.1"),
        ("a branch of " + "many words " * 20, f"{'a branch of ' + 'many words ' * 20}"[:43] + "…"),
        ("\u8a9e" * 60, "\u8a9e" * 43 + "…"),
    ],
)
def test_a_long_revision_leaves_room_for_the_other_columns(revision: str, shown: str) -> None:
    assert short_revision(revision) == shown


def test_all_columns_are_shown_in_80_columns(store: Store, mtx: Mtx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    provenance: Any = {"revision": "f" * 64}
    rows = [{"src": "one", "tgt": "eins"}] * 7
    languages = ("en", "de")
    store.repo.add(
        TranslationDataset(
            name="lines", stage="raw", split="test", languages=languages, data=rows, provenance=provenance
        )
    )
    told = mtx("task=show").out
    assert "f" * 17 not in told
    for heading in ("name", "pairs", "size"):
        assert heading in told
    assert any("lines" in line and " 7 " in line for line in told.splitlines())
