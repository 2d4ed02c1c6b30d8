"""Training pairs whose source or target equals a held-out one, or shares an n-gram of words with one."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.cpu_count import granted_cores
from mtx.data.row_slices import row_slices
from mtx.data.score.contamination import ContaminationScorer
from mtx.data.score.held_out_texts import ROWS_PER_SLICE, SIDES, HeldOutTexts, side_hashes
from mtx.data.score.normal_form import Hashes
from mtx.data.split import TEST, TRAIN, VALIDATION
from mtx.data.threaded_map import threaded_map
from mtx.progress.tracking import CountedWork

# For fewer pairs, numpy takes less time than loading numba and its kernels, about 1.4 s in each process.
LEAST_COMPILED_PAIRS = 300_000
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


def contaminated_pairs(
    pairs: Callable[[], Iterator[pa.RecordBatch]],
    assignment: NDArray[np.uint8],
    own: Iterable[Iterable[pa.RecordBatch]],
) -> ContaminatedPairs:
    """Return which training pairs have a held-out source or target, or share an n-gram with one.

    Args:
        pairs: streams all pairs from which the split selects; called twice.
        assignment: uint8 [n], the split of each pair; see `split_assignment`.
        own: further held-out pairs, such as the validation split of the source.
    """

    def held_out() -> Iterator[pa.RecordBatch]:
        for part in own:
            yield from part
        first = 0
        for batch in pairs():
            here = assignment[first : first + batch.num_rows]
            first += batch.num_rows
            yield batch.filter(pa.array((here == VALIDATION) | (here == TEST)))

    scorer, compiled = ContaminationScorer(), len(assignment) >= LEAST_COMPILED_PAIRS
    grams: list[list[Hashes]] = [[np.empty(0, dtype=np.uint64)] for _ in SIDES]

    def with_ngrams() -> Iterator[pa.RecordBatch]:
        for batch in held_out():
            for found, side in zip(grams, SIDES, strict=True):
                found.append(np.unique(scorer.side_ngrams(batch.column(side), compiled=compiled)[0]))
            yield batch

    texts = HeldOutTexts.of(with_ngrams(), compiled=compiled)
    held_grams = [np.unique(np.concatenate(found)) for found in grams]
    masks = np.zeros((3, len(assignment)), dtype=np.bool_)

    def masks_of(batch: pa.RecordBatch) -> NDArray[np.bool_]:
        of_texts = texts.matches(*side_hashes(batch, compiled=compiled))
        of_sides = (
            scorer.has_ngram(batch.column(side), held, compiled=compiled)
            for side, held in zip(SIDES, held_grams, strict=True)
        )
        return np.stack([*of_texts, np.logical_or(*of_sides)])

    slices = (piece for batch in pairs() for piece in row_slices(batch, ROWS_PER_SLICE))
    first = 0
    is_long = len(assignment) >= LEAST_SHOWN_PAIRS
    shown = CountedWork("comparing train with held-out text", len(assignment)) if is_long else nullcontext()
    with shown as progress, ThreadPoolExecutor(granted_cores()) as threads:
        for found in threaded_map(threads, masks_of, slices):
            here = slice(first, first + found.shape[1])
            masks[:, here] = found & (assignment[here] == TRAIN)
            first = here.stop
            if progress is not None:
                progress.reach(first)
    return ContaminatedPairs(*masks)
