"""BPE-dropout: merges are left out by chance, so that frequent words come in rare pieces too.

At each step of a word, each merge that is possible is dropped with the same probability; of the others the one learned
first is applied, and so on until none is left (Provilkov et al. 2020, algorithm 1). With probability 0 that is BPE,
with 1 every word falls apart into bytes.
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

from mtx.data.tokenize import sampling
from mtx.data.tokenize.draws import draw, draws, keyed, share
from mtx.data.tokenize.sampling import Ids, Int, fixed, id_type, offsets_of
from mtx.data.tokenize.words import Words
from mtx.errors import TokenizerError

Array = NDArray[Any]
Merges = dict[tuple[int, int], int]  # ids side by side → rank

OTHER_KINDS = ("continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")  # of BPE, which mtx doesn't train
NO_RANK = -1
NOT_BYTE_LEVEL = (
    "tokenizer.dropout needs byte-level BPE, as mtx trains it, whose characters are all tokens, but this vocabulary is "
    "of another kind. Train one with tokenizer=bpe, or set tokenizer.dropout=0"
)


class MergeSampler:
    """Encodes the words of one side with dropout; a `SubwordSampler`.

    Args:
        tokenizer: with a byte-level BPE model.
        words: the rows.
        dropout: probability, in [0, 1], that a merge is left out.
        compiled: False: by numpy and Python; None: by compiled kernels where there are any. Both give the same.

    Raises TokenizerError where the model is no byte-level BPE.
    """

    def __init__(self, tokenizer: Tokenizer, words: Words, *, dropout: float, compiled: bool | None = None) -> None:
        model = json.loads(tokenizer.to_str())["model"]
        vocab: dict[str, int] = model["vocab"]
        if any(model.get(name) for name in OTHER_KINDS):
            raise TokenizerError(NOT_BYTE_LEVEL)
        self._made = partial(type(self), tokenizer, words, dropout=dropout, compiled=compiled)
        self._rows = fixed(words.numbers), fixed(words.offsets)
        self._chance = share(dropout)
        self._dtype = id_type(max(vocab.values()) + 1)
        self._symbols, self._symbol_offsets = _symbols(vocab, words.distinct, self._dtype)
        left, right, self._merged = _merges(vocab, model["merges"])
        self._kernels = None if compiled is False else sampling.load()
        if self._kernels is None:
            self._ranks = dict(zip(zip(left.tolist(), right.tolist(), strict=True), count()))
            self._best, self._best_offsets = self._undropped_by_python()
        else:
            with sampling.compiling(self._kernels):
                self._table = _table(self._kernels, left, right)
                self._best, self._best_offsets = self._undropped(self._kernels)
                self.sample(0, 0, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made, ()

    def sample(self, first: int, end: int, key: int) -> tuple[Ids, Int]:
        """Encode rows; see `SubwordSampler`."""
        numbers, offsets = self._rows
        here = numbers[offsets[first] : offsets[end]]
        symbols, best = self._symbol_offsets, self._best_offsets
        if self._kernels is None:
            return self._by_numpy(here, first, end, key)
        most = symbols[here.astype(np.int64) + 1] - symbols[here]  # a word has no more ids than symbols
        out, lengths = np.empty(int(most.sum()), dtype=self._dtype), np.empty(end - first, dtype=np.int64)
        written = self._kernels.merge_rows(
            *(numbers, offsets, first, end, np.uint64(key), np.uint64(self._chance)),
            *(self._symbols, symbols, self._best, best, *self._table, self._merged),
            *(int(most.max(initial=1)), out, lengths),
        )
        return out[:written], lengths

    def _undropped(self, kernels: ModuleType) -> tuple[Ids, Int]:
        offsets = self._symbol_offsets
        out, lengths = np.empty(len(self._symbols), dtype=self._dtype), np.empty(len(offsets) - 1, dtype=np.int64)
        longest = int(np.diff(offsets).max(initial=1))
        written = kernels.merge_words(self._symbols, offsets, *self._table, self._merged, longest, out, lengths)
        return fixed(out[:written].copy()), offsets_of(lengths)

    def _undropped_by_python(self) -> tuple[Ids, Int]:
        words = np.split(self._symbols, self._symbol_offsets[1:-1])
        merged = [_merge(word.tolist(), self._ranks, self._merged, 0, 0) for word in words]
        return fixed(np.array(list(chain.from_iterable(merged)), dtype=self._dtype)), offsets_of(list(map(len, merged)))

    def _by_numpy(self, here: Array, first: int, end: int, key: int) -> tuple[Ids, Int]:
        """Copy the words that no draw changes together, and merge the others one by one."""
        here = here.astype(np.int64)
        offsets = self._rows[1][first : end + 1]
        row = np.repeat(np.arange(end - first), np.diff(offsets))
        keys = keyed(keyed(key, row + first), np.arange(len(here)) - (offsets[:-1] - offsets[0])[row])
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
            changed[word] = _merge(ids, self._ranks, self._merged, self._chance, int(keys[word]))
            tokens[word] = len(changed[word])
        out = np.empty(int(tokens.sum()), dtype=self._dtype)
        out[np.repeat(kept, tokens)] = self._best[_spans(self._best_offsets[here[kept]], tokens[kept])]
        out[np.repeat(~kept, tokens)] = list(chain.from_iterable(changed.values()))
        return out, np.bincount(row, weights=tokens, minlength=end - first).astype(np.int64)


def _spans(starts: Int, lengths: Int) -> Int:
    """Return the places from each start on, as many as its length, one after the other."""
    places: Int = np.arange(int(lengths.sum())) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return places


def _merge(ids: list[int], ranks: Merges, merged: Int, chance: int, key: int) -> list[int]:
    """Merge the symbols of one word; a candidate is dropped where its draw is below `chance`."""
    length = len(ids)
    before, after = list(range(-1, length - 1)), list(range(1, length + 1))
    rank_at = [ranks.get(pair, NO_RANK) for pair in pairwise(ids)] + [NO_RANK]
    waiting = sorted((rank, at) for at, rank in enumerate(rank_at) if rank != NO_RANK)
    aside: list[tuple[int, int]] = []  # dropped, until the next merge
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


def _merges(vocab: dict[str, int], merges: list[Any]) -> tuple[Int, Int, Int]:
    """Return ids on the left, on the right, and of both together, int64 each, by rank."""
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else merge for merge in merges]
    columns = [[vocab[a] for a, _ in pairs], [vocab[b] for _, b in pairs], [vocab[a + b] for a, b in pairs]]
    left, right, both = (fixed(np.array(column, dtype=np.int64)) for column in columns)
    return left, right, both


def _symbols(vocab: dict[str, int], distinct: list[str], dtype: Any) -> tuple[Ids, Int]:
    """Return the ids that the characters of all words start from, and where each word begins."""
    points = np.frombuffer("".join(distinct).encode("utf-32-le"), dtype=np.uint32)
    known = {ord(char): id for char, id in vocab.items() if len(char) == 1}
    alphabet = np.full(max([*known, int(points.max(initial=0))]) + 1, -1, dtype=np.int64)
    alphabet[list(known)] = list(known.values())
    ids = alphabet[points]
    if np.any(ids < 0):
        raise TokenizerError(NOT_BYTE_LEVEL)
    return fixed(ids.astype(dtype)), offsets_of(list(map(len, distinct)))


def _table(kernels: ModuleType, left: Int, right: Int) -> tuple[Array, Array]:
    """Return pairs of ids and their ranks as an open-addressed table, at most half full."""
    size = 1 << (2 * len(left) + 1).bit_length()
    pairs, ranks = np.full(size, -1, dtype=np.int64), np.zeros(size, dtype=np.int64)
    kernels.fill_table(left, right, pairs, ranks)
    return fixed(pairs), fixed(ranks)
