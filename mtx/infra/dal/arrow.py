"""Payload as Arrow files, memory-mapped when read: the default. Opening costs the same at any size."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError
from mtx.infra.dal.base import Payload, PayloadInfo, atomic_file, checked_name, file_lock, folder
from mtx.infra.dal.oal import absent, already
from mtx.infra.dal.rows import Rows, batches_of

SUFFIX = ".arrow"


class ArrowFileLayer:
    """Payload by name (`FileLayer`) in `location/NAME.arrow`, the Arrow IPC file format.

    Reads are zero-copy: pages come from the file as they are touched and are shared by all processes. Picklable.
    """

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = Path(location).expanduser().absolute()

    def create(self, name: str, data: Payload) -> PayloadInfo:
        """Write `data`, batch by batch. Raises AlreadyStoredError, or StoreError where the disk refuses."""
        path = self._path(name)
        if path.exists():
            raise AlreadyStoredError(already(name, self.location))
        folder(self.location)
        num_rows = 0
        schema, batches = batches_of(data)
        with atomic_file(path) as file:
            with pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    num_rows += batch.num_rows
        return PayloadInfo(num_rows=num_rows, num_bytes=file.num_bytes, sha256=file.hexdigest())

    def read(self, name: str) -> Rows:
        """Map the rows into memory. Raises NotStoredError, or DamagedError where the file is no Arrow file."""
        path = self._path(name)
        if not path.exists():
            raise NotStoredError(absent(name, self.location, sorted(self._names())))
        return open_arrow(str(path))

    def delete(self, name: str) -> None:
        """Remove the payload; readers that have it mapped keep it. Raises NotStoredError."""
        try:
            self._path(name).unlink()
        except FileNotFoundError as error:
            raise NotStoredError(absent(name, self.location, sorted(self._names()))) from error

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored."""
        return self._path(name).exists()

    def lock(self, name: str) -> AbstractContextManager[Any]:
        """Return the lock for building `name`."""
        return file_lock(self.location, name)

    def _path(self, name: str) -> Path:
        return self.location / f"{checked_name(name)}{SUFFIX}"

    def _names(self) -> Iterator[str]:
        return (path.stem for path in self.location.glob(f"*{SUFFIX}"))


def open_arrow(path: str) -> Rows:
    """Map an Arrow IPC file. Raises DamagedError."""
    try:
        return Rows(pa.ipc.open_file(pa.memory_map(path)).read_all(), reopen=(open_arrow, (path,)))
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(f"{path} is no whole Arrow file: {error}. Remove the dataset and build it again") from error
