"""Export and import: what leaves a store comes back as it was, and nothing hostile gets in."""

import gzip
import io
import json
import signal
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.dataset import TranslationDataset
from mtx.data.exchange import column_type_checks, export_manifest, safe_unpacking
from mtx.data.exchange.dataset_export import export_dataset
from mtx.data.exchange.dataset_import import import_datasets
from mtx.data.exchange.export_manifest import EXPORT_FILE, parse_manifest
from mtx.data.store import Store
from mtx.errors import ConfigError, DamagedError, DataError, MtxError, NotStoredError, SourceError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer

NASTY = [
    {"src": "plain", "tgt": "schlicht"},
    {"src": "", "tgt": "empty"},
    {"src": "NUL \x00 inside", "tgt": "\x1b[31m escape"},
    {"src": "line\u2028separator\u2029and\x85next", "tgt": "\ufeffBOM\ufeff"},
    {"src": "\u202eright to left", "tgt": "zero\u200dwidth 👩‍👩‍👧"},
    {"src": "x" * 100_000, "tgt": "e\u0301 é"},
    {"src": '"quotes", \ttabs', "tgt": "<b>&amp;</b>"},
]
BROKEN = [*NASTY, {"src": "two\nlines", "tgt": "back\\slash"}, {"src": "a", "tgt": "carriage\rreturn"}]
TARGETS = ["export", "export.zip", "export.tar.gz", "export.tgz"]


def store_in(root: Path) -> Store:
    return Store(root=root, objects=partial(SQLiteObjectLayer), files=partial(ArrowFileLayer))


def dataset_of(data: Any, dataset_id: str = "raw-train-1", **fields: Any) -> TranslationDataset:
    described: dict[str, Any] = {
        "name": "n",
        "stage": "raw",
        "split": "train",
        "languages": ("en", "de"),
        "provenance": {"revision": "1", "_target_": "os.system"},
        "metrics": {"skipped": {"blank": 2}},
        **fields,
    }
    return TranslationDataset(id=dataset_id, data=data, **described)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = store_in(tmp_path / "store")
    store.repo.add(dataset_of(NASTY))
    return store


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return store_in(tmp_path / "other")


TOKENIZER = {
    "version": "1.0",
    "model": {"type": "WordLevel", "vocab": {"<UNK>": 0, "last": 65535}, "unk_token": "<UNK>"},
}


def write_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))


def encoded(store: Store) -> TranslationDataset:
    store.tokenizers.get_or_build("tokenizer-1", write_tokenizer, {"stage": "tokenizer"})
    ids = pa.large_list(pa.uint16())
    table = pa.table(
        {
            "source_ids": pa.array([[1, 2, 65535], []], ids),
            "target_ids": pa.array([[4], [5, 6]], ids),
            "num_target_bytes": pa.array([3, 4], pa.int64()),
        }
    )
    inputs = {"inputs": ["raw-train-1", "tokenizer-1"]}
    return store.repo.add(dataset_of(table, "encoded-train-1", stage="encoded", provenance=inputs, n=2))


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
from test_exchange import *
from mtx.data.exchange import archive
def slow(*_):
    print("packing", flush=True)
    time.sleep(60)
archive._pack = archive._sync_tree = slow
export_dataset(store_in(Path({store!r})), "raw-train-1", Path(sys.argv[1]))
"""


@pytest.mark.parametrize("target", ["export", "export.zip"])
def test_an_export_that_is_killed_leaves_nothing_that_looks_whole(store: Store, tmp_path: Path, target: str) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), store=str(store.root))
    worker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / target)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "packing\n"
    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=20)
    assert not (tmp_path / target).exists()
    export_dataset(store, "raw-train-1", tmp_path / target)


# --- hostile and damaged archives


Files = dict[str, bytes]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of an export with a tokenizer, to be changed by a test in a copy."""
    at = tmp_path_factory.mktemp("files")
    store = store_in(at / "store")
    store.repo.add(dataset_of(NASTY))
    encoded(store)
    export_dataset(store, "encoded-train-1", at / "good", inputs=True)
    found = [path for path in (at / "good").rglob("*") if path.is_file()]
    found.sort(key=lambda path: path.name != EXPORT_FILE)
    return {path.relative_to(at / "good").as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def good(files: Files, tmp_path: Path) -> Path:
    """The same as a folder."""
    for name, content in files.items():
        (tmp_path / "good" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "good" / name).write_bytes(content)
    return tmp_path / "good"


def packed(files: Files, to: Path, *more: tuple[str, bytes]) -> Path:
    """Pack files as they are, also twice or under bad names, by hand."""
    members = [*files.items(), *more]
    if to.suffix == ".zip":
        with zipfile.ZipFile(to, "w") as zipped:
            for name, content in members:
                zipped.writestr(zipfile.ZipInfo(name), content)
    else:
        with tarfile.open(to, "w:gz") as tarred:
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tarred.addfile(member, io.BytesIO(content))
    return to


def refused(source: Path, other: Store, message: str, error: type[MtxError] = SourceError) -> None:
    with pytest.raises(error, match=message):
        import_datasets(other, source)
    assert list(other.repo.manifests()) == []
    assert other.tokenizers.get_all_names() == []
    assert list((other.root / "scratch").iterdir()) == []


def changed(files: Files, change: Callable[[dict[str, Any]], Any]) -> Files:
    manifest = json.loads(files[EXPORT_FILE])
    change(manifest)
    return {**files, EXPORT_FILE: json.dumps(manifest).encode()}


@pytest.fixture(params=["bad.zip", "bad.tar.gz"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_what_is_packed_by_hand_is_imported(files: Files, at: Path, other: Store) -> None:
    assert len(import_datasets(other, packed(files, at)).stored) == 3


def test_what_an_operating_system_adds_to_an_archive_is_passed_over(files: Files, at: Path, other: Store) -> None:
    added = [(name, b"x") for name in ("__MACOSX/._mtx-export.json", ".DS_Store", "datasets/._raw", "Thumbs.db")]
    first = {"._mtx-export.json": b"x", **files}
    assert len(import_datasets(other, packed(first, at, *added)).stored) == 3


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "datasets/../../evil", "a\\..\\evil", "datasets/x.parquet"])
def test_files_that_the_manifest_does_not_name_are_refused(files: Files, at: Path, other: Store, name: str) -> None:
    refused(packed(files, at, (name, b"x")), other, "which its mtx-export.json does not list. Nothing was imported")


@pytest.mark.parametrize(
    "name",
    [
        *("../evil", "/tmp/evil", "datasets/../../evil", "tokenizers/../evil", "tokenizers/t/../x", "evil"),
        *("datasets/.x.parquet", "tokenizers/t/a\x00b", "tokenizers/t/x\n", "datasets\\x.parquet"),
    ],
)
def test_names_that_climb_are_refused_where_the_manifest_has_them_too(
    files: Files, at: Path, other: Store, name: str
) -> None:
    described = {"num_bytes": 1, "sha256": "0" * 64, "decoded_bytes": 0}
    bad = changed(files, lambda manifest: manifest["files"].update({name: described}))
    refused(packed(bad, at, (name.replace("\x00", ""), b"x")), other, "with plain file names. Nothing was imported")


def test_a_member_that_comes_twice_is_refused(files: Files, at: Path, other: Store) -> None:
    name = "datasets/raw-train-1.parquet"
    with pytest.warns(UserWarning, match="Duplicate name") if at.suffix == ".zip" else pytest.MonkeyPatch.context():
        packed(files, at, (name, b"other"))
    refused(at, other, f"has '{name}' twice")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_links_and_devices_in_a_tar_are_refused(files: Files, tmp_path: Path, other: Store, kind: bytes) -> None:
    with tarfile.open(tmp_path / "bad.tgz", "w:gz", format=tarfile.GNU_FORMAT) as tarred:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if name.startswith("datasets/raw"):
                member.type, member.linkname, member.size = kind, "/etc/passwd", 0
            tarred.addfile(member, io.BytesIO(content) if member.size else None)
    refused(tmp_path / "bad.tgz", other, r"which is a link, a device|cannot be read as an archive")
    assert not (other.root / "scratch" / "datasets").exists()


def test_links_in_a_zip_are_refused(files: Files, tmp_path: Path, other: Store) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as zipped:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            if name.startswith("datasets/raw"):
                member.external_attr, content = (stat.S_IFLNK | 0o777) << 16, b"/etc/passwd"
            zipped.writestr(member, content)
    refused(tmp_path / "bad.zip", other, "which is a link, a device")


@pytest.mark.parametrize("depth", ["file", "folder"])
def test_links_in_a_folder_are_refused(good: Path, tmp_path: Path, other: Store, depth: str) -> None:
    if depth == "file":
        moved = (good / "datasets/raw-train-1.parquet").rename(tmp_path / "elsewhere")
        (good / "datasets/raw-train-1.parquet").symlink_to(moved)
    else:
        moved = (good / "datasets").rename(tmp_path / "elsewhere")
        (good / "datasets").symlink_to(moved)
    refused(good, other, "is a link, but an export has only files")


def test_an_archive_that_says_it_unpacks_to_too_much_is_refused(files: Files, at: Path, other: Store) -> None:
    def claim(manifest: dict[str, Any]) -> None:
        manifest["files"]["datasets/raw-train-1.parquet"]["decoded_bytes"] = 1 << 40

    refused(packed(changed(files, claim), at), other, r"more than 200 times as many.*raise task.max_ratio")


def test_a_bomb_is_read_no_further_than_it_declares(files: Files, tmp_path: Path, other: Store) -> None:
    zeros = bytes(1 << 20)
    name = "tokenizers/tokenizer-1/tokenizer.json"
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for other_name, content in files.items():
            zipped.writestr(other_name, content if other_name != name else content + zeros)
    refused(tmp_path / "bomb.zip", other, f"{name} .* has changed: bytes more than", DamagedError)
    with gzip.open(tmp_path / "bomb.tgz", "wb") as stream:
        with tarfile.open(fileobj=stream, mode="w|") as tarred:
            member = tarfile.TarInfo(EXPORT_FILE)
            member.size = len(files[EXPORT_FILE])
            tarred.addfile(member, io.BytesIO(files[EXPORT_FILE]))
        for _ in range(80):
            stream.write(zeros)
    with tarfile.open(tmp_path / "header.tgz", "w:gz", format=tarfile.PAX_FORMAT) as tarred:
        member = tarfile.TarInfo(EXPORT_FILE)
        member.pax_headers = {"comment": "0" * (70 << 20)}
        tarred.addfile(member)
    refused(tmp_path / "header.tgz", other, "unpacks to more than the .* bytes that its mtx-export.json allows")


def test_rows_that_decode_to_more_than_declared_are_refused(files: Files, at: Path, other: Store) -> None:
    """A page of one long text repeated a million times takes some kilobytes in Parquet."""
    out = io.BytesIO()
    pq.write_table(pa.table({"src": ["x" * 100_000] * 1000, "tgt": [""] * 1000}), out, compression="zstd")
    name = "datasets/raw-train-1.parquet"

    def lie(manifest: dict[str, Any]) -> None:
        import hashlib

        manifest["files"][name].update(num_bytes=len(out.getvalue()), sha256=hashlib.sha256(out.getvalue()).hexdigest())

    bad = {**changed(files, lie), name: out.getvalue()}
    refused(packed(bad, at), other, "decode to more than the .* bytes that the export declares")


def with_rows(files: Files, table: pa.Table, name: str = "raw-train-1") -> Files:
    import hashlib

    out = io.BytesIO()
    pq.write_table(table, out)
    described = {"num_bytes": len(out.getvalue()), "sha256": hashlib.sha256(out.getvalue()).hexdigest()}
    path = f"datasets/{name}.parquet"
    return {**changed(files, lambda m: m["files"][path].update(described)), path: out.getvalue()}


@pytest.mark.parametrize(
    ("table", "message", "error"),
    [
        ({"src": ["a"] * 7}, r"stage raw have src and tgt of strings, but raw-train-1 has src: string", SourceError),
        ({"src": [1] * 7, "tgt": ["b"] * 7}, "src: int64", SourceError),
        ({"src": ["a"] * 6 + [None], "tgt": ["b"] * 7}, "has a row without a value", SourceError),
        ({"src": ["a"] * 6, "tgt": ["b"] * 6}, "has changed: rows 6, but the manifest says 7", DamagedError),
    ],
)
def test_rows_of_another_form_are_refused(
    files: Files, at: Path, other: Store, table: dict[str, Any], message: str, error: type[MtxError]
) -> None:
    refused(packed(with_rows(files, pa.table(table)), at), other, message, error)


def test_token_ids_of_another_type_are_refused(files: Files, at: Path, other: Store) -> None:
    table = pa.table({"source_ids": [[1], [2]], "target_ids": [[1], [2]], "num_target_bytes": [1, 2]})
    message = "stage encoded have source_ids and target_ids of uint16 or uint32 in large lists"
    refused(packed(with_rows(files, table, "encoded-train-1"), at), other, message)


def test_rows_that_are_no_parquet_are_refused(files: Files, at: Path, other: Store) -> None:
    import hashlib

    name = "datasets/raw-train-1.parquet"
    described = {"num_bytes": 4, "sha256": hashlib.sha256(b"PAR1").hexdigest()}
    bad = {**changed(files, lambda m: m["files"][name].update(described)), name: b"PAR1"}
    refused(packed(bad, at), other, "the rows of raw-train-1 cannot be read", DamagedError)


def test_each_changed_byte_of_a_file_is_found(files: Files, at: Path, other: Store) -> None:
    for name in files.keys() - {EXPORT_FILE}:
        middle = len(files[name]) // 2
        content = files[name][:middle] + bytes([files[name][middle] ^ 1]) + files[name][middle + 1 :]
        refused(packed({**files, name: content}, at), other, f"{name} of .* has changed: SHA-256", DamagedError)
        refused(packed({**files, name: files[name][:-1]}, at), other, "has changed: bytes", DamagedError)


def test_an_archive_that_is_cut_short_is_refused(files: Files, at: Path, other: Store) -> None:
    packed(files, at)
    at.write_bytes(at.read_bytes()[: at.stat().st_size // 2])
    refused(at, other, "cannot be read as an archive|neither a folder nor")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format="other"), "so it cannot be imported"),
        (lambda m: m.update(format_version=2), "has the export format version 2, but this mtx reads only 1"),
        (lambda m: m.update(datasets=[]), "must have a list `datasets`, not empty"),
        (lambda m: m.update(files=[]), "must have a list `datasets`, not empty"),
        (lambda m: m["files"]["datasets/raw-train-1.parquet"].update(num_bytes=-1), "two counts and 64 hex digits"),
        (lambda m: m["files"]["datasets/raw-train-1.parquet"].update(sha256="../x"), "two counts and 64 hex digits"),
        (lambda m: m["files"]["datasets/raw-train-1.parquet"].update(more=1), "two counts and 64 hex digits"),
        (lambda m: m["files"].pop("datasets/raw-train-1.parquet"), "each dataset needs one"),
        (lambda m: m["datasets"].append(m["datasets"][0]), "each dataset needs one"),
    ],
)
def test_a_manifest_of_another_form_is_refused(
    files: Files, at: Path, other: Store, change: Callable[[Any], Any], message: str
) -> None:
    refused(packed(changed(files, change), at), other, message)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("id", "../evil"), ("id", 3), ("n", -1), ("n", True), ("n", "7"), ("name", ["x"]), ("metrics", [1])),
        *(("provenance", "x"), ("stage", "cooked"), ("split", {}), ("payload", "x"), ("languages", "en")),
        ("languages", [1, 2]),
    ],
)
def test_a_dataset_manifest_with_other_types_is_refused(
    files: Files, at: Path, other: Store, field: str, value: object
) -> None:
    from mtx.infra.dal.manifest_digest import fields_with_digest

    def change(manifest: dict[str, Any]) -> None:
        manifest["datasets"][0][field] = value
        manifest["datasets"][0] = fields_with_digest(manifest["datasets"][0])

    refused(packed(changed(files, change), at), other, "manifest", MtxError)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": "mtx-export"'])
def test_what_is_no_manifest_is_refused(files: Files, at: Path, other: Store, content: bytes) -> None:
    refused(packed({**files, EXPORT_FILE: content}, at), other, "is not JSON|so it cannot be imported")


def test_a_manifest_that_is_missing_or_not_the_first_in_a_tar_is_told(
    files: Files, at: Path, tmp_path: Path, other: Store
) -> None:
    last = {**{name: content for name, content in files.items() if name != EXPORT_FILE}}
    refused(packed(last, at), other, f"has no {EXPORT_FILE}, which must be the first file in a .tar.gz")
    refused(
        packed({**last, EXPORT_FILE: files[EXPORT_FILE]}, tmp_path / "last.tgz"),
        other,
        "unpack it and import the folder",
    )
    refused(packed({}, at), other, f"has no {EXPORT_FILE}|neither a folder nor")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", other, f"has no {EXPORT_FILE}, so it is no export")


def test_a_file_that_is_missing_is_told(files: Files, at: Path, good: Path, other: Store) -> None:
    name = "datasets/raw-train-1.parquet"
    less = {key: content for key, content in files.items() if key != name}
    refused(packed(less, at), other, f"has no file {name}, which its {EXPORT_FILE} lists")
    (good / name).unlink()
    refused(good, other, f"has no file {name}")


def test_a_manifest_that_is_too_long_is_refused(
    files: Files, at: Path, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_unpacking, "MAX_MANIFEST_BYTES", 100)
    refused(packed(files, at), other, f"{EXPORT_FILE} of .* is longer than 100 bytes")


@pytest.mark.parametrize(
    ("more", "message"),
    [({"evil.so": b"x"}, "has the files evil.so"), ({"tokenizer.json": b"{}"}, "has changed|is not a tokenizer")],
)
def test_a_tokenizer_of_other_files_is_refused(files: Files, at: Path, other: Store, more: Files, message: str) -> None:
    import hashlib

    bad = dict(files)
    for name, content in more.items():
        path = f"tokenizers/tokenizer-1/{name}"
        described = {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "decoded_bytes": 0}
        bad = {**changed(bad, lambda m, p=path, d=described: m["files"].update({p: d})), path: content}  # type: ignore[misc]
    refused(packed(bad, at), other, message, MtxError)


def test_a_tokenizer_that_the_library_cannot_read_is_refused(store: Store, tmp_path: Path, other: Store) -> None:
    store.tokenizers.get_or_build(
        "tokenizer-2", lambda folder: (folder / "tokenizer.json").write_text("{}") and None, {}
    )
    inputs = {"inputs": ["raw-train-1", "tokenizer-2"]}
    store.repo.add(dataset_of(NASTY, "with-bad", provenance=inputs))
    export_dataset(store, "with-bad", tmp_path / "e.zip")
    refused(tmp_path / "e.zip", other, "tokenizer.json of tokenizer-2 is not a tokenizer")


def test_a_tokenizer_without_its_manifest_is_refused(files: Files, at: Path, other: Store) -> None:
    name = "tokenizers/tokenizer-1/manifest.json"
    bad = {key: content for key, content in changed(files, lambda m: m["files"].pop(name)).items() if key != name}
    refused(packed(bad, at), other, "the tokenizer tokenizer-1 has no manifest.json")


def test_what_is_neither_folder_nor_archive_is_told(tmp_path: Path, other: Store) -> None:
    (tmp_path / "text").write_text("hello")
    refused(tmp_path / "text", other, "is neither a folder nor a .zip or .tar.gz archive that mtx task=export wrote")
    refused(tmp_path / "none", other, rf"there is no {tmp_path / 'none'}. Correct from=FILE")


def test_moses_text_is_imported_another_way(store: Store, tmp_path: Path, other: Store) -> None:
    export_dataset(store, "raw-train-1", tmp_path / "m", format="moses")
    refused(tmp_path / "m", other, "read Moses text and other files with downloader=local")


def test_nothing_in_a_manifest_is_made_or_run(files: Files, at: Path, other: Store, tmp_path: Path) -> None:
    from mtx.infra.dal.manifest_digest import fields_with_digest

    def change(manifest: dict[str, Any]) -> None:
        command = {"_target_": "os.system", "command": f"touch {tmp_path / 'evil'}"}
        manifest["datasets"][0].update(provenance=command, metrics={"_target_": "builtins.eval"})
        manifest["datasets"][0] = fields_with_digest(manifest["datasets"][0])

    import_datasets(other, packed(changed(files, change), at))
    assert not (tmp_path / "evil").exists()
    assert other.repo.manifest("raw-train-1").provenance["_target_"] == "os.system"  # data


KEYS = st.sampled_from(["format", "format_version", "datasets", "files", "id", "n"])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
)


@settings(max_examples=100, deadline=None)
@given(ANY_JSON)
def test_any_json_is_refused_with_a_message(value: Any) -> None:
    if isinstance(value, dict):
        value = {**value, "format": "mtx-export", "format_version": 1}
    with pytest.raises(MtxError):
        parse_manifest(json.dumps(value).encode(), "x")


def test_an_extension_type_is_no_column() -> None:
    assert column_type_checks.is_extension(pa.list_(pa.uuid()))
    assert not column_type_checks.is_extension(pa.list_(pa.string()))


def test_paths_have_two_forms() -> None:
    assert export_manifest.EXPORT_PATH.fullmatch(export_manifest.rows_path("raw-train-1"))
    assert not export_manifest.EXPORT_PATH.fullmatch("datasets/a/b.parquet")
