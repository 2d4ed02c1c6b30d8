"""`ContaminationScorer`: training pairs whose source or target is held out, and the n-grams that they share with it."""

import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.checked_options import Count, component
from mtx.data.row_slices import row_slices
from mtx.data.score.character_scripts import NUM_CODES, UNIFORM_BLOCKS, UNSPACED_SCRIPTS, script_of
from mtx.data.score.held_out_texts import ROWS_PER_SLICE, SIDES, HeldOutTexts, side_hashes
from mtx.data.score.minhash import ngram_hashes
from mtx.data.score.model_arrays import load_array, save_array
from mtx.data.score.normal_form import (
    BLOCK_ENDS,
    BLOCK_STARTS,
    LEAST_COMPILED,
    Hashes,
    NormalTexts,
    folding_table,
    normal_form_kernels,
    normal_texts,
)
from mtx.data.score.scorer import HeldOutScorer, Mask, Sample, ScoreColumn
from mtx.data.score.text_features import mixed
from mtx.data.sorted_membership import is_member

FILES = ("source_texts.npy", "target_texts.npy", "source_ngrams.npy", "target_ngrams.npy")
FIRST_UNSPACED = 0x0E00  # Thai, the first script without spaces

Unit = Literal["word", "character"]


@component("score.contamination")
class ContaminationScorer(HeldOutScorer):
    """Scores training pairs by whether their sides are held out, and by the n-grams that they share with held-out ones.

    Held out are the validation and test splits and `datamodule.validation_sets`. Texts are compared in NFKC, in lower
    case, and without white space and punctuation. A pair that is itself held out has no score.

    Args:
        ngram: number of words or characters of an n-gram. A shorter text is one n-gram.
        unit: `word`, where a character of a script without spaces counts as a word, or `character`.
    """

    kind: ClassVar[str] = "score/contamination"
    version: ClassVar[int] = 1

    ngram: Count = 8
    unit: Unit = "word"

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The three scores."""
        return {
            "source": ScoreColumn("−1 if the source equals a held-out source, else 0"),
            "target": ScoreColumn("−1 if the target equals a held-out target, else 0"),
            "overlap": ScoreColumn(
                f"minus the share of the distinct {self.ngram}-grams of {self.unit}s that occur in held-out texts of "
                "the same side, of the side with more; −1 to 0"
            ),
        }

    def train(self, sample: Sample, folder: Path) -> None:
        """Store the hashes of the held-out texts, and of their n-grams."""
        texts = HeldOutTexts.of(sample())
        grams: list[list[Hashes]] = [[np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.uint64)]]
        for batch in sample():
            for number, side in enumerate(SIDES):
                for part in row_slices(batch.column(side), ROWS_PER_SLICE):
                    grams[number].append(np.unique(self.side_ngrams(part)[0]))
        distinct = [np.unique(np.concatenate(parts)) for parts in grams]
        for name, hashes in zip(FILES, (texts.source, texts.target, *distinct), strict=True):
            save_array(folder / name, hashes)

    def load(self, folder: Path) -> "ContaminationModel":
        """Return the model in `folder`."""
        source, target, *grams = (load_array(folder / name) for name in FILES)
        return ContaminationModel(self, HeldOutTexts(source, target), grams)

    def side_ngrams(self, texts: pa.LargeStringArray) -> tuple[Hashes, NDArray[np.int64]]:
        """Return the hashes of the n-grams of n texts, and where each text begins: int64 [n + 1].

        A text without a word is one n-gram with the hash 0.
        """
        if self.unit == "character":
            characters = normal_texts(texts, with_punctuation=False)
            return ngram_hashes(characters.codes, characters.offsets, self.ngram)
        return ngram_hashes(*word_hashes(normal_texts(texts)), self.ngram)


class ContaminationModel:
    """The scores of pairs, given the held-out texts.

    Args:
        scorer: the scorer, which says what an n-gram is.
        texts: the held-out texts.
        ngrams: the ascending hashes of the n-grams of the held-out sources and targets.
    """

    def __init__(self, scorer: ContaminationScorer, texts: HeldOutTexts, ngrams: list[Hashes]) -> None:
        self._scorer = scorer
        self._texts = texts
        self._ngrams = [hashes[hashes != 0] for hashes in ngrams]

    def scores(self, pairs: pa.RecordBatch, in_sample: Mask) -> Mapping[str, pa.Array]:
        """Return the three scores of each pair."""
        source, target = (mask.astype(np.float64) for mask in self._texts.matches(*side_hashes(pairs)))
        overlaps = [self._overlap(number, pairs.column(side)) for number, side in enumerate(SIDES)]
        found = {"source": source, "target": target, "overlap": np.maximum(*overlaps)}
        return {name: pa.array(np.where(in_sample, np.nan, 0.0 - values)) for name, values in found.items()}

    def _overlap(self, side: int, texts: pa.LargeStringArray) -> NDArray[np.float64]:
        """Return the share of the distinct n-grams of each text that are held out: float64 [n]."""
        found = [np.empty(0)]
        for part in row_slices(texts, ROWS_PER_SLICE):
            hashes, starts = self._scorer.side_ngrams(part)
            of_text = np.repeat(np.arange(len(part)), np.diff(starts))
            order = np.lexsort((hashes, of_text))
            hashes, of_text = hashes[order], of_text[order]
            is_first = np.ones(len(hashes), dtype=np.bool_)
            is_first[1:] = (hashes[1:] != hashes[:-1]) | (of_text[1:] != of_text[:-1])
            distinct = np.bincount(of_text[is_first], minlength=len(part))
            held = np.bincount(of_text[is_first & is_member(self._ngrams[side], hashes)], minlength=len(part))
            found.append(held / np.maximum(distinct, 1))
        return np.concatenate(found)


def word_hashes(texts: NormalTexts, *, compiled: bool = True) -> tuple[Hashes, NDArray[np.int64]]:
    """Return a hash of each word of n texts, and where each text begins: int64 [n + 1].

    A word is a run of letters, marks and numbers. A character of a script without spaces is a word.

    Args:
        texts: the normal forms of the texts, with punctuation.
        compiled: whether to use numba for many texts, if it is installed.
    """
    codes, offsets = texts.codes, texts.offsets
    if (kernels := normal_form_kernels() if compiled and len(offsets) > LEAST_COMPILED else None) is not None:
        found, ends = np.empty(len(codes), dtype=np.uint64), np.zeros(len(offsets), dtype=np.int64)
        tables = (folding_table().is_word, unspaced_characters())
        num_words = kernels.fill_word_hashes(codes, offsets, tables, found, ends[1:])
        return found[:num_words], ends
    is_word = folding_table().is_word[codes]
    is_alone = unspaced_characters()[codes]
    begins = is_word.copy()
    begins[1:] &= ~is_word[:-1] | is_alone[1:] | is_alone[:-1]
    inner = offsets[:-1][np.diff(offsets) > 0]
    begins[inner] = is_word[inner]
    starts = np.flatnonzero(begins)
    if not len(starts):
        return np.empty(0, dtype=np.uint64), np.zeros(len(offsets), dtype=np.int64)
    places = np.arange(len(codes)) - starts[np.maximum(np.cumsum(begins) - 1, 0)]
    values = mixed((places.astype(np.uint64) << np.uint64(32)) + codes + np.uint64(1))
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(np.where(is_word, values, np.uint64(0)), out=sums[1:])
    return mixed(sums[np.append(starts[1:], len(codes))] - sums[starts]), np.searchsorted(starts, offsets)


@cache
def unspaced_characters() -> NDArray[np.bool_]:
    """Return which characters belong to a script without spaces, bool [code points]; faster than `character_table`."""
    found = np.zeros(NUM_CODES, dtype=np.bool_)
    for start, end in zip((FIRST_UNSPACED, *BLOCK_ENDS[1:]), BLOCK_STARTS, strict=True):
        for code in range(start, end):
            if unicodedata.category(chr(code))[0] in "LM":
                found[code] = script_of(chr(code)) in UNSPACED_SCRIPTS
    for block in UNIFORM_BLOCKS:
        found[block.start : block.stop] = script_of(chr(block.start)) in UNSPACED_SCRIPTS
    return found
