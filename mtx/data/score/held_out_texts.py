"""`HeldOutTexts`: the normal forms of held-out texts, to find training pairs whose source or target equals one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.score.normal_form import Hashes, normal_texts

ROWS_PER_SLICE = 4096  # pairs that are normalised at once, so that the arrays fit into the cache
SIDES = ("src", "tgt")

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class HeldOutTexts:
    """Hashes of the distinct held-out texts of both sides, ascending: uint64 each.

    Two texts are equal if they differ only in case, white space, punctuation, and compatibility characters (NFKC).
    """

    source: Hashes
    target: Hashes

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch]) -> Self:
        """Return the texts of held-out pairs with `src` and `tgt`. Empty texts are left out."""
        found: tuple[list[Hashes], list[Hashes]] = ([], [])
        for source, target in map(side_hashes, batches):
            found[0].append(source)
            found[1].append(target)
        return cls(*(_distinct(hashes) for hashes in found))

    def matches(self, source: Hashes, target: Hashes) -> tuple[Mask, Mask]:
        """Return which sources and which targets are held out, given the hashes of n texts of each: bool [n] each."""
        return is_member(self.source, source), is_member(self.target, target)


def side_hashes(pairs: pa.RecordBatch) -> tuple[Hashes, Hashes]:
    """Return the hashes of the sources and of the targets of n pairs without punctuation: uint64 [n] each."""
    source, target = (
        np.concatenate(
            [
                np.empty(0, dtype=np.uint64),
                *(
                    normal_texts(pairs.column(side).slice(start, ROWS_PER_SLICE), with_punctuation=False).hashes()
                    for start in range(0, pairs.num_rows, ROWS_PER_SLICE)
                ),
            ]
        )
        for side in SIDES
    )
    return source, target


def is_member(ascending: Hashes, hashes: Hashes) -> Mask:
    """Return which hashes are in an ascending array."""
    if not len(ascending):
        return np.zeros(len(hashes), dtype=np.bool_)
    places = np.minimum(np.searchsorted(ascending, hashes), len(ascending) - 1)
    found: Mask = ascending[places] == hashes
    return found


def _distinct(parts: list[Hashes]) -> Hashes:
    found = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *parts]))
    return found[found != 0]
