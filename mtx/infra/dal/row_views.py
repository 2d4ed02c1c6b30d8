"""Views of rows that do not copy the underlying rows: `PatchedRows` replaces some rows, `SelectedRows` selects some.

A stage that changes few texts stores only the changed texts, and its dataset is read as `PatchedRows`. A stage that
only selects pairs stores only row numbers, and its dataset is read as `SelectedRows`. The underlying rows stay
memory-mapped; only the rows that a caller requests are copied.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.errors import DamagedError, DataError
from mtx.infra.dal.arrow_rows import ROWS_PER_BATCH, Rows
from mtx.infra.dal.chunked_columns import Chunks, concatenated, copied_columns
from mtx.infra.dal.manifest_digest import VERIFY_HINT

ROW_COLUMN = "row"  # the column with the numbers of the replaced or selected rows
SOURCE_COLUMN = "source"  # the column with the number of the source dataset that a row comes from

Int = NDArray[np.int64]


class RowView(Rows):
    """Base class of views: rows whose values are stored in a table, in a different order.

    Args:
        table: the table that contains the values.
        num_rows: the number of rows of the view.
        reopen: a function and its arguments that create the view in another process.
    """

    _own_chunks: Chunks | None = None  # of a view with a compressed part, whose table is empty

    def __init__(self, table: pa.Table, num_rows: int, reopen: tuple[Callable[..., Rows], tuple[Any, ...]]) -> None:
        super().__init__(table, reopen)
        self._num_rows = num_rows

    @abstractmethod
    def parts(self) -> Sequence[Rows]:
        """Return the rows that the view is made of, and the rows that say how."""

    @cached_property
    def chunks(self) -> Chunks:
        """The record batches with the values of the view, and where they begin; see `Rows.chunks`."""
        return super().chunks if self._own_chunks is None else self._own_chunks

    def check_offsets(self) -> None:
        """Check once the offsets of all parts of the view. Raises DamagedError."""
        if not self._has_checked_offsets:
            for part in self.parts():
                part.check_offsets()
        self._has_checked_offsets = True

    @abstractmethod
    def locate(self, rows: Int) -> Int:
        """Return the positions in the table of the view's rows `rows`, int64 [B]."""

    def __len__(self) -> int:
        return self._num_rows

    @property
    def table(self) -> pa.Table:
        """A new table with a copy of all rows of the view."""
        return pa.Table.from_batches(self.batches(), schema=self.schema)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a copy of the column `name`. Raises KeyError if the view has no column `name`."""
        self.schema.field(name)
        return pa.Table.from_batches(self.batches([name]), schema=pa.schema([self.schema.field(name)])).column(0)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Return an iterator over the rows in order, as record batches that are copied one at a time.

        Args:
            columns: names of the columns to include; None: all columns.
        """
        return self.range_batches(0, len(self), columns)

    def range_batches(self, first: int, end: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows from `first` to `end` (exclusive) in order, as record batches of at most 65,536 rows.

        Args:
            first: number of the first row.
            end: number of the first row that is not included.
            columns: names of the columns to include; None: all columns.
        """
        self.check_offsets()
        names = list(self.schema.names if columns is None else columns)
        for start in range(first, end, ROWS_PER_BATCH):
            rows = np.arange(start, min(start + ROWS_PER_BATCH, end))
            arrays = {**self._copied_columns(self.locate(rows), [name for name in names if name in self._columns])}
            arrays |= self._own_columns(rows, names)
            schema = pa.schema([self.schema.field(name) for name in names])
            yield pa.record_batch([arrays[name] for name in names], schema=schema)

    def _own_columns(self, rows: Int, names: Sequence[str]) -> dict[str, pa.Array]:
        """Return the columns of the view that the underlying table does not have, by name."""
        return {}

    def _copied_columns(self, located: Int, names: list[str]) -> dict[str, pa.Array]:
        """Copy the rows at the table positions `located`, in the order of `located`, and return the columns by name.

        Each chunk of the table is read once. The joined rows are then put into the requested order.
        """
        if not names:
            return {}
        joined = copied_columns(self.chunks, self._table.schema, located, names)
        empty = {name: pa.array([], type=joined.schema.field(name).type) for name in names}
        return {name: joined.column(name).chunk(0) if joined.num_rows else empty[name] for name in names}

    @property
    def is_compressed(self) -> bool:
        """Whether a part of the view is compressed."""
        return self._own_chunks is not None

    def _slice(self, start: int, stop: int) -> list[dict[str, Any]]:
        return [row for batch in self.range_batches(start, stop) for row in batch.to_pylist()]

    def _row(self, position: int) -> dict[str, Any]:
        return {name: values[0] for name, values in self._values([position]).items()}

    def _values(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        rows = np.asarray(indices, dtype=np.int64)
        if self.is_compressed:
            copied = self._copied_columns(self.locate(rows), list(self._columns))
            values = {name: array.to_pylist() for name, array in copied.items()}
        else:
            values = super()._values(self.locate(rows).tolist())
        values |= {name: array.to_pylist() for name, array in self._own_columns(rows, self.schema.names).items()}
        return {name: values[name] for name in self.schema.names}


class PatchedRows(RowView):
    """The rows of `original`, with the values in `changes` in place of some of the rows.

    Args:
        original: all rows, before the replacement.
        changes: the column `row` with the ascending numbers of the rows to change, and the columns to replace. Columns
            that `changes` does not have keep their values.
    """

    def __init__(self, original: Rows, changes: Rows) -> None:
        self.original = original
        self.changes = changes
        self._changed: Int = row_numbers(changes).astype(np.int64)
        replacement = self._replacement_table()
        if original.is_compressed:
            self._own_chunks = concatenated([original.chunks, Rows(replacement).chunks])
            table = pa.Table.from_batches([], original.schema)  # `empty_table` imports pandas
        else:
            table = pa.concat_tables([original.unchecked_table, replacement])
        super().__init__(table, len(original), (PatchedRows, (original, changes)))

    @property
    def stored_rows(self) -> Rows:
        """The stored changes."""
        return self.changes

    def parts(self) -> Sequence[Rows]:
        """Return the original rows and the changes."""
        return self.original, self.changes

    def locate(self, rows: Int) -> Int:
        """Return the table positions of `rows`. The table contains the original rows, followed by the changed rows."""
        if not len(self._changed):
            return rows
        places = np.minimum(np.searchsorted(self._changed, rows), len(self._changed) - 1)
        return np.where(self._changed[places] == rows, len(self) + places, rows)

    def _replacement_table(self) -> pa.Table:
        schema = self.original.schema
        changes = self.changes.table
        if not changes.num_rows:
            return pa.Table.from_batches([], schema)  # `empty_table` imports pandas
        others = [name for name in schema.names if name not in changes.column_names]
        kept = copied_columns(self.original.chunks, schema, self._changed, others) if others else None
        columns = [changes[name] if kept is None or name not in others else kept[name] for name in schema.names]
        return pa.table(columns, schema=schema)


class SelectedRows(RowView):
    """A selection of rows from one or several bases, in any order, with the row numbers in the column `row`.

    Args:
        bases: the rows to select from. The view has the columns that all bases have; `row` and `source` are its own,
            also if a base is such a view.
        limits: for each base, the number of rows at its start that can be selected.
        numbers: the column `row`: positions in the concatenation of all bases, each cut to its limit, counted from 0.
        sources: a number for each base, which becomes the value of the column `source` (uint16) in its rows. With None
            or no numbers, the view has no column `source`.
    """

    def __init__(
        self, bases: Sequence[Rows], limits: Sequence[int], numbers: Rows, sources: Sequence[int | None] = ()
    ) -> None:
        self.bases = list(bases)
        self.limits = list(limits)
        self.numbers = numbers
        self.sources = None if None in sources or not sources else np.array(sources, dtype=np.uint16)
        self.selection = row_numbers(numbers)
        self._ends = np.cumsum(self.limits, dtype=np.int64)
        names = common_columns([base.table_schema for base in bases])
        if any(base.is_compressed for base in bases):
            self._own_chunks = concatenated([base.chunks for base in bases])
            self._starts = np.cumsum([0, *(base.chunks[1][-1] for base in bases)], dtype=np.int64)
            table = pa.Table.from_batches([], pa.schema([bases[0].table_schema.field(name) for name in names]))
        else:
            tables = [base.unchecked_table.select(names) for base in bases]
            self._starts = np.cumsum([0, *(table.num_rows for table in tables)], dtype=np.int64)
            table = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
        super().__init__(table, len(self.selection), (SelectedRows, (bases, limits, numbers, sources)))

    @property
    def stored_rows(self) -> Rows:
        """The stored row numbers."""
        return self.numbers

    def parts(self) -> Sequence[Rows]:
        """Return the bases and the row numbers."""
        return *self.bases, self.numbers

    def check_offsets(self) -> None:
        """Check once the offsets of all parts, and that the row numbers lie within the bases. Raises DamagedError."""
        if not self._has_checked_offsets and len(self.selection):
            low, high, most = int(self.selection.min()), int(self.selection.max()), sum(self.limits)
            if not 0 <= low <= high < most:
                raise DamagedError(
                    f"row numbers {low} to {high} refer to rows beyond the existing {most}. {VERIFY_HINT}"
                )
        super().check_offsets()

    @property
    def schema(self) -> pa.Schema:
        """The common columns of the bases, then `row`, then `source` if the bases have numbers."""
        schema = self._table.schema.append(self.numbers.schema.field(ROW_COLUMN))
        return schema.append(pa.field(SOURCE_COLUMN, pa.uint16())) if self.sources is not None else schema

    def locate(self, rows: Int) -> Int:
        """Return the positions of `rows` in the concatenation of the tables of all bases."""
        numbers = self.selection[rows].astype(np.int64)
        if len(self.bases) == 1:
            return _located_rows(self.bases[0], numbers)
        places = np.empty(len(numbers), dtype=np.int64)
        of_base = self.base_of(numbers)
        for number, base in enumerate(self.bases):
            mine = of_base == number
            begin = self._ends[number] - self.limits[number]
            places[mine] = self._starts[number] + _located_rows(base, numbers[mine] - begin)
        return places

    def base_of(self, numbers: Int) -> Int:
        """Return the index of the base that each row number in `numbers` belongs to, int64 [B]."""
        return np.searchsorted(self._ends, numbers, side="right")

    def _own_columns(self, rows: Int, names: Sequence[str]) -> dict[str, pa.Array]:
        numbers = self.selection[rows]
        own = {ROW_COLUMN: pa.array(numbers)} if ROW_COLUMN in names else {}
        if self.sources is not None and SOURCE_COLUMN in names:
            own[SOURCE_COLUMN] = pa.array(self.sources[self.base_of(numbers.astype(np.int64))])
        return own


def common_columns(schemas: Sequence[pa.Schema]) -> list[str]:
    """Return the names of the columns that all `schemas` have. Raises DataError if the types of a column differ."""
    names = [name for name in schemas[0].names if all(name in schema.names for schema in schemas)]
    for name in names:
        if len(found := {str(schema.field(name).type): None for schema in schemas}) > 1:
            raise DataError(
                f"the column {name!r} must have the same type in all sources of a mixture, but the types are "
                f"{' and '.join(found)}. Set one type with '+downloader.sources.NAME.columns={{COLUMN: TYPE}}', "
                "or leave the column out"
            )
    return names


def row_numbers(rows: Rows) -> NDArray[Any]:
    """Return the column `row` as an array. The array is memory-mapped if the column is stored as one chunk."""
    chunks = rows.column(ROW_COLUMN).chunks
    arrays = [np.from_dlpack(chunk) for chunk in chunks if len(chunk)]  # `to_numpy` would import pandas
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate([np.empty(0, dtype=np.uint32), *arrays]) if not arrays else np.concatenate(arrays)


def _located_rows(base: Rows, rows: Int) -> Int:
    return base.locate(rows) if isinstance(base, RowView) else rows
