"""The class `Rows`: the rows of a payload as a sequence of dicts over an Arrow table.

An Arrow table that comes from a file is memory-mapped. This module also converts the data to be stored into record
batches.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.errors import DamagedError, DataError
from mtx.infra.dal.arrow_offsets_check import check_offsets
from mtx.infra.dal.text_column_reader import TextColumn
from mtx.infra.dal.unconvertible_value import unconvertible_value

ROWS_AT_ONCE = 8192  # number of rows that are Python objects at the same time
ROWS_PER_BATCH = 1 << 16  # maximum number of rows of a record batch that is copied or read


class Rows(Sequence[dict[str, Any]]):
    """An immutable, thread-safe sequence of rows. Each row is a dict; `.table` is the underlying Arrow table.

    The views in `row_views.py` take their rows from other rows. For a view, `.table` is a copy of all rows, so read
    many rows of a view with `batches` or `column`. If `reopen` is given, a pickle of the rows contains only `reopen`. A
    worker process then maps the same file again instead of receiving a copy of the rows.

    Args:
        table: the Arrow table that holds the rows.
        reopen: a function and its arguments that open the rows again; None: a pickle contains the whole table.
    """

    def __init__(self, table: pa.Table, reopen: tuple[Callable[..., "Rows"], tuple[Any, ...]] | None = None) -> None:
        self._table = table
        self._reopen = reopen
        self._columns = dict(zip(table.column_names, table.columns, strict=True))
        self._has_checked_offsets = False

    @property
    def table(self) -> pa.Table:
        """The Arrow table that contains the rows. Raises DamagedError if its offsets are wrong."""
        self.check_offsets()
        return self._table

    @property
    def unchecked_table(self) -> pa.Table:
        """The Arrow table that contains the rows, or the values of a view. Its offsets may be wrong."""
        return self._table

    @property
    def table_schema(self) -> pa.Schema:
        """The names and types of the columns of `unchecked_table`, without those that a view adds."""
        return self._table.schema

    def check_offsets(self) -> None:
        """Check once that all offsets lie within their values, before they are followed. Raises DamagedError."""
        if not self._has_checked_offsets and self._reopen is not None:
            check_offsets(self._table, self._where())
        self._has_checked_offsets = True

    @property
    def stored_rows(self) -> "Rows":
        """The rows that are stored on disk for this object: the object itself, except for a view of other rows."""
        return self

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema: the names and types of the columns."""
        return self._table.schema

    def column(self, name: str) -> pa.ChunkedArray:
        """Return the column `name`. Raises KeyError if the rows have no column `name`."""
        return self.table.column(name)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Return an iterator over the rows as record batches, in row order.

        Args:
            columns: names of the columns to include; None: all columns.
        """
        table = self.table if columns is None else self.table.select(list(columns))
        return iter(table.to_batches())

    def range_batches(self, first: int, end: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Return the rows from `first` to `end` (exclusive) in order, as record batches of at most 65,536 rows.

        Args:
            first: number of the first row.
            end: number of the first row that is not included.
            columns: names of the columns to include; None: all columns.
        """
        table = self.table if columns is None else self.table.select(list(columns))
        return iter(table.slice(first, end - first).to_batches(max_chunksize=ROWS_PER_BATCH))

    @cached_property
    def chunks(self) -> tuple[Sequence[pa.RecordBatch], NDArray[np.int64]]:
        """The stored record batches without empty ones, and where each begins, with the end of the last: int64.

        Offsets in the record batches may be wrong.
        """
        batches = [batch for batch in self._table.to_batches() if batch.num_rows]
        return batches, np.cumsum([0, *(batch.num_rows for batch in batches)], dtype=np.int64)

    @property
    def is_compressed(self) -> bool:
        """Whether values are decompressed when they are read, so that a table of all of them fills memory."""
        return False

    @cached_property
    def _texts(self) -> dict[str, TextColumn]:
        """A reader for each text column whose buffers can be read directly, by column name."""
        return {name: TextColumn(column) for name, column in self._columns.items() if TextColumn.is_readable(column)}

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return [self[i] for i in range(start, stop, step)]
            return self._slice(start, max(start, stop))
        self.check_offsets()
        position = index.__index__()
        position += len(self) if position < 0 else 0
        if not 0 <= position < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        try:
            return self._row(position)
        except UnicodeDecodeError as error:
            raise self._encoding_error(error) from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches():
            for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                try:
                    rows = batch.slice(start, ROWS_AT_ONCE).to_pylist()
                except UnicodeDecodeError as error:
                    raise self._encoding_error(error) from error
                yield from rows

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the rows at `indices`, in the order of `indices`. One call is faster than one access for each row.

        Args:
            indices: row numbers from 0 to n - 1.

        Raises IndexError if an index is out of range, and DamagedError if a text is not valid UTF-8.
        """
        if len(indices) and not 0 <= min(indices) <= max(indices) < len(self):
            raise IndexError(f"rows {min(indices)} to {max(indices)} of {len(self)}")
        self.check_offsets()
        try:
            columns = self._values(indices)
        except UnicodeDecodeError as error:
            raise self._encoding_error(error) from error
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _slice(self, start: int, stop: int) -> list[dict[str, Any]]:
        return list(self.table.slice(start, stop - start).to_pylist())

    def _row(self, position: int) -> dict[str, Any]:
        return {
            name: self._texts[name].text(position) if name in self._texts else column[position].as_py()
            for name, column in self._columns.items()
        }

    def _values(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        """Return the values of the rows at `indices`: a list for each column."""
        return {
            name: self._texts[name].texts(indices)
            if name in self._texts
            else [column[int(index)].as_py() for index in indices]
            for name, column in self._columns.items()
        }

    def _encoding_error(self, error: UnicodeDecodeError) -> DamagedError:
        """Return the error for stored text that is not UTF-8.

        Text is UTF-8 when mtx writes it, so the file has changed.
        """
        return DamagedError(
            f"{self._where()} contains text that is not valid UTF-8: {error.reason}. "
            "Run mtx task=verify full=true to list the damaged files"
        )

    def _where(self) -> str:
        """Return the path of the file that holds the rows, or the name of the payload, for error messages."""
        return str(self._reopen[1][0]) if self._reopen and self._reopen[1] else "a payload"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Rows):
            return bool(self.table.equals(other.table))
        return list(self) == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # compares by content

    def __repr__(self) -> str:
        return f"Rows({len(self)} × {self.schema.names})"

    def __reduce__(self) -> tuple[Callable[..., "Rows"], tuple[Any, ...]]:
        return self._reopen or (Rows, (self.table,))

    @classmethod
    def of(cls, data: Iterable[Mapping[str, Any]], schema: pa.Schema | None = None) -> "Rows":
        """Return rows held in memory, from an iterable of mappings.

        Args:
            data: the rows.
            schema: the column names and types; None: pyarrow infers both from the values.
        """
        return cls(pa.Table.from_pylist([dict(row) for row in data], schema=schema))


def batches_of(data: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the schema of a payload and an iterator over its record batches, without loading the whole payload.

    Args:
        data: Rows, a Table, an iterable of RecordBatch, or an iterable of mappings. For mappings, the first 8,192 rows
            decide the columns and their types.

    Raises DataError if a later row has other columns or types than the first 8,192 rows.
    """
    if isinstance(data, Rows):
        return data.schema, data.batches()
    if isinstance(data, pa.Table):
        return data.schema, iter(data.to_batches())
    items = iter(data)
    first = next(items, None)
    if first is None:
        return pa.schema([]), iter(())
    if isinstance(first, pa.RecordBatch):
        return first.schema, chain([first], items)
    return _batches_of_mappings(chain([first], items))


def _batches_of_mappings(rows: Iterator[Mapping[str, Any]]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    head = _table_of_rows(rows, None, 0)
    schema = head.schema

    def rest() -> Iterator[pa.RecordBatch]:
        table, start = head, 0
        while table.num_rows:
            yield from table.to_batches()
            start += table.num_rows
            table = _table_of_rows(rows, schema, start)

    return schema, rest()


def _table_of_rows(rows: Iterator[Mapping[str, Any]], schema: pa.Schema | None, start: int) -> pa.Table:
    """Return the next rows of the iterator `rows` as a table. The first of these rows has the row number `start`.

    Raises DataError if a row has other columns than the first row, or a value of another type.
    """
    block = [dict(row) for row in islice(rows, ROWS_AT_ONCE)]
    columns = dict.fromkeys(schema.names if schema is not None else block[0])
    for number, row in enumerate(block, start):
        if row.keys() != columns.keys():
            raise DataError(
                f"row {number} has the columns {sorted(map(str, row))}, but the first row has the columns "
                f"{sorted(map(str, columns))}. Give all rows the same columns"
            )
    try:
        return pa.Table.from_pylist(block, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeError, OverflowError) as error:
        given = {name: None if schema is None else schema.field(name).type for name in columns}
        found = {name: unconvertible_value([row[name] for row in block], kind) for name, kind in given.items()}
        wrong = [f": {name!r} has others, {each}" for name, each in found.items() if each.startswith("such")]
        raise DataError(
            f"rows {start} to {start + len(block) - 1} have values of different types in one column, or of other types "
            f"than the first rows{''.join(wrong[:1])}. Give each column values of one type"
        ) from error
