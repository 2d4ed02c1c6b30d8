"""Random access to a text column, read directly from the buffers of its Arrow chunks.

Arrow's `take` copies all chunks of a text column at each call. For a batch of 64 pairs, `take` would copy a million
texts. `TextColumn` reads two offsets and decodes one text for each row, at any number of chunks and rows.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
import pyarrow as pa

# Format codes of the offsets, for `memoryview.cast`.
OFFSET_FORMATS: dict[pa.DataType, Literal["i", "q"]] = {pa.string(): "i", pa.large_string(): "q"}


class TextColumn:
    """A thread-safe reader of a text column without nulls.

    Args:
        column: an Arrow column of type string or large_string, in any number of chunks.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._ends = list(accumulate(len(chunk) for chunk in chunks))
        self._end_rows = np.array(self._ends, dtype=np.int64)
        self._chunks = [_buffers(chunk) for chunk in chunks]

    @staticmethod
    def is_readable(column: pa.ChunkedArray) -> bool:
        """Return whether `TextColumn` can read the column: its type is string or large_string, and it has no nulls."""
        return column.type in OFFSET_FORMATS and not column.null_count

    def text(self, row: int) -> str:
        """Return the text of the row `row`, 0 ≤ row < n. Raises UnicodeDecodeError if the text is not valid UTF-8."""
        chunk = bisect_right(self._ends, row)
        return self._texts([chunk], [row - self._ends[chunk]])[0]

    def texts(self, rows: Sequence[int]) -> list[str]:
        """Return the texts of the rows `rows`, in the order of `rows`.

        Raises UnicodeDecodeError if a text is not valid UTF-8.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        chunks = np.searchsorted(self._end_rows, wanted, side="right")
        return self._texts(chunks.tolist(), (wanted - self._end_rows[chunks]).tolist())

    def _texts(self, chunks: list[int], from_end: list[int]) -> list[str]:
        """Return texts, given the chunk and the position of each text.

        A position is relative to the chunk's end: -1 is last.
        """
        found = []
        for chunk, place in zip(chunks, from_end, strict=True):
            offsets, last, data = self._chunks[chunk]
            at = last + place
            found.append(str(data[offsets[at] : offsets[at + 1]], "utf-8"))
        return found


def _buffers(chunk: pa.Array) -> tuple[memoryview, int, memoryview]:
    """Return a chunk's offsets buffer, the index of its last offset in this buffer, and its data buffer."""
    _, offsets, data = chunk.buffers()
    opened = memoryview(offsets).cast("B").cast(OFFSET_FORMATS[chunk.type])
    return opened, chunk.offset + len(chunk), memoryview(data if data is not None else b"")
