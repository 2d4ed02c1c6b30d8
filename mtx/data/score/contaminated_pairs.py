"""Training pairs whose source or target equals a held-out one, or shares an n-gram of words with one."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.cpu_count import granted_cores
from mtx.data.compiled_kernels import numba_kernels
from mtx.data.row_slices import row_slices
from mtx.data.score.contamination import unspaced_characters, word_hashes
from mtx.data.score.held_out_texts import ROWS_PER_SLICE, SIDES
from mtx.data.score.minhash import ngram_hashes
from mtx.data.score.model_arrays import save_array
from mtx.data.score.normal_form import Hashes, NormalTexts, folding_table, normal_texts
from mtx.data.sorted_membership import is_member
from mtx.data.split import TEST, TRAIN, VALIDATION
from mtx.data.threaded_map import threaded_map
from mtx.infra.dal.atomic_file import make_folder
from mtx.progress.tracking import CountedWork

# For fewer pairs, numpy takes less time than loading numba and its kernels, about 1.4 s in each process.
LEAST_COMPILED_PAIRS = 300_000
COMPARING = "comparing train with held-out text"
MASKS = ("source", "target", "ngram")
TABLES = ("source_texts", "source_ngrams", "target_texts", "target_ngrams")
FILES = tuple(f"{table}_{array}.npy" for table in TABLES for array in ("hashes", "buckets", "seen"))
NGRAM = 8  # words of an n-gram; the default of `ContaminationScorer`
LEAST_SHOWN_PAIRS = 1_000_000  # fewer take some seconds, which need no bar of their own

NO_HASHES = np.empty(0, dtype=np.uint64)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ContaminatedPairs:
    """The contaminated pairs of a split of n pairs.

    Attributes:
        source: bool [n], True for a training pair with a held-out source.
        target: bool [n], True for a training pair with a held-out target.
        ngram: bool [n], True for a training pair of which a side shares an n-gram with a held-out text of that side.
            N-grams have `NGRAM` words, as those of `ContaminationScorer`.
    """

    source: Mask
    target: Mask
    ngram: Mask

    def counts(self) -> dict[str, JSON]:
        """Return the numbers of training pairs with a held-out side, source, target, and with a shared n-gram."""
        masks = {"pairs": self.source | self.target, "source": self.source, "target": self.target, "ngram": self.ngram}
        return {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}


@dataclass(frozen=True)
class HashTable:
    """Ascending hashes, and where those with equal high bits begin, so that a search reads about one of them.

    A bit for each value of more high bits answers most searches for other hashes, from an array that fits a cache of
    the processor.

    Attributes:
        ascending: distinct hashes, uint64 [n]; may be memory-mapped.
        buckets: the place of the first hash of each value of the high bits, and the end of the last: int64
            [2^bits + 1]; may be memory-mapped.
        seen: which values of the `bits + 3` high bits a hash has: uint8 [2^bits], the lowest bit first; may be
            memory-mapped.
    """

    ascending: Hashes
    buckets: NDArray[np.int64]
    seen: NDArray[np.uint8]

    @classmethod
    def of(cls, ascending: Hashes) -> Self:
        """Return the table of ascending hashes, with 1 to 2 values of the high bits for each."""
        bits = max(1, len(ascending).bit_length())
        edges = np.arange((1 << bits) + 1, dtype=np.uint64)
        buckets = np.searchsorted(ascending >> np.uint64(64 - bits), edges)
        is_seen = np.zeros(8 << bits, dtype=np.bool_)
        is_seen[ascending >> np.uint64(61 - bits)] = True
        return cls(ascending, buckets, np.packbits(is_seen, bitorder="little"))

    @property
    def shift(self) -> np.uint64:
        """How far a hash is shifted to leave its high bits."""
        return np.uint64(65 - len(self.buckets).bit_length())

    def arrays(self) -> tuple[Hashes, NDArray[np.int64], NDArray[np.uint8], np.uint64]:
        """Return what compiled kernels read."""
        return self.ascending, self.buckets, self.seen, self.shift


@dataclass(frozen=True)
class HeldOutSide:
    """One side of the held-out pairs.

    Attributes:
        texts: the hashes of the texts without punctuation.
        ngrams: the hashes of their n-grams of words.
    """

    texts: HashTable
    ngrams: HashTable

    def matches(self, texts: pa.LargeStringArray, *, compiled: bool) -> Mask:
        """Return which of n texts are held out, and which share an n-gram with a held-out text: bool [2, n].

        Args:
            texts: texts without nulls, few enough for all their characters in memory.
            compiled: whether to use numba, if it is installed; the result is the same.
        """
        normal = normal_texts(texts, compiled=compiled)
        found = np.zeros((2, len(texts)), dtype=np.bool_)
        if (kernels := _kernels() if compiled else None) is not None:
            characters = folding_table().is_word, unspaced_characters()
            tables = self.texts.arrays(), self.ngrams.arrays()
            kernels.fill_matches(normal.codes, normal.offsets, characters, NGRAM, *tables, found)
        elif len(texts):
            whole, grams, starts = _text_and_ngram_hashes(normal, compiled=False)
            found[0] = is_member(self.texts.ascending, whole)
            shared = is_member(self.ngrams.ascending, grams) & (grams != 0)
            found[1] = np.logical_or.reduceat(shared, starts[:-1])
        return found


@dataclass(frozen=True)
class HeldOutSides:
    """What training pairs are compared with. Picklable; large arrays are files that a process maps.

    Attributes:
        source: the held-out sources.
        target: the held-out targets.
        compiled: whether to use numba, if it is installed; the result is the same.
    """

    source: HeldOutSide
    target: HeldOutSide
    compiled: bool

    @classmethod
    def of(cls, held_out: Iterable[pa.RecordBatch], *, compiled: bool) -> Self:
        """Return the sides of held-out pairs."""

        def side_hashes(batch: pa.RecordBatch) -> list[tuple[Hashes, Hashes]]:
            normal = (normal_texts(batch.column(side), compiled=compiled) for side in SIDES)
            hashes = (_text_and_ngram_hashes(texts, compiled=compiled) for texts in normal)
            return [(texts, np.unique(ngrams)) for texts, ngrams, _ in hashes]

        slices = (piece for batch in held_out for piece in row_slices(batch, ROWS_PER_SLICE))

        def joined(side: int) -> HeldOutSide:
            parts = [(NO_HASHES, NO_HASHES), *(of_sides[side] for of_sides in found)]
            texts, ngrams = (np.unique(np.concatenate(hashes)) for hashes in zip(*parts, strict=True))
            return HeldOutSide(HashTable.of(texts[texts != 0]), HashTable.of(ngrams))

        with ThreadPoolExecutor(granted_cores()) as threads:
            found = list(threaded_map(threads, side_hashes, slices))
            source, target = threads.map(joined, range(len(SIDES)))
        return cls(source, target, compiled)

    def masks(self, pairs: Iterable[pa.RecordBatch]) -> Iterator[NDArray[np.bool_]]:
        """Yield for slices of pairs which of them have a held-out source, target, and n-gram: bool [3, slice]."""

        def masks_of(batch: pa.RecordBatch) -> NDArray[np.bool_]:
            source, target = (
                side.matches(batch.column(name), compiled=self.compiled)
                for name, side in zip(SIDES, (self.source, self.target), strict=True)
            )
            return np.stack([source[0], target[0], source[1] | target[1]])

        slices = (piece for batch in pairs for piece in row_slices(batch, ROWS_PER_SLICE))
        with ThreadPoolExecutor(granted_cores()) as threads:
            yield from threaded_map(threads, masks_of, slices)

    def save(self, folder: Path) -> None:
        """Write the arrays to files of a folder."""
        tables = (self.source.texts, self.source.ngrams, self.target.texts, self.target.ngrams)
        for name, array in zip(FILES, (part for table in tables for part in table.arrays()[:3]), strict=True):
            save_array(make_folder(folder) / name, array)

    @classmethod
    def load(cls, folder: Path, *, compiled: bool) -> Self:
        """Return what `save` has written, memory-mapped."""
        arrays = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in FILES)
        texts, ngrams, target_texts, target_ngrams = (HashTable(array, next(arrays), next(arrays)) for array in arrays)
        return cls(HeldOutSide(texts, ngrams), HeldOutSide(target_texts, target_ngrams), compiled)


def _text_and_ngram_hashes(texts: NormalTexts, *, compiled: bool) -> tuple[Hashes, Hashes, NDArray[np.int64]]:
    """Return the hashes of n texts without punctuation, uint64 [n], and those of their n-grams of words.

    The third array says where the n-grams of each text begin: int64 [n + 1].
    """
    ngrams, starts = ngram_hashes(*word_hashes(texts, compiled=compiled), NGRAM)
    return texts.without_punctuation().hashes(compiled=compiled), ngrams, starts


def mask_batches(
    folder: Path, compiled: bool, pairs: Iterator[pa.RecordBatch], first: int, counts: dict[str, Any]
) -> Iterator[pa.RecordBatch]:
    """Yield the masks of pairs as columns of Booleans, given the folder of `HeldOutSides.save`; for a task."""
    for masks in HeldOutSides.load(folder, compiled=compiled).masks(pairs):
        yield pa.record_batch(dict(zip(MASKS, map(pa.array, masks), strict=True)))


@cache
def _kernels() -> ModuleType | None:
    """Return the module of the compiled kernels, or None if numba is not available."""
    return numba_kernels("mtx.data.score.contamination_kernels", "numpy compares texts, which takes four times as long")


def contaminated_pairs(
    pairs: Callable[[], Iterator[pa.RecordBatch]],
    assignment: NDArray[np.uint8],
    own: Iterable[Iterable[pa.RecordBatch]],
    *,
    selected: Callable[[NDArray[np.int64]], Iterator[pa.RecordBatch]] | None = None,
    masks_of_all: Callable[[HeldOutSides], Iterator[NDArray[np.bool_]]] | None = None,
) -> ContaminatedPairs:
    """Return which training pairs have a held-out source or target, or share an n-gram with one.

    Args:
        pairs: streams all pairs from which the split selects; called twice, or not at all with the functions below.
        assignment: uint8 [n], the split of each pair; see `split_assignment`.
        own: further held-out pairs, such as the validation split of the source.
        selected: streams the pairs with the given ascending row numbers; None: all pairs are read.
        masks_of_all: computes `HeldOutSides.masks` of all pairs, such as in other processes; None: threads do.
    """

    def held_out() -> Iterator[pa.RecordBatch]:
        for part in own:
            yield from part
        is_held_out = (assignment == VALIDATION) | (assignment == TEST)
        if selected is not None:
            yield from selected(np.flatnonzero(is_held_out))
            return
        first = 0
        for batch in pairs():
            yield batch.filter(pa.array(is_held_out[first : first + batch.num_rows]))
            first += batch.num_rows

    sides = HeldOutSides.of(held_out(), compiled=len(assignment) >= LEAST_COMPILED_PAIRS)
    found_masks = np.zeros((3, len(assignment)), dtype=np.bool_)
    first = 0
    is_long = masks_of_all is None and len(assignment) >= LEAST_SHOWN_PAIRS
    shown = CountedWork(COMPARING, len(assignment)) if is_long else nullcontext()
    with shown as progress:
        for masks in sides.masks(pairs()) if masks_of_all is None else masks_of_all(sides):
            here = slice(first, first + masks.shape[1])
            found_masks[:, here] = masks & (assignment[here] == TRAIN)
            first = here.stop
            if progress is not None:
                progress.reach(first)
    return ContaminatedPairs(*found_masks)
