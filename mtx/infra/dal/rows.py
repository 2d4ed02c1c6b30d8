"""Rows: what a payload reads as. A sequence of dicts over an Arrow table, memory-mapped where it comes from a file."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Any, overload

import pyarrow as pa

from mtx.errors import DamagedError, DataError
from mtx.infra.dal.texts import TextColumn

ROWS_AT_ONCE = 8192  # rows that are Python objects together


class Rows(Sequence[dict[str, Any]]):
    """An immutable sequence of rows, each a dict; `.table` is the Arrow table itself.

    Thread-safe. Pickles as the way to open it again where it has one (`reopen`), so that worker processes map the
    same file instead of copying rows.
    """

    def __init__(self, table: pa.Table, reopen: tuple[Callable[..., "Rows"], tuple[Any, ...]] | None = None) -> None:
        self.table = table
        self._reopen = reopen
        self._columns = dict(zip(table.column_names, table.columns, strict=True))

    @cached_property
    def _texts(self) -> dict[str, TextColumn]:
        """The columns that are read from their buffers."""
        return {name: TextColumn(column) for name, column in self._columns.items() if TextColumn.reads(column)}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return [self[i] for i in range(start, stop, step)]
            return list(self.table.slice(start, max(0, stop - start)).to_pylist())
        position = index.__index__()
        position += len(self) if position < 0 else 0
        if not 0 <= position < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        try:
            return {
                name: self._texts[name].text(position) if name in self._texts else column[position].as_py()
                for name, column in self._columns.items()
            }
        except UnicodeDecodeError as error:
            raise self._no_text(error) from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.table.to_batches(max_chunksize=ROWS_AT_ONCE):
            try:
                rows = batch.to_pylist()
            except UnicodeDecodeError as error:
                raise self._no_text(error) from error
            yield from rows

    def take(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the rows of some indices, each 0 ≤ index < n, in that order: faster than one after the other.

        Raises IndexError, and DamagedError as all reading does.
        """
        if len(indices) and not 0 <= min(indices) <= max(indices) < len(self):
            raise IndexError(f"rows {min(indices)} to {max(indices)} of {len(self)}")
        try:
            columns = [
                self._texts[name].texts(indices)
                if name in self._texts
                else [column[int(index)].as_py() for index in indices]
                for name, column in self._columns.items()
            ]
        except UnicodeDecodeError as error:
            raise self._no_text(error) from error
        names = list(self._columns)
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def _no_text(self, error: UnicodeDecodeError) -> DamagedError:
        """Say that bytes have changed: what is stored is UTF-8 when it is written."""
        where = self._reopen[1][0] if self._reopen and self._reopen[1] else "a payload"
        return DamagedError(
            f"{where} holds a text that is no UTF-8: {error.reason}. `mtx task=verify` tells what is damaged"
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Rows):
            return bool(self.table.equals(other.table))
        return list(self) == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # compares by content

    def __repr__(self) -> str:
        return f"Rows({len(self)} × {self.table.column_names})"

    def __reduce__(self) -> tuple[Callable[..., "Rows"], tuple[Any, ...]]:
        return self._reopen or (Rows, (self.table,))

    @classmethod
    def of(cls, data: Iterable[Mapping[str, Any]], schema: pa.Schema | None = None) -> "Rows":
        """Hold rows in memory. `schema` decides the types; without it they are those of the values."""
        return cls(pa.Table.from_pylist([dict(row) for row in data], schema=schema))


def batches_of(data: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the schema of a payload and its record batches, as they come.

    Takes Rows, a Table, an iterable of RecordBatch, or an iterable of mappings. Of mappings, the first 8,192 decide
    the columns and types. Raises DataError where a later one has others.
    """
    if isinstance(data, Rows):
        data = data.table
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
    head = _table(rows, None, 0)
    schema = head.schema

    def rest() -> Iterator[pa.RecordBatch]:
        table, start = head, 0
        while table.num_rows:
            yield from table.to_batches()
            start += table.num_rows
            table = _table(rows, schema, start)

    return schema, rest()


def _table(rows: Iterator[Mapping[str, Any]], schema: pa.Schema | None, start: int) -> pa.Table:
    """Make a table of the next rows, of which the first is row `start`. Raises DataError."""
    block = [dict(row) for row in islice(rows, ROWS_AT_ONCE)]
    columns = set(schema.names if schema is not None else block[0])
    for number, row in enumerate(block, start):
        if row.keys() != columns:
            raise DataError(
                f"row {number} has the columns {sorted(map(str, row))}, but the first row has "
                f"{sorted(map(str, columns))}. Give all rows the same columns"
            )
    try:
        return pa.Table.from_pylist(block, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeError) as error:
        raise DataError(
            f"rows {start} to {start + len(block) - 1} do not have the types of the first rows, or of one another: "
            f"{error}. Give each column values of one type"
        ) from error
