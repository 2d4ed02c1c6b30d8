"""Bundles: folders of files that are built together, such as a tokenizer or the words of a text.

A bundle lies in `location/NAME/`, its files beside a `manifest.json` that tells what it was made from and, for each
file, its length and SHA-256. It appears whole or not at all, and is built once, under a lock.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from mtx.errors import DamagedError, NotStoredError, StoreError
from mtx.identity import JSON
from mtx.infra.dal.aside import set_aside
from mtx.infra.dal.base import atomic_file, checked_name, file_lock, is_name, reason, sha256_of, sync_folder, writing
from mtx.infra.dal.oal import absent
from mtx.infra.dal.sealed import SEAL, VERIFY, check_seal, format_version, json_bytes, read_json, sealed
from mtx.infra.dal.upkeep import Leftover, num_bytes_of, remove_all

FORMAT_VERSION = 2  # of manifest.json. 1 had no lengths and no digests, and no `format_version`
MANIFEST = "manifest.json"
OWN = frozenset({"format_version", "id", "files", SEAL})  # keys that the bundle itself writes


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle: bytes on disk, and their SHA-256 in hex."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class BundleManifest:
    """What a bundle says about itself.

    Attributes:
        id: its name.
        described: what it was made from, as given to `get_or_build`.
        files: its files by name; None where it was written before lengths and digests were kept.
    """

    id: str
    described: Mapping[str, JSON]
    files: Mapping[str, BundleFile] | None

    @property
    def num_bytes(self) -> int | None:
        """Bytes of all files, the manifest aside; None where they were not kept."""
        return None if self.files is None else sum(file.num_bytes for file in self.files.values())


@runtime_checkable
class BundleLayer(Protocol):
    """Folders of files by name. A bundle appears whole or not at all. Picklable; safe with threads and processes."""

    def get_or_build(self, name: str, build: Callable[[Path], None], described: Mapping[str, JSON]) -> Path:
        """Return the bundle's folder, built first if need be; of several processes that ask, one builds.

        Args:
            name: of the bundle.
            build: writes the files into the empty folder it is given. What it raises passes through, and nothing is
                stored.
            described: what the bundle is made from; kept in its manifest.

        Raises DamagedError where it is stored, but not as it was written, and StoreError.
        """

    def open(self, name: str) -> Path:
        """Return a local folder with the files, after a look at their sizes. Raises NotStoredError, DamagedError."""

    def manifest(self, name: str) -> BundleManifest:
        """Return the manifest. Raises NotStoredError, DamagedError, or NewerFormatError."""

    def verify(self, name: str, *, full: bool = True) -> None:
        """Compare the files with the manifest: sizes, and with `full` every byte, and that there are no others.

        Raises as `open` does.
        """

    def exists(self, name: str) -> bool:
        """Tell whether the bundle is stored."""

    def num_bytes(self, name: str) -> int:
        """Return the bytes that the bundle takes. Raises NotStoredError."""

    def get_all_names(self) -> list[str]:
        """Return the names of all bundles, sorted."""

    def delete(self, name: str) -> None:
        """Remove a bundle. Raises NotStoredError."""

    def set_aside(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move a bundle out of the layer into the folder `to`, whatever is in it, and say where it is now."""

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock for building `name`; see `FileLayer.lock`."""


class FolderBundleLayer:
    """Bundles (`BundleLayer`) in `location/NAME/`.

    Args:
        location: the folder; made when something is first written.
    """

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = Path(location).expanduser().absolute()

    def get_or_build(self, name: str, build: Callable[[Path], None], described: Mapping[str, JSON]) -> Path:
        """Return the bundle's folder, built first if need be. See `BundleLayer`."""
        if not self.exists(name):
            with self.lock(name):
                if not self.exists(name):
                    self._build(name, build, described)
        return self.open(name)

    def open(self, name: str) -> Path:
        """Return the bundle's folder, after a look at the sizes. Raises NotStoredError, or DamagedError."""
        self.verify(name, full=False)
        return self._path(name)

    def manifest(self, name: str) -> BundleManifest:
        """Return the manifest. Raises NotStoredError, DamagedError, or NewerFormatError."""
        return read_manifest(self._stored(name))

    def verify(self, name: str, *, full: bool = True) -> None:
        """Compare the files with the manifest. Raises NotStoredError, DamagedError, or NewerFormatError."""
        path = self._stored(name)
        check_files(path, read_manifest(path), full=full)

    def exists(self, name: str) -> bool:
        """Tell whether the bundle is stored."""
        return self._path(name).exists()

    def num_bytes(self, name: str) -> int:
        """Return the bytes that the bundle takes. Raises NotStoredError."""
        return sum(path.lstat().st_size for path in self._stored(name).rglob("*") if not path.is_dir())

    def get_all_names(self) -> list[str]:
        """Return the names of all bundles, sorted."""
        if not self.location.is_dir():
            return []
        return sorted(path.name for path in self.location.iterdir() if path.name[0] != "." and path.name != "locks")

    def delete(self, name: str) -> None:
        """Remove a bundle: it is gone at once, and never seen in parts. Raises NotStoredError, or StoreError."""
        path = self._stored(name)
        temporary = self._temporary(name)
        with self.lock(name), writing(path):
            remove_all(temporary)
            path.rename(temporary)
            sync_folder(self.location)
            remove_all(temporary)

    def set_aside(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move a bundle into the folder `to`, and say where it is now. Raises NotStoredError, or StoreError."""
        with self.lock(name):
            return str(set_aside(self._stored(name), to))

    def leftovers(self) -> Iterator[Leftover]:
        """Find what killed writers left. See `BundleUpkeep`."""
        for path in sorted(self.location.glob(".*.tmp")):
            name = path.name[1:].removesuffix(".tmp")
            if is_name(name):
                yield Leftover(path, "a build that was stopped", num_bytes_of(path), self._remover(name))

    def _remover(self, name: str) -> Callable[[], bool]:
        def remove() -> bool:
            with self.lock(name, wait=False), writing(self._temporary(name)):
                remove_all(self._temporary(name))
            return True

        return remove

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock for building `name`; a thread that has it may take it again."""
        return file_lock(self.location, name, wait=wait)

    def _build(self, name: str, build: Callable[[Path], None], described: Mapping[str, JSON]) -> None:
        path, temporary = self._path(name), self._temporary(name)
        with writing(path):
            remove_all(temporary)  # left by a process that was killed
            temporary.mkdir()
        try:
            build(temporary)
            write_manifest(temporary, name, described)
            with writing(path):
                temporary.rename(path)
                sync_folder(self.location)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _temporary(self, name: str) -> Path:
        return self.location / f".{name}.tmp"  # one process at a time: its user holds the lock

    def _path(self, name: str) -> Path:
        return self.location / checked_name(name)

    def _stored(self, name: str) -> Path:
        path = self._path(name)
        if not path.exists():
            raise NotStoredError(absent(name, self.location, self.get_all_names()))
        return path


def write_manifest(path: Path, name: str, described: Mapping[str, JSON]) -> None:
    """Write `manifest.json` beside the files in the folder `path`, each of them synced. Raises StoreError."""
    if taken := sorted(OWN & described.keys()):
        raise StoreError(f"a bundle writes {', '.join(taken)} itself: describe {name} by other keys")
    files = {}
    for file in sorted(path.iterdir()):
        with writing(file), file.open("rb") as opened:
            os.fsync(opened.fileno())
        files[checked_name(file.name)] = BundleFile(file.stat().st_size, sha256_of(file))
    with atomic_file(path / MANIFEST) as manifest:
        manifest.write(json_bytes(sealed({"format_version": FORMAT_VERSION, "id": name, "files": files, **described})))


def read_manifest(path: Path) -> BundleManifest:
    """Read the `manifest.json` in a bundle's folder. Raises DamagedError, or NewerFormatError."""
    what = f"the manifest of {path.name}"
    try:
        manifest = read_json(path / MANIFEST, what)
    except OSError as error:
        raise DamagedError(f"{what} cannot be read: {path / MANIFEST}: {reason(error)}. {VERIFY}") from error
    if not isinstance(manifest, dict):
        raise DamagedError(f"{what} is a JSON {type(manifest).__name__}, no object. {VERIFY}")
    version = format_version({"format_version": 1, **manifest}, what, FORMAT_VERSION)
    if manifest.get("id") != path.name:
        raise DamagedError(f"{what} is of {manifest.get('id')!r}, another bundle. {VERIFY}")
    described = {name: value for name, value in manifest.items() if name not in OWN}
    if version == 1 and SEAL not in manifest and "files" not in manifest:
        return BundleManifest(path.name, described, None)
    check_seal(manifest, what)
    try:
        listed = cast(dict[str, dict[str, Any]], manifest["files"])
        files = {checked_name(name): BundleFile(**file) for name, file in listed.items()}
    except (AttributeError, KeyError, TypeError, StoreError) as error:
        raise DamagedError(f"{what} lists its files in another way than mtx does: {error!r}. {VERIFY}") from error
    return BundleManifest(path.name, described, files)


def check_files(path: Path, manifest: BundleManifest, *, full: bool) -> None:
    """Compare the files of a bundle in the folder `path` with its manifest; with `full` every byte, and no file more.

    Raises DamagedError.
    """
    if full and manifest.files is not None:
        present = {file.name for file in path.iterdir()} - {MANIFEST}
        for name in sorted(present - manifest.files.keys()):
            raise DamagedError(f"{name} of {manifest.id} is a file that its manifest does not name. {VERIFY}")
    for name, file in (manifest.files or {}).items():
        try:
            found: list[tuple[str, object, object]] = [("bytes", (path / name).stat().st_size, file.num_bytes)]
            if full:
                found.append(("SHA-256", sha256_of(path / name), file.sha256))
        except OSError as error:
            raise DamagedError(f"{name} of {manifest.id} cannot be read: {reason(error)}. {VERIFY}") from error
        for what, is_, was in found:
            if is_ != was:
                raise DamagedError(
                    f"{name} of {manifest.id} has changed on disk: {what} {is_}, but stored were {was}. {VERIFY}"
                )
