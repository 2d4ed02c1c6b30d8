"""`task=show` beside damage: what can be read is listed, and what cannot is named."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import Mtx
from rich.cells import cell_len

from mtx.data.dataset import TranslationDataset
from mtx.data.store import Store
from mtx.experiment.show import print_table, short_revision
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.progress.literal_console import PlainConsole


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
        ("a branch of " + "many words " * 20, "a branch of many words many words m…"),
        ("\u8a9e" * 60, "\u8a9e" * 17 + "…"),  # each takes two columns
        ("\u0301" * 30 + "e", "\u0301" * 30 + "e"),  # combining marks take none
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


WIDE_NAMES = {
    "long words": "lamps-" * 20,
    "CJK": "\u8a9e" * 50,
    "RTL": "\u05e9\u05dc\u05d5\u05dd" * 20,
    "combining": "e\u0301" * 60,
    "zero width": "\u200b" * 40,
    "emoji": "\U0001f469\u200d\U0001f52c" * 20,
    "line ends": "a\nb\rc\tx\x1b[31m",
    "none": "",
}


@pytest.mark.parametrize("kind", WIDE_NAMES)
def test_the_table_fits_80_columns_whatever_the_names(kind: str, tmp_path: Path) -> None:
    name, file = WIDE_NAMES[kind], io.StringIO()
    console = PlainConsole(file=file, width=80)
    run: Any = SimpleNamespace(console=console)
    datasets: Any = [
        SimpleNamespace(
            id=each,
            name=name,
            languages=("zh-Hant-TW", "sr-Cyrl-RS"),
            n=1_234_567_890,
            payload=SimpleNamespace(num_bytes=999_949_999_999),
            provenance={"revision": "f" * 64, "inputs": {"raw": name}},
            inputs={},
        )
        for each in ("filtered-validation-0123456789abcdef", "an-id-of-ones-own-" * 4)
    ]
    print_table(run, "store", datasets, [("model of a scorer", "rules-0123456789abcdef", [name], 12)], "")
    lines = [line.rstrip("\n") for line in file.getvalue().splitlines()]
    assert max(cell_len(line) for line in lines) <= 80
    told = "\n".join(lines)
    for shown in ("filtered-validation-0123456789abcdef", "1,234,567,890", "999.9 GB", "zh-", "total: "):
        assert shown in told
