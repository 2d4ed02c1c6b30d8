"""Slices of held-out pairs: each way of slicing puts every pair into exactly one slice.

Slices show where a model is good and where it is not. Each function takes one value of each pair, and returns a
`Slicing`. Sums over the slices of one slicing are sums over all pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MAX_VALUES = 12  # slices by the values of a column; rarer values are one slice
MAX_DISTINCT_VALUES = 200  # a column with more values tells pairs apart, not kinds of pairs
MIN_PAIRS_PER_VALUE = 10  # the mean over values; a column with fewer has free text
MAX_LABEL_CHARS = 80
MAX_CHARS_PER_GAP = 40  # above, text counts as written without spaces between words
NUM_DECILES = 10
LENGTH_EDGES = (25, 50, 100, 200)  # longest source of a slice, in characters
COUNT_EDGES = (1, 10, 100, 1000)  # smallest count of a slice
LENGTH_LABELS = ("0 to 25 characters", "26 to 50", "51 to 100", "101 to 200", "more than 200")
COUNT_LABELS = ("0 times", "1 to 9 times", "10 to 99 times", "100 to 999 times", "1,000 times or more")
NO_VALUE, OTHERS = "no value", "other values"
COLUMN_PREFIX = "column."  # of slicings by the values of a column of the corpus
WORD_BREAKS = r"[^\pL\pM\pN]+"  # between words: no letters, combining marks or digits


@dataclass(frozen=True, eq=False)
class Slicing:
    """One way to slice pairs.

    Attributes:
        name: The name of the slicing, such as `source_length`.
        labels: The name of each slice.
        of_pair: The index of the slice of each pair in `labels`, int64 [n].
    """

    name: str
    labels: tuple[str, ...]
    of_pair: NDArray[np.int64]


def length_slicing(texts: pa.Array) -> Slicing:
    """Slice pairs by the number of characters of a text."""
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    return _occupied("source_length", LENGTH_LABELS, np.searchsorted(LENGTH_EDGES, lengths))


def rarest_word_slicing(texts: pa.Array, training_texts: pa.Array) -> Slicing:
    """Slice pairs by the count of their rarest word in the training texts; by the rarest character without spaces.

    Words are runs of letters, marks and digits, without regard to case. A text without words is in the last slice.

    Args:
        texts: The texts of the pairs, [n].
        training_texts: The texts in which words are counted.
    """
    split = _words if _has_spaces(training_texts) else _characters
    known, _ = split(training_texts)
    counted = known.value_counts()
    values, counts = counted.field("values"), counted.field("counts").to_numpy(zero_copy_only=False)
    words, lengths = split(texts)
    place = pc.index_in(words, value_set=values)
    of_word = np.where(
        pc.is_valid(place).to_numpy(zero_copy_only=False),
        np.append(counts, 0)[pc.fill_null(place, len(counts)).to_numpy(zero_copy_only=False)],
        0,
    )
    rarest = np.full(len(texts), COUNT_EDGES[-1], dtype=np.int64)
    if len(of_word):
        filled = np.flatnonzero(lengths)
        starts = np.concatenate([[0], np.cumsum(lengths[filled])[:-1]])
        rarest[filled] = np.minimum.reduceat(of_word, starts)
    return _occupied("rarest_word", COUNT_LABELS, np.searchsorted(COUNT_EDGES, rarest, side="right"))


def category_slicing(name: str, values: pa.Array) -> Slicing | None:
    """Slice pairs by the values of a column; None if the column has one value, or too many different ones.

    Args:
        name: The name of the slicing.
        values: Text, integers or Booleans, [n].
    """
    encoded = values.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    names = [str(value)[:MAX_LABEL_CHARS] for value in encoded.dictionary.to_pylist()]
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    is_free_text = len(names) > MAX_DISTINCT_VALUES or counts.sum() < MIN_PAIRS_PER_VALUE * len(names)
    if is_free_text or len(names) + (codes < 0).any() < 2:
        return None
    order = np.argsort(-counts, kind="stable")
    kept = order[:MAX_VALUES]
    of_value = np.full(len(names) + 1, len(kept), dtype=np.int64)
    of_value[kept] = np.arange(len(kept))
    of_value[-1] = len(kept) + 1  # the index -1
    return _occupied(name, (*(names[value] for value in kept), OTHERS, NO_VALUE), of_value[codes])


def decile_slicing(name: str, values: NDArray[np.float64]) -> Slicing | None:
    """Slice pairs into tenths by a score, lowest first; equal scores are in one slice. None for a single slice.

    Args:
        name: The name of the slicing.
        values: The score of each pair, float64 [n]; NaN: no score.
    """
    scored = np.isfinite(values)
    if not scored.any():
        return None
    edges = np.unique(np.quantile(values[scored], np.arange(1, NUM_DECILES) / NUM_DECILES))
    of_pair = np.where(scored, np.searchsorted(edges, values, side="left"), len(edges) + 1)
    ends = _different_texts(edges)
    labels = (f"at most {ends[0]}", *(f"{low} to {high}" for low, high in pairwise(ends)), f"more than {ends[-1]}")
    found = _occupied(name, (*labels, NO_VALUE), of_pair)
    return found if len(found.labels) > 1 else None


def _different_texts(numbers: NDArray[np.float64]) -> list[str]:
    """Write different numbers with as few digits, at least 4, as give different texts."""
    texts = ([f"{number:.{digits}g}" for number in numbers] for digits in range(4, 18))
    return next(found for found in texts if len(set(found)) == len(found))


def _occupied(name: str, labels: Sequence[str], of_pair: NDArray[np.integer]) -> Slicing:
    """Return a slicing without its empty slices."""
    used, renumbered = np.unique(of_pair, return_inverse=True)
    return Slicing(name, tuple(labels[number] for number in used), renumbered.astype(np.int64))


def _has_spaces(texts: pa.Array) -> bool:
    num_words = pc.sum(pc.list_value_length(pc.utf8_split_whitespace(texts))).as_py() or 0
    num_chars = pc.sum(pc.utf8_length(texts)).as_py() or 0
    return bool(num_chars <= MAX_CHARS_PER_GAP * (num_words - len(texts)))


def _words(texts: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the words of all texts, and the number of words of each text, int64 [n]."""
    lists = pc.split_pattern_regex(pc.utf8_lower(texts), pattern=WORD_BREAKS)
    words, parents = lists.flatten(), pc.list_parent_indices(lists)
    is_word = pc.greater(pc.binary_length(words), 0)  # breaks at the ends of a text leave empty strings
    of_text = parents.filter(is_word).to_numpy(zero_copy_only=False).astype(np.int64)
    return words.filter(is_word), np.bincount(of_text, minlength=len(texts))


def _characters(texts: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the code points of all texts, and the number of code points of each text, int64 [n]."""
    found = texts.to_pylist()
    codes = np.frombuffer("".join(found).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return pa.array(codes), np.array([len(text) for text in found], dtype=np.int64)
