"""Export and import: what leaves a store comes back as it was."""

import json
import signal
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exported_datasets import BROKEN, NASTY, TOKENIZER, dataset_of, encoded, store_in
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.exchange.dataset_export import export_dataset
from mtx.data.exchange.dataset_import import import_datasets
from mtx.data.exchange.export_manifest import EXPORT_FILE
from mtx.data.store import Store
from mtx.errors import ConfigError, DamagedError, DataError, NotStoredError
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.oal import ObjectAccessLayer

TARGETS = ["export", "export.zip", "export.tar.gz", "export.tgz"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = store_in(tmp_path / "store")
    store.repo.add(dataset_of(NASTY))
    return store


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return store_in(tmp_path / "other")


# --- there and back


@pytest.mark.parametrize("target", TARGETS)
def test_comes_back_in_another_store_as_it_was(store: Store, other: Store, tmp_path: Path, target: str) -> None:
    export_dataset(store, "raw-train-1", tmp_path / target)
    done = import_datasets(other, tmp_path / target)
    assert (done.stored, done.kept) == (("raw-train-1",), ())
    before, after = store.repo.get("raw-train-1"), other.repo.get("raw-train-1")
    assert list(after.data or ()) == NASTY
    assert after == before  # manifest and payload's digest too, as both keep Arrow
    other.repo.verify("raw-train-1")
    assert list((other.root / "scratch").iterdir()) == []


def test_comes_back_in_a_store_of_another_kind(store: Store, tmp_path: Path) -> None:
    text = Store(root=tmp_path / "text", objects=partial(ObjectAccessLayer), files=partial(FileAccessLayer))
    export_dataset(store, "raw-train-1", tmp_path / "e.zip")
    import_datasets(text, tmp_path / "e.zip")
    assert list(text.repo.get("raw-train-1").data or ()) == NASTY
    export_dataset(text, "raw-train-1", tmp_path / "back.zip")
    assert import_datasets(store, tmp_path / "back.zip").kept == ("raw-train-1",)


@settings(max_examples=10, deadline=None)
@given(pairs=st.lists(st.fixed_dictionaries({"src": st.text(), "tgt": st.text()}), min_size=1, max_size=8))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, pairs: list[dict[str, str]]) -> None:
    at = tmp_path_factory.mktemp("any")
    here, there = store_in(at / "here"), store_in(at / "there")
    here.repo.add(dataset_of(pairs))
    export_dataset(here, "raw-train-1", at / "e.tar.gz")
    import_datasets(there, at / "e.tar.gz")
    assert list(there.repo.get("raw-train-1").data or ()) == pairs


@pytest.mark.parametrize("target", ["export", "export.zip", "export.tar.gz"])
def test_token_ids_come_back_with_their_tokenizer_in_one_piece(
    store: Store, other: Store, tmp_path: Path, target: str
) -> None:
    before = encoded(store)
    done = export_dataset(store, before.id, tmp_path / target)
    assert done.tokenizers == ("tokenizer-1",)
    assert import_datasets(other, tmp_path / target).stored == ("tokenizer-1", "encoded-train-1")
    after = other.repo.get(before.id)
    assert after == before
    assert after.rows.table.schema == before.rows.table.schema
    assert after.rows.table["source_ids"].num_chunks == 1
    assert json.loads((other.tokenizers.open("tokenizer-1") / "tokenizer.json").read_text()) == TOKENIZER
    other.tokenizers.verify("tokenizer-1")
    assert other.tokenizers.manifest("tokenizer-1") == store.tokenizers.manifest("tokenizer-1")


def test_what_it_was_made_from_goes_along_where_wanted(store: Store, other: Store, tmp_path: Path) -> None:
    encoded(store)
    done = export_dataset(store, "encoded-train-1", tmp_path / "e.zip", inputs=True)
    assert done.datasets == ("raw-train-1", "encoded-train-1")
    assert import_datasets(other, tmp_path / "e.zip").stored == ("tokenizer-1", "raw-train-1", "encoded-train-1")
    with pytest.raises(ConfigError, match=r"task.inputs=true goes with format=parquet, but the format is moses"):
        export_dataset(store, "raw-train-1", tmp_path / "m", inputs=True, format="moses")


def test_many_rows_come_back_in_large_batches(store: Store, other: Store, tmp_path: Path) -> None:
    pairs = [{"src": f"s{i}", "tgt": f"t{i}"} for i in range(70_000)]
    store.repo.add(dataset_of(pairs, "many"))
    export_dataset(store, "many", tmp_path / "e.zip")
    import_datasets(other, tmp_path / "e.zip")
    table = other.repo.get("many").rows.table
    assert table.to_pylist() == pairs
    assert table["src"].num_chunks <= 2


def test_a_dataset_without_rows_comes_back(store: Store, other: Store, tmp_path: Path) -> None:
    empty = pa.table({"src": pa.array([], pa.string()), "tgt": pa.array([], pa.string())})
    store.repo.add(dataset_of(empty, "empty", n=0))
    export_dataset(store, "empty", tmp_path / "e.zip")
    import_datasets(other, tmp_path / "e.zip")
    assert len(other.repo.get("empty")) == 0
    assert other.repo.get("empty").rows.table.column_names == ["src", "tgt"]


def test_what_is_stored_already_is_kept(store: Store, other: Store, tmp_path: Path) -> None:
    other.repo.add(dataset_of([{"src": "mine", "tgt": "meins"}]))
    export_dataset(store, "raw-train-1", tmp_path / "e.zip")
    done = import_datasets(other, tmp_path / "e.zip")
    assert (done.stored, done.kept) == ((), ("raw-train-1",))
    assert list(other.repo.get("raw-train-1").data or ()) == [{"src": "mine", "tgt": "meins"}]


def test_the_same_export_is_the_same_bytes(store: Store, tmp_path: Path) -> None:
    for suffix in ("zip", "tar.gz"):
        for name in ("a", "b"):
            export_dataset(store, "raw-train-1", tmp_path / f"{name}.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


# --- without mtx


def test_parquet_and_json_are_read_without_mtx(store: Store, tmp_path: Path) -> None:
    export_dataset(store, "raw-train-1", tmp_path / "e")
    assert pq.read_table(tmp_path / "e/datasets/raw-train-1.parquet").to_pylist() == NASTY
    manifest = json.loads((tmp_path / "e" / EXPORT_FILE).read_text())
    assert manifest["datasets"][0]["languages"] == ["en", "de"]


def test_the_datasets_library_loads_its_folder(store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import datasets

    encoded(store)
    for dataset_id in ("raw-train-1", "encoded-train-1"):
        export_dataset(store, dataset_id, tmp_path / dataset_id, format="datasets")
        assert "Saving" not in capfd.readouterr().err  # a bar of that library
        loaded = datasets.load_from_disk(str(tmp_path / dataset_id))
        assert loaded.to_list() == list(store.repo.get(dataset_id).data or ())


def moses(store: Store, to: Path, **options: Any) -> tuple[list[str], list[str], dict[str, Any]]:
    export_dataset(store, "broken", to, format="moses", **options)
    texts = [(to / f"train.{side}").read_bytes().decode().split("\n") for side in ("en", "de")]
    assert [lines.pop() for lines in texts] == ["", ""]  # each line ends
    return texts[0], texts[1], json.loads((to / EXPORT_FILE).read_text())


def test_moses_text_has_two_aligned_files(store: Store, tmp_path: Path) -> None:
    store.repo.add(dataset_of(NASTY, "broken"))
    source, target, described = moses(store, tmp_path / "m")
    assert [{"src": s, "tgt": t} for s, t in zip(source, target, strict=True)] == NASTY
    assert (described["num_pairs"], described["num_pairs_dropped"]) == (7, 0)
    assert described["num_pairs_with_other_break"] == 1


def test_a_line_break_is_refused_escaped_or_dropped_by_name(store: Store, tmp_path: Path) -> None:
    store.repo.add(dataset_of(BROKEN, "broken"))
    with pytest.raises(DataError, match=r"row 7 of broken has a line break .*task.newlines=escape, .*newlines=drop"):
        moses(store, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    source, target, described = moses(store, tmp_path / "d", newlines="drop")
    assert len(source) == len(target) == 7
    assert (described["num_pairs_dropped"], described["rows_dropped"]) == (2, [7, 8])
    source, target, described = moses(store, tmp_path / "e", newlines="escape")
    assert (source[7], target[7], target[8]) == (r"two\nlines", r"back\\slash", r"carriage\rreturn")
    assert (described["num_pairs"], described["num_pairs_with_line_break"]) == (9, 2)


def unescaped(text: str) -> str:
    return text.replace("\\\\", "\0\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0\0", "\\")


@settings(max_examples=15, deadline=None)
@given(st.text(alphabet="ab\\nr\n\r"))
def test_escapes_can_be_undone(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    store = store_in(tmp_path_factory.mktemp("escaped"))
    store.repo.add(dataset_of([{"src": text, "tgt": text}], "broken"))
    source, _, _ = moses(store, store.root / "m", newlines="escape")
    assert unescaped(source[0]) == text


@pytest.mark.parametrize("languages", [("en", "EN"), ("../x", "de"), ("", "de")])
def test_languages_that_name_no_two_files_are_written_as_sides(
    store: Store, tmp_path: Path, languages: tuple[str, str]
) -> None:
    store.repo.add(dataset_of(NASTY, "sides", languages=languages))
    export_dataset(store, "sides", tmp_path / "m", format="moses")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [EXPORT_FILE, "train.src", "train.tgt"]


def test_token_ids_are_no_moses_text(store: Store, tmp_path: Path) -> None:
    encoded(store)
    with pytest.raises(DataError, match=r"but encoded-train-1 holds token ids. .* as dataset=raw-train-1"):
        export_dataset(store, "encoded-train-1", tmp_path / "m", format="moses")


# --- targets


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_is_there_is_kept_unless_overwritten(store: Store, tmp_path: Path, target: str) -> None:
    store.repo.add(dataset_of(NASTY[:1], "small"))
    export_dataset(store, "small", tmp_path / target)
    with pytest.raises(ConfigError, match=rf"{target} already exists and is kept. .*set overwrite=true"):
        export_dataset(store, "raw-train-1", tmp_path / target)
    export_dataset(store, "raw-train-1", tmp_path / target, overwrite=True)
    there = store_in(tmp_path / "there")
    assert import_datasets(there, tmp_path / target).stored == ("raw-train-1",)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_only_an_earlier_export_is_ever_overwritten(store: Store, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=rf"{home} is a folder without {EXPORT_FILE}, so it is not an earlier export"):
        export_dataset(store, "raw-train-1", home, overwrite=True)
    assert (home / "thesis.tex").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is no folder, so it is not replaced"):
        export_dataset(store, "raw-train-1", tmp_path / "file", overwrite=True)
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(ConfigError, match="is no folder, so it is not replaced"):
        export_dataset(store, "raw-train-1", tmp_path / "link", overwrite=True)
    (tmp_path / "x.zip").mkdir()
    with pytest.raises(ConfigError, match="is no zip, so it is not replaced"):
        export_dataset(store, "raw-train-1", tmp_path / "x.zip", overwrite=True)


@pytest.mark.parametrize("name", ["work.zip", "work.tar.gz", "work.tgz"])
@pytest.mark.parametrize("content", ["text", "archive"])
def test_an_archive_of_other_files_is_never_overwritten(store: Store, tmp_path: Path, name: str, content: str) -> None:
    target = tmp_path / name
    if content == "text":
        target.write_text("years of work")
    elif name.endswith("zip"):
        with zipfile.ZipFile(target, "w") as packed:
            packed.writestr("thesis.tex", "years of work")
    else:
        with tarfile.open(target, "w:gz") as members:
            members.addfile(tarfile.TarInfo("thesis.tex"))
    before = target.read_bytes()
    with pytest.raises(ConfigError, match=f"is an archive without {EXPORT_FILE}, so it is not an earlier export"):
        export_dataset(store, "raw-train-1", target, overwrite=True)
    assert target.read_bytes() == before


def test_an_unknown_dataset_leaves_no_target(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotStoredError, match="nothing is stored as 'none'"):
        export_dataset(store, "none", tmp_path / "e.zip")
    assert not (tmp_path / "e.zip").exists()


def test_a_tokenizer_that_is_gone_is_told(store: Store, tmp_path: Path) -> None:
    encoded(store)
    store.tokenizers.delete("tokenizer-1")
    with pytest.raises(DamagedError, match=r"was built with tokenizer-1, which is no longer stored. Run mtx task=prep"):
        export_dataset(store, "encoded-train-1", tmp_path / "e.zip")
    assert not (tmp_path / "e.zip").exists()


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from exported_datasets import store_in
from mtx.data.exchange import archive
from mtx.data.exchange.dataset_export import export_dataset
def slow(*_):
    print("packing", flush=True)
    time.sleep(60)
archive._pack = archive._sync_tree = slow
export_dataset(store_in(Path({store!r})), "raw-train-1", Path(sys.argv[1]))
"""


@pytest.mark.parametrize("target", ["export", "export.zip"])
def test_an_export_that_is_killed_leaves_nothing_that_looks_whole(store: Store, tmp_path: Path, target: str) -> None:
    code = KILLED.format(tests=str(Path(__file__).parents[1]), store=str(store.root))
    worker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / target)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "packing\n"
    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=20)
    assert not (tmp_path / target).exists()
    export_dataset(store, "raw-train-1", tmp_path / target)
