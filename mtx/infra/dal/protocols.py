"""The protocols of storage layers, and the rules for names.

An `ObjectLayer` stores manifests, which are small JSON values. A `FileLayer` stores payload, which is the rows of
datasets. A write stores the payload first and the manifest last. A dataset counts as stored once its manifest exists;
no reader uses a payload without a manifest.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from mtx.components.identity import JSON
from mtx.errors import StoreError

if TYPE_CHECKING:  # tasks that read only manifests do not need to import pyarrow
    import pyarrow as pa

    from mtx.infra.dal.arrow_rows import Rows

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,150}")

Payload: TypeAlias = "Rows | pa.Table | Iterable[pa.RecordBatch] | Iterable[Mapping[str, Any]]"


@dataclass(frozen=True)
class PayloadInfo:
    """The number of rows of a written payload, its size on disk in bytes, and the SHA-256 of these bytes in hex."""

    num_rows: int
    num_bytes: int
    sha256: str


@runtime_checkable
class ObjectLayer(Protocol):
    """Key-value store of JSON values. Several processes can use it; each call is atomic and durable."""

    def create(self, name: str, value: JSON) -> None:
        """Store `value` under `name`. Raises AlreadyStoredError, and keeps the stored value, if `name` is stored."""

    def read(self, name: str) -> JSON:
        """Return the value of `name`. Raises NotStoredError if `name` is not stored."""

    def delete(self, name: str) -> None:
        """Delete the value of `name`. Raises NotStoredError if `name` is not stored."""

    def exists(self, name: str) -> bool:
        """Return whether a value is stored under `name`."""

    def get_all_names(self) -> list[str]:
        """Return all stored names, sorted."""


@runtime_checkable
class Connectable(Protocol):
    """An object layer that can keep one connection open for several calls."""

    def connection(self) -> AbstractContextManager[None]:
        """Return a context manager. Inside the context, all calls use one connection."""


@runtime_checkable
class FindingObjectLayer(Protocol):
    """An object layer that needs less time to tell that a name is missing than to list all names for a message."""

    def find(self, name: str) -> JSON | None:
        """Return the value of `name`, or None if `name` is not stored."""


@runtime_checkable
class FileLayer(Protocol):
    """Stores payload (rows) by name. Readers never see an incomplete payload.

    Implementations are picklable, and safe to use from several threads and processes.
    """

    def create(self, name: str, data: Payload) -> PayloadInfo:
        """Write the rows `data` under `name`.

        Raises AlreadyStoredError, and keeps the stored payload, if `name` is stored.
        """

    def read(self, name: str) -> "Rows":
        """Return the rows of the payload `name`. Raises NotStoredError, or DamagedError if the file cannot be read."""

    def delete(self, name: str) -> None:
        """Delete the payload `name`. Processes that have the payload open can continue to read the rows.

        Raises NotStoredError if `name` is not stored.
        """

    def exists(self, name: str) -> bool:
        """Return whether a payload is stored under `name`."""

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of the payload in hex, computed from all bytes on disk. Raises NotStoredError."""

    def num_bytes(self, name: str) -> int:
        """Return the size of the payload on disk in bytes, without reading the payload. Raises NotStoredError."""

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock for building the payload `name`. One thread of one process holds the lock at a time.

        `create` and `delete` acquire the lock themselves. A thread that holds the lock can acquire the lock again.
        Entering the context raises InUseError if `wait` is False and another thread or process holds the lock.
        """


@runtime_checkable
class CopyingFileLayer(Protocol):
    """A file layer whose `read` returns rows of a local copy of the payload.

    The caller passes what the manifest says of the payload, so that the layer does not read the manifest again.
    """

    def read_payload(self, name: str, info: PayloadInfo) -> "Rows":
        """Return the rows of the payload `name`, as `read` does."""

    def renew_copy(self, name: str, info: PayloadInfo) -> None:
        """Compare all bytes of the local copy with the digest of the payload, and replace a copy that differs.

        Raises NotStoredError if `name` is not stored, and DamagedError if the stored payload differs, too.
        """


def is_name(name: object) -> bool:
    """Return whether `name` is a valid name in a store, which is also safe as a file name."""
    return isinstance(name, str) and NAME_PATTERN.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """Return `name` if it is a valid name in a store. Raises StoreError otherwise."""
    if not is_name(name):
        raise StoreError(
            f"{name!r} is not a valid name in a store. A name has 1 to 151 of the characters A-Z a-z 0-9 . _ = - "
            "and starts with a letter or a digit. Choose another name"
        )
    return name
