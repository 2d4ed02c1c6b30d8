"""Local copies of the payload of a remote store: memory-mapped while in use, and within a bound of disk space.

The lock of a copy (`flock` on its file, shared) belongs to the mapping, so it lasts as long as any array that points
into the mapping, also in forked workers. The operating system releases it when the process dies. Copies without such a
lock may be removed; a reader that then needs one downloads it again.
"""

import fcntl
import logging
import math
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtx.errors import DamagedError, NotStoredError
from mtx.exhausted_resources import raise_if_exhausted
from mtx.infra.dal.arrow import ArrowFileLayer, rows_of_source
from mtx.infra.dal.atomic_file import make_folder, remove_leftovers
from mtx.infra.dal.locks import file_lock
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.infra.dal.protocols import PayloadInfo
from mtx.library_errors import library_reason

if TYPE_CHECKING:
    import pyarrow as pa

    from mtx.infra.dal.arrow_rows import Rows

log = logging.getLogger(__name__)

FRAME_BYTES = 2048  # of an Arrow file with one record batch, beside its values: schema, metadata and footer


class LocalCopies(ArrowFileLayer):
    """The folder of local copies, `location/SHA256.arrow`, shared by all processes of a machine.

    Before a copy is written, while it is written, and after it, the copies that were opened least recently are removed
    until the folder is within the bound. A copy is kept while a process has it open, writes it or uploads it. What
    killed processes left is removed as well.

    Args:
        location: the folder; the first write creates the folder.
        cache_gb: bound of all files in the folder, in 10⁹ bytes; None: there is no bound.
    """

    def __init__(self, *, location: str | os.PathLike[str], cache_gb: float | None = None) -> None:
        super().__init__(location=location)
        self.cache_gb = cache_gb
        self._told_gb = 0.0
        self._is_exceeded = False

    def path(self, name: str) -> Path:
        """Return the path of a copy. Raises StoreError if `name` is not a valid name."""
        return self._path(name)

    def has(self, info: PayloadInfo) -> bool:
        """Return whether there is a copy of a payload."""
        try:
            return self.path(info.sha256).stat().st_size == info.num_bytes
        except FileNotFoundError:
            return False

    def mapped(self, info: PayloadInfo, fetch: Callable[[Path], None]) -> "pa.Buffer":
        """Return the bytes of a copy, memory-mapped, and in use as long as the buffer is referred to.

        Args:
            info: size and digest of the payload.
            fetch: downloads the payload to a path; called if there is no copy. Its exceptions are passed on.
        """
        path = self.path(info.sha256)
        while (buffer := _mapped(path, info.num_bytes)) is None:  # again if the user removes the folder meanwhile
            make_folder(self.location)
            with file_lock(self.location, info.sha256):
                if (buffer := _mapped(path, info.num_bytes)) is None:
                    remove_leftovers(path)
                    self.make_room(info.num_bytes, kept=info.sha256)
                    fetch(path)
                    buffer = _mapped(path, info.num_bytes)
            if buffer is not None:
                return buffer
        if self._is_exceeded:  # what was in use then may be free now
            self.make_room(kept=info.sha256)
        return buffer

    def remove_damaged(self, sha256: str) -> None:
        """Remove the copy of a payload if its bytes differ from its digest."""
        with suppress(NotStoredError):  # there is no copy, or another process has removed it
            if self.exists(sha256) and self.sha256(sha256) != sha256:
                self.delete(sha256)

    def make_room(self, num_bytes: int = 0, *, kept: str = "") -> None:
        """Remove the least recently opened copies that nothing uses, until the folder is within the bound.

        Args:
            num_bytes: bytes that the caller is about to write.
            kept: name of the copy that the caller is about to use.
        """
        if self.cache_gb is None:
            return
        files = self._files()
        total = num_bytes + sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.cache_gb * 1e9:
                break
            if (name := _payload_name(path)) != kept and self._remove_unused(path, name):
                total -= size
        self._is_exceeded = total > self.cache_gb * 1e9
        if self._is_exceeded:
            self._tell(total)

    def _write(self, path: Path, schema: "pa.Schema", batches: "Iterator[pa.RecordBatch]") -> PayloadInfo:
        def watched() -> "Iterator[pa.RecordBatch]":
            for batch in batches:  # its size on disk is not known before, so there is room made as the file grows
                self.make_room(batch.nbytes + FRAME_BYTES, kept=path.stem)
                yield batch

        return super()._write(path, schema, watched())

    def _files(self) -> list[tuple[int, int, Path]]:
        """Return the time of the last opening in ns, the size in bytes and the path of each file."""
        found = []
        with suppress(FileNotFoundError), os.scandir(self.location) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another process has removed it
                    if entry.is_file(follow_symlinks=False):
                        known = entry.stat(follow_symlinks=False)
                        found.append((known.st_atime_ns, known.st_size, Path(entry.path)))
        return found

    def _remove_unused(self, path: Path, name: str) -> bool:
        """Remove a file unless a process uses, writes or uploads it, and return whether the file is gone."""
        lock = make_folder(self.location / "locks") / f"{name}.lock"  # as of `file_lock`; this process may hold it, too
        with _free_lock(lock, os.O_RDWR | os.O_CREAT) as is_idle:
            if not is_idle:
                return False
            with _free_lock(path, os.O_RDONLY) as is_unused:
                if is_unused:
                    path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
            return is_unused

    def _tell(self, num_bytes: int) -> None:
        """Log once that the copies in use exceed the bound, and again if they have doubled since."""
        needed = rounded_up(num_bytes / 1e9)
        if needed > 2 * self._told_gb:
            self._told_gb = needed
            log.warning(
                "storage.cache_gb=%g is exceeded: %s holds %.3g GB of copies that are in use, and keeps them until "
                "nothing uses them. To stay within the bound, set storage.cache_gb=%g or more",
                self.cache_gb,
                self.location,
                num_bytes / 1e9,
                needed,
            )


def mapped_rows(buffer: "pa.Buffer", path: str, reopen: "tuple[Callable[..., Rows], tuple[Any, ...]]") -> "Rows":
    """Return the rows of a mapped copy. Raises DamagedError if it is not an Arrow file."""
    import pyarrow as pa

    return rows_of_source(lambda: pa.BufferReader(buffer), path, reopen)


def rounded_up(gb: float) -> float:
    """Return a number of GB rounded up to two significant digits."""
    unit = 10.0 ** (math.floor(math.log10(gb)) - 1)
    return float(f"{math.ceil(gb / unit - 1e-9) * unit:.2g}")


def _payload_name(path: Path) -> str:
    """Return the name of the payload that a file `NAME.arrow` or `.NAME.arrow.RANDOM.tmp` belongs to."""
    return path.name.lstrip(".").partition(".")[0]


def _mapped(path: Path, num_bytes: int) -> "pa.Buffer | None":
    """Return the bytes of a file, mapped and locked; None if there is no such file of this size."""
    import pyarrow as pa

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits no longer than another process needs to remove the file
        found = os.fstat(descriptor)
        if not found.st_nlink or found.st_size != num_bytes:
            return None
        with suppress(OSError):  # the time decides only which copy is removed first
            os.utime(path, ns=(time.time_ns(), found.st_mtime_ns))
        # The mapping duplicates the descriptor, and with it holds the lock.
        return pa.py_buffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise_if_exhausted(error)
        raise DamagedError(f"{path} cannot be read as an Arrow file: {library_reason(error)}. {VERIFY_HINT}") from error
    finally:
        os.close(descriptor)


@contextmanager
def _free_lock(path: Path, flags: int) -> Iterator[bool]:
    """Yield whether nothing, this process included, holds the lock of a file; hold it until the context ends."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another holds it, or the file system has no locks
            yield False
            return
        yield os.fstat(descriptor).st_nlink > 0  # else the holder has removed the file, and a new one may be locked
    finally:
        os.close(descriptor)
