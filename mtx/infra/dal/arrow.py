"""Store payload as Arrow IPC files, which readers memory-map. This is the default file layer.

Opening an Arrow file takes the same time at any file size.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mtx.cpu_count import granted_cores
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

    Args:
        location: the folder that contains all payloads.
        compress_text: write raw pairs with Zstandard compression. Their text takes half of the space, and reading it
            takes longer. Files of both kinds are read in any case.
    """

    SUFFIX: ClassVar[str] = ".arrow"

    def __init__(self, *, location: str | os.PathLike[str], compress_text: bool = False) -> None:
        super().__init__(location=location)
        self.compress_text = compress_text

    def _write(self, path: Path, schema: "pa.Schema", batches: "Iterator[pa.RecordBatch]") -> PayloadInfo:
        import pyarrow as pa

        num_rows, options = 0, pa.ipc.IpcWriteOptions()
        if self.compress_text and is_pair_text(schema):
            from mtx.infra.dal.chunked_columns import regrouped_batches
            from mtx.infra.dal.compressed_rows import ROWS_PER_CHUNK, chunk_schema

            batches, schema = regrouped_batches(batches, ROWS_PER_CHUNK), chunk_schema(schema)
            codec = pa.Codec("zstd", compression_level=1)
            options = pa.ipc.IpcWriteOptions(compression=codec, use_threads=granted_cores() > 1)
        with (
            atomic_file(path) as file,
            pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema, options=options) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
                num_rows += batch.num_rows
        return PayloadInfo(num_rows=num_rows, num_bytes=file.num_bytes, sha256=file.hexdigest())

    def _open(self, path: Path) -> "Rows":
        return open_arrow(str(path))


def is_pair_text(schema: "pa.Schema") -> bool:
    """Return whether rows of a schema are pairs of texts, and no changes of other rows."""
    return {"src", "tgt"} <= set(schema.names) and "row" not in schema.names


def open_arrow(path: str) -> "Rows":
    """Memory-map the Arrow IPC file `path` and return its rows.

    Raises DamagedError if `path` cannot be read as an Arrow IPC file.
    """
    import pyarrow as pa

    return rows_of_source(lambda: pa.memory_map(path), path, (open_arrow, (path,)))


def rows_of_source(
    source: Callable[[], "pa.NativeFile"], path: str, reopen: "tuple[Callable[..., Rows], tuple[Any, ...]]"
) -> "Rows":
    """Return the rows of an Arrow IPC file, without copying them.

    Args:
        source: returns the open file.
        path: path of the file, for messages.
        reopen: a function and its arguments that open the rows again in another process.

    Raises DamagedError if the source cannot be read as an Arrow IPC file.
    """
    import pyarrow as pa

    from mtx.infra.dal.arrow_rows import Rows
    from mtx.infra.dal.compressed_rows import CompressedRows, is_chunked

    try:
        reader = pa.ipc.open_file(source(), options=pa.ipc.IpcReadOptions(use_threads=False))
        if is_chunked(reader.schema):
            return CompressedRows(reader, path, reopen)
        table = reader.read_all()
        table.validate()  # checks that offsets end within their buffers; takes the same time at any file size
        return Rows(table, reopen=reopen)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise_if_exhausted(error)
        raise DamagedError(f"{path} cannot be read as an Arrow file: {library_reason(error)}. {VERIFY_HINT}") from error
