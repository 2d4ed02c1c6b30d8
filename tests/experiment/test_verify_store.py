"""`task=verify`: every change in the store is named, and what is damaged is set aside, so that it is built again."""

import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from busy import at_work_on
from conf_options import storages
from rich.console import Console

from mtx.app.command import compose
from mtx.data.dataset import TranslationDataset
from mtx.data.store import VERSION_FILE, Store
from mtx.data.verify import verify_store
from mtx.errors import DamagedError, NewerFormatError
from mtx.experiment.run_context import Run
from mtx.experiment.show import show
from mtx.experiment.verify import verify
from mtx.infra.dal.sqlite import DATABASE

ROWS = [{"src": "one", "tgt": "eins"}, {"src": "two", "tgt": "zwei"}]


LAYERS = storages()


def store_at(root: Path, option: str = "sqlite_arrow") -> Store:
    return Store(root=root, **LAYERS[option])


def run_of(root: Path, *overrides: str) -> Run:
    config = compose([f"storage.root={root}", "task=verify", *overrides])
    return Run(config, output_dir=root.with_name("out"), console=Console(width=80, record=True, file=io.StringIO()))


def said(run: Run) -> str:
    return run.console.export_text()


def fill(store: Store) -> None:
    """A small store of everything: what a run would build, in small."""
    for name, stage in (("raw-1", "raw"), ("filtered-1", "filtered")):
        fields: dict[str, Any] = {"name": "small", "stage": stage, "split": "train", "languages": ("en", "de")}
        store.repo.add(
            TranslationDataset(id=name, data=ROWS, provenance={"inputs": ["raw-1"][: stage != "raw"]}, **fields)
        )
    store.tokenizers.get_or_build("tokenizer-1", write, {"stage": "tokenizer", "filtered": "filtered-1"})
    store.words.get_or_build("words-1", write, {"filtered": "filtered-1", "tokenizer": "tokenizer-1"})


def write(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(b'{"a": 1}')


@pytest.fixture(params=LAYERS)
def storage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(storage: str, tmp_path: Path) -> Store:
    store = store_at(tmp_path / "store", storage)
    fill(store)
    return store


def payload_of(store: Store, name: str = "filtered-1") -> Path:
    layer: Any = store.repo.fal
    return Path(layer.location / f"{name}{layer.SUFFIX}")


def damage(path: Path, at: int = -20) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_whole_store_is_found_whole(store: Store) -> None:
    for full in (False, True):
        found = verify_store(store, full=full)
        assert (found.num_checked, found.findings, found.undigested) == (4, [], [])
        assert found.num_bytes > 0


def test_an_empty_store_is_whole_and_nothing_is_made(tmp_path: Path) -> None:
    verify(run_of(tmp_path / "store"), full=True, repair=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", [0, 100, -20])
def test_a_changed_byte_of_rows_is_found_by_the_full_check_and_set_aside(store: Store, at: int) -> None:
    whole = payload_of(store).read_bytes()
    damage(payload_of(store), at if len(whole) > abs(at) else 5)
    found = verify_store(store, full=True)
    assert [(finding.name, finding.state) for finding in found.findings] == [("filtered-1", "damaged")]
    assert payload_of(store).exists()
    found = verify_store(store, full=True, repair=True)
    assert [finding.state for finding in found.findings] == ["set aside"]
    assert not store.repo.exists("filtered-1")
    assert all(Path(place).is_relative_to(store.damaged) and Path(place).exists() for place in found.findings[0].places)
    assert verify_store(store, full=True).findings == []
    assert list(store.repo.get("raw-1").rows) == ROWS
    fields: dict[str, Any] = {"name": "small", "stage": "filtered", "split": "train", "languages": ("en", "de")}
    again = store.repo.get_or_build("filtered-1", lambda: TranslationDataset(id="filtered-1", data=ROWS, **fields))
    assert list(again.rows) == ROWS


@pytest.mark.parametrize("kind", ["tokenizers", "words"])
@pytest.mark.parametrize("file", ["tokenizer.json", "manifest.json"])
def test_a_changed_byte_of_an_artifact_is_found_and_set_aside(store: Store, kind: str, file: str) -> None:
    layer = getattr(store, kind)
    (name,) = layer.get_all_names()
    damage(layer.open(name) / file, 5)
    (finding,) = verify_store(store, full=True, repair=True).findings
    assert (finding.name, finding.state, finding.places) == (name, "set aside", [str(store.damaged / kind / name)])
    assert layer.get_all_names() == []
    assert verify_store(store, full=True).findings == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), "filtered-1 has a manifest, but its rows are missing"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\n"), r"filtered-1 has changed on disk: bytes \d+, but"),
    ],
)
def test_rows_that_are_gone_or_of_another_size_are_found_by_the_fast_check(
    store: Store, change: Callable[[Path], object], reason: str
) -> None:
    change(payload_of(store))
    (finding,) = verify_store(store).findings
    assert finding.reason.startswith(reason) or finding.reason.startswith("filtered-1 has changed on disk: bytes")
    assert "repair=true" not in finding.reason  # said once, at the end
    verify_store(store, repair=True)
    assert verify_store(store, full=True).findings == []


def test_of_damaged_manifests_the_others_are_kept(store: Store, storage: str) -> None:
    location = Path(store.repo.oal.location)  # type: ignore[attr-defined]
    if storage == "sqlite_arrow":
        with sqlite3.connect(location / DATABASE) as db:
            db.execute("UPDATE manifest SET value = replace(value, '\"n\": 2', '\"n\": 3') WHERE name = 'raw-1'")
        db.close()
    else:
        file = location / ("manifests/raw-1.json" if storage == "files_arrow" else "manifests.json")
        content = file.read_bytes()
        at = content.rindex(b'"n": 2')
        file.write_bytes(content[:at] + b'"n": 3' + content[at + 6 :])
    (finding,) = verify_store(store).findings
    assert (finding.name, finding.state) == ("raw-1", "damaged")
    assert "its content does not match its digest" in finding.reason
    (finding,) = verify_store(store, repair=True).findings
    assert finding.state == "set aside"
    assert store.repo.show()["id"].tolist() == ["filtered-1"]
    assert verify_store(store, full=True).findings == []


@pytest.mark.parametrize("storage", ["sqlite_arrow", "shelve_jsonl"], indirect=True)
def test_manifests_that_nobody_can_read_are_named_and_set_aside(store: Store, storage: str) -> None:
    file = Path(store.repo.oal.location) / (DATABASE if storage == "sqlite_arrow" else "manifests.json")  # type: ignore[attr-defined]
    file.write_bytes(b"neither of them")
    (finding,) = verify_store(store).findings
    assert (finding.name, finding.state) == (file.name, "damaged")
    (finding,) = verify_store(store, repair=True).findings
    assert (finding.state, Path(finding.places[0]).read_bytes()) == ("set aside", b"neither of them")
    assert verify_store(store, full=True).findings == []
    fill_again = TranslationDataset(id="raw-1", data=ROWS, name="s", stage="raw", split="train", languages=("a", "b"))
    assert store.repo.get_or_build("raw-1", lambda: fill_again).n == 2


def test_what_a_newer_mtx_stored_is_told_and_left(store: Store) -> None:
    manifest: Any = store.repo.oal.read("raw-1")
    store.repo.oal.delete("raw-1")
    store.repo.oal.create("raw-1", {**manifest, "format_version": 99})
    (finding,) = verify_store(store, full=True, repair=True).findings
    assert (finding.name, finding.state) == ("raw-1", "of a newer mtx")
    assert "has format version 99, but this mtx knows versions 1 to 4" in finding.reason
    assert store.repo.oal.read("raw-1") == {**manifest, "format_version": 99}
    assert payload_of(store, "raw-1").exists()


def test_a_store_of_a_newer_mtx_is_not_judged(store: Store) -> None:
    (store.root / VERSION_FILE).write_text('{"format_version": 2}')
    with pytest.raises(NewerFormatError, match="has format version 2, but this mtx knows versions 1 to 1"):
        verify_store(store, repair=True)


def test_what_an_older_mtx_stored_without_digests_is_told(store: Store) -> None:
    manifest: Any = store.repo.oal.read("raw-1")
    store.repo.oal.delete("raw-1")
    old = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    store.repo.oal.create("raw-1", {**old, "format_version": 1})
    artifact = store.words.open("words-1")
    (artifact / "manifest.json").write_text(json.dumps({"id": "words-1", "stage": "words"}, indent=1))
    found = verify_store(store, full=True)
    assert (found.findings, found.undigested) == ([], ["raw-1", "words-1"])


def test_what_another_process_is_at_work_on_is_not_set_aside(store: Store) -> None:
    damage(payload_of(store))
    with at_work_on(store.repo, "filtered-1"):
        (finding,) = verify_store(store, full=True, repair=True).findings
    assert (finding.state, finding.places) == ("damaged", [])
    assert finding.reason.endswith("Not set aside: another process uses it")


def test_the_task_names_what_is_damaged_fails_and_fits_80_columns(tmp_path: Path) -> None:
    run = run_of(tmp_path / "store")
    store = run.build("storage")
    fill(store)
    damage(payload_of(store))
    verify(run)
    assert "No damage found." in said(run)
    with pytest.raises(
        DamagedError, match=r"not everything in .*store is intact, as listed above: 1 damaged; move them"
    ):
        verify(run, full=True)
    shown = said(run)
    assert "Checked 4 stored items" in shown
    assert "filtered-1" in shown
    assert "SHA-256" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if "┃" in line or "│" in line)
    verify(run, full=True, repair=True)
    assert "set aside" in said(run)
    verify(run, full=True)
    assert "No damage found." in said(run)


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        (["full=true", "repair=true"], {"full": True, "repair": True}),
        ([], {"full": False, "repair": False}),
        (["task.full=true"], {"full": True, "repair": False}),
    ],
)
def test_options_are_typed_without_the_task(tmp_path: Path, typed: list[str], options: dict[str, bool]) -> None:
    task = compose([f"storage.root={tmp_path}", "task=verify", *typed])["task"]
    assert {name: task[name] for name in options} == options


def test_show_lists_all_there_is_with_the_total(tmp_path: Path) -> None:
    run = run_of(tmp_path / "store")
    show(run)
    assert "No dataset in" in said(run)
    store = run.build("storage")
    fill(store)
    show(run)
    shown = said(run)
    for name in ("tokenizer-1", "words-1"):
        assert name in shown
    total = (
        sum(store.repo.show()["bytes"]) + store.tokenizers.num_bytes("tokenizer-1") + store.words.num_bytes("words-1")
    )
    assert f"2 datasets and 2 artifacts, {total / 1000:.1f} kB, in" in shown
    show(run, stage="raw")
    assert "tokenizer-1" not in said(run)
    shutil.rmtree(store.root)
