"""Import of archives that are damaged or hostile: each is refused by name, and nothing of it is kept."""

import gzip
import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exported_datasets import NASTY, dataset_of, encoded, store_in
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.exchange import column_type_checks, export_manifest, safe_unpacking
from mtx.data.exchange.dataset_export import export_dataset
from mtx.data.exchange.dataset_import import import_datasets
from mtx.data.exchange.export_manifest import EXPORT_FILE, parse_manifest
from mtx.data.store import Store
from mtx.errors import DamagedError, MtxError, SourceError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = store_in(tmp_path / "store")
    store.repo.add(dataset_of(NASTY))
    return store


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return store_in(tmp_path / "other")


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
