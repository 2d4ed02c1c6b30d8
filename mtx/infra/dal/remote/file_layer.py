"""Store payload in a bucket, and read payload through a local cache folder (`FileLayer`).

Each payload is one object, whose key contains the payload's SHA-256.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from mtx.components.identity import digest
from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.atomic_file import convert_disk_errors
from mtx.infra.dal.locks import file_lock
from mtx.infra.dal.maintenance_protocols import Leftover
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.infra.dal.oal import already_stored_message, not_stored_message
from mtx.infra.dal.protocols import Payload, PayloadInfo, checked_name
from mtx.infra.dal.remote.blobs import GRACE_S, RemoteBlobs
from mtx.infra.dal.remote.filesystem import RemoteFolder
from mtx.infra.dal.remote.manifests import RemoteObjectLayer
from mtx.infra.dal.tilde_expansion import expanded_path

SHA256_HEX = re.compile(r"[0-9a-f]{64}")


class RemoteFileLayer:
    """File layer (`FileLayer`) in a bucket: payload is stored as `location/NAME/SHA256-NUMBER` and cached locally.

    The manifest of a name contains the SHA-256 of its payload. Readers can therefore find the payload only once the
    manifest is stored.

    Args:
        location: URL of a folder in the bucket, without credentials.
        cache: local folder for copies. A payload without a copy in this folder is downloaded.
        grace_s: minimum age in seconds, by the server's clock, of the payload that `delete` and `leftovers` may remove.
            Younger payload without a manifest may belong to a running build.
    """

    def __init__(self, *, location: str, cache: str | os.PathLike[str], grace_s: float = GRACE_S) -> None:
        self.location = RemoteFolder(location)
        self.cache = expanded_path(cache).absolute()
        self._blobs = RemoteBlobs(self.location, grace_s=grace_s)
        self._manifests = RemoteObjectLayer(location=location)
        self._copies = ArrowFileLayer(location=self.cache)

    def create(self, name: str, data: Payload) -> PayloadInfo:
        """Write the payload `data` to the cache and upload it. Raises AlreadyStoredError, or StoreError."""
        checked_name(name)
        with self.lock(name):
            if self.exists(name):
                raise AlreadyStoredError(already_stored_message(name, self.location))
            unnamed = f"new-{digest(name)}"  # the name in the cache until the digest is known
            if self._copies.exists(unnamed):  # left by a killed process
                self._copies.delete(unnamed)
            try:
                info = self._copies.create(unnamed, data)
                self._blobs.put(name, self._copy_path(unnamed), info.sha256)
                with convert_disk_errors(self._copy_path(info.sha256)):
                    self._copy_path(unnamed).replace(self._copy_path(info.sha256))
            finally:
                self._copy_path(unnamed).unlink(missing_ok=True)
        return info

    def read(self, name: str) -> Rows:
        """Return the rows of the payload `name`, downloaded to the cache if necessary.

        Raises NotStoredError if `name` is not stored, DamagedError if the payload has changed, and StoreError.
        """
        info = self._info(name)
        if not self._is_cached(info):
            with file_lock(self.cache, info.sha256):
                if not self._is_cached(info):
                    self._blobs.fetch(name, info.sha256, info.num_bytes, self._copy_path(info.sha256))
        return self._copies.read(info.sha256)

    def renew_copy(self, name: str) -> None:
        """Compare the local copy with its digest, and download a copy that differs again. See `CopyingFileLayer`."""
        info = self._info(name)
        if self._copies.exists(info.sha256) and self._copies.sha256(info.sha256) != info.sha256:
            self._copies.delete(info.sha256)
        self.read(name)

    def delete(self, name: str) -> None:
        """Delete the local copy of the payload, and its files in the bucket that are older than `grace_s`.

        Raises NotStoredError if the bucket has no file of `name`, and StoreError if the bucket cannot be used.
        """
        files = self._blobs.files(name)
        if not files:
            raise NotStoredError(not_stored_message(name, self.location, self._manifests.get_all_names()))
        with self.lock(name):
            for file in files:
                self._copy_path(file.sha256).unlink(missing_ok=True)
            self._blobs.delete(name)

    def exists(self, name: str) -> bool:
        """Return whether the manifest of `name` and the payload that the manifest names are both stored."""
        try:
            info = self._info(name)
        except NotStoredError:
            return False
        return self._blobs.find(name, info.sha256) is not None

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of the payload in the bucket, computed from all its bytes. Delete a damaged local copy.

        Raises NotStoredError if there is no payload, and DamagedError if its SHA-256 differs from the manifest.
        """
        info = self._info(name)
        if self._copies.exists(info.sha256) and self._copies.sha256(info.sha256) != info.sha256:
            self._copies.delete(info.sha256)
        self._sizes(name, info)  # raises NotStoredError if the bucket has no file
        self._blobs.check(name, info.sha256, info.num_bytes, full=True)
        return info.sha256

    def num_bytes(self, name: str) -> int:
        """Return the size of the local copy in bytes, or of the payload in the bucket if there is no copy.

        Raises NotStoredError if `name` is not stored.
        """
        info = self._info(name)
        if self._is_cached(info):
            return info.num_bytes
        sizes = self._sizes(name, info)
        return info.num_bytes if info.num_bytes in sizes else sizes[0]

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock that excludes other processes on this machine from building `name`. See `FileLayer.lock`."""
        return file_lock(self.cache, name, wait=wait)

    def quarantine(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the payload's files to the bucket folder `.damaged/NAME`, and return its location.

        The argument `to` is not used, because damaged files stay in the bucket.
        """
        files = self._blobs.files(name)
        if not files:
            raise NotStoredError(not_stored_message(name, self.location, self._manifests.get_all_names()))
        with self.lock(name):
            for file in files:
                self.location.move(file.key, f".damaged/{file.key}")
        return f"{self.location}/.damaged/{name}"

    def leftovers(self, has_manifest: Callable[[str], bool]) -> Iterator[Leftover]:
        """Yield the payload in the bucket that no manifest names and that is older than `grace_s`."""
        return self._blobs.leftovers(self._wanted_digests, "rows without a manifest")

    def _wanted_digests(self, name: str) -> set[str]:
        try:
            return {self._info(name).sha256}
        except NotStoredError:
            return set()

    def _info(self, name: str) -> PayloadInfo:
        """Return the size, digest and row count of the payload from its manifest.

        Raises NotStoredError, or DamagedError.
        """
        manifest = self._manifests.read(name)
        payload = manifest.get("payload") if isinstance(manifest, dict) else None
        fields = cast(dict[str, Any], payload if isinstance(payload, dict) else {})
        sha256, num_bytes, num_rows = (fields.get(key) for key in ("sha256", "num_bytes", "num_rows"))
        if isinstance(num_bytes, int) and isinstance(num_rows, int) and SHA256_HEX.fullmatch(str(sha256)):
            return PayloadInfo(num_rows=num_rows, num_bytes=num_bytes, sha256=str(sha256))
        raise DamagedError(
            f"the manifest of {name} in {self.location} has no valid SHA-256, size and row count of the payload. "
            f"{VERIFY_HINT}"
        )

    def _sizes(self, name: str, info: PayloadInfo) -> list[int]:
        """Return the sizes in bytes of all files in the bucket with the payload's digest.

        Raises NotStoredError if the bucket has no file with this digest.
        """
        sizes = [file.num_bytes for file in self._blobs.files(name) if file.sha256 == info.sha256]
        if not sizes:
            raise NotStoredError(not_stored_message(name, self.location, self._manifests.get_all_names()))
        return sizes

    def _is_cached(self, info: PayloadInfo) -> bool:
        path = self._copy_path(info.sha256)
        return path.exists() and path.stat().st_size == info.num_bytes

    def _copy_path(self, name: str) -> Path:
        return self.cache / f"{name}{self._copies.SUFFIX}"
