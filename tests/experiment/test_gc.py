"""`task=gc`: what nothing refers to is shown, and removed only when told so."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from busy import at_work_on
from conf_options import storages
from rich.console import Console

from mtx.app.command import compose
from mtx.data.dataset import TranslationDataset
from mtx.data.garbage_collection import artifact_inputs, store_leftovers
from mtx.data.store import VERSION_FILE, Store
from mtx.errors import DamagedError, NewerFormatError
from mtx.experiment.gc import gc
from mtx.experiment.run_context import Run
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.oal import ObjectAccessLayer

ROWS = [{"src": "one", "tgt": "eins"}]


LAYERS = storages()


def store_at(root: Path, option: str = "sqlite_arrow") -> Store:
    return Store(root=root, **LAYERS[option])


def run_of(root: Path, *overrides: str, console: Console | None = None) -> Run:
    config = compose([f"storage.root={root}", "task=gc", *overrides])
    return Run(
        config, output_dir=root.with_name("out"), console=console or Console(width=80, record=True, file=io.StringIO())
    )


def add(store: Store, name: str, stage: str, *inputs: str) -> None:
    fields: dict[str, Any] = {"name": "small", "stage": stage, "split": "train", "languages": ("en", "de")}
    store.repo.add(TranslationDataset(id=name, data=ROWS, provenance={"inputs": list(inputs)}, **fields))


def write(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(b"{}")


def fill(store: Store) -> Store:
    add(store, "raw-1", "raw")
    add(store, "filtered-1", "filtered", "raw-1")
    store.tokenizers.get_or_build("tokenizer-1", write, {"filtered": "filtered-1"})
    store.words.get_or_build("words-1", write, {"filtered": "filtered-1", "tokenizer": "tokenizer-1"})
    add(store, "encoded-1", "encoded", "filtered-1", "tokenizer-1")
    return store


@pytest.fixture(params=LAYERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return fill(store_at(tmp_path / "store", request.param))


def found(store: Store, **options: bool) -> dict[str, str]:
    return {leftover.path.name: leftover.reason for leftover in store_leftovers(store, **options)}


def remove(store: Store) -> None:
    for leftover in store_leftovers(store):
        assert leftover.remove()
    assert store_leftovers(store) == []


def test_in_a_store_that_runs_left_nothing_is_unused(store: Store) -> None:
    assert found(store) == {}


def test_leftovers_of_stopped_runs_are_found_and_removed_and_nothing_else(store: Store) -> None:
    fal: Any = store.repo.fal
    suffix = fal.SUFFIX
    (fal.location / f".filtered-9{suffix}.0123456789ab.tmp").write_bytes(b"half")
    fal.create("raw-9", ROWS)
    (store.root / "tokenizers" / ".tokenizer-9.tmp").mkdir()
    (store.scratch() / "tmpabc").write_bytes(b"ids")
    (store.damaged / "datasets").mkdir(parents=True)
    (store.damaged / "datasets" / f"raw-8{suffix}").write_bytes(b"bad")
    (store.root / "my notes.txt").write_text("mine")
    assert (
        found(store).items()
        >= {
            f".filtered-9{suffix}.0123456789ab.tmp": "an interrupted write",
            f"raw-9{suffix}": "rows without a manifest",
            ".tokenizer-9.tmp": "an interrupted build",
            "tmpabc": "a scratch file of an interrupted run",
            f"raw-8{suffix}": "set aside as damaged",
        }.items()
    )
    remove(store)
    assert (store.root / "my notes.txt").exists()
    assert store.repo.show()["id"].tolist() == ["encoded-1", "filtered-1", "raw-1"]
    assert all(len(store.repo.get(name)) == 1 for name in ("raw-1", "filtered-1", "encoded-1"))
    assert store.words.open("words-1").exists()
    assert store.tokenizers.open("tokenizer-1").exists()


def test_what_was_made_from_something_that_is_gone_is_unused(store: Store) -> None:
    store.repo.remove("filtered-1")
    assert found(store) == {
        "encoded-1": "built from filtered-1, which is missing",
        "words-1": "built from filtered-1, which is missing",
        "tokenizer-1": "built from filtered-1, which is missing",
    }
    assert found(store, orphans=False) == {}
    remove(store)
    assert store.repo.show()["id"].tolist() == ["raw-1"]


def test_a_tokenizer_that_is_needed_is_kept(store: Store) -> None:
    add(store, "filtered-2", "filtered", "raw-1")
    add(store, "encoded-2", "encoded", "filtered-2", "tokenizer-1")
    store.repo.remove("filtered-1")
    assert set(found(store)) == {"encoded-1", "words-1"}


def test_what_is_built_again_meanwhile_is_left(store: Store) -> None:
    store.repo.remove("filtered-1")
    leftovers = store_leftovers(store)
    add(store, "filtered-1", "filtered", "raw-1")
    assert not any(leftover.remove() for leftover in leftovers)
    assert store.repo.exists("encoded-1")


def test_what_another_process_is_writing_is_left_and_told(tmp_path: Path) -> None:
    run = run_of(tmp_path / "store")
    store = run.build("storage")
    store.repo.fal.create("raw-9", ROWS)
    with at_work_on(store.repo, "raw-9"):
        gc(run, yes=True)
    assert "Kept 1: another process is using them." in run.console.export_text()
    assert store.repo.fal.exists("raw-9")


def test_options_that_share_a_folder_keep_each_other_whole(tmp_path: Path) -> None:
    for option in LAYERS:
        store = store_at(tmp_path, option)
        for name, stage in (("raw-1", "raw"), ("filtered-1", "filtered")):
            add(store, name, stage)
    stores = [store_at(tmp_path, option) for option in ("sqlite_arrow", "files_arrow")]
    stores.append(Store(root=tmp_path, objects=ObjectAccessLayer, files=ArrowFileLayer))  # of a user's own choice
    assert [found(store) for store in stores] == [{}, {}, {}]
    stores[0].tokenizers.get_or_build("tokenizer-1", write, {"filtered": "filtered-1"})
    stores[0].repo.remove("filtered-1")
    assert found(stores[0]) == {}, "another option still has what the tokenizer was made from"


def test_without_yes_nothing_is_removed(tmp_path: Path) -> None:
    run = run_of(tmp_path / "store")
    store = run.build("storage")
    gc(run)
    assert f"Nothing in {store.root} is unused." in run.console.export_text().replace("\n", " ")
    store.repo.fal.create("raw-9", ROWS)
    gc(run)
    shown = run.console.export_text()
    assert "Nothing was removed. Remove them with mtx task=gc yes=true" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if "│" in line)
    assert store.repo.fal.exists("raw-9")
    gc(run, yes=True)
    assert "Removed 1, which frees" in run.console.export_text()
    assert not store.repo.fal.exists("raw-9")


@pytest.mark.parametrize(("answer", "removed"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, removed: bool) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    run = run_of(tmp_path / "store", console=Console(file=io.StringIO(), width=80, force_terminal=True))
    store = run.build("storage")
    store.repo.fal.create("raw-9", ROWS)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    gc(run)
    assert store.repo.fal.exists("raw-9") is not removed


def test_where_manifests_cannot_be_read_nothing_is_called_unused(tmp_path: Path) -> None:
    store = fill(store_at(tmp_path))
    database = tmp_path / "datasets" / "manifests.sqlite"
    database.write_bytes(b"no database" * 1000)
    with pytest.raises(
        DamagedError, match=r"manifests.sqlite in .* is damaged: .*nothing is removed. Run mtx task=verify"
    ):
        store_leftovers(store)


def test_where_a_manifest_cannot_be_read_nothing_is_called_an_orphan(tmp_path: Path) -> None:
    store = fill(store_at(tmp_path))
    store.repo.remove("filtered-1")
    (store.tokenizers.open("tokenizer-1") / "manifest.json").write_text("{}")
    assert found(store) == {}


def test_a_store_of_a_newer_mtx_is_left(tmp_path: Path) -> None:
    store = fill(store_at(tmp_path))
    (tmp_path / VERSION_FILE).write_text('{"format_version": 2}')
    with pytest.raises(NewerFormatError, match="has format version 2"):
        store_leftovers(store)


def test_options_are_typed_without_the_task(tmp_path: Path) -> None:
    task = compose([f"storage.root={tmp_path}", "task=gc", "yes=true", "orphans=false"])["task"]
    assert (task["yes"], task["orphans"]) == (True, False)


def test_the_scores_that_a_combined_model_reads_are_its_inputs() -> None:
    described: Any = {"texts": ["text-a"], "inputs": [["rules", ["scores-a", "scores-b"]], ["order", ["scores-c"]]]}
    assert artifact_inputs(described) == ["text-a", "scores-a", "scores-b", "scores-c"]
