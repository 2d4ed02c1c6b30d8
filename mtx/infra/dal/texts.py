"""One column of texts, read by index straight from its buffers.

Arrow joins all chunks of a column of texts at each `take`, whatever is asked for: a million pairs are copied for a
batch of 64. Here a text costs two offsets and one decoding, at any number of chunks and rows.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
import pyarrow as pa

# Format of an offset, as `memoryview.cast` calls it.
OFFSETS: dict[pa.DataType, Literal["i", "q"]] = {pa.string(): "i", pa.large_string(): "q"}


class TextColumn:
    """A column of texts without nulls. Thread-safe.

    Args:
        column: of type string or large_string, in any number of chunks.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._ends = list(accumulate(len(chunk) for chunk in chunks))
        self._end_rows = np.array(self._ends, dtype=np.int64)
        self._chunks = [_buffers(chunk) for chunk in chunks]

    @staticmethod
    def reads(column: pa.ChunkedArray) -> bool:
        """Tell whether a column can be read so."""
        return column.type in OFFSETS and not column.null_count

    def text(self, row: int) -> str:
        """Return the text of a row, 0 ≤ row < n. Raises UnicodeDecodeError where it is none."""
        chunk = bisect_right(self._ends, row)
        return self._texts([chunk], [row - self._ends[chunk]])[0]

    def texts(self, rows: Sequence[int]) -> list[str]:
        """Return the texts of some rows, each as in `text`."""
        wanted = np.asarray(rows, dtype=np.int64)
        chunks = np.searchsorted(self._end_rows, wanted, side="right")
        return self._texts(chunks.tolist(), (wanted - self._end_rows[chunks]).tolist())

    def _texts(self, chunks: list[int], from_end: list[int]) -> list[str]:
        """Return texts by their chunk, and their place counted back from its end: -1 is the last."""
        found = []
        for chunk, place in zip(chunks, from_end, strict=True):
            offsets, last, data = self._chunks[chunk]
            at = last + place
            found.append(str(data[offsets[at] : offsets[at + 1]], "utf-8"))
        return found


def _buffers(chunk: pa.Array) -> tuple[memoryview, int, memoryview]:
    """Return the offsets, the place of the last of them that belongs to the chunk, and the bytes."""
    _, offsets, data = chunk.buffers()
    opened = memoryview(offsets).cast("B").cast(OFFSETS[chunk.type])
    return opened, chunk.offset + len(chunk), memoryview(data if data is not None else b"")
