"""Store artifacts in a remote store, and keep local copies of their files in a cache folder.

The manifest `location/NAME.json` lists the SHA-256 of each file and is written last. An artifact counts as stored once
its manifest exists. If two machines build the same artifact, the first manifest stays, and both machines use the files
that it lists.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

from mtx.components.identity import JSON
from mtx.errors import DamagedError, NotStoredError
from mtx.infra.dal.artifact import MANIFEST, ArtifactManifest, FolderArtifactLayer, read_manifest
from mtx.infra.dal.atomic_file import make_folder
from mtx.infra.dal.locks import file_lock
from mtx.infra.dal.maintenance_protocols import Leftover
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.infra.dal.oal import not_stored_message
from mtx.infra.dal.protocols import NAME_PATTERN, checked_name
from mtx.infra.dal.remote.blobs import GRACE_S, RemoteBlobs
from mtx.infra.dal.remote.filesystem import RemoteFolder
from mtx.infra.dal.tilde_expansion import expanded_path

SUFFIX = ".json"


class RemoteArtifactLayer:
    """Artifact layer (`ArtifactLayer`) in a bucket: `location/NAME.json` and `location/NAME/SHA256-NUMBER`.

    Args:
        location: URL of a folder in the bucket, without credentials.
        cache: local folder for copies. A file without a copy in this folder is downloaded.
        grace_s: minimum age in seconds, by the server's clock, of the files that `delete` and `leftovers` may remove.
            Younger files without a manifest may belong to a running upload.
    """

    def __init__(self, *, location: str, cache: str | os.PathLike[str], grace_s: float = GRACE_S) -> None:
        self.location = RemoteFolder(location)
        self.cache = expanded_path(cache).absolute()
        self._blobs = RemoteBlobs(self.location, grace_s=grace_s)
        self._copies = FolderArtifactLayer(location=self.cache)

    def get_or_build(self, name: str, build: Callable[[Path], None], described: Mapping[str, JSON]) -> Path:
        """Return a local folder with the artifact's files. Build and upload the artifact first if it is not stored.

        See `ArtifactLayer`.
        """
        if not self.exists(name):
            with self.lock(name):
                if not self.exists(name):
                    self._forget_damaged(name)
                    # A killed process can leave a complete local copy that it did not upload. That copy is used.
                    path = self._copies.get_or_build(name, build, described)
                    self._upload(name, path)
        return self.open(name)

    def open(self, name: str, *, full: bool = False) -> Path:
        """Return a local folder with the artifact's files, downloaded if there is no copy or the copy is damaged.

        See `ArtifactLayer`. Raises NotStoredError, or DamagedError.
        """
        manifest = self.manifest(name)
        if not self._is_copied(manifest, full=full):
            with self.lock(name):
                if not self._is_copied(manifest, full=full):
                    self._download(manifest)
        return self._copies.open(name)

    def manifest(self, name: str) -> ArtifactManifest:
        """Return the manifest of the artifact `name`.

        Raises NotStoredError, DamagedError, NewerFormatError, or StoreError.
        """
        content = self.location.read(checked_name(name) + SUFFIX)
        if content is None:
            raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))
        with TemporaryDirectory(prefix="mtx-") as scratch:
            path = make_folder(Path(scratch) / name)
            (path / MANIFEST).write_bytes(content)
            return read_manifest(path)

    def verify(self, name: str, *, full: bool = True) -> None:
        """Compare the artifact's files in the bucket with the manifest, and delete the local copy if it is damaged.

        Raises NotStoredError if no artifact `name` is stored, and DamagedError if a file in the bucket differs.
        """
        manifest = self.manifest(name)
        for file, expected in (manifest.files or {}).items():
            try:
                self._blobs.check(name, expected.sha256, expected.num_bytes, full=full)
            except NotStoredError as error:
                raise DamagedError(f"{file} of {name} is missing in {self.location}. {VERIFY_HINT}") from error
        self._forget_damaged(name)

    def exists(self, name: str) -> bool:
        """Return whether the artifact `name` is stored. Raises StoreError if the bucket cannot be read."""
        return self.location.exists(checked_name(name) + SUFFIX)

    def num_bytes(self, name: str) -> int:
        """Return the size of the artifact `name` in the bucket, in bytes. Raises NotStoredError, or StoreError."""
        content = self.location.read(checked_name(name) + SUFFIX)
        if content is None:
            raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))
        return len(content) + sum(file.num_bytes for file in self._blobs.files(name))

    def get_all_names(self) -> list[str]:
        """Return the names of all artifacts, sorted. Raises StoreError if the bucket cannot be read."""
        names = (file.key.removesuffix(SUFFIX) for file in self.location.files() if file.key.endswith(SUFFIX))
        return sorted(name for name in names if NAME_PATTERN.fullmatch(name))

    def delete(self, name: str) -> None:
        """Delete the artifact's manifest, the local copy, and the files in the bucket that are older than `grace_s`.

        Raises NotStoredError if no artifact `name` is stored.
        """
        with self.lock(name):
            if not self.location.delete(checked_name(name) + SUFFIX):
                raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))
            if self._copies.exists(name):
                self._copies.delete(name)
            self._blobs.delete(name)

    def quarantine(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the artifact's manifest and files to the bucket folder `.damaged/NAME`, and return its location.

        The argument `to` is not used, because damaged files stay in the bucket.
        """
        place = f".damaged/{checked_name(name)}"
        with self.lock(name):
            files = [file.key for file in self._blobs.files(name)]
            if not self.exists(name):
                raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))
            self.location.move(name + SUFFIX, f"{place}/{MANIFEST}")
            for key in files:
                self.location.move(key, f".damaged/{key}")
            if self._copies.exists(name):
                self._copies.delete(name)
        return f"{self.location}/{place}"

    def leftovers(self) -> Iterator[Leftover]:
        """Yield the files in the bucket that no manifest lists and that are older than `grace_s`."""
        return self._blobs.leftovers(self._wanted_digests, "files without a manifest")

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock that excludes other processes on this machine from building `name`. See `FileLayer.lock`."""
        # This lock file differs from the lock file of the copies, which is acquired while this lock is held.
        return file_lock(self.cache / "shared", name, wait=wait)

    def _wanted_digests(self, name: str) -> set[str]:
        try:
            return {file.sha256 for file in (self.manifest(name).files or {}).values()}
        except NotStoredError:
            return set()

    def _is_copied(self, manifest: ArtifactManifest, *, full: bool) -> bool:
        """Return whether the cache contains the files that `manifest` lists.

        A local build differs if another was first.
        """
        try:
            self._copies.verify(manifest.id, full=full or manifest.is_small)
            return self._copies.manifest(manifest.id) == manifest
        except (NotStoredError, DamagedError):
            return False

    def _forget_damaged(self, name: str) -> None:
        """Delete the local copy of the artifact `name` if the copy is damaged."""
        if self._copies.exists(name):
            try:
                self._copies.verify(name)
            except DamagedError:
                self._copies.delete(name)

    def _upload(self, name: str, path: Path) -> None:
        for file, described in (read_manifest(path).files or {}).items():
            self._blobs.put(name, path / file, described.sha256)
        self.location.create(name + SUFFIX, (path / MANIFEST).read_bytes())  # False: another machine was first

    def _download(self, manifest: ArtifactManifest) -> None:
        name = manifest.id
        if self._copies.exists(name):
            self._copies.delete(name)

        def fetch(into: Path) -> None:
            for file, expected in (manifest.files or {}).items():
                try:
                    self._blobs.fetch(name, expected.sha256, expected.num_bytes, into / file)
                except NotStoredError as error:
                    raise DamagedError(f"{file} of {name} is missing in {self.location}. {VERIFY_HINT}") from error

        self._copies.get_or_build(name, fetch, manifest.described)
