"""Keeps the token ids of frequent pieces of text, in Arrow and numpy arrays of bounded size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MAX_CACHED_PIECES = 1 << 20  # with mean lengths of 10 bytes and 3 ids, about 50 MB
MAX_PIECE_BYTES = 64  # longer pieces seldom repeat, such as sentences without spaces
KEPT_SHARE = 0.5  # an eviction keeps at most this share of the maximum number of pieces

Ids = NDArray[np.uint16 | np.uint32]


@dataclass
class PieceCache:
    """The token ids of pieces.

    If the cache is full, it evicts the pieces that occurred in the fewest blocks of text.

    Attributes:
        pieces: the distinct pieces.
        lengths: number of ids of each piece, int64 [number of pieces].
        ids: the concatenated ids of all pieces.
        uses: number of blocks in which each piece occurred, int64 [number of pieces]; halved at each eviction.
        max_pieces: maximum number of pieces.
    """

    pieces: pa.LargeStringArray
    lengths: NDArray[np.int64]
    ids: Ids
    uses: NDArray[np.int64]
    max_pieces: int = MAX_CACHED_PIECES

    @classmethod
    def empty(cls, dtype: type[np.uint16] | type[np.uint32]) -> "PieceCache":
        """Return a cache without pieces, for ids of a type."""
        none = np.empty(0, dtype=np.int64)
        return cls(pa.array([], pa.large_string()), none, np.empty(0, dtype=dtype), none.copy())

    def numbers(self, pieces: pa.LargeStringArray) -> pa.Int32Array:
        """Return the number of each piece in the cache, null if it is missing, and count the use of each one."""
        numbers = pc.index_in(pieces, value_set=self.pieces)
        self.uses[numbers.drop_null().to_numpy()] += 1  # the pieces are distinct
        return numbers

    def joined(
        self, numbers: pa.Int32Array, lengths: NDArray[np.int64], ids: Ids
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Ids]:
        """Return the ids of cached and of new pieces as one array, with the start and length of each piece in it.

        Args:
            numbers: the number of each piece in the cache; null: the next one of the new pieces.
            lengths: number of ids of each new piece.
            ids: the concatenated ids of the new pieces.
        """
        is_new = pc.is_null(numbers).to_numpy(zero_copy_only=False)
        at = numbers.fill_null(0).to_numpy().astype(np.int64)
        at[is_new] = len(self.lengths) + np.arange(len(lengths))
        all_lengths = np.concatenate([self.lengths, lengths])
        starts = np.cumsum(all_lengths) - all_lengths
        return starts[at], all_lengths[at], np.concatenate([self.ids, ids])

    def add(self, pieces: pa.LargeStringArray, lengths: NDArray[np.int64], ids: Ids) -> None:
        """Add new pieces of at most `MAX_PIECE_BYTES` with their ids, after an eviction if the cache is full."""
        kept = pc.binary_length(pieces).to_numpy() <= MAX_PIECE_BYTES
        if np.count_nonzero(kept) + len(self.pieces) > self.max_pieces:
            self._evict()
            room = self.max_pieces - len(self.pieces)
            kept[np.flatnonzero(kept)[room:]] = False
        added = pieces.filter(pa.array(kept))
        self.pieces = pa.concat_arrays([self.pieces, added])
        self.ids = np.concatenate([self.ids, ids[np.repeat(kept, lengths)]])
        self.lengths = np.concatenate([self.lengths, lengths[kept]])
        self.uses = np.concatenate([self.uses, np.ones(len(added), dtype=np.int64)])

    def _evict(self) -> None:
        """Keep the pieces with the most uses, at most half of the maximum."""
        most = np.argsort(-self.uses, kind="stable")[: int(self.max_pieces * KEPT_SHARE)]
        kept: NDArray[Any] = np.zeros(len(self.pieces), dtype=np.bool_)
        kept[most] = True
        self.pieces = self.pieces.filter(pa.array(kept))
        self.ids = self.ids[np.repeat(kept, self.lengths)]
        self.lengths, self.uses = self.lengths[kept], self.uses[kept] // 2
