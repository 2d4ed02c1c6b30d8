"""Encodes many texts into one flat array of token ids, and encodes each distinct piece of text only once.

Words repeat in texts, but the `tokenizers` library encodes each occurrence again. `FlatEncoder` therefore splits texts
before spaces, and for some tokenizers beside punctuation, encodes the distinct pieces, and concatenates their ids. It
keeps the ids of frequent pieces for later texts. It does so only if `cut_rule` proves that no token of the tokenizer
crosses such a split, so that the ids are equal. Other tokenizers, and texts whose pieces rarely repeat, such as those
of languages without spaces, are encoded as whole texts.
"""

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.data.text_bytes import text_buffers
from mtx.data.tokenize.joined_pieces import PieceJoiner, piece_joiner
from mtx.data.tokenize.piece_cache import Ids, PieceCache
from mtx.data.tokenize.separate_normalisation import SeparateNormaliser
from mtx.data.tokenize.text_cuts import byte_ids, cut_rule, piece_check
from mtx.data.tokenize.text_pieces import CutRule, piece_bounds, pieces_between
from mtx.data.tokenize.tokenization import encode_texts, prepare_tokenizer
from mtx.data.tokenize.tokenizer_adapter import TokenizerAdapter

TEXTS_PER_CALL = 8192  # texts per call of the library, which encodes them in threads; results take 100 bytes per token
PIECES_PER_CALL = 1 << 16  # pieces per call of the library, if several pieces are one text
MAX_NEW_SHARE = 0.6  # maximum share of the bytes in pieces to encode; above it, encoding whole texts is as fast


@dataclass
class EncodingCounts:
    """How often pieces of text were reused.

    Attributes:
        pieces: number of pieces in all texts that were split.
        encoded_pieces: number of pieces that the library encoded, because their ids were not known.
        whole_texts: number of texts that the library encoded as a whole.
    """

    pieces: int = 0
    encoded_pieces: int = 0
    whole_texts: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of the pieces whose ids were known, in [0, 1]; 0 without pieces."""
        return 1 - self.encoded_pieces / self.pieces if self.pieces else 0.0


@dataclass(frozen=True)
class FlatEncoder:
    """Encodes texts like `encode_texts`, but into one flat array. Not thread-safe, because it caches ids of pieces.

    Attributes:
        tokenizer: the tokenizer; must not be changed afterwards.
        dtype: type of the token ids, uint16 or uint32.
        rule: the result of `cut_rule` for the tokenizer; None: texts are encoded as a whole.
        check: finds the pieces that may be encoded alone; texts with others are encoded as a whole. None: all may.
        joiner: encodes many pieces as one text; None: each piece is a text.
        of_byte: the token id of each byte, if ids are those of single bytes; else None.
        cache: the ids of pieces of earlier texts.
        counts: how often pieces were reused.
    """

    tokenizer: Tokenizer
    dtype: type[np.uint16] | type[np.uint32]
    rule: CutRule | None
    check: SeparateNormaliser | None
    joiner: PieceJoiner | None
    of_byte: Ids | None
    cache: PieceCache
    counts: EncodingCounts = field(default_factory=EncodingCounts)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "FlatEncoder":
        """Return an encoder for a tokenizer, with the dtype and the split rule that suit the tokenizer."""
        prepare_tokenizer(tokenizer)
        size = max(tokenizer.get_vocab().values(), default=0) + 1
        dtype = np.uint16 if size <= np.iinfo(np.uint16).max + 1 else np.uint32
        rule = cut_rule(tokenizer)
        joiner = None if rule is None or isinstance(tokenizer, TokenizerAdapter) else piece_joiner(tokenizer, rule)
        table = byte_ids(tokenizer)
        of_byte: Ids | None = None if table is None else table.astype(dtype)
        check = None if rule is None else piece_check(tokenizer)
        return cls(tokenizer, dtype, rule, check, joiner, of_byte, PieceCache.empty(dtype))

    def encode(self, texts: pa.LargeStringArray) -> tuple[NDArray[np.int64], Ids]:
        """Return the number of token ids of each text, int64 [n], and the concatenated ids of all texts.

        Takes about 10 times the memory of the texts. Runs in parallel unless `TOKENIZERS_PARALLELISM=false`.
        """
        data, ends = text_buffers(texts)
        if self.of_byte is not None:
            return np.diff(ends), self.of_byte[data]
        if self.rule is None:
            return self._encode_whole(texts)
        cuts, bounds = piece_bounds(data, ends, self.rule)
        pieces = pieces_between(data, bounds)
        coded = pieces.dictionary_encode()
        known = self.cache.numbers(coded.dictionary)
        new = coded.dictionary.filter(pc.is_null(known))
        if int(pc.sum(pc.binary_length(new)).as_py() or 0) > MAX_NEW_SHARE * len(data):
            return self._encode_whole(texts)
        which = coded.indices.to_numpy()
        if self.check is not None and not all(are_separate := self.check.are_separate(new.to_pylist())):
            may_stand_alone = np.ones(len(known), dtype=np.bool_)
            may_stand_alone[pc.is_null(known).to_numpy(zero_copy_only=False)] = are_separate
            others = np.searchsorted(ends, bounds[:-1][~may_stand_alone[which]], side="right") - 1
            return self._encode_apart(texts, np.unique(others))
        self.counts.pieces += len(pieces)
        self.counts.encoded_pieces += len(new)
        lengths, ids = self._encode_pieces(new)
        starts, of_each, values = self.cache.joined(known, lengths, ids)
        self.cache.add(new, lengths, ids)
        taken = of_each[which]
        if self.rule == "drop":
            taken[np.searchsorted(bounds, cuts)] = 0
        until = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(taken)])
        places = np.repeat(starts[which] - until[:-1], taken)
        places += np.arange(len(places))
        return np.diff(until[np.searchsorted(bounds, ends)]), values[places]

    def _encode_apart(self, texts: pa.LargeStringArray, whole: NDArray[np.int64]) -> tuple[NDArray[np.int64], Ids]:
        """Encode the texts with these row numbers as whole texts, and the others by pieces."""
        is_cut = np.ones(len(texts), dtype=np.bool_)
        is_cut[whole] = False
        return _merged(is_cut, self.encode(texts.filter(pa.array(is_cut))), self._encode_whole(texts.take(whole)))

    def _encode_pieces(self, pieces: pa.LargeStringArray) -> tuple[NDArray[np.int64], Ids]:
        """Encode distinct pieces: as many as possible in joined texts, and the others as texts of their own."""
        if self.joiner is None:
            return self._encode_each(pieces)
        lengths, ids = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=self.dtype)]
        for start in range(0, len(pieces), PIECES_PER_CALL):
            part = pieces.slice(start, PIECES_PER_CALL).to_pylist()
            joinable = [self.joiner.is_joinable(piece) for piece in part]
            chosen = [piece for piece, joins in zip(part, joinable, strict=True) if joins]
            joined = self.joiner.encode(self.tokenizer, chosen)
            if joined is None:  # a piece contains a separator in disguise
                found = self._encode_each(pa.array(part, pa.large_string()))
            else:
                single = [piece for piece, joins in zip(part, joinable, strict=True) if not joins]
                found = _merged(np.array(joinable), joined, self._encode_each(pa.array(single, pa.large_string())))
            lengths.append(found[0])
            ids.append(found[1].astype(self.dtype, copy=False))
        return np.concatenate(lengths), np.concatenate(ids)

    def _encode_whole(self, texts: pa.LargeStringArray) -> tuple[NDArray[np.int64], Ids]:
        self.counts.whole_texts += len(texts)
        return self._encode_each(texts)

    def _encode_each(self, texts: pa.LargeStringArray) -> tuple[NDArray[np.int64], Ids]:
        lengths, ids = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=self.dtype)]
        size = self.tokenizer.texts_per_call if isinstance(self.tokenizer, TokenizerAdapter) else TEXTS_PER_CALL
        for start in range(0, len(texts), size):
            found = self._encode_call(texts.slice(start, size).to_pylist())
            lengths.append(found[0])
            ids.append(found[1])
        return np.concatenate(lengths), np.concatenate(ids)

    def _encode_call(self, texts: list[str]) -> tuple[NDArray[np.int64], Ids]:
        if isinstance(self.tokenizer, TokenizerAdapter):
            lengths, ids = self.tokenizer.flat_ids(texts)
            return lengths, ids.astype(self.dtype)
        rows = encode_texts(self.tokenizer, texts)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        return lengths, np.fromiter(chain.from_iterable(rows), dtype=self.dtype, count=int(lengths.sum()))


def _merged(
    is_first: NDArray[np.bool_], first: tuple[NDArray[np.int64], NDArray[Any]], second: tuple[NDArray[np.int64], Ids]
) -> tuple[NDArray[np.int64], Ids]:
    """Interleave the lengths and ids of two lists of pieces; `is_first` says from which list each piece comes."""
    lengths = np.empty(len(is_first), dtype=np.int64)
    lengths[is_first], lengths[~is_first] = first[0], second[0]
    is_first_id = np.repeat(is_first, lengths)
    ids = np.empty(len(is_first_id), dtype=second[1].dtype)
    ids[is_first_id], ids[~is_first_id] = first[1], second[1]
    return lengths, ids
