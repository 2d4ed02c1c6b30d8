"""Training pairs whose source or target equals a held-out one up to case, white space and punctuation."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.score.held_out_texts import HeldOutTexts, side_hashes
from mtx.data.split import TEST, TRAIN, VALIDATION

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ContaminatedPairs:
    """The contaminated pairs of a split of n pairs.

    Attributes:
        source: bool [n], True for a training pair with a held-out source.
        target: bool [n], True for a training pair with a held-out target.
    """

    source: Mask
    target: Mask

    def counts(self) -> dict[str, JSON]:
        """Return the numbers of contaminated training pairs: all, those with the source, those with the target."""
        masks = {"pairs": self.source | self.target, "source": self.source, "target": self.target}
        return {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}


def contaminated_pairs(
    pairs: Callable[[], Iterator[pa.RecordBatch]],
    assignment: NDArray[np.uint8],
    own: Iterable[Iterable[pa.RecordBatch]],
) -> ContaminatedPairs:
    """Return which training pairs have a held-out source or target.

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

    texts = HeldOutTexts.of(held_out())
    masks = np.zeros((2, len(assignment)), dtype=np.bool_)
    first = 0
    for batch in pairs():
        here = slice(first, first + batch.num_rows)
        masks[:, here] = texts.matches(*side_hashes(batch))
        masks[:, here] &= assignment[here] == TRAIN
        first += batch.num_rows
    return ContaminatedPairs(masks[0], masks[1])
