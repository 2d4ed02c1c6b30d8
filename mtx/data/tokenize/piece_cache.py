"""Keeps the token ids of frequent pieces of text, in Arrow and numpy arrays of bounded size."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

MAX_CACHED_PIECES = 1 << 20  # with mean lengths of 10 bytes and 3 ids, about 60 MB
MAX_PIECE_BYTES = 64  # longer pieces seldom repeat, such as sentences without spaces
KEPT_SHARE = 0.5  # an eviction keeps at most this share of the maximum number of pieces

Ids = NDArray[np.uint16 | np.uint32]
Hashes = NDArray[np.uint64]


@dataclass
class PieceIndex:
    """The numbers of pieces by their hashes. A search takes time by the pieces that are searched, not by those known.

    Attributes:
        ascending: distinct 64-bit XXH3 hashes, uint64 [n].
        numbers: the number of the piece with each hash, int64 [n].
    """

    ascending: Hashes = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def find(self, hashes: Hashes) -> NDArray[np.int64]:
        """Return the number of the piece with each hash, -1 if there is none: int64 [n]."""
        found = np.full(len(hashes), -1, dtype=np.int64)
        if len(self.ascending):
            order = np.argsort(hashes)  # a search for ascending values reads memory in order
            places = np.minimum(np.searchsorted(self.ascending, hashes[order]), len(self.ascending) - 1)
            is_known = self.ascending[places] == hashes[order]
            found[order[is_known]] = self.numbers[places[is_known]]
        return found

    def with_pieces(self, hashes: Hashes, first: int) -> "PieceIndex":
        """Return the index with further pieces, numbered from `first`; of pieces with one hash, it has the first."""
        distinct, numbers = np.unique(hashes, return_index=True)
        is_new = self.find(distinct) < 0
        distinct, numbers = distinct[is_new], numbers[is_new] + first
        places = np.searchsorted(self.ascending, distinct)
        return PieceIndex(np.insert(self.ascending, places, distinct), np.insert(self.numbers, places, numbers))


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
        index: finds pieces by their hashes.
    """

    pieces: pa.LargeStringArray
    lengths: NDArray[np.int64]
    ids: Ids
    uses: NDArray[np.int64]
    max_pieces: int = MAX_CACHED_PIECES
    index: PieceIndex = field(default_factory=PieceIndex)

    @classmethod
    def empty(cls, dtype: type[np.uint16] | type[np.uint32]) -> "PieceCache":
        """Return a cache without pieces, for ids of a type."""
        none = np.empty(0, dtype=np.int64)
        return cls(pa.array([], pa.large_string()), none, np.empty(0, dtype=dtype), none.copy())

    def numbers(self, pieces: pa.LargeStringArray) -> pa.Int64Array:
        """Return the number of each distinct piece in the cache, null if it is missing, and count the use of each."""
        numbers = self.index.find(_hashes(pieces))
        is_known = numbers >= 0
        held = self.pieces.take(pa.array(numbers[is_known]))
        is_equal = pc.equal(held, pieces.filter(pa.array(is_known))).to_numpy(zero_copy_only=False)
        is_known[is_known] = is_equal  # another piece may have the same hash
        self.uses[numbers[is_known]] += 1
        return pa.array(numbers, mask=~is_known)

    def joined(
        self, numbers: pa.Int64Array, lengths: NDArray[np.int64], ids: Ids
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Ids]:
        """Return the ids of cached and of new pieces as one array, with the start and length of each piece in it.

        Args:
            numbers: the number of each piece in the cache; null: the next one of the new pieces.
            lengths: number of ids of each new piece.
            ids: the concatenated ids of the new pieces.
        """
        is_new = pc.is_null(numbers).to_numpy(zero_copy_only=False)
        at = numbers.fill_null(0).to_numpy().copy()
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
        self.index = self.index.with_pieces(_hashes(added), len(self.pieces))
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
        self.index = PieceIndex().with_pieces(_hashes(self.pieces), 0)
        self.ids = self.ids[np.repeat(kept, self.lengths)]
        self.lengths, self.uses = self.lengths[kept], self.uses[kept] // 2


def _hashes(pieces: pa.LargeStringArray) -> Hashes:
    texts = pieces.cast(pa.large_binary()).to_pylist()
    return np.fromiter(map(xxh3_64_intdigest, texts), dtype=np.uint64, count=len(texts))
