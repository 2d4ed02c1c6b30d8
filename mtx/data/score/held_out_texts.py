"""`HeldOutTexts`: the normal forms of held-out texts, to find training pairs whose source or target equals one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.row_slices import row_slices
from mtx.data.score.normal_form import Hashes, normal_texts
from mtx.data.sorted_membership import is_member

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
        for batch in batches:
            source, target = side_hashes(batch)
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
                    normal_texts(texts, with_punctuation=False).hashes()
                    for texts in row_slices(pairs.column(side), ROWS_PER_SLICE)
                ),
            ]
        )
        for side in SIDES
    )
    return source, target


def _distinct(parts: list[Hashes]) -> Hashes:
    found = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *parts]))
    texts: Hashes = found[found != 0]
    return texts
