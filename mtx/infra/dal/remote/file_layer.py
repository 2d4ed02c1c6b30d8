"""Store payload in a bucket, and read payload through a local cache folder (`FileLayer`).

Each payload is one object, whose key contains the payload's SHA-256.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

from mtx.components.identity import digest
from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.atomic_file import convert_disk_errors
from mtx.infra.dal.locks import file_lock
from mtx.infra.dal.maintenance_protocols import Leftover
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.infra.dal.oal import already_stored_message, not_stored_message
from mtx.infra.dal.protocols import Payload, PayloadInfo, checked_name
from mtx.infra.dal.remote.blobs import GRACE_S, RemoteBlobs
from mtx.infra.dal.remote.filesystem import RemoteFolder
from mtx.infra.dal.remote.local_copies import LocalCopies, mapped_rows
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
        cache_gb: bound of the copies in the cache, in 10⁹ bytes; None: there is no bound. See `LocalCopies`.
        grace_s: minimum age in seconds, by the server's clock, of the payload that `delete` and `leftovers` may remove.
            Younger payload without a manifest may belong to a running build.
    """

    def __init__(
        self,
        *,
        location: str,
        cache: str | os.PathLike[str],
        cache_gb: float | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self.location = RemoteFolder(location)
        self.cache = expanded_path(cache).absolute()
        self._blobs = RemoteBlobs(self.location, grace_s=grace_s)
        self._manifests = RemoteObjectLayer(location=location)
        self._copies = LocalCopies(location=self.cache, cache_gb=cache_gb)

    def create(self, name: str, data: Payload) -> PayloadInfo:
        """Write the payload `data` to the cache and upload it. Raises AlreadyStoredError, or StoreError."""
        checked_name(name)
        with self.lock(name):
            if self.exists(name):
                raise AlreadyStoredError(already_stored_message(name, self.location))
            unnamed = f"new-{digest(name)}"  # the name in the cache until the digest is known
            with file_lock(self.cache, unnamed):  # so that no process takes the file for one of a killed process
                if self._copies.exists(unnamed):  # left by a killed process
                    self._copies.delete(unnamed)
                try:
                    info = self._copies.create(unnamed, data)
                    self._blobs.put(name, self._copies.path(unnamed), info.sha256)
                    with convert_disk_errors(self._copies.path(info.sha256)):
                        self._copies.path(unnamed).replace(self._copies.path(info.sha256))
                finally:
                    self._copies.path(unnamed).unlink(missing_ok=True)
        self._copies.make_room(kept=info.sha256)
        return info

    def read(self, name: str) -> Rows:
        """Return the rows of the payload `name`, downloaded to the cache if necessary.

        Raises NotStoredError if `name` is not stored, DamagedError if the payload has changed, and StoreError.
        """
        return self.read_payload(name, self._info(name))

    def read_payload(self, name: str, info: PayloadInfo) -> Rows:
        """Return the rows of the payload `name`, without reading its manifest. See `CopyingFileLayer`."""
        self._check_info(name, info)
        buffer = self._copies.mapped(info, lambda to: self._blobs.fetch(name, info.sha256, info.num_bytes, to))
        return mapped_rows(buffer, str(self._copies.path(info.sha256)), (self.read_payload, (name, info)))

    def renew_copy(self, name: str, info: PayloadInfo) -> None:
        """Compare the local copy with its digest, and download a copy that differs again. See `CopyingFileLayer`."""
        self._check_info(name, info)
        self._copies.remove_damaged(info.sha256)
        self.read_payload(name, info)

    def delete(self, name: str) -> None:
        """Delete the local copy of the payload, and its files in the bucket that are older than `grace_s`.

        Raises NotStoredError if the bucket has no file of `name`, and StoreError if the bucket cannot be used.
        """
        files = self._blobs.files(name)
        if not files:
            raise NotStoredError(not_stored_message(name, self.location, self._manifests.get_all_names()))
        with self.lock(name):
            for file in files:
                self._copies.path(file.sha256).unlink(missing_ok=True)
            self._blobs.delete(name)

    def exists(self, name: str) -> bool:
        """Return whether the manifest of `name` and the payload that the manifest names are both stored."""
        try:
            info = self._found_info(name)
        except NotStoredError:
            return False
        return info is not None and self._blobs.find(name, info.sha256) is not None

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of the payload in the bucket, computed from all its bytes. Delete a damaged local copy.

        Raises NotStoredError if there is no payload, and DamagedError if its SHA-256 differs from the manifest.
        """
        info = self._info(name)
        self._copies.remove_damaged(info.sha256)
        self._sizes(name, info)  # raises NotStoredError if the bucket has no file
        self._blobs.check(name, info.sha256, info.num_bytes, full=True)
        return info.sha256

    def num_bytes(self, name: str) -> int:
        """Return the size of the local copy in bytes, or of the payload in the bucket if there is no copy.

        Raises NotStoredError if `name` is not stored.
        """
        info = self._info(name)
        if self._copies.has(info):
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
        info = self._found_info(name)
        return set() if info is None else {info.sha256}

    def _info(self, name: str) -> PayloadInfo:
        """Return the size, digest and row count of the payload from its manifest.

        Raises NotStoredError, or DamagedError.
        """
        info = self._found_info(name)
        if info is None:
            raise NotStoredError(not_stored_message(name, self.location, self._manifests.get_all_names()))
        return info

    def _found_info(self, name: str) -> PayloadInfo | None:
        """Return what `_info` does, or None if there is no manifest. Raises DamagedError."""
        manifest = self._manifests.find(name)
        if manifest is None:
            return None
        payload = manifest.get("payload") if isinstance(manifest, dict) else None
        told = cast(dict[str, Any], payload if isinstance(payload, dict) else {})
        fields = {key: told.get(key) for key in ("num_rows", "num_bytes", "sha256")}
        return self._check_info(name, PayloadInfo(**cast(dict[str, Any], fields)))

    def _check_info(self, name: str, info: PayloadInfo) -> PayloadInfo:
        """Return what a manifest says of a payload, after a check, because the digest becomes a file name."""
        are_numbers = isinstance(info.num_bytes, int) and isinstance(info.num_rows, int)
        if are_numbers and SHA256_HEX.fullmatch(str(info.sha256)):
            return info
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
