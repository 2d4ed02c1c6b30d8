"""Training pairs whose source or target equals a held-out one, or shares an n-gram of words with one."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.cpu_count import granted_cores
from mtx.data.row_slices import row_slices
from mtx.data.score.contamination import FILES, ContaminationScorer
from mtx.data.score.held_out_texts import ROWS_PER_SLICE, SIDES, HeldOutTexts, side_hashes
from mtx.data.score.model_arrays import save_array
from mtx.data.score.normal_form import Hashes
from mtx.data.split import TEST, TRAIN, VALIDATION
from mtx.data.threaded_map import threaded_map
from mtx.infra.dal.atomic_file import make_folder
from mtx.progress.tracking import CountedWork

# For fewer pairs, numpy takes less time than loading numba and its kernels, about 1.4 s in each process.
LEAST_COMPILED_PAIRS = 300_000
COMPARING = "comparing train with held-out text"
MASKS = ("source", "target", "ngram")
LEAST_SHOWN_PAIRS = 1_000_000  # fewer take some seconds, which need no bar of their own

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ContaminatedPairs:
    """The contaminated pairs of a split of n pairs.

    Attributes:
        source: bool [n], True for a training pair with a held-out source.
        target: bool [n], True for a training pair with a held-out target.
        ngram: bool [n], True for a training pair of which a side shares an n-gram with a held-out text of that side.
            N-grams are those of `ContaminationScorer` with its default options.
    """

    source: Mask
    target: Mask
    ngram: Mask

    def counts(self) -> dict[str, JSON]:
        """Return the numbers of training pairs with a held-out side, source, target, and with a shared n-gram."""
        masks = {"pairs": self.source | self.target, "source": self.source, "target": self.target, "ngram": self.ngram}
        return {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}


@dataclass(frozen=True)
class HeldOutSides:
    """What training pairs are compared with. Picklable; large arrays are files that a process maps.

    Attributes:
        texts: the hashes of the held-out texts.
        ngrams: the ascending hashes of the n-grams of held-out sources and of held-out targets.
        compiled: whether to use numba, if it is installed; the result is the same.
    """

    texts: HeldOutTexts
    ngrams: tuple[Hashes, Hashes]
    compiled: bool

    @classmethod
    def of(cls, held_out: Iterable[pa.RecordBatch], *, compiled: bool) -> Self:
        """Return the sides of held-out pairs."""
        scorer = ContaminationScorer()
        grams: list[list[Hashes]] = [[np.empty(0, dtype=np.uint64)] for _ in SIDES]

        def with_ngrams() -> Iterator[pa.RecordBatch]:
            for batch in held_out:
                for found, side in zip(grams, SIDES, strict=True):
                    found.append(np.unique(scorer.side_ngrams(batch.column(side), compiled=compiled)[0]))
                yield batch

        texts = HeldOutTexts.of(with_ngrams(), compiled=compiled)
        source, target = (np.unique(np.concatenate(found)) for found in grams)
        return cls(texts, (source, target), compiled)

    def masks(self, pairs: Iterable[pa.RecordBatch]) -> Iterator[NDArray[np.bool_]]:
        """Yield for slices of pairs which of them have a held-out source, target, and n-gram: bool [3, slice]."""
        scorer = ContaminationScorer()

        def masks_of(batch: pa.RecordBatch) -> NDArray[np.bool_]:
            of_texts = self.texts.matches(*side_hashes(batch, compiled=self.compiled))
            of_sides = (
                scorer.has_ngram(batch.column(side), held, compiled=self.compiled)
                for side, held in zip(SIDES, self.ngrams, strict=True)
            )
            return np.stack([*of_texts, np.logical_or(*of_sides)])

        slices = (piece for batch in pairs for piece in row_slices(batch, ROWS_PER_SLICE))
        with ThreadPoolExecutor(granted_cores()) as threads:
            yield from threaded_map(threads, masks_of, slices)

    def save(self, folder: Path) -> None:
        """Write the arrays to files of a folder."""
        arrays = (self.texts.source, self.texts.target, *self.ngrams)
        for name, array in zip(FILES, arrays, strict=True):
            save_array(make_folder(folder) / name, array)


def mask_batches(
    folder: Path, compiled: bool, pairs: Iterator[pa.RecordBatch], first: int, counts: dict[str, Any]
) -> Iterator[pa.RecordBatch]:
    """Yield the masks of pairs as columns of Booleans, given the folder of `HeldOutSides.save`; for a task."""
    source, target, *ngrams = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in FILES)
    held_out = HeldOutSides(HeldOutTexts(source, target), (ngrams[0], ngrams[1]), compiled)
    for masks in held_out.masks(pairs):
        yield pa.record_batch(dict(zip(MASKS, map(pa.array, masks), strict=True)))


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
