"""Folders of files that are built together: whole or not at all, once, and checked."""

import pickle
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mtx.errors import DamagedError, InUseError, NewerFormatError, NotStoredError, StoreError
from mtx.infra.dal.artifact import (
    FORMAT_VERSION,
    MANIFEST,
    ArtifactFile,
    ArtifactLayer,
    ArtifactManifest,
    FolderArtifactLayer,
)
from mtx.infra.dal.maintenance_protocols import ArtifactMaintenance
from mtx.infra.dal.manifest_digest import fields_with_digest, json_bytes

DESCRIBED: dict[str, Any] = {"stage": "tokenizer", "filtered": "filtered-1"}
# SHA-256 of b"abc", as `printf abc | sha256sum` says.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

# As an mtx before lengths and digests wrote it. Never to be renewed.
VERSION_1 = b"""{
 "config": {
  "class": "mtx.data.tokenize.bpe.BPETokenization",
  "vocab_size": 40
 },
 "filtered": "filtered-train-0123456789abcdef",
 "id": "one",
 "joint": true,
 "stage": "tokenizer"
}"""


@pytest.fixture
def layer(tmp_path: Path) -> FolderArtifactLayer:
    return FolderArtifactLayer(location=tmp_path / "store")


def write(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"abc")
    (folder / "empty").write_bytes(b"")


def built(layer: FolderArtifactLayer, name: str = "one") -> Path:
    return layer.get_or_build(name, write, DESCRIBED)


def test_is_an_artifact_layer_that_can_be_looked_after(layer: FolderArtifactLayer) -> None:
    assert isinstance(layer, ArtifactLayer)
    assert isinstance(layer, ArtifactMaintenance)


def test_is_built_once_and_tells_what_it_holds(layer: FolderArtifactLayer, tmp_path: Path) -> None:
    path = built(layer)
    assert path == tmp_path / "store" / "one"
    assert (path / "a.txt").read_bytes() == b"abc"

    def never(_: Path) -> None:
        raise AssertionError("it is there")

    assert layer.get_or_build("one", never, DESCRIBED) == path == layer.open("one")
    manifest = layer.manifest("one")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert manifest == ArtifactManifest(
        "one", DESCRIBED, {"a.txt": ArtifactFile(3, ABC), "empty": ArtifactFile(0, empty)}
    )
    assert manifest.num_bytes == 3
    assert layer.num_bytes("one") == 3 + (path / MANIFEST).stat().st_size
    assert layer.get_all_names() == ["one"]
    assert pickle.loads(pickle.dumps(layer)).open("one") == path


def test_threads_that_ask_at_once_build_it_once(layer: FolderArtifactLayer) -> None:
    builds: list[Path] = []
    together = threading.Barrier(4)

    def build(folder: Path) -> None:
        builds.append(folder)
        write(folder)

    def ask(_: int) -> Path:
        together.wait()
        return layer.get_or_build("one", build, DESCRIBED)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == 1
    assert len(builds) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, ConnectionError])
def test_a_build_that_dies_leaves_nothing(layer: FolderArtifactLayer, error: type[BaseException]) -> None:
    def die(folder: Path) -> None:
        write(folder)
        raise error

    with pytest.raises(error):
        layer.get_or_build("one", die, DESCRIBED)
    assert not layer.exists("one")
    assert [path.name for path in layer.location.iterdir()] == ["locks"]


def test_what_a_killed_build_left_is_a_leftover_and_is_built_over(layer: FolderArtifactLayer) -> None:
    left = layer.location / ".one.tmp"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"12345")
    (leftover,) = layer.leftovers()
    assert (leftover.path, leftover.num_bytes, leftover.reason) == (left, 5, "an interrupted build")
    assert layer.get_all_names() == []
    built(layer)
    assert sorted(path.name for path in layer.open("one").iterdir()) == ["a.txt", "empty", MANIFEST]
    left.mkdir()
    assert [leftover.remove() for leftover in layer.leftovers()] == [True]
    assert not left.exists()


def test_what_is_being_built_is_no_leftover(layer: FolderArtifactLayer) -> None:
    building, told = threading.Event(), threading.Event()

    def build(folder: Path) -> None:
        write(folder)
        building.set()
        told.wait(30)

    with ThreadPoolExecutor(1) as pool:
        builder = pool.submit(layer.get_or_build, "one", build, DESCRIBED)
        assert building.wait(30)
        (leftover,) = layer.leftovers()
        with pytest.raises(InUseError, match="one is in use by another process"):
            leftover.remove()
        told.set()
        assert builder.result() == layer.open("one")


def test_an_unknown_name_is_refused_with_those_that_are_there(layer: FolderArtifactLayer, tmp_path: Path) -> None:
    operations: list[Callable[[str], object]] = [
        layer.open,
        layer.manifest,
        layer.verify,
        layer.num_bytes,
        layer.delete,
        lambda name: layer.quarantine(name, tmp_path / "damaged"),
    ]
    built(layer)
    for operation in operations:
        with pytest.raises(NotStoredError, match=r"nothing is stored as 'two' in .*store. Stored there: 1 \(one\)"):
            operation("two")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden"])
def test_names_that_climb_or_hide_are_refused(layer: FolderArtifactLayer, tmp_path: Path, name: str) -> None:
    for operation in (layer.open, layer.exists, layer.delete, layer.lock):
        with pytest.raises(StoreError, match="is not a valid name in a store"):
            operation(name)
    assert list(tmp_path.iterdir()) == []


def test_deleting_and_setting_aside_leave_nothing_in_the_layer(layer: FolderArtifactLayer, tmp_path: Path) -> None:
    built(layer)
    layer.delete("one")
    assert layer.get_all_names() == []
    for place in ("one", "one.2"):
        built(layer)
        assert layer.quarantine("one", tmp_path / "damaged") == str(tmp_path / "damaged" / place)
        assert (tmp_path / "damaged" / place / "a.txt").read_bytes() == b"abc"
    assert not layer.exists("one")


def test_each_changed_byte_is_found(layer: FolderArtifactLayer) -> None:
    path = built(layer)
    for file in ("a.txt", MANIFEST):
        whole = (path / file).read_bytes()
        for position in range(len(whole)):
            for bits in (1, 0x20, 0xFF):
                changed = bytearray(whole)
                changed[position] ^= bits
                (path / file).write_bytes(changed)
                with pytest.raises((DamagedError, NewerFormatError)):  # the latter where the version's digit changed
                    layer.verify("one")
        (path / file).write_bytes(whole)
    layer.verify("one")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: (path / "a.txt").write_bytes(b"ab"),
            "a.txt of one has changed on disk: bytes 2, but the manifest says 3",
        ),
        (lambda path: (path / "a.txt").unlink(), "a.txt of one cannot be read: No such file or directory"),
        (lambda path: (path / MANIFEST).unlink(), "one/manifest.json cannot be read: No such file"),
        (
            lambda path: (path / MANIFEST).write_bytes(b"["),
            "the manifest of one cannot be read: .* is not valid JSON: the error is at line 1, column 2",
        ),
        (
            lambda path: (path / MANIFEST).write_bytes(b"[" * 100_000),
            "the manifest of one cannot be read: .* is not valid JSON",
        ),
        (lambda path: (path / MANIFEST).write_bytes(b"{ }"), "the bytes of .*manifest.json are not as mtx writes them"),
        (lambda path: (path / MANIFEST).write_bytes(b"[]"), "the manifest of one must be a JSON object, but is a list"),
        (
            lambda path: (path / MANIFEST).write_bytes(json_bytes({"id": "two"})),
            "the manifest of one names another artifact, 'two', as its id",
        ),
        (
            lambda path: (path / MANIFEST).write_bytes(json_bytes({"id": "one", "files": {}})),
            "its content does not match its digest",
        ),
        (
            lambda path: (path / MANIFEST).write_bytes(
                json_bytes(
                    fields_with_digest(
                        {"format_version": 2, "id": "one", "files": {"../../x": {"num_bytes": 1, "sha256": ""}}}
                    )
                )
            ),
            "the list of files in the manifest of one is invalid: .*is not a valid name in a store",
        ),
        (
            lambda path: (path / MANIFEST).write_bytes(
                json_bytes(fields_with_digest({"format_version": 2, "id": "one", "files": {"x": {"run": "rm"}}}))
            ),
            "the list of files in the manifest of one is invalid: Python reports TypeError",
        ),
    ],
)
def test_damage_is_named_when_it_is_opened_and_is_not_built_over(
    layer: FolderArtifactLayer, damage: Callable[[Path], object], message: str
) -> None:
    damage(built(layer))
    for operation in (lambda: layer.open("one"), lambda: built(layer)):
        with pytest.raises(DamagedError, match=message):
            operation()


def test_a_changed_byte_of_the_same_length_is_left_to_the_full_check(layer: FolderArtifactLayer) -> None:
    (built(layer) / "a.txt").write_bytes(b"abd")
    layer.verify("one", full=False)
    with pytest.raises(
        DamagedError, match=f"a.txt of one has changed on disk: SHA-256 .*, but the manifest says {ABC}"
    ):
        layer.verify("one")


def test_a_large_artifact_that_a_stage_builds_from_is_checked_byte_by_byte(
    layer: FolderArtifactLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtx.infra.dal.artifact.SMALL_BYTES", 0)
    (built(layer) / "a.txt").write_bytes(b"abd")
    layer.open("one")  # the memory map of a training stays cheap
    with pytest.raises(DamagedError, match=f"SHA-256 .*, but the manifest says {ABC}"):
        layer.open("one", full=True)


def test_an_artifact_of_an_older_mtx_is_read(layer: FolderArtifactLayer) -> None:
    path = built(layer)
    (path / MANIFEST).write_bytes(VERSION_1)
    assert layer.open("one") == path
    layer.verify("one")
    manifest = layer.manifest("one")
    assert manifest.files is None
    assert manifest.num_bytes is None
    assert manifest.described == {
        "config": {"class": "mtx.data.tokenize.bpe.BPETokenization", "vocab_size": 40},
        "filtered": "filtered-train-0123456789abcdef",
        "joint": True,
        "stage": "tokenizer",
    }


def test_an_artifact_of_a_newer_mtx_is_refused_and_left(layer: FolderArtifactLayer) -> None:
    path = built(layer)
    (path / MANIFEST).write_bytes(json_bytes({"format_version": FORMAT_VERSION + 1, "id": "one", "parts": []}))
    before = (path / MANIFEST).read_bytes()
    message = f"the manifest of one has format version 3, but this mtx knows versions 1 to {FORMAT_VERSION}"
    for operation in (lambda: layer.open("one"), lambda: built(layer)):
        with pytest.raises(NewerFormatError, match=message):
            operation()
    assert (path / MANIFEST).read_bytes() == before


def test_what_the_artifact_writes_itself_cannot_be_described(layer: FolderArtifactLayer) -> None:
    with pytest.raises(
        StoreError, match=r"the description of one uses files, id, which are reserved keys of manifest.json"
    ):
        layer.get_or_build("one", write, {"id": "two", "files": {}})
    assert not layer.exists("one")


def test_a_full_disk_is_reported_and_leaves_nothing(
    layer: FolderArtifactLayer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built(layer, "before")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(122, "Disk quota exceeded")

    for name in ("mkdir", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, refuse)
            with pytest.raises(StoreError, match=r"Disk quota exceeded"):
                built(layer)
        assert layer.get_all_names() == ["before"]
        assert sorted(path.name for path in layer.location.iterdir()) == ["before", "locks"]
    built(layer)
    shutil.rmtree(tmp_path / "store")


def test_a_file_that_the_manifest_does_not_name_is_found_where_every_byte_is_looked_at(
    layer: FolderArtifactLayer,
) -> None:
    path = built(layer)
    (path / "more.bin").write_bytes(b"1")
    layer.verify("one", full=False)
    with pytest.raises(DamagedError, match=r"the manifest of one does not list the file more\.bin.*task=verify"):
        layer.verify("one")
