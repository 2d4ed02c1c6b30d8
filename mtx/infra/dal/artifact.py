"""Artifacts: folders of files that are built together, for example a tokenizer or the word index of a text.

An artifact is stored in the folder `location/NAME/`. The folder contains the artifact's files and a `manifest.json`.
The manifest records the inputs of the build, and the length and SHA-256 of each file. A build writes into a temporary
folder and renames it at the end, so no reader sees an incomplete artifact. A lock lets only one process build it.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from mtx.components.identity import JSON
from mtx.errors import DamagedError, NotStoredError, StoreError
from mtx.exhausted_resources import raise_if_exhausted
from mtx.infra.dal.atomic_file import atomic_file, convert_disk_errors, sha256_of, sync_folder
from mtx.infra.dal.locks import file_lock
from mtx.infra.dal.maintenance_protocols import Leftover, num_bytes_of, remove_all
from mtx.infra.dal.manifest_digest import (
    DIGEST_KEY,
    VERIFY_HINT,
    check_digest,
    fields_with_digest,
    format_version,
    json_bytes,
    read_json,
)
from mtx.infra.dal.oal import not_stored_message
from mtx.infra.dal.protocols import checked_name, is_name
from mtx.infra.dal.quarantine import quarantine
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.library_errors import library_reason

FORMAT_VERSION = 2  # of manifest.json. Version 1 has no file lengths, no digests and no key `format_version`
MANIFEST = "manifest.json"
SMALL_BYTES = 1 << 26  # artifacts of at most this size are hashed at each opening; takes 0.05 s at most
OWN_KEYS = frozenset({"format_version", "id", "files", DIGEST_KEY})  # manifest keys that only this module writes


@dataclass(frozen=True)
class ArtifactFile:
    """The size of one artifact file in bytes, and the SHA-256 of the file in hex."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class ArtifactManifest:
    """The content of an artifact's `manifest.json`.

    Attributes:
        id: name of the artifact.
        described: inputs of the build, as passed to `get_or_build`.
        files: size and digest of each file, by file name; None in format version 1, which records neither.
    """

    id: str
    described: Mapping[str, JSON]
    files: Mapping[str, ArtifactFile] | None

    @property
    def num_bytes(self) -> int | None:
        """Total size of the artifact's files in bytes, without the manifest; None if the manifest records no sizes."""
        return None if self.files is None else sum(file.num_bytes for file in self.files.values())

    @property
    def is_small(self) -> bool:
        """Whether the files are small enough to compare all their bytes at each opening."""
        return self.num_bytes is not None and self.num_bytes <= SMALL_BYTES


@runtime_checkable
class ArtifactLayer(Protocol):
    """Stores artifacts (folders of files) by name. Readers never see an incomplete artifact.

    Implementations are picklable, and safe to use from several threads and processes.
    """

    def get_or_build(self, name: str, build: Callable[[Path], None], described: Mapping[str, JSON]) -> Path:
        """Return the folder of the artifact `name`. Build the artifact first if the artifact is not stored.

        If several processes ask for the same artifact, one process builds the artifact and the others wait.

        Args:
            name: name of the artifact.
            build: function that writes the artifact's files into an empty folder. If `build` raises an exception,
                nothing is stored and the exception propagates.
            described: inputs of the build; the manifest records them.

        Raises DamagedError if a stored file differs from the manifest, and StoreError if the disk refuses a write.
        """

    def open(self, name: str, *, full: bool = False) -> Path:
        """Return a local folder with the artifact's files, after a check of the file sizes.

        All bytes of an artifact of at most `SMALL_BYTES` are checked, and with `full` those of each, as stages need.
        Raises NotStoredError if `name` is not stored, and DamagedError if a file differs from the manifest.
        """

    def manifest(self, name: str) -> ArtifactManifest:
        """Return the manifest of the artifact `name`. Raises NotStoredError, DamagedError, or NewerFormatError."""

    def verify(self, name: str, *, full: bool = True) -> None:
        """Compare the artifact's files with the manifest.

        With `full`, also compare the SHA-256 of each file, and check that there are no additional files. Raises
        NotStoredError if `name` is not stored, and DamagedError if a file differs from the manifest.
        """

    def exists(self, name: str) -> bool:
        """Return whether the artifact `name` is stored."""

    def num_bytes(self, name: str) -> int:
        """Return the disk space of the artifact `name` in bytes. Raises NotStoredError if `name` is not stored."""

    def get_all_names(self) -> list[str]:
        """Return the names of all artifacts, sorted."""

    def delete(self, name: str) -> None:
        """Delete the artifact `name`. Raises NotStoredError if no artifact `name` is stored."""

    def quarantine(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the artifact `name`, even if damaged, into the folder `to`, and return the new location."""

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock for building the artifact `name`. The rules are those of `FileLayer.lock`."""


class FolderArtifactLayer:
    """Artifact layer (`ArtifactLayer`) that stores each artifact in the folder `location/NAME/`.

    Args:
        location: the folder that contains all artifacts; the first write creates the folder.
    """

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = expanded_path(location).absolute()

    def get_or_build(self, name: str, build: Callable[[Path], None], described: Mapping[str, JSON]) -> Path:
        """Return the folder of the artifact `name`, built first if it is not stored. See `ArtifactLayer`."""
        if not self.exists(name):
            with self.lock(name):
                if not self.exists(name):
                    self._build(name, build, described)
        return self.open(name)

    def open(self, name: str, *, full: bool = False) -> Path:
        """Return the folder of the artifact `name`, after a check of its files. See `ArtifactLayer`."""
        path = self._stored_path(name)
        manifest = read_manifest(path)
        check_files(path, manifest, full=full or manifest.is_small)
        return path

    def manifest(self, name: str) -> ArtifactManifest:
        """Return the manifest of the artifact `name`. Raises NotStoredError, DamagedError, or NewerFormatError."""
        return read_manifest(self._stored_path(name))

    def verify(self, name: str, *, full: bool = True) -> None:
        """Compare the artifact's files with the manifest. Raises NotStoredError, DamagedError, or NewerFormatError."""
        path = self._stored_path(name)
        check_files(path, read_manifest(path), full=full)

    def exists(self, name: str) -> bool:
        """Return whether the artifact `name` is stored."""
        return self._path(name).exists()

    def num_bytes(self, name: str) -> int:
        """Return the disk space of the artifact `name` in bytes. Raises NotStoredError if `name` is not stored."""
        return sum(path.lstat().st_size for path in self._stored_path(name).rglob("*") if not path.is_dir())

    def get_all_names(self) -> list[str]:
        """Return the names of all artifacts, sorted."""
        if not self.location.is_dir():
            return []
        return sorted(path.name for path in self.location.iterdir() if path.name[0] != "." and path.name != "locks")

    def delete(self, name: str) -> None:
        """Delete the artifact `name`, which is renamed first, so that no reader sees a partly deleted artifact.

        Raises NotStoredError if `name` is not stored, and StoreError if the disk refuses the deletion.
        """
        path = self._stored_path(name)
        temporary = self._temporary_path(name)
        with self.lock(name), convert_disk_errors(path):
            remove_all(temporary)
            path.rename(temporary)
            sync_folder(self.location)
            remove_all(temporary)

    def quarantine(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the artifact `name` into the folder `to` and return its new path.

        Raises NotStoredError or StoreError.
        """
        with self.lock(name):
            return str(quarantine(self._stored_path(name), to))

    def leftovers(self) -> Iterator[Leftover]:
        """Yield the temporary folders of builds whose process was killed. See `ArtifactMaintenance`."""
        for path in sorted(self.location.glob(".*.tmp")):
            name = path.name[1:].removesuffix(".tmp")
            if is_name(name):
                yield Leftover(path, "an interrupted build", num_bytes_of(path), self._remover(name))

    def _remover(self, name: str) -> Callable[[], bool]:
        def remove() -> bool:
            with self.lock(name, wait=False), convert_disk_errors(self._temporary_path(name)):
                remove_all(self._temporary_path(name))
            return True

        return remove

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock for building the artifact `name`. A thread that holds the lock can acquire the lock again."""
        return file_lock(self.location, name, wait=wait)

    def _build(self, name: str, build: Callable[[Path], None], described: Mapping[str, JSON]) -> None:
        path, temporary = self._path(name), self._temporary_path(name)
        with convert_disk_errors(path):
            remove_all(temporary)  # a killed process leaves its temporary folder
            temporary.mkdir()
        try:
            build(temporary)
            write_manifest(temporary, name, described)
            with convert_disk_errors(path):
                temporary.rename(path)
                sync_folder(self.location)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _temporary_path(self, name: str) -> Path:
        return self.location / f".{name}.tmp"  # only the holder of the lock uses this folder

    def _path(self, name: str) -> Path:
        return self.location / checked_name(name)

    def _stored_path(self, name: str) -> Path:
        path = self._path(name)
        if not path.exists():
            raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))
        return path


def write_manifest(path: Path, name: str, described: Mapping[str, JSON]) -> None:
    """Flush the files in the folder `path` to disk, then write `manifest.json` into the folder. Raises StoreError.

    The manifest records `name`, the inputs of the build `described`, and the size and SHA-256 of each file.
    """
    if taken := sorted(OWN_KEYS & described.keys()):
        raise StoreError(
            f"the description of {name} uses {', '.join(taken)}, which are reserved keys of manifest.json. "
            "Use other keys in the description"
        )
    files = {}
    for file in sorted(path.iterdir()):
        with convert_disk_errors(file), file.open("rb") as opened:
            os.fsync(opened.fileno())
        files[checked_name(file.name)] = ArtifactFile(file.stat().st_size, sha256_of(file))
    with atomic_file(path / MANIFEST) as manifest:
        manifest.write(
            json_bytes(fields_with_digest({"format_version": FORMAT_VERSION, "id": name, "files": files, **described}))
        )


def read_manifest(path: Path) -> ArtifactManifest:
    """Read the `manifest.json` in the artifact folder `path`.

    Raises DamagedError if the manifest cannot be read or has changed, and NewerFormatError if a newer mtx wrote it.
    """
    what = f"the manifest of {path.name}"
    try:
        manifest = read_json(path / MANIFEST, what)
    except OSError as error:
        raise_if_exhausted(error)
        raise DamagedError(f"{path / MANIFEST} cannot be read: {library_reason(error)}. {VERIFY_HINT}") from error
    if not isinstance(manifest, dict):
        raise DamagedError(f"{what} must be a JSON object, but is a {type(manifest).__name__}. {VERIFY_HINT}")
    version = format_version({"format_version": 1, **manifest}, what, FORMAT_VERSION)
    if manifest.get("id") != path.name:
        raise DamagedError(f"{what} names another artifact, {manifest.get('id')!r}, as its id. {VERIFY_HINT}")
    described = {name: value for name, value in manifest.items() if name not in OWN_KEYS}
    if version == 1 and DIGEST_KEY not in manifest and "files" not in manifest:
        return ArtifactManifest(path.name, described, None)
    check_digest(manifest, what)
    try:
        listed = cast(dict[str, dict[str, Any]], manifest["files"])
        files = {checked_name(name): ArtifactFile(**file) for name, file in listed.items()}
    except (AttributeError, KeyError, TypeError, StoreError) as error:
        raise DamagedError(f"the list of files in {what} is invalid: {library_reason(error)}. {VERIFY_HINT}") from error
    return ArtifactManifest(path.name, described, files)


def check_files(path: Path, manifest: ArtifactManifest, *, full: bool) -> None:
    """Compare the files of an artifact in the folder `path` with the artifact's manifest.

    With `full`, also compare the SHA-256 of each file, and refuse files that the manifest does not list. Without
    `full`, compare only the file sizes. Raises DamagedError if a file differs, cannot be read, or is not listed.
    """
    if full and manifest.files is not None:
        present = {file.name for file in path.iterdir()} - {MANIFEST}
        for name in sorted(present - manifest.files.keys()):
            raise DamagedError(f"the manifest of {manifest.id} does not list the file {name}. {VERIFY_HINT}")
    for name, file in (manifest.files or {}).items():
        try:
            found: list[tuple[str, object, object]] = [("bytes", (path / name).stat().st_size, file.num_bytes)]
            if full:
                found.append(("SHA-256", sha256_of(path / name), file.sha256))
        except OSError as error:
            raise_if_exhausted(error)
            raise DamagedError(
                f"the file {name} of {manifest.id} cannot be read: {library_reason(error)}. {VERIFY_HINT}"
            ) from error
        for what, is_, was in found:
            if is_ != was:
                told = f"{what} {is_}, but the manifest says {was}. {VERIFY_HINT}"
                raise DamagedError(f"the file {name} of {manifest.id} has changed on disk: {told}")
