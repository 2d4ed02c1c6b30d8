"""Bundles in a remote store: built or downloaded into a cache folder, shared through the bucket.

A bundle is stored once its manifest `location/NAME.json` is, which is written last and names each file by SHA-256. Of
two machines that build the same, the first manifest stays, and both use what it names.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

from mtx.errors import DamagedError, NotStoredError
from mtx.identity import JSON
from mtx.infra.dal.base import NAME, checked_name, file_lock, folder
from mtx.infra.dal.bundle import MANIFEST, BundleManifest, FolderBundleLayer, read_manifest
from mtx.infra.dal.oal import absent
from mtx.infra.dal.remote import RemoteFolder
from mtx.infra.dal.remote_blobs import GRACE_S, RemoteBlobs
from mtx.infra.dal.upkeep import Leftover

SUFFIX = ".json"


class RemoteBundleLayer:
    """Bundles (`BundleLayer`) in a bucket: `location/NAME.json` and `location/NAME/SHA256-NUMBER`.

    Args:
        location: the address of a folder, without credentials.
        cache: a local folder for copies; what is missing there is downloaded.
        grace_s: how long, by the server's clock, files without a manifest are left alone by `delete`.
    """

    def __init__(self, *, location: str, cache: str | os.PathLike[str], grace_s: float = GRACE_S) -> None:
        self.location = RemoteFolder(location)
        self.cache = Path(cache).expanduser().absolute()
        self._blobs = RemoteBlobs(self.location, grace_s=grace_s)
        self._copies = FolderBundleLayer(location=self.cache)

    def get_or_build(self, name: str, build: Callable[[Path], None], described: Mapping[str, JSON]) -> Path:
        """Return a local folder with the files; built, and uploaded, if need be. See `BundleLayer`."""
        if not self.exists(name):
            with self.lock(name):
                if not self.exists(name):
                    self._forget_damaged(name)
                    # A copy that the bucket does not have is of a killed process: built, not uploaded. It is whole.
                    path = self._copies.get_or_build(name, build, described)
                    self._upload(name, path)
        return self.open(name)

    def open(self, name: str) -> Path:
        """Return a local folder with the files, downloaded if need be. Raises NotStoredError, or DamagedError."""
        manifest = self.manifest(name)
        if not self._is_copied(manifest):
            with self.lock(name):
                if not self._is_copied(manifest):
                    self._download(manifest)
        return self._copies.open(name)

    def manifest(self, name: str) -> BundleManifest:
        """Return the manifest. Raises NotStoredError, DamagedError, NewerFormatError, or StoreError."""
        content = self.location.read(checked_name(name) + SUFFIX)
        if content is None:
            raise NotStoredError(absent(name, self.location, self.get_all_names()))
        with TemporaryDirectory(prefix="mtx-") as scratch:
            path = folder(Path(scratch) / name)
            (path / MANIFEST).write_bytes(content)
            return read_manifest(path)

    def verify(self, name: str, *, full: bool = True) -> None:
        """Compare the files in the bucket with the manifest; a copy here that differs is removed. Raises as `open`."""
        manifest = self.manifest(name)
        for file, expected in (manifest.files or {}).items():
            try:
                self._blobs.check(name, expected.sha256, expected.num_bytes, full=full)
            except NotStoredError as error:
                raise DamagedError(f"{file} of {name} is gone from {self.location}. Remove {name}") from error
        self._forget_damaged(name)

    def exists(self, name: str) -> bool:
        """Tell whether the bundle is stored. Raises StoreError."""
        return self.location.exists(checked_name(name) + SUFFIX)

    def num_bytes(self, name: str) -> int:
        """Return the bytes that the bundle takes in the bucket. Raises NotStoredError, or StoreError."""
        content = self.location.read(checked_name(name) + SUFFIX)
        if content is None:
            raise NotStoredError(absent(name, self.location, self.get_all_names()))
        return len(content) + sum(file.num_bytes for file in self._blobs.files(name))

    def get_all_names(self) -> list[str]:
        """Return the names of all bundles, sorted. Raises StoreError."""
        names = (file.key.removesuffix(SUFFIX) for file in self.location.files() if file.key.endswith(SUFFIX))
        return sorted(name for name in names if NAME.fullmatch(name))

    def delete(self, name: str) -> None:
        """Remove a bundle: its manifest first, then what is older than the grace period. Raises NotStoredError."""
        with self.lock(name):
            if not self.location.delete(checked_name(name) + SUFFIX):
                raise NotStoredError(absent(name, self.location, self.get_all_names()))
            if self._copies.exists(name):
                self._copies.delete(name)
            self._blobs.delete(name)

    def set_aside(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move a bundle's manifest and files to `.damaged/NAME` beside them, and say where that is."""
        place = f".damaged/{checked_name(name)}"
        with self.lock(name):
            files = [file.key for file in self._blobs.files(name)]
            if not self.exists(name):
                raise NotStoredError(absent(name, self.location, self.get_all_names()))
            self.location.move(name + SUFFIX, f"{place}/{MANIFEST}")
            for key in files:
                self.location.move(key, f".damaged/{key}")
            if self._copies.exists(name):
                self._copies.delete(name)
        return f"{self.location}/{place}"

    def leftovers(self) -> Iterator[Leftover]:
        """Find files in the bucket that no manifest names, once they are older than the grace period."""
        return self._blobs.leftovers(self._wanted, "files without a manifest")

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock for building `name` on this machine; see `FileLayer.lock`."""
        # Another file than that of the copies, which take their own while this one is held.
        return file_lock(self.cache / "shared", name, wait=wait)

    def _wanted(self, name: str) -> set[str]:
        try:
            return {file.sha256 for file in (self.manifest(name).files or {}).values()}
        except NotStoredError:
            return set()

    def _is_copied(self, manifest: BundleManifest) -> bool:
        """Tell whether the cache has what the manifest names: another machine's build may have been first."""
        try:
            self._copies.verify(manifest.id, full=False)
            return self._copies.manifest(manifest.id) == manifest
        except (NotStoredError, DamagedError):
            return False

    def _forget_damaged(self, name: str) -> None:
        """Remove the copy here where it is not as it was written."""
        if self._copies.exists(name):
            try:
                self._copies.verify(name)
            except DamagedError:
                self._copies.delete(name)

    def _upload(self, name: str, path: Path) -> None:
        for file, described in (read_manifest(path).files or {}).items():
            self._blobs.put(name, path / file, described.sha256)
        self.location.create(name + SUFFIX, (path / MANIFEST).read_bytes())  # False: another machine was first

    def _download(self, manifest: BundleManifest) -> None:
        name = manifest.id
        if self._copies.exists(name):
            self._copies.delete(name)

        def fetch(into: Path) -> None:
            for file, expected in (manifest.files or {}).items():
                try:
                    self._blobs.fetch(name, expected.sha256, expected.num_bytes, into / file)
                except NotStoredError as error:
                    raise DamagedError(f"{file} of {name} is gone from {self.location}. Remove {name}") from error

        self._copies.get_or_build(name, fetch, manifest.described)
