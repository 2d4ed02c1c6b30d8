"""BPE-dropout: encodes training texts with some merges left out at random, so that segmentations vary between epochs.

In each merge step of a word, each possible merge is dropped with the same probability. Of the others, the merge that
was learned first is applied. Steps repeat until no merge is left (Provilkov et al. 2020, algorithm 1). Probability 0
gives ordinary BPE, and probability 1 splits every word into bytes.
"""

import json
from functools import partial
from heapq import heappop, heappush
from itertools import chain, count, pairwise
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.data.tokenize import subword_sampling
from mtx.data.tokenize.counter_rng import derived_keys, draw, draw_threshold, draws
from mtx.data.tokenize.subword_sampling import Ids, Int, id_type, offsets_of, read_only_view
from mtx.data.tokenize.tokenization import vocabulary_size
from mtx.data.tokenize.user_symbols import symbol_ids
from mtx.data.tokenize.word_index import WordIndex
from mtx.errors import TokenizerError

Array = NDArray[Any]
Merges = dict[tuple[int, int], int]  # (left id, right id) → rank; merges that were learned earlier have lower ranks

UNSUPPORTED_SETTINGS = (
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "ignore_merges",
)  # settings of BPE models that mtx does not train
NO_RANK = -1
NOT_BYTE_LEVEL = (
    "tokenizer.dropout needs a byte-level BPE vocabulary, as mtx trains it, with a token for each byte, but this "
    "vocabulary is of another kind. Train one with tokenizer=bpe, or set tokenizer.dropout=0"
)


class MergeSampler:
    """Encodes the words of one side with BPE-dropout; implements `SubwordSampler`.

    Args:
        tokenizer: a tokenizer with a byte-level BPE model.
        words: the words of all rows.
        dropout: probability, in [0, 1], that a merge is dropped.
        compiled: False: use numpy and Python; None: use compiled kernels if numba is available. The results are equal.

    Raises TokenizerError if the model is not byte-level BPE.
    """

    def __init__(self, tokenizer: Tokenizer, words: WordIndex, *, dropout: float, compiled: bool | None = None) -> None:
        model = json.loads(tokenizer.to_str())["model"]
        vocab: dict[str, int] = model["vocab"]
        if any(model.get(name) for name in UNSUPPORTED_SETTINGS):
            raise TokenizerError(NOT_BYTE_LEVEL)
        self._made = partial(type(self), tokenizer, words, dropout=dropout, compiled=compiled)
        self._rows = read_only_view(words.numbers), read_only_view(words.offsets)
        self._chance = draw_threshold(dropout)
        self._dtype = id_type(vocabulary_size(tokenizer))
        added = symbol_ids(tokenizer)
        self._symbols, self._symbol_offsets = _word_symbols(vocab, words.distinct, added, self._dtype)
        left, right, self._merged = _merge_tables(vocab, model["merges"])
        self._kernels = None if compiled is False else subword_sampling.compiled_sampling_kernels()
        if self._kernels is None:
            self._ranks = dict(zip(zip(left.tolist(), right.tolist(), strict=True), count()))
            self._best, self._best_offsets = self._python_ids_without_dropout()
        else:
            with subword_sampling.compile_lock(self._kernels):
                self._table = _rank_table(self._kernels, left, right)
                self._best, self._best_offsets = self._ids_without_dropout(self._kernels)
                self.sample(0, 0, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made, ()

    def sample(self, first: int, end: int, key: int) -> tuple[Ids, Int]:
        """Encode a range of rows; see `SubwordSampler.sample`."""
        numbers, offsets = self._rows
        here = numbers[offsets[first] : offsets[end]]
        symbols, best = self._symbol_offsets, self._best_offsets
        if self._kernels is None:
            return self._numpy_sample(here, first, end, key)
        most = symbols[here.astype(np.int64) + 1] - symbols[here]  # a word has at most as many ids as symbols
        out, lengths = np.empty(int(most.sum()), dtype=self._dtype), np.empty(end - first, dtype=np.int64)
        written = self._kernels.merge_rows(
            *(numbers, offsets, first, end, np.uint64(key), np.uint64(self._chance)),
            *(self._symbols, symbols, self._best, best, *self._table, self._merged),
            *(int(most.max(initial=1)), out, lengths),
        )
        return out[:written], lengths

    def _ids_without_dropout(self, kernels: ModuleType) -> tuple[Ids, Int]:
        offsets = self._symbol_offsets
        out, lengths = np.empty(len(self._symbols), dtype=self._dtype), np.empty(len(offsets) - 1, dtype=np.int64)
        longest = int(np.diff(offsets).max(initial=1))
        written = kernels.merge_words(self._symbols, offsets, *self._table, self._merged, longest, out, lengths)
        return read_only_view(out[:written].copy()), offsets_of(lengths)

    def _python_ids_without_dropout(self) -> tuple[Ids, Int]:
        words = np.split(self._symbols, self._symbol_offsets[1:-1])
        merged = [_merged_ids(word.tolist(), self._ranks, self._merged, 0, 0) for word in words]
        return read_only_view(np.array(list(chain.from_iterable(merged)), dtype=self._dtype)), offsets_of(
            list(map(len, merged))
        )

    def _numpy_sample(self, here: Array, first: int, end: int, key: int) -> tuple[Ids, Int]:
        """Copy the ids of all words in which no merge is dropped at once, and merge the other words one by one."""
        here = here.astype(np.int64)
        offsets = self._rows[1][first : end + 1]
        row = np.repeat(np.arange(end - first), np.diff(offsets))
        keys = derived_keys(derived_keys(key, row + first), np.arange(len(here)) - (offsets[:-1] - offsets[0])[row])
        tokens = np.diff(self._best_offsets)[here]
        merges = np.diff(self._symbol_offsets)[here] - tokens
        kept = np.ones(len(here), dtype=np.bool_)
        number, left = 0, np.flatnonzero(merges > 0)
        while len(left):
            kept[left[draws(keys[left], np.array([number])) < self._chance]] = False
            number += 1
            left = left[kept[left] & (merges[left] > number)]
        changed: dict[int, list[int]] = {}
        for word in np.flatnonzero(~kept).tolist():
            start, stop = self._symbol_offsets[here[word]], self._symbol_offsets[here[word] + 1]
            ids = self._symbols[start:stop].tolist()
            changed[word] = _merged_ids(ids, self._ranks, self._merged, self._chance, int(keys[word]))
            tokens[word] = len(changed[word])
        out = np.empty(int(tokens.sum()), dtype=self._dtype)
        out[np.repeat(kept, tokens)] = self._best[_span_places(self._best_offsets[here[kept]], tokens[kept])]
        out[np.repeat(~kept, tokens)] = list(chain.from_iterable(changed.values()))
        return out, np.bincount(row, weights=tokens, minlength=end - first).astype(np.int64)


def _span_places(starts: Int, lengths: Int) -> Int:
    """Return the concatenated index ranges that begin at `starts` and have the given lengths."""
    places: Int = np.arange(int(lengths.sum())) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return places


def _merged_ids(ids: list[int], ranks: Merges, merged: Int, chance: int, key: int) -> list[int]:
    """Merge the symbols of one word, and return its ids; a merge is dropped if its draw is below `chance`."""
    length = len(ids)
    before, after = list(range(-1, length - 1)), list(range(1, length + 1))
    rank_at = [ranks.get(pair, NO_RANK) for pair in pairwise(ids)] + [NO_RANK]
    waiting = sorted((rank, at) for at, rank in enumerate(rank_at) if rank != NO_RANK)
    aside: list[tuple[int, int]] = []  # dropped merges, which become possible again after the next merge
    numbers = count()
    while waiting:
        rank, at = candidate = heappop(waiting)
        if rank_at[at] != rank:
            continue
        if draw(key, next(numbers)) < chance:
            aside.append(candidate)
            continue
        while aside:
            heappush(waiting, aside.pop())
        right = after[at]
        ids[at], after[at], rank_at[right] = int(merged[rank]), after[right], NO_RANK
        if after[at] < length:
            before[after[at]] = at
        for place in (before[at], at):
            if place >= 0:
                pair = (ids[place], ids[after[place]]) if after[place] < length else None
                rank_at[place] = NO_RANK if pair is None else ranks.get(pair, NO_RANK)
                if rank_at[place] != NO_RANK:
                    heappush(waiting, (rank_at[place], place))
    kept, at = [], 0
    while at < length:
        kept.append(ids[at])
        at = after[at]
    return kept


def _merge_tables(vocab: dict[str, int], merges: list[Any]) -> tuple[Int, Int, Int]:
    """Return the left id, the right id and the merged id of each merge, each int64 in the order of ranks."""
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else merge for merge in merges]
    columns = [[vocab[a] for a, _ in pairs], [vocab[b] for _, b in pairs], [vocab[a + b] for a, b in pairs]]
    left, right, both = (read_only_view(np.array(column, dtype=np.int64)) for column in columns)
    return left, right, both


def _word_symbols(vocab: dict[str, int], distinct: list[str], added: dict[str, int], dtype: Any) -> tuple[Ids, Int]:
    """Return the concatenated ids of the characters of all words, and the offset of each word.

    A user-defined symbol, one of `added`, is a word with one id, in which there is nothing to merge.
    """
    whole = {number: added[word] for number, word in enumerate(distinct) if word in added}
    if whole:
        stand_in = next(char for char in vocab if len(char) == 1)
        distinct = [stand_in if number in whole else word for number, word in enumerate(distinct)]
    points = np.frombuffer("".join(distinct).encode("utf-32-le"), dtype=np.uint32)
    known = {ord(char): id for char, id in vocab.items() if len(char) == 1}
    alphabet = np.full(max([*known, int(points.max(initial=0))]) + 1, -1, dtype=np.int64)
    alphabet[list(known)] = list(known.values())
    ids = alphabet[points]
    if np.any(ids < 0):
        raise TokenizerError(NOT_BYTE_LEVEL)
    offsets = offsets_of(list(map(len, distinct)))
    ids[offsets[list(whole)]] = list(whole.values())
    return read_only_view(ids.astype(dtype)), offsets


def _rank_table(kernels: ModuleType, left: Int, right: Int) -> tuple[Array, Array]:
    """Return the merges as a hash table with open addressing: arrays of pairs and ranks, at most half full."""
    size = 1 << (2 * len(left) + 1).bit_length()
    pairs, ranks = np.full(size, -1, dtype=np.int64), np.zeros(size, dtype=np.int64)
    kernels.fill_table(left, right, pairs, ranks)
    return read_only_view(pairs), read_only_view(ranks)
