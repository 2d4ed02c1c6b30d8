"""Atomic and durable writes of files, and the creation of folders. Each disk error becomes a StoreError."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mtx.errors import StoreError
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.library_errors import library_reason

LEAST_THREADED = 1 << 20  # bytes that are hashed while they are written


def make_folder(location: str | os.PathLike[str]) -> Path:
    """Create the folder `location` and its parent folders if they are missing, and return the absolute path.

    New folders are synced to disk, so that they survive a power failure like the files in them. Raises StoreError if
    the folder cannot be created.
    """
    path = expanded_path(location).absolute()
    try:
        made = [step for step in (path, *path.parents) if not step.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for step in made:
            sync_folder(step.parent)
    except OSError as error:
        raise StoreError(
            f"the store's folder {path} cannot be created: {library_reason(error)}. "
            "Choose a folder that you can write to, with storage.root=FOLDER"
        ) from error
    return path


class AtomicFile:
    """A binary file for sequential writing that counts the bytes and computes their SHA-256.

    `write` raises StoreError if the disk refuses the write. A disk error therefore differs in type from an OSError of
    the source that the caller reads at the same time.

    Args:
        file: the open temporary file.
        path: the final path, for error messages.
        is_hashed: False: compute no SHA-256.
    """

    def __init__(self, file: IO[bytes], path: Path, *, is_hashed: bool = True) -> None:
        self._file = file
        self._path = path
        self._sha256 = hashlib.sha256() if is_hashed else None
        self.num_bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Write bytes, or any object with the buffer protocol, and return the number of bytes written."""
        size = memoryview(data).nbytes
        if self._sha256 is not None and size >= LEAST_THREADED:
            with ThreadPoolExecutor(1) as thread:  # not kept, because threads do not survive a fork
                hashed = thread.submit(self._sha256.update, data)
                self._write(data)
                hashed.result()
        else:
            self._write(data)
            if self._sha256 is not None:
                self._sha256.update(data)
        self.num_bytes += size
        return size

    def _write(self, data: Any) -> None:
        with convert_disk_errors(self._path):
            self._file.write(data)

    def flush(self) -> None:
        """Do nothing, because `atomic_file` flushes the file once, after the last write."""

    def hexdigest(self) -> str:
        """Return the SHA-256 of all bytes written so far, in hex. Raises ValueError if the file is not hashed."""
        if self._sha256 is None:
            raise ValueError("the file is written without a digest")
        return self._sha256.hexdigest()

    def readable(self) -> bool:
        """Return False, because the file is write-only."""
        return False

    def writable(self) -> bool:
        """Return True, because the file is open for writing."""
        return True

    def seekable(self) -> bool:
        """Return False, because all writes are sequential."""
        return False


@contextmanager
def atomic_file(path: Path, *, replace: bool = True, is_hashed: bool = True) -> Iterator[AtomicFile]:
    """Yield a file to write to, which becomes the complete file `path` at the end, even after a power failure.

    The data go to a temporary file in the same folder. Then the file is synced with fsync and renamed to `path`, and
    the folder is synced. If the caller raises an exception, the temporary file is deleted and the exception propagates.

    Args:
        path: final path of the file.
        replace: False: raise FileExistsError if `path` exists.
        is_hashed: False: compute no SHA-256, for large files whose digest nobody stores.

    Raises StoreError if the disk refuses a write.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with convert_disk_errors(path):
            file = temporary.open("xb")
        try:
            yield AtomicFile(file, path, is_hashed=is_hashed)
            with convert_disk_errors(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with suppress(OSError):  # on a full disk `close` fails again; the first error has the reason
                file.close()
        rename_durably(temporary, path, replace=replace)
    finally:
        temporary.unlink(missing_ok=True)


def rename_durably(temporary: Path, path: Path, *, replace: bool = True) -> None:
    """Rename a synced file to `path` in the same folder, and sync the folder.

    Raises:
        FileExistsError: `path` exists, and `replace` is False; the file keeps its name.
        StoreError: the disk refuses.
    """
    is_linked = not replace and _link(temporary, path)
    with convert_disk_errors(path):
        if is_linked:
            temporary.unlink()
        else:
            temporary.replace(path)
        sync_folder(path.parent)


def _link(temporary: Path, path: Path) -> bool:
    """Create the hard link `path` to the file `temporary`; return False if the file system has no hard links.

    The operating system lets only one process create the link. Raises FileExistsError if `path` exists.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def remove_leftovers(path: Path) -> None:
    """Delete temporary files of `path` that killed processes left. The caller must hold the lock of `path`."""
    with convert_disk_errors(path):
        for leftover in path.parent.glob(f".{path.name}.*.tmp*"):
            leftover.unlink(missing_ok=True)


@contextmanager
def convert_disk_errors(path: Path) -> Iterator[None]:
    """Return a context manager that turns each OSError into a StoreError that names `path`."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {library_reason(error)}. Nothing stored before has changed. "
            "Free disk space, get write permission, or choose another place: storage.root=FOLDER for the store, "
            "hydra.run.dir=FOLDER for the files of a run, to=FILE for what a task writes elsewhere"
        ) from error


def sync_folder(path: Path) -> None:
    """Sync the folder `path` with fsync, so that a rename in the folder survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the file `path` in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
