"""Payload as Arrow files, memory-mapped when read: the default. Opening costs the same at any size."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from mtx.errors import DamagedError
from mtx.infra.dal.base import PayloadInfo, atomic_file
from mtx.infra.dal.folder import FolderFileLayer
from mtx.infra.dal.rows import Rows
from mtx.infra.dal.sealed import VERIFY


class ArrowFileLayer(FolderFileLayer):
    """Payload by name (`FileLayer`) in `location/NAME.arrow`, the Arrow IPC file format.

    Reads are zero-copy: pages come from the file as they are touched and are shared by all processes. Record batches
    are kept as they are written, so a column given in one piece is read in one piece.
    """

    SUFFIX: ClassVar[str] = ".arrow"

    def _write(self, path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> PayloadInfo:
        num_rows = 0
        with atomic_file(path) as file, pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                num_rows += batch.num_rows
        return PayloadInfo(num_rows=num_rows, num_bytes=file.num_bytes, sha256=file.hexdigest())

    def _open(self, path: Path) -> Rows:
        return open_arrow(str(path))


def open_arrow(path: str) -> Rows:
    """Map an Arrow IPC file. Raises DamagedError."""
    try:
        table = pa.ipc.open_file(pa.memory_map(path)).read_all()
        table.validate()  # that offsets end within their data; takes the same time at any size
        return Rows(table, reopen=(open_arrow, (path,)))
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise DamagedError(f"{path} cannot be read as an Arrow file: {error}. {VERIFY}") from error
