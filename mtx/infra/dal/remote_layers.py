"""The layers of a remote store: manifests as JSON objects, payload as Arrow files that are cached on this machine.

A dataset is stored once its manifest is, which is written last and names its payload by SHA-256. Within one cache
folder a lock makes sure that each dataset is built once. Machines know nothing of each other: two that build the same
do the work twice, the first manifest stays, and both read what it names.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError
from mtx.identity import JSON, digest
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.base import NAME, Payload, PayloadInfo, checked_name, file_lock, writing
from mtx.infra.dal.oal import absent, already, json_value
from mtx.infra.dal.remote import RemoteFolder
from mtx.infra.dal.remote_blobs import GRACE_S, RemoteBlobs
from mtx.infra.dal.rows import Rows
from mtx.infra.dal.upkeep import Damage, Leftover

SUFFIX = ".json"
SHA256 = re.compile(r"[0-9a-f]{64}")


class RemoteObjectLayer:
    """Key-value store of JSON values (`ObjectLayer`): one object `location/NAME.json` each.

    Args:
        location: the address of a folder, without credentials.
    """

    def __init__(self, *, location: str) -> None:
        self.location = RemoteFolder(location)

    def create(self, name: str, value: Any) -> None:
        """Store `value`. Raises AlreadyStoredError, and StoreError where it is nothing that JSON has."""
        content = json.dumps(json_value(checked_name(name), value), indent=1, sort_keys=True).encode()
        if not self.location.create(name + SUFFIX, content):
            raise AlreadyStoredError(already(name, self.location))

    def read(self, name: str) -> JSON:
        """Return the value. Raises NotStoredError, DamagedError, or StoreError."""
        content = self.location.read(checked_name(name) + SUFFIX)
        if content is None:
            raise NotStoredError(absent(name, self.location, self.get_all_names()))
        try:
            value: JSON = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DamagedError(
                f"the manifest of {name} in {self.location} is no JSON: {error}. Remove the dataset and build it again"
            ) from error
        return value

    def delete(self, name: str) -> None:
        """Forget the value. Raises NotStoredError, or StoreError."""
        if not self.location.delete(checked_name(name) + SUFFIX):
            raise NotStoredError(absent(name, self.location, self.get_all_names()))

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored. Raises StoreError."""
        return self.location.exists(checked_name(name) + SUFFIX)

    def get_all_names(self) -> list[str]:
        """Return all names, sorted. Raises StoreError."""
        names = (file.key.removesuffix(SUFFIX) for file in self.location.files() if file.key.endswith(SUFFIX))
        return sorted(name for name in names if NAME.fullmatch(name))

    def check(self, *, full: bool) -> list[Damage]:
        """Find nothing: each manifest is an object of its own. See `ObjectUpkeep`."""
        return []

    def repair(self, to: str | os.PathLike[str]) -> list[str]:
        """Do nothing, as `check` finds nothing. See `ObjectUpkeep`."""
        return []

    def set_aside(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move a manifest into a folder of the bucket `.damaged`, and say where it is now."""
        if not self.exists(name):
            raise NotStoredError(absent(name, self.location, self.get_all_names()))
        place = f".damaged/{name}{SUFFIX}"
        self.location.move(name + SUFFIX, place)
        return f"{self.location}/{place}"

    def leftovers(self) -> Iterator[Leftover]:
        """Find nothing: an object appears whole or not at all. See `ObjectUpkeep`."""
        return iter(())


class RemoteFileLayer:
    """Payload by name (`FileLayer`): `location/NAME/SHA256-NUMBER`, read through a cache on this machine.

    Which file belongs to a name is what its manifest says, so payload is there for readers once the manifest is.

    Args:
        location: the address of a folder, without credentials.
        cache: a local folder for copies; what is missing there is downloaded.
        grace_s: how long, by the server's clock, a payload without a manifest is left alone by `delete`.
    """

    def __init__(self, *, location: str, cache: str | os.PathLike[str], grace_s: float = GRACE_S) -> None:
        self.location = RemoteFolder(location)
        self.cache = Path(cache).expanduser().absolute()
        self._blobs = RemoteBlobs(self.location, grace_s=grace_s)
        self._manifests = RemoteObjectLayer(location=location)
        self._copies = ArrowFileLayer(location=self.cache)

    def create(self, name: str, data: Payload) -> PayloadInfo:
        """Write `data` into the cache as it comes, and upload it. Raises AlreadyStoredError, or StoreError."""
        checked_name(name)
        with self.lock(name):
            if self.exists(name):
                raise AlreadyStoredError(already(name, self.location))
            unnamed = f"new-{digest(name)}"  # until its digest is known; the lock keeps others out
            if self._copies.exists(unnamed):  # of a process that was killed
                self._copies.delete(unnamed)
            try:
                info = self._copies.create(unnamed, data)
                self._blobs.put(name, self._copy(unnamed), info.sha256)
                with writing(self._copy(info.sha256)):
                    self._copy(unnamed).replace(self._copy(info.sha256))
            finally:
                self._copy(unnamed).unlink(missing_ok=True)
        return info

    def read(self, name: str) -> Rows:
        """Return the rows, downloaded first if need be. Raises NotStoredError, DamagedError, or StoreError."""
        info = self._info(name)
        if not self._cached(info):
            with file_lock(self.cache, info.sha256):
                if not self._cached(info):
                    self._blobs.fetch(name, info.sha256, info.num_bytes, self._copy(info.sha256))
        return self._copies.read(info.sha256)

    def delete(self, name: str) -> None:
        """Remove the payload: the copy here, and in the bucket what is older than the grace period.

        Raises NotStoredError where there is none, or StoreError.
        """
        files = self._blobs.files(name)
        if not files:
            raise NotStoredError(absent(name, self.location, self._manifests.get_all_names()))
        with self.lock(name):
            for file in files:
                self._copy(file.sha256).unlink(missing_ok=True)
            self._blobs.delete(name)

    def exists(self, name: str) -> bool:
        """Tell whether `name` has a manifest, and the payload it names."""
        try:
            info = self._info(name)
        except NotStoredError:
            return False
        return self._blobs.find(name, info.sha256) is not None

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of the payload in the bucket, by reading it all. A damaged copy here is removed.

        Raises NotStoredError, or DamagedError where it is another than the manifest names.
        """
        info = self._info(name)
        if self._copies.exists(info.sha256) and self._copies.sha256(info.sha256) != info.sha256:
            self._copies.delete(info.sha256)
        self._sizes(name, info)  # raises where there is no file
        self._blobs.check(name, info.sha256, info.num_bytes, full=True)
        return info.sha256

    def num_bytes(self, name: str) -> int:
        """Return the bytes of the payload: of the copy here, or else in the bucket. Raises NotStoredError."""
        info = self._info(name)
        if self._cached(info):
            return info.num_bytes
        sizes = self._sizes(name, info)
        return info.num_bytes if info.num_bytes in sizes else sizes[0]

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock for building `name` on this machine; see `FileLayer.lock`."""
        return file_lock(self.cache, name, wait=wait)

    def set_aside(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the payload into a folder of the bucket `.damaged`, and say where it is now."""
        files = self._blobs.files(name)
        if not files:
            raise NotStoredError(absent(name, self.location, self._manifests.get_all_names()))
        with self.lock(name):
            for file in files:
                self.location.move(file.key, f".damaged/{file.key}")
        return f"{self.location}/.damaged/{name}"

    def leftovers(self, has_manifest: Callable[[str], bool]) -> Iterator[Leftover]:
        """Find payload in the bucket that no manifest names, once it is older than the grace period."""
        return self._blobs.leftovers(self._wanted, "rows without a manifest")

    def _wanted(self, name: str) -> set[str]:
        try:
            return {self._info(name).sha256}
        except NotStoredError:
            return set()

    def _info(self, name: str) -> PayloadInfo:
        """Return what the manifest says of the payload. Raises NotStoredError, or DamagedError."""
        manifest = self._manifests.read(name)
        payload = manifest.get("payload") if isinstance(manifest, dict) else None
        fields = cast(dict[str, Any], payload if isinstance(payload, dict) else {})
        sha256, num_bytes, num_rows = (fields.get(key) for key in ("sha256", "num_bytes", "num_rows"))
        if isinstance(num_bytes, int) and isinstance(num_rows, int) and SHA256.fullmatch(str(sha256)):
            return PayloadInfo(num_rows=num_rows, num_bytes=num_bytes, sha256=str(sha256))
        raise DamagedError(
            f"the manifest of {name} in {self.location} names no payload by its SHA-256. "
            "Remove the dataset and build it again"
        )

    def _sizes(self, name: str, info: PayloadInfo) -> list[int]:
        """Return the bytes of all files in the bucket with that digest. Raises NotStoredError where there is none."""
        sizes = [file.num_bytes for file in self._blobs.files(name) if file.sha256 == info.sha256]
        if not sizes:
            raise NotStoredError(absent(name, self.location, self._manifests.get_all_names()))
        return sizes

    def _cached(self, info: PayloadInfo) -> bool:
        path = self._copy(info.sha256)
        return path.exists() and path.stat().st_size == info.num_bytes

    def _copy(self, name: str) -> Path:
        return self.cache / f"{name}{self._copies.SUFFIX}"
