"""`CompressedRows`: rows of an Arrow file with compressed record batches, each decompressed when it is read.

The file is a usual Arrow IPC file, whose buffers are compressed with Zstandard. All record batches but the last have an
equal number of rows, so that a row is found without reading others.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.errors import DamagedError
from mtx.exhausted_resources import raise_if_exhausted
from mtx.infra.dal.arrow_offsets_check import check_offsets
from mtx.infra.dal.arrow_rows import ROWS_PER_BATCH, Rows
from mtx.infra.dal.chunked_columns import BatchSequence, Chunks, batches_of_threads, copied_columns
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.library_errors import library_reason

ROWS_PER_CHUNK = 4096  # of a compressed record batch; larger ones take less space, and longer to read one row
CACHED_BYTES = 1 << 24  # of decompressed record batches that are kept; one of sentences takes about 1 MB
SELECTED_BYTES = 1 << 25  # of rows that were selected and are kept, such as held-out ones
SIZE_KEY = b"mtx.rows_per_chunk"  # in the metadata of the schema

Item = TypeVar("Item")


def chunk_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema that says how many rows each record batch has."""
    return schema.with_metadata({**(schema.metadata or {}), SIZE_KEY: str(ROWS_PER_CHUNK).encode()})


def is_chunked(schema: pa.Schema) -> bool:
    """Return whether a stored schema is that of `chunk_schema`."""
    return SIZE_KEY in (schema.metadata or {})


class CompressedRows(Rows):
    """The rows of a compressed Arrow file, of which a few record batches are in memory. Thread-safe.

    Args:
        reader: the opened file.
        where: path of the file.
        reopen: a function and its arguments that open the rows again.
    """

    def __init__(
        self, reader: pa.RecordBatchFileReader, where: str, reopen: tuple[Callable[..., Rows], tuple[Any, ...]]
    ) -> None:
        metadata = {key: value for key, value in (reader.schema.metadata or {}).items() if key != SIZE_KEY}
        schema = reader.schema.with_metadata(metadata) if metadata else reader.schema.remove_metadata()
        super().__init__(pa.Table.from_batches([], schema), reopen)
        self._batches = _DecompressedBatches(reader, where, self.schema)
        size, number = int(reader.schema.metadata[SIZE_KEY]), reader.num_record_batches
        starts = np.arange(number + 1, dtype=np.int64) * size
        if number:
            starts[-1] = starts[-2] + self._batches[number - 1].num_rows
        self._starts = starts

    @property
    def chunks(self) -> Chunks:
        """The record batches, each of which is decompressed when it is asked for, and where they begin."""
        return self._batches, self._starts

    @property
    def is_compressed(self) -> bool:
        """True."""
        return True

    def check_offsets(self) -> None:
        """Do nothing, because the offsets of each record batch are checked when it is decompressed."""

    @property
    def table(self) -> pa.Table:
        """A new table with a copy of all rows."""
        return pa.Table.from_batches(self._batches, schema=self.schema)

    @property
    def unchecked_table(self) -> pa.Table:
        """A new table with a copy of all rows, whose offsets have been checked."""
        return self.table

    def __len__(self) -> int:
        return int(self._starts[-1])

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Return an iterator over the rows as record batches, in row order; see `Rows.batches`."""
        return self.range_batches(0, len(self), columns)

    def range_batches(self, first: int, end: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows from `first` to `end` (exclusive) in order; see `Rows.range_batches`."""
        names = list(self.schema.names if columns is None else columns)
        for start in range(first, end, ROWS_PER_BATCH):
            stop = min(start + ROWS_PER_BATCH, end)
            low = int(np.searchsorted(self._starts, start, side="right")) - 1
            high = int(np.searchsorted(self._starts, stop, side="left"))
            pieces = batches_of_threads(lambda number: self._batches[number].select(names), range(low, high))
            joined = pa.Table.from_batches(pieces).slice(start - int(self._starts[low]), stop - start)
            yield joined.combine_chunks().to_batches()[0]

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a copy of a column. Raises KeyError if the rows have no column `name`."""
        field = self.schema.field(name)
        return pa.Table.from_batches(self.batches([name]), schema=pa.schema([field])).column(0)

    def _slice(self, start: int, stop: int) -> list[dict[str, Any]]:
        return [row for batch in self.range_batches(start, stop) for row in batch.to_pylist()]

    def _row(self, position: int) -> dict[str, Any]:
        return {name: values[0] for name, values in self._values([position]).items()}

    def _values(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        names = self.schema.names
        copied = copied_columns(self.chunks, self.schema, np.asarray(indices, dtype=np.int64), names)
        return {name: copied.column(name).to_pylist() for name in names}


class _RecentItems(Generic[Item]):
    """The items that were used last, by number. Thread-safe."""

    def __init__(self) -> None:
        self._items: OrderedDict[int, tuple[Item, int]] = OrderedDict()
        self._num_bytes = 0
        self._lock = Lock()

    def get(self, number: int) -> Item | None:
        """Return the item with a number, which is now the last one used, or None if it is not kept."""
        with self._lock:
            if number not in self._items:
                return None
            self._items.move_to_end(number)
            return self._items[number][0]

    def put(self, number: int, item: Item, num_bytes: int, max_bytes: int) -> None:
        """Keep an item in place of that with its number, and of others all but the last used beyond `max_bytes`."""
        with self._lock:
            self._num_bytes += num_bytes - self._items.pop(number, (item, 0))[1]
            self._items[number] = item, num_bytes
            while self._num_bytes > max_bytes and len(self._items) > 1:
                _, (_, size) = self._items.popitem(last=False)
                self._num_bytes -= size


@dataclass(frozen=True)
class _SelectedRows:
    """Rows of a record batch, and their ascending numbers in it."""

    numbers: NDArray[np.int64]
    batch: pa.RecordBatch

    def some(self, rows: NDArray[np.int64], names: Sequence[str]) -> pa.RecordBatch | None:
        """Copy some of the rows with the columns `names`; None: not all of these are here."""
        places = np.minimum(np.searchsorted(self.numbers, rows), len(self.numbers) - 1)
        if not set(names) <= set(self.batch.schema.names) or (self.numbers[places] != rows).any():
            return None
        return self.batch.select(list(names)).take(pa.array(places))


class _DecompressedBatches(BatchSequence):
    """The record batches of a file; the last that were asked for are kept, up to `CACHED_BYTES`, but at least one.

    A few rows of each are kept as well, up to `SELECTED_BYTES`: the same held-out rows are read several times, and all
    record batches have some of them.
    """

    def __init__(self, reader: pa.RecordBatchFileReader, where: str, schema: pa.Schema) -> None:
        self._reader = reader
        self._where = where
        self._schema = schema
        self._kept: _RecentItems[pa.RecordBatch] = _RecentItems()
        self._selected: _RecentItems[_SelectedRows] = _RecentItems()

    def __len__(self) -> int:
        return int(self._reader.num_record_batches)

    def some(self, number: int, rows: NDArray[np.int64], names: Sequence[str]) -> pa.RecordBatch:
        """Copy a few rows, from those that are kept if they include them; see `BatchSequence.some`."""
        selected = self._selected.get(number)
        if selected is not None and (found := selected.some(rows, names)) is not None:
            return found
        batch = super().some(number, rows, names)
        self._selected.put(number, _SelectedRows(rows, batch), rows.nbytes + batch.nbytes, SELECTED_BYTES)
        return batch

    def _read(self, number: int) -> pa.RecordBatch:
        if (batch := self._kept.get(number)) is None:
            batch = self._decompressed(number)  # several threads at once
            self._kept.put(number, batch, batch.nbytes, CACHED_BYTES)
        return batch

    def _decompressed(self, number: int) -> pa.RecordBatch:
        """Return a record batch. Raises DamagedError if it cannot be decompressed, or has wrong offsets."""
        try:
            batch = self._reader.get_batch(number).replace_schema_metadata(self._schema.metadata)
        except (pa.ArrowException, OSError) as error:
            raise_if_exhausted(error)
            raise DamagedError(
                f"{self._where} cannot be decompressed: {library_reason(error)}. {VERIFY_HINT}"
            ) from error
        check_offsets(pa.Table.from_batches([batch]), self._where)
        return batch
