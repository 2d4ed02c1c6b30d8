"""`row_slices`: parts of a record batch or an array, which share its memory."""

from collections.abc import Iterator
from typing import TypeVar

import pyarrow as pa

Sliced = TypeVar("Sliced", pa.RecordBatch, pa.LargeStringArray)


def row_slices(rows: Sliced, rows_per_slice: int) -> Iterator[Sliced]:
    """Yield the rows in parts of `rows_per_slice` rows; only the last is shorter. Without rows, there is no part."""
    for start in range(0, len(rows), rows_per_slice):
        yield rows.slice(start, rows_per_slice)
