"""Files in a remote store that manifests identify by their SHA-256: payload, and the files of artifacts."""

import uuid
from collections.abc import Callable, Container, Iterator
from functools import partial
from pathlib import Path

from mtx.errors import DamagedError, NotStoredError
from mtx.infra.dal.atomic_file import convert_disk_errors, sha256_of
from mtx.infra.dal.maintenance_protocols import Leftover
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.infra.dal.protocols import checked_name, is_name
from mtx.infra.dal.remote.filesystem import RemoteFile, RemoteFolder

GRACE_S = 24 * 3600.0  # seconds after its upload during which a file may be without a manifest


class RemoteBlobs:
    """Immutable files that manifests identify by their SHA-256, stored as `folder/NAME/SHA256-NUMBER`.

    Each upload uses a new random NUMBER. If one machine deletes an old file, it can therefore never delete a file that
    another machine has just uploaded.

    Args:
        folder: the remote folder that contains the files.
        grace_s: minimum age in seconds at which a file without a manifest counts as a leftover.
    """

    def __init__(self, folder: RemoteFolder, *, grace_s: float = GRACE_S) -> None:
        self.folder = folder
        self.grace_s = grace_s

    def put(self, name: str, path: Path, sha256: str) -> None:
        """Upload the local file `path` as a file of `name`. Raises StoreError if the upload fails."""
        self.folder.upload(path, f"{checked_name(name)}/{sha256}-{uuid.uuid4().hex[:12]}")

    def find(self, name: str, sha256: str) -> RemoteFile | None:
        """Return a file of `name` with the digest `sha256`, or None. Raises StoreError if the store cannot be read."""
        return next((file for file in self.files(name) if file.sha256 == sha256), None)

    def files(self, name: str) -> list[RemoteFile]:
        """Return all files of `name`. Raises StoreError if the store cannot be read."""
        return self.folder.files(checked_name(name))

    def fetch(self, name: str, sha256: str, num_bytes: int, to: Path) -> None:
        """Download the file of `name` with the digest `sha256` to the local path `to`, and check size and digest.

        The file is downloaded under a temporary name and renamed after the check, so `to` is never incomplete. Raises
        NotStoredError, DamagedError, or StoreError.
        """

        def download(file: RemoteFile) -> None:
            temporary = to.with_name(f".{to.name}.{uuid.uuid4().hex[:12]}.tmp")
            try:
                self.folder.download(file.key, temporary)
                self._compare(file, "SHA-256", sha256_of(temporary), sha256)
                with convert_disk_errors(to):
                    temporary.replace(to)
            finally:
                temporary.unlink(missing_ok=True)

        self._use_first_whole(name, sha256, num_bytes, download)

    def check(self, name: str, sha256: str, num_bytes: int, *, full: bool) -> None:
        """Compare the size of a file of `name` with the manifest, and with `full` also its digest.

        Raises NotStoredError if there is no file with the digest, DamagedError if the file differs, and StoreError.
        """

        def hashed(file: RemoteFile) -> None:
            if full:
                self._compare(file, "SHA-256", self.folder.sha256(file.key), sha256)

        self._use_first_whole(name, sha256, num_bytes, hashed)

    def delete(self, name: str) -> int:
        """Delete the files of `name` that are older than the grace period, and return their total size in bytes.

        Call this method only if `name` has no manifest. Another machine may have uploaded the younger files and may be
        about to write their manifest.
        """
        return sum(file.num_bytes * self.folder.delete(file.key) for file in self._unwanted_files(name, lambda _: ()))

    def leftovers(self, wanted: Callable[[str], Container[str]], reason: str) -> Iterator[Leftover]:
        """Yield a leftover for each name that has unwanted files older than the grace period.

        Args:
            wanted: function that returns the SHA-256 digests that the manifest of a name lists.
            reason: the reason that each leftover states.
        """
        for name in filter(is_name, self.folder.folders()):
            if unwanted := self._unwanted_files(name, wanted):
                num_bytes = sum(file.num_bytes for file in unwanted)
                yield Leftover(f"{self.folder}/{name}", reason, num_bytes, partial(self._remove, name, wanted))

    def _remove(self, name: str, wanted: Callable[[str], Container[str]]) -> bool:
        return sum(self.folder.delete(file.key) for file in self._unwanted_files(name, wanted)) > 0

    def _unwanted_files(self, name: str, wanted: Callable[[str], Container[str]]) -> list[RemoteFile]:
        kept = wanted(name)
        files = [file for file in self.files(name) if file.sha256 not in kept]
        ages = self.folder.ages_s([file.key for file in files])
        return [file for file, age_s in zip(files, ages, strict=True) if age_s >= self.grace_s]

    def _use_first_whole(self, name: str, sha256: str, num_bytes: int, use: Callable[[RemoteFile], None]) -> None:
        """Call `use` with the first undamaged file that has the digest `sha256`.

        Several files can have this digest, because a rebuild does not replace a damaged file. Raises NotStoredError if
        there is no file with the digest, and the last DamagedError if all files are damaged.
        """
        files = [file for file in self.files(name) if file.sha256 == sha256]
        if not files:
            raise NotStoredError(f"{name} has no file with the SHA-256 {sha256} in {self.folder}")
        for left, file in enumerate(files, 1 - len(files)):
            try:
                self._compare(file, "bytes", file.num_bytes, num_bytes)
                use(file)
                return
            except DamagedError:
                if not left:
                    raise

    def _compare(self, file: RemoteFile, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise DamagedError(
                f"{self.folder}/{file.key} has changed: {what} {found}, but the manifest says {expected}. {VERIFY_HINT}"
            )
