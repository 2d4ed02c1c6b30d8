"""What is said when a bucket, its server or a package cannot be used, and that nothing says a secret."""

import logging
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from bucket_stores import MARKS, ROWS, SECRET, dataset_of, described, keys_of, store_at

from mtx.data.store import Store
from mtx.errors import ConfigError, StoreError
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.remote.artifacts import RemoteArtifactLayer
from mtx.infra.dal.remote.file_layer import RemoteFileLayer
from mtx.infra.dal.remote.filesystem import RemoteFolder
from mtx.infra.dal.remote.manifests import RemoteObjectLayer

pytestmark = MARKS


def test_a_bucket_that_is_missing_is_named(s3: str, tmp_path: Path) -> None:
    store = store_at("s3://no-such-bucket-here/mtx", tmp_path)
    calls = (store.repo.show, partial(store.repo.exists, "one"), partial(store.repo.add, dataset_of()))
    for call in (*calls, partial(store.repo.fal.create, "one", ROWS)):
        with pytest.raises(
            StoreError, match=r"the bucket 'no-such-bucket-here' of storage.root=.* does not exist, or the credentials"
        ):
            call()
    with pytest.raises(StoreError, match="the bucket 'no-such-bucket-here' of"):
        RemoteFolder("s3://no-such-bucket-here/mtx").upload(Path(__file__), "key")


@pytest.mark.usefixtures("new_clients")
def test_missing_credentials_are_told(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError, match=r"cannot be read: no credentials were found .*Set AWS_ACCESS_KEY_ID"):
        store_at(s3, tmp_path).repo.show()


@pytest.mark.usefixtures("new_clients")
def test_a_server_that_is_not_there_is_told_in_bounded_time(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"its server cannot be reached .*Check the network and the endpoint"):
        store_at(s3, tmp_path).repo.show()
    assert time.monotonic() - started < 30


class Refusing:
    """A file system that refuses everything with one error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: object, **__: object) -> None:
            raise self.error

        return refuse


class ServerError(Exception):
    """As botocore raises it."""

    response: ClassVar[dict[str, dict[str, str]]] = {"Error": {"Code": "SlowDown", "Message": "Reduce your rate"}}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError("Forbidden"), r"access is denied \(PermissionError: Forbidden\).*s3:ListBucket"),
        (TimeoutError("timed out"), r"its server cannot be reached \(TimeoutError: timed out\)"),
        (ServerError("no"), r"cannot be read: the server answers SlowDown\. Nothing"),
        (
            RuntimeError("at s3://user:pass@b/c?token=x"),
            r"cannot be read: RuntimeError: at s3://\*\*\*@b/c\?token=\*\*\* Nothing",
        ),
    ],
)
def test_what_a_server_refuses_is_told_without_secrets(
    memory: str, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    folder = RemoteFolder(memory)
    monkeypatch.setattr(folder, "_open", lambda: (Refusing(error), "/x"))
    with pytest.raises(StoreError, match=message):
        folder.read("one.json")


def test_an_upload_that_arrives_short_is_told(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(MemoryFileSystem, "put_file", lambda self, here, there: self.pipe_file(there, b"x"))
    with pytest.raises(StoreError, match=r"must have \d+ bytes after the upload, but has 1. Run the command again"):
        RemoteFolder(memory).upload(Path(__file__), "key")


def test_a_file_system_without_exclusive_creation_is_asked_first(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    plainly = MemoryFileSystem.pipe_file

    def no_mode(self: Any, path: str, value: bytes, mode: str = "overwrite") -> None:
        if mode == "create":
            raise NotImplementedError(mode)
        plainly(self, path, value)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", no_mode)
    assert RemoteFolder(memory).create("a", b"1")
    assert not RemoteFolder(memory).create("a", b"2")
    assert RemoteFolder(memory).read("a") == b"1"


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.core

    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(ConfigError, match=r'needs a package that is not installed: pip install "mtx\[s3\]"'):
        RemoteFolder("s3://bucket/x").read("key")
    with pytest.raises(ConfigError, match=r'pip install "mtx\[gcs\]"'):
        RemoteFolder("gs://bucket/x").read("key")


def test_an_unknown_kind_of_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"storage.root=nosuch://x cannot be opened: .*Use s3://BUCKET/PREFIX"):
        RemoteFolder("nosuch://x").read("key")


@pytest.mark.parametrize("layers", [(ObjectAccessLayer, FileAccessLayer)])
def test_other_formats_than_arrow_are_refused(memory: str, layers: tuple[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"keeps payload as Arrow files. Choose storage=sqlite_arrow"):
        Store(root=memory, objects=partial(layers[0]), files=partial(layers[1]), cache=tmp_path)


def test_every_layer_is_of_its_kind(memory: str, tmp_path: Path) -> None:
    from mtx.infra.dal.artifact import ArtifactLayer
    from mtx.infra.dal.protocols import FileLayer, ObjectLayer

    assert isinstance(RemoteObjectLayer(location=memory), ObjectLayer)
    assert isinstance(RemoteFileLayer(location=memory, cache=tmp_path), FileLayer)
    assert isinstance(RemoteArtifactLayer(location=memory, cache=tmp_path), ArtifactLayer)


def test_no_secret_is_written_or_logged(s3: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    here, there = store_at(s3, tmp_path / "here"), store_at(s3, tmp_path / "there")
    here.repo.add(dataset_of())
    here.tokenizers.get_or_build("t", partial(described, text="{}"), {})
    there.repo.get("one")
    there.tokenizers.open("t")
    import fsspec

    fs, root = fsspec.core.url_to_fs(s3, use_listings_cache=False)
    written = [fs.cat_file(root + key) for key in keys_of(s3)]
    written += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 8
    assert not [content for content in written if SECRET.encode() in content]
    assert SECRET not in caplog.text
