"""`NgramCounts`: how often each token, pair and triple of tokens occurs in a sample; probabilities without own counts.

The probability of a token depends on the two tokens before it. It backs off to one token and to none, by a hierarchy of
Dirichlet priors (MacKay and Peto 1995). It follows from counts alone, so the counts of a single text can be taken off.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mtx.data.score.model_arrays import load_array, save_array
from mtx.data.token_rows import TRAINED_IDS

PRIORS = (2.0, 2.0)  # weights, in occurrences, of the shorter context, for pairs and for triples
ORDERS = (1, 2, 3)
LEAST_NEW_NGRAMS = 1 << 20  # fewer new n-grams are not added up yet

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ngrams:
    """The n-grams of n texts, each text with two BOS before it, and one EOS behind it.

    Attributes:
        rows: int64 [positions], the number of the text of each token, without the BOS.
        tokens: int64 [positions], the tokens, with EOS.
        pairs: int64 [positions], each token with the token before it, 16 bits each.
        triples: int64 [positions], each token with the two tokens before it, 16 bits each.
        num_texts: n.
    """

    rows: Ints
    tokens: Ints
    pairs: Ints
    triples: Ints
    num_texts: int

    @classmethod
    def of(cls, lengths: Ints, ids: NDArray[np.integer]) -> Self:
        """Return the n-grams, given the number of tokens of each text and the tokens of all texts."""
        starts = np.cumsum(lengths + 3) - (lengths + 3)
        padded = np.full(len(ids) + 3 * len(lengths), TRAINED_IDS.bos, dtype=np.int64)
        inner = np.ones(len(padded), dtype=np.bool_)
        inner[starts] = inner[starts + 1] = False
        padded[starts + 2 + lengths] = TRAINED_IDS.eos
        is_token = inner.copy()
        is_token[starts + 2 + lengths] = False
        padded[is_token] = ids
        places = np.flatnonzero(inner)
        tokens = padded[places]
        pairs = (padded[places - 1] << 16) | tokens
        rows = np.repeat(np.arange(len(lengths)), lengths + 1)
        return cls(rows, tokens, pairs, (padded[places - 2] << 32) | pairs, len(lengths))

    def with_rows(self, mask: NDArray[np.bool_]) -> "Ngrams":
        """Return the n-grams of the texts for which `mask`, bool [n], is True; the numbers of the texts stay."""
        kept = mask[self.rows]
        return Ngrams(self.rows[kept], self.tokens[kept], self.pairs[kept], self.triples[kept], self.num_texts)

    def and_of(self, other: "Ngrams") -> "Ngrams":
        """Return the n-grams of n texts together with those of n other texts, number by number."""
        rows, tokens, pairs, triples = (
            np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("rows", "tokens", "pairs", "triples")
        )
        return Ngrams(rows, tokens, pairs, triples, self.num_texts)

    def keys(self, order: int) -> Ints:
        """Return the n-grams of this number of tokens: int64 [positions]."""
        return (self.tokens, self.pairs, self.triples)[order - 1]

    def contexts(self, order: int) -> Ints:
        """Return the n-grams of this number of tokens without their last token: int64 [positions]."""
        return self.keys(order) >> 16


@dataclass(frozen=True)
class CountTable:
    """Distinct n-grams of one order, ascending, with their counts: int64 [distinct] and int32 [distinct]."""

    keys: Ints
    counts: NDArray[np.int32]

    @classmethod
    def of(cls, parts: Sequence[tuple[Ints, NDArray[np.integer]]]) -> Self:
        """Add up the counts of several tables."""
        keys, places = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
        sums = np.bincount(places, np.concatenate([part[1] for part in parts]), len(keys))
        return cls(keys, sums.astype(np.int32))

    def look_up(self, keys: Ints) -> Ints:
        """Return the counts of ascending n-grams, 0 for those that are not in the table: int64."""
        if not len(self.keys):
            return np.zeros(len(keys), dtype=np.int64)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, self.counts[places], 0).astype(np.int64)


class _GrowingSum:
    """The sum of many tables. New parts are added up when they have as many n-grams as the sum has."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, NDArray[np.integer]]] = []
        self._num_new = 0
        self._num_summed = LEAST_NEW_NGRAMS

    def add(self, keys: Ints, counts: NDArray[np.integer]) -> None:
        self._parts.append((keys, counts))
        self._num_new += len(keys)
        if self._num_new > self._num_summed:
            table = self.table()
            self._parts = [(table.keys, table.counts)]
            self._num_new, self._num_summed = 0, max(len(table.keys), LEAST_NEW_NGRAMS)

    def table(self) -> CountTable:
        empty = np.empty(0, dtype=np.int64)
        return CountTable.of(self._parts or [(empty, empty)])


class NgramCounts:
    """The counts of a sample.

    Args:
        tables: n-grams by order: contexts of pairs and triples are counted as such, apart from the n-grams.
        num_tokens: size of the vocabulary.
    """

    def __init__(self, tables: dict[str, CountTable], num_tokens: int) -> None:
        self._tables = tables
        self._num_tokens = num_tokens
        self._total = int(tables["ngrams_1"].counts.sum(dtype=np.int64))

    @classmethod
    def of(cls, texts: Iterable[Ngrams], num_tokens: int) -> "NgramCounts":
        """Count the n-grams of a stream of texts. The memory grows with the distinct n-grams, not with the texts."""
        sums = {f"{kind}_{order}": _GrowingSum() for order in ORDERS for kind in ("ngrams", "contexts")}
        for some in texts:
            for order in ORDERS:
                for kind, keys in (("ngrams", Ngrams.keys), ("contexts", Ngrams.contexts)):
                    sums[f"{kind}_{order}"].add(*np.unique(keys(some, order), return_counts=True))
        return cls({name: of.table() for name, of in sums.items()}, num_tokens)

    def save(self, folder: Path) -> None:
        """Store the counts in `folder`, two arrays for each table."""
        for name, table in self._tables.items():
            save_array(folder / f"{name}.npy", table.keys)
            save_array(folder / f"{name}_counts.npy", table.counts)

    @classmethod
    def load(cls, folder: Path, num_tokens: int) -> "NgramCounts":
        """Return the counts in `folder`."""
        names = [f"{kind}_{order}" for order in ORDERS for kind in ("ngrams", "contexts")]
        arrays = {
            name: (load_array(folder / f"{name}.npy"), load_array(folder / f"{name}_counts.npy")) for name in names
        }
        return cls({name: CountTable(*pair) for name, pair in arrays.items()}, num_tokens)

    def gains(self, texts: Ngrams, own: Ngrams) -> Floats:
        """Return the gain of each position in nats: log probability given two tokens, less that without context.

        Args:
            texts: the texts.
            own: for each text, the text of the sample whose counts are taken off; rows without one are absent.
        """
        counts = {
            f"{kind}_{order}": self._without(f"{kind}_{order}", texts, own, keys(texts, order), keys(own, order))
            for order in ORDERS
            for kind, keys in (("ngrams", Ngrams.keys), ("contexts", Ngrams.contexts))
        }
        unigram = (counts["ngrams_1"] + 1) / (counts["contexts_1"] + self._num_tokens)
        probability = unigram
        for order, prior in zip(ORDERS[1:], PRIORS, strict=True):
            probability = (counts[f"ngrams_{order}"] + prior * probability) / (counts[f"contexts_{order}"] + prior)
        found: Floats = np.log(probability) - np.log(unigram)
        return found

    def _without(self, name: str, texts: Ngrams, own: Ngrams, keys: Ints, own_keys: Ints) -> Floats:
        """Return the count of each n-gram, less its count in the text that is taken off: float64 [positions]."""
        distinct, places = np.unique(np.concatenate([keys, own_keys]), return_inverse=True)
        found = self._tables[name].look_up(distinct)[places[: len(keys)]]
        wanted = (texts.rows << 32) | places[: len(keys)]
        held, held_counts = np.unique((own.rows << 32) | places[len(keys) :], return_counts=True)
        taken = CountTable(held, held_counts.astype(np.int32)).look_up(wanted)
        rest: Floats = np.maximum(found - taken, 0).astype(np.float64)
        return rest
