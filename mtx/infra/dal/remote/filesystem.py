"""A remote folder with a URL such as `s3://bucket/prefix`, accessed through fsspec. All remote layers use this module.

An upload becomes visible as a complete object or not at all. `create` never replaces an object on S3, on Google Cloud
Storage and in memory, because the server refuses the replacement (on S3 by `If-None-Match`). On other file systems,
`create` first checks whether the object exists. If two machines create the same object at the same moment there, the
later object stays.
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
from mtx.infra.dal.remote_url_check import checked_url
from mtx.library_errors import library_reason

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

BUCKET_PROTOCOLS = frozenset({"s3", "s3a", "gs", "gcs"})  # protocols where users must create the bucket themselves
INSTALL_COMMANDS = {"s3": 'pip install "mtx[s3]"', "s3a": 'pip install "mtx[s3]"'}
INSTALL_COMMANDS.update(gs='pip install "mtx[gcs]"', gcs='pip install "mtx[gcs]"')
# botocore makes `s3_attempts` attempts in each attempt of s3fs. A server that never answers causes an error after about
# 2.5 minutes, and a refused connection after less than 1 minute. With the defaults of both, an error takes 6 minutes.
S3_ATTEMPTS = {"s3_attempts": 3, "s3fs_attempts": 3}
CONFLICT_ATTEMPTS = 5  # attempts to create an object while S3 reports conflicting requests
VERBOSE_LOGGERS = ("botocore", "aiobotocore", "s3fs", "gcsfs", "fsspec")  # their debug messages contain session tokens
COPY_BYTES = 1 << 23  # bytes per read while a remote file is hashed


@dataclass(frozen=True)
class RemoteFile:
    """One object of a remote folder: its key relative to the folder, and its size in bytes."""

    key: str
    num_bytes: int

    @property
    def sha256(self) -> str:
        """The SHA-256 in the object's key, for keys of the form `…/SHA256-NUMBER`."""
        return self.key.rpartition("/")[2].partition("-")[0]


class RemoteFolder:
    """The objects below a URL. A key is the path of an object relative to the URL, joined by `/`.

    The object holds no connection and no credentials, because fsspec finds both at each call. It is therefore
    picklable, and safe to use from several threads, forks and processes.

    Args:
        url: the URL, without credentials. Raises ConfigError if the URL is not valid.
    """

    def __init__(self, url: str) -> None:
        self.url = checked_url(url)
        self._bucket_seen = False

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(f"{self.url}/{name}")

    def read(self, key: str) -> bytes | None:
        """Return the bytes of the object `key`, or None if it does not exist.

        Raises StoreError if the bucket is missing.
        """
        with self._convert_errors("read") as (fs, root):
            content = self._content(fs, f"{root}/{key}")
            if content is None:
                self._check_bucket(fs, root)
            return content

    def create(self, key: str, content: bytes) -> bool:
        """Write the new object `key` and return True; return False, and write nothing, if the object exists.

        Raises StoreError if the remote store refuses the write.
        """
        with self._convert_errors("written") as (fs, root):
            path = f"{root}/{key}"
            if self._content(fs, path) is not None:  # one request; `fs.exists` sends two for a missing object
                return False
            for attempt in range(CONFLICT_ATTEMPTS):
                try:
                    fs.pipe_file(path, content, mode="create")
                    return True
                except FileExistsError:
                    # The library repeats a request whose answer was lost, so the existing object may be ours.
                    return self._content(fs, path) == content
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
        """Delete the object `key`, and return whether the object existed. Raises StoreError if the deletion fails."""
        with self._convert_errors("removed") as (fs, root):
            if not fs.exists(f"{root}/{key}"):
                return False
            with suppress(FileNotFoundError):
                fs.rm_file(f"{root}/{key}")
            return True

    def exists(self, key: str) -> bool:
        """Return whether the small object `key` exists; its bytes are read, because that takes one request.

        Raises StoreError if the store cannot be read or the bucket is missing.
        """
        return self.read(key) is not None

    def files(self, folder: str = "") -> list[RemoteFile]:
        """Return the objects directly in `folder`, without those in its subfolders. Raises StoreError."""
        return [RemoteFile(key, int(entry["size"])) for key, entry in self._entries(folder) if entry["type"] == "file"]

    def folders(self) -> list[str]:
        """Return the names of the subfolders of this folder. Raises StoreError if the store cannot be read."""
        return [key for key, entry in self._entries("") if entry["type"] == "directory"]

    def upload(self, path: Path, key: str) -> None:
        """Upload the local file `path` as the object `key`.

        Raises StoreError if the upload fails, or if the size of the uploaded object differs from the size of the file.
        """
        with self._convert_errors("written") as (fs, root):
            fs.put_file(str(path), f"{root}/{key}")
            size, arrived = path.stat().st_size, int(fs.info(f"{root}/{key}")["size"])
        if size != arrived:
            raise StoreError(
                f"{self.url}/{key} must have {size} bytes after the upload, but has {arrived}. Run the command again"
            )

    def download(self, key: str, path: Path) -> None:
        """Download the object `key` to the local file `path`. Raises NotStoredError, or StoreError."""
        with self._convert_errors("read") as (fs, root):
            try:
                fs.get_file(f"{root}/{key}", str(path))
            except FileNotFoundError as error:
                raise NotStoredError(f"nothing is stored as {key} in {self.url}") from error

    def sha256(self, key: str) -> str:
        """Return the SHA-256 of the object `key` in hex, computed from all its bytes.

        Raises NotStoredError, or StoreError.
        """
        import hashlib

        sha256 = hashlib.sha256()
        with self._convert_errors("read") as (fs, root):
            try:
                with fs.open(f"{root}/{key}", "rb", block_size=COPY_BYTES) as file:
                    while block := file.read(COPY_BYTES):
                        sha256.update(block)
            except FileNotFoundError as error:
                raise NotStoredError(f"nothing is stored as {key} in {self.url}") from error
        return sha256.hexdigest()

    def move(self, key: str, to: str) -> None:
        """Copy the object `key` to the key `to`, and delete the original. Raises StoreError if the store refuses."""
        with self._convert_errors("moved") as (fs, root):
            fs.cp_file(f"{root}/{key}", f"{root}/{to}")
            fs.rm_file(f"{root}/{key}")

    def ages_s(self, keys: list[str]) -> list[float]:
        """Return the age of each object in seconds since its last write, by the server's clock.

        To read the server's clock, the method writes a temporary object. Raises StoreError if the store refuses.
        """
        if not keys:
            return []
        mark = f".clock-{uuid.uuid4().hex[:12]}"
        with self._convert_errors("written") as (fs, root):
            fs.pipe_file(f"{root}/{mark}", b"")
            try:
                now = fs.modified(f"{root}/{mark}")
                return [(now - fs.modified(f"{root}/{key}")).total_seconds() for key in keys]
            finally:
                fs.rm_file(f"{root}/{mark}")

    def _content(self, fs: "AbstractFileSystem", path: str) -> bytes | None:
        """Return the bytes of a small object, by a single request; None if it is missing."""
        # With more than one connection, s3fs asks for the size first, and for a missing object also for a listing.
        is_s3 = self.url.startswith(("s3://", "s3a://"))
        try:
            return bytes(fs.cat_file(path, max_concurrency=1) if is_s3 else fs.cat_file(path))
        except FileNotFoundError as error:
            # A frame of fsspec refers to the error: a cycle, in which all callers' variables would outlive their use.
            error.__traceback__ = None
            return None

    def _entries(self, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
        at = f"{folder}/" if folder else ""
        with self._convert_errors("read") as (fs, root):
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
        """Raise StoreError if the bucket does not exist. The bucket is checked until it has been found once."""
        protocol, bucket = self.url.partition("://")[0], root.strip("/").split("/")[0]
        if self._bucket_seen or protocol not in BUCKET_PROTOCOLS:
            return
        try:
            fs.info(bucket)
        except FileNotFoundError as error:
            raise StoreError(_missing_bucket_message(self.url, bucket)) from error
        self._bucket_seen = True

    @contextmanager
    def _convert_errors(self, verb: str) -> Iterator[tuple["AbstractFileSystem", str]]:
        """Yield the file system and the path of this folder; turn every exception in the context into a StoreError.

        All exception types are caught, because each file system and each of its libraries raises its own types.
        """
        try:
            yield self._open()
        except MtxError:
            raise
        except Exception as error:
            raise StoreError(self._explanation(error, verb)) from error

    def _open(self) -> tuple["AbstractFileSystem", str]:
        from fsspec.core import url_to_fs

        for name in VERBOSE_LOGGERS:
            if logging.getLogger(name).level == logging.NOTSET:
                logging.getLogger(name).setLevel(logging.WARNING)
        protocol = self.url.partition("://")[0]
        try:
            # A cached listing would not contain objects that other machines store later.
            fs, root = url_to_fs(self.url, use_listings_cache=False, **_timeout_options(protocol))
        except ImportError as error:
            how = INSTALL_COMMANDS.get(protocol, f"install the package of fsspec for {protocol}://")
            raise ConfigError(f"storage.root={self.url} needs a package that is not installed: {how}") from error
        except ValueError as error:
            raise ConfigError(
                f"storage.root={self.url} cannot be opened: fsspec refuses the URL ({library_reason(error)}). "
                "Use s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, another URL that fsspec supports, or a folder"
            ) from error
        if hasattr(fs, "retries"):
            fs.retries = S3_ATTEMPTS["s3fs_attempts"]
        return fs, str(root).rstrip("/")

    def _explanation(self, error: Exception, verb: str) -> str:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        told = _server_code(error) or library_reason(error)
        kept = "Nothing stored has changed. "
        if kinds & {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"} or (
            "DefaultCredentialsError" in kinds
        ):
            return (
                f"{self.url} cannot be {verb}: no credentials were found ({told}). {kept}Set AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or run `aws configure`; for gs:// run "
                "`gcloud auth application-default login`"
            )
        if isinstance(error, FileNotFoundError):
            return _missing_bucket_message(self.url, self.url.partition("://")[2].split("/")[0])
        if isinstance(error, PermissionError):
            return (
                f"{self.url} cannot be {verb}: access is denied ({told}). {kept}Use valid credentials that allow to "
                "list the bucket, and to read, write and delete its objects "
                "(on S3: s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject)"
            )
        if kinds & {"ConnectionError", "HTTPClientError", "TimeoutError", "FSTimeoutError", "ClientConnectionError"}:
            return (
                f"{self.url} cannot be {verb}: its server cannot be reached ({told}). {kept}Check the network and the "
                "endpoint (AWS_ENDPOINT_URL for your own S3 server), and run the command again"
            )
        return f"{self.url} cannot be {verb}: {told}. {kept}Check the URL, or choose another with storage.root=URL"


def _server_code(error: BaseException | None) -> str:
    """Return the code in the answer of a server, such as `the server answers SlowDown`; empty without an answer."""
    while error is not None:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict) and (code := (answer.get("Error") or {}).get("Code")):
            return f"the server answers {code}"
        error = error.__cause__
    return ""


def _timeout_options(protocol: str) -> dict[str, Any]:
    """Return options that limit how long fsspec waits for an S3 server; none if the user has configured fsspec."""
    from fsspec.config import conf

    if protocol not in ("s3", "s3a") or "config_kwargs" in conf.get(protocol, {}):
        return {}
    return {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": S3_ATTEMPTS["s3_attempts"]}}}


def _is_conflict(error: OSError) -> bool:
    """Return whether S3 answered with status 409, because another request for the same key is in progress."""
    response = getattr(error.__cause__, "response", None) or {}
    return bool(response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 409)


def _missing_bucket_message(url: str, bucket: str) -> str:
    return (
        f"the bucket {bucket!r} of storage.root={url} does not exist, or the credentials do not allow access to it. "
        "Create the bucket first, or correct storage.root; for your own S3 server, set AWS_ENDPOINT_URL"
    )
