"""Store payload as Arrow IPC files, which readers memory-map. This is the default file layer.

Opening an Arrow file takes the same time at any file size.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mtx.errors import DamagedError
from mtx.exhausted_resources import raise_if_exhausted
from mtx.infra.dal.atomic_file import atomic_file
from mtx.infra.dal.folder_file_layer import FolderFileLayer
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.infra.dal.protocols import PayloadInfo
from mtx.library_errors import library_reason

if TYPE_CHECKING:
    import pyarrow as pa

    from mtx.infra.dal.arrow_rows import Rows


class ArrowFileLayer(FolderFileLayer):
    """File layer (`FileLayer`) that stores each payload in `location/NAME.arrow`, an Arrow IPC file.

    Reads are zero-copy. The operating system loads a page of the file on first access and shares the page among
    processes. The file keeps the record batches in which the payload was written, so a column written as one chunk is
    read as one chunk.
    """

    SUFFIX: ClassVar[str] = ".arrow"

    def _write(self, path: Path, schema: "pa.Schema", batches: "Iterator[pa.RecordBatch]") -> PayloadInfo:
        import pyarrow as pa

        num_rows = 0
        with atomic_file(path) as file, pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                num_rows += batch.num_rows
        return PayloadInfo(num_rows=num_rows, num_bytes=file.num_bytes, sha256=file.hexdigest())

    def _open(self, path: Path) -> "Rows":
        return open_arrow(str(path))


def open_arrow(path: str) -> "Rows":
    """Memory-map the Arrow IPC file `path` and return its rows.

    Raises DamagedError if `path` cannot be read as an Arrow IPC file.
    """
    import pyarrow as pa

    from mtx.infra.dal.arrow_rows import Rows

    try:
        table = pa.ipc.open_file(pa.memory_map(path)).read_all()
        table.validate()  # checks that offsets end within their buffers; takes the same time at any file size
        return Rows(table, reopen=(open_arrow, (path,)))
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise_if_exhausted(error)
        raise DamagedError(f"{path} cannot be read as an Arrow file: {library_reason(error)}. {VERIFY_HINT}") from error
