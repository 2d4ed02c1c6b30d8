"""Token ids of pairs in memory: one flat array of ids per side, and the offset of each row in it.

The encoded stage writes these arrays. Loaders memory-map them, and create no Python object per row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtx.errors import DataError

ID_TYPES = (np.dtype(np.uint16), np.dtype(np.uint32), np.dtype(np.int64))  # which the compiled kernels read


class SpecialIds(NamedTuple):
    """Ids of the four special tokens of one vocabulary: padding, begin, end, and unknown token."""

    pad: int = 0
    bos: int = 1
    eos: int = 2
    unk: int = 3


TRAINED_IDS = SpecialIds()  # the ids in every vocabulary that mtx trains


class TokenRows:
    """Rows of token ids of different lengths, stored as one flat array with offsets.

    Args:
        ids: uint16, uint32 or int64 [number of tokens]; may be memory-mapped. Kept as a read-only view.
        offsets: int64 [n + 1], row r is `ids[offsets[r]:offsets[r + 1]]`. Kept as a read-only view.

    Other integers are copied as int64, since compiled kernels would read them as other numbers.

    Raises:
        DataError: The ids or the offsets are no integers.
    """

    def __init__(self, ids: NDArray[Any], offsets: NDArray[np.int64]) -> None:
        self.ids = _read_only(_integers(ids, ID_TYPES))
        self.offsets = _read_only(_integers(offsets, ID_TYPES[-1:]))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.ids, self.offsets)  # calls the constructor, because numpy unpickles arrays as writable

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        """Return the token ids of one row."""
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Number of tokens of each row, int32 [n]."""
        found = np.empty(len(self), dtype=np.int32)
        np.subtract(self.offsets[1:], self.offsets[:-1], out=found, casting="same_kind")  # no copy of 8 bytes per row
        return found

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "TokenRows":
        """Build rows from Python sequences of token ids."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter((token for row in rows for token in row), dtype=np.int64, count=int(offsets[-1]))
        narrow = ids.astype(np.uint16)  # the usual dtype, for which compiled kernels are most likely cached
        return cls(narrow if np.array_equal(narrow, ids) else ids, offsets)


def _integers(array: NDArray[Any], kept: Sequence[np.dtype[Any]]) -> NDArray[Any]:
    if array.dtype in kept:
        return array
    if array.dtype.kind not in "iu":
        raise DataError(f"token ids and offsets are integers, but have the type {array.dtype}")
    return array.astype(np.int64)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class EncodedPairs:
    """Token ids of the source and target side of pairs, or of a selection of pairs.

    Attributes:
        source: token ids of the source side.
        target: token ids of the target side, with as many rows.
        selection: row numbers of the selected pairs, in order, uint32 or int64 [n]; may be memory-mapped. None: all
            rows.

    Raises:
        DataError: The sides have different numbers of rows.
    """

    source: TokenRows
    target: TokenRows
    selection: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        rows, others = len(self.source), len(self.target)
        if rows != others:
            raise DataError(f"pairs have as many sources as targets, but there are {rows} sources and {others} targets")

    def __len__(self) -> int:
        return len(self.source) if self.selection is None else len(self.selection)

    def row_numbers(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row numbers of some pairs, int64 [B]. Raises IndexError for numbers of pairs that do not exist."""
        if self.selection is None:
            return pairs
        if len(pairs) and not 0 <= int(pairs.min()) <= int(pairs.max()) < len(self.selection):
            wrong = pairs[(pairs < 0) | (pairs >= len(self.selection))][0]
            raise IndexError(f"rows are numbered from 0 to {len(self.selection) - 1}, but row {wrong} was asked for")
        return self.selection[pairs].astype(np.int64)

    @property
    def num_source_tokens(self) -> NDArray[np.int32]:
        """Number of source tokens of each pair, int32 [n]."""
        return self._selected(self.source.lengths)

    @property
    def num_target_tokens(self) -> NDArray[np.int32]:
        """Number of target tokens of each pair, int32 [n]."""
        return self._selected(self.target.lengths)

    def _selected(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        return values if self.selection is None else values[self.selection]
