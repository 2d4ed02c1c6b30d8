"""Files in a remote store that manifests name by their SHA-256: payload, and the files of bundles."""

import uuid
from collections.abc import Callable, Container, Iterator
from functools import partial
from pathlib import Path

from mtx.errors import DamagedError, NotStoredError
from mtx.infra.dal.base import checked_name, is_name, sha256_of, writing
from mtx.infra.dal.remote import RemoteFile, RemoteFolder
from mtx.infra.dal.upkeep import Leftover

GRACE_S = 24 * 3600.0  # how long after it was uploaded a file may wait for its manifest


class RemoteBlobs:
    """Files that manifests name by their SHA-256, in `folder/NAME/SHA256-NUMBER`. Immutable.

    Each upload gets a key of its own, so that what one machine removes is never what another has just written.

    Args:
        folder: where they lie.
        grace_s: how long a file may wait for its manifest before `delete` takes it for a leftover.
    """

    def __init__(self, folder: RemoteFolder, *, grace_s: float = GRACE_S) -> None:
        self.folder = folder
        self.grace_s = grace_s

    def put(self, name: str, path: Path, sha256: str) -> None:
        """Upload a file of `name`. Raises StoreError."""
        self.folder.upload(path, f"{checked_name(name)}/{sha256}-{uuid.uuid4().hex[:12]}")

    def find(self, name: str, sha256: str) -> RemoteFile | None:
        """Return a file of `name` with that digest, or None. Raises StoreError."""
        return next((file for file in self.files(name) if file.sha256 == sha256), None)

    def files(self, name: str) -> list[RemoteFile]:
        """List the files of `name`. Raises StoreError."""
        return self.folder.files(checked_name(name))

    def fetch(self, name: str, sha256: str, num_bytes: int, to: Path) -> None:
        """Download a file of `name`, so that `to` appears whole or not at all, once its size and digest are checked.

        Raises NotStoredError, DamagedError, or StoreError.
        """

        def download(file: RemoteFile) -> None:
            temporary = to.with_name(f".{to.name}.{uuid.uuid4().hex[:12]}.tmp")
            try:
                self.folder.download(file.key, temporary)
                self._compare(file, "SHA-256", sha256_of(temporary), sha256)
                with writing(to):
                    temporary.replace(to)
            finally:
                temporary.unlink(missing_ok=True)

        self._first_whole(name, sha256, num_bytes, download)

    def check(self, name: str, sha256: str, num_bytes: int, *, full: bool) -> None:
        """Compare a file with its size, and with `full` its digest. Raises NotStoredError, DamagedError, StoreError."""

        def hashed(file: RemoteFile) -> None:
            if full:
                self._compare(file, "SHA-256", self.folder.hashed(file.key), sha256)

        self._first_whole(name, sha256, num_bytes, hashed)

    def delete(self, name: str) -> int:
        """Remove the files of `name` that are older than the grace period; return how many bytes that freed.

        For names without a manifest. Younger files may be another machine's, which is about to write one.
        """
        return sum(file.num_bytes * self.folder.delete(file.key) for file in self._unwanted(name, lambda _: ()))

    def leftovers(self, wanted: Callable[[str], Container[str]], reason: str) -> Iterator[Leftover]:
        """Find files older than the grace period whose SHA-256 is not among those that `wanted(NAME)` tells."""
        for name in filter(is_name, self.folder.folders()):
            if unwanted := self._unwanted(name, wanted):
                num_bytes = sum(file.num_bytes for file in unwanted)
                yield Leftover(f"{self.folder}/{name}", reason, num_bytes, partial(self._remove, name, wanted))

    def _remove(self, name: str, wanted: Callable[[str], Container[str]]) -> bool:
        return sum(self.folder.delete(file.key) for file in self._unwanted(name, wanted)) > 0

    def _unwanted(self, name: str, wanted: Callable[[str], Container[str]]) -> list[RemoteFile]:
        kept = wanted(name)
        files = [file for file in self.files(name) if file.sha256 not in kept]
        ages = self.folder.ages_s([file.key for file in files])
        return [file for file, age_s in zip(files, ages, strict=True) if age_s >= self.grace_s]

    def _first_whole(self, name: str, sha256: str, num_bytes: int, use: Callable[[RemoteFile], None]) -> None:
        """Use the first file that is as its name says: what was built again may lie beside what is damaged.

        Raises NotStoredError where there is none, and the last DamagedError where none is whole.
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
                f"{self.folder}/{file.key} has changed: {what} {found}, but stored were {expected}. "
                "Set it aside with mtx task=verify repair=true, and the next run builds it again"
            )
