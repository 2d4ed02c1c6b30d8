"""A folder behind an address such as `s3://bucket/prefix`, through fsspec: what remote layers are made of.

Objects appear whole or not at all, as object stores have it. `create` never replaces one: on S3, Google Cloud Storage
and in memory it is the server that refuses (on S3 by `If-None-Match`). Other file systems are asked first whether the
object is there; of two machines that create it in the same moment, the later one's stays.
"""

import errno
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtx.errors import ConfigError, MtxError, NotStoredError, StoreError
from mtx.infra.dal.address import checked_url

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

BUCKETED = frozenset({"s3", "s3a", "gs", "gcs"})  # whose first folder has to be made by its owner
INSTALL = {"s3": 'pip install "mtx[s3]"', "s3a": 'pip install "mtx[s3]"'}
INSTALL.update(gs='pip install "mtx[gcs]"', gcs='pip install "mtx[gcs]"')
# Attempts that botocore makes, within each of those that s3fs makes: a server that never answers is given up after
# some two and a half minutes, one that does not let us connect after less than one. By default it would be six minutes.
S3_ATTEMPTS = {"s3_attempts": 3, "s3fs_attempts": 3}
CONFLICT_ATTEMPTS = 5  # to create an object that S3 says others are creating
TALKATIVE = ("botocore", "aiobotocore", "s3fs", "gcsfs", "fsspec")  # whose debug messages hold session tokens
COPY_BYTES = 1 << 23  # read at a time while a remote file is hashed


@dataclass(frozen=True)
class RemoteFile:
    """One object: its key below the folder, and its bytes."""

    key: str
    num_bytes: int

    @property
    def sha256(self) -> str:
        """What the key says of the content, where it is `…/SHA256-NUMBER`."""
        return self.key.rpartition("/")[2].partition("-")[0]


class RemoteFolder:
    """The objects below an address. Keys are names joined by `/`.

    Holds no connection and no credentials: fsspec finds them at each call, so it is picklable and safe with threads,
    forks and processes.

    Args:
        url: the address, without credentials. Raises ConfigError where it is none.
    """

    def __init__(self, url: str) -> None:
        self.url = checked_url(url)
        self._bucket_seen = False

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(f"{self.url}/{name}")

    def read(self, key: str) -> bytes | None:
        """Return an object's bytes, or None where there is none. Raises StoreError, as where the bucket is missing."""
        with self._errors("read") as (fs, root):
            try:
                return bytes(fs.cat_file(f"{root}/{key}"))
            except FileNotFoundError:
                self._check_bucket(fs, root)
                return None

    def create(self, key: str, content: bytes) -> bool:
        """Write an object that is not there yet; return False, and write nothing, where it is. Raises StoreError."""
        with self._errors("written") as (fs, root):
            path = f"{root}/{key}"
            if fs.exists(path):
                return False
            for attempt in range(CONFLICT_ATTEMPTS):
                try:
                    fs.pipe_file(path, content, mode="create")
                    return True
                except FileExistsError:
                    # An answer that got lost is asked for again, so it may be we who were first.
                    return bytes(fs.cat_file(path)) == content
                except (NotImplementedError, TypeError, ValueError):  # a file system without exclusive creation
                    fs.pipe_file(path, content)
                    return True
                except OSError as error:
                    if error.errno == errno.ENOSYS:  # an S3 server without If-None-Match
                        fs.pipe_file(path, content)
                        return True
                    if not _is_conflict(error) or attempt + 1 == CONFLICT_ATTEMPTS:
                        raise
                    time.sleep(0.1 * 2**attempt)
        raise AssertionError("the loop returns or raises")

    def delete(self, key: str) -> bool:
        """Remove an object; return whether it was there. Raises StoreError."""
        with self._errors("removed") as (fs, root):
            if not fs.exists(f"{root}/{key}"):
                return False
            with suppress(FileNotFoundError):
                fs.rm_file(f"{root}/{key}")
            return True

    def exists(self, key: str) -> bool:
        """Tell whether an object is there. Raises StoreError, also where the bucket is missing."""
        with self._errors("read") as (fs, root):
            found = bool(fs.exists(f"{root}/{key}"))
            if not found:
                self._check_bucket(fs, root)
            return found

    def files(self, folder: str = "") -> list[RemoteFile]:
        """List the objects in a folder, without those in folders below it. Raises StoreError."""
        return [RemoteFile(key, int(entry["size"])) for key, entry in self._listed(folder) if entry["type"] == "file"]

    def folders(self) -> list[str]:
        """List the folders below this one. Raises StoreError."""
        return [key for key, entry in self._listed("") if entry["type"] == "directory"]

    def upload(self, path: Path, key: str) -> None:
        """Copy a file here. Raises StoreError, also where another size arrived."""
        with self._errors("written") as (fs, root):
            fs.put_file(str(path), f"{root}/{key}")
            size, arrived = path.stat().st_size, int(fs.info(f"{root}/{key}")["size"])
        if size != arrived:
            raise StoreError(f"{self.url}/{key} has {arrived} bytes after an upload of {size}. Run the command again")

    def download(self, key: str, path: Path) -> None:
        """Copy an object into the file `path`. Raises NotStoredError, or StoreError."""
        with self._errors("read") as (fs, root):
            try:
                fs.get_file(f"{root}/{key}", str(path))
            except FileNotFoundError as error:
                raise NotStoredError(f"nothing is stored as {key} in {self.url}") from error

    def hashed(self, key: str) -> str:
        """Return the SHA-256 of an object in hex, by reading it all. Raises NotStoredError, or StoreError."""
        import hashlib

        sha256 = hashlib.sha256()
        with self._errors("read") as (fs, root):
            try:
                with fs.open(f"{root}/{key}", "rb", block_size=COPY_BYTES) as file:
                    while block := file.read(COPY_BYTES):
                        sha256.update(block)
            except FileNotFoundError as error:
                raise NotStoredError(f"nothing is stored as {key} in {self.url}") from error
        return sha256.hexdigest()

    def move(self, key: str, to: str) -> None:
        """Give an object another key. Raises StoreError."""
        with self._errors("moved") as (fs, root):
            fs.cp_file(f"{root}/{key}", f"{root}/{to}")
            fs.rm_file(f"{root}/{key}")

    def ages_s(self, keys: list[str]) -> list[float]:
        """Return how many seconds ago each object was written, all by the server's clock. Raises StoreError."""
        if not keys:
            return []
        mark = f".clock-{uuid.uuid4().hex[:12]}"
        with self._errors("written") as (fs, root):
            fs.pipe_file(f"{root}/{mark}", b"")
            try:
                now = fs.modified(f"{root}/{mark}")
                return [(now - fs.modified(f"{root}/{key}")).total_seconds() for key in keys]
            finally:
                fs.rm_file(f"{root}/{mark}")

    def _listed(self, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
        at = f"{folder}/" if folder else ""
        with self._errors("read") as (fs, root):
            try:
                entries = fs.ls(f"{root}/{folder}".rstrip("/"), detail=True)
            except FileNotFoundError:
                self._check_bucket(fs, root)
                entries = []
        for entry in entries:
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            if name and not name.startswith("."):
                yield at + name, entry

    def _check_bucket(self, fs: "AbstractFileSystem", root: str) -> None:
        """Tell a bucket that is missing from an object that is. Asked once."""
        protocol, bucket = self.url.partition("://")[0], root.strip("/").split("/")[0]
        if self._bucket_seen or protocol not in BUCKETED:
            return
        try:
            fs.info(bucket)
        except FileNotFoundError as error:
            raise StoreError(_missing_bucket(self.url, bucket)) from error
        self._bucket_seen = True

    @contextmanager
    def _errors(self, verb: str) -> Iterator[tuple["AbstractFileSystem", str]]:
        """Yield the file system and the path of this folder in it; say clearly what goes wrong there.

        Each file system and each of their libraries raises errors of its own, so all are caught.
        """
        try:
            yield self._opened()
        except MtxError:
            raise
        except Exception as error:
            raise StoreError(self._explained(error, verb)) from error

    def _opened(self) -> tuple["AbstractFileSystem", str]:
        from fsspec.core import url_to_fs

        for name in TALKATIVE:
            if logging.getLogger(name).level == logging.NOTSET:
                logging.getLogger(name).setLevel(logging.WARNING)
        protocol = self.url.partition("://")[0]
        try:
            # A listing that is kept would not show what other machines store.
            fs, root = url_to_fs(self.url, use_listings_cache=False, **_patience(protocol))
        except ImportError as error:
            how = INSTALL.get(protocol, f"install the package that fsspec needs for {protocol}://: {error}")
            raise ConfigError(f"storage.root={self.url} needs a package that is not installed: {how}") from error
        except ValueError as error:
            raise ConfigError(
                f"storage.root={self.url} cannot be opened: {error}. "
                "Use s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, another address that fsspec knows, or a folder"
            ) from error
        if hasattr(fs, "retries"):
            fs.retries = S3_ATTEMPTS["s3fs_attempts"]
        return fs, str(root).rstrip("/")

    def _explained(self, error: Exception, verb: str) -> str:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        told = str(error) or type(error).__name__
        kept = "Nothing stored has changed. "
        if kinds & {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"} or (
            "DefaultCredentialsError" in kinds
        ):
            return (
                f"{self.url} cannot be {verb}: there are no credentials for it ({told}). {kept}Set AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or run `aws configure`; for gs:// run "
                "`gcloud auth application-default login`"
            )
        if isinstance(error, FileNotFoundError):
            return _missing_bucket(self.url, self.url.partition("://")[2].split("/")[0])
        if isinstance(error, PermissionError):
            return (
                f"{self.url} cannot be {verb}: access is denied ({told}). {kept}The credentials have to be valid and "
                "to allow listing the bucket, and reading, writing and deleting objects in it "
                "(on S3 s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject)"
            )
        if kinds & {"ConnectionError", "HTTPClientError", "TimeoutError", "FSTimeoutError", "ClientConnectionError"}:
            return (
                f"{self.url} cannot be {verb}: its server cannot be reached ({told}). {kept}Check the network and the "
                "endpoint (AWS_ENDPOINT_URL for an S3 server of one's own), and run the command again"
            )
        return (
            f"{self.url} cannot be {verb}: {told}. {kept}Check the address, or choose another with storage.root=ADDRESS"
        )


def _patience(protocol: str) -> dict[str, Any]:
    """Return the options that bound how long an S3 server is waited for, where the user has set none."""
    from fsspec.config import conf

    if protocol not in ("s3", "s3a") or "config_kwargs" in conf.get(protocol, {}):
        return {}
    return {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": S3_ATTEMPTS["s3_attempts"]}}}


def _is_conflict(error: OSError) -> bool:
    """Tell whether S3 answers 409 since another request for the same key is under way."""
    response = getattr(error.__cause__, "response", None) or {}
    return bool(response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 409)


def _missing_bucket(url: str, bucket: str) -> str:
    return (
        f"there is no bucket {bucket!r}, or none that these credentials can see, for storage.root={url}. "
        "Make the bucket first, or correct storage.root; an S3 server of one's own is set with AWS_ENDPOINT_URL"
    )
