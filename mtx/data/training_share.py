"""Nested shares of the training pairs: the rows whose source sentence has one of the lowest hashes.

With both directions of a corpus, that is the sentence of one language, so a pair is in a share in both directions.

A share comes after the filter, in the stage filtered. Whether a row is in it depends on this row alone. So it is the
same for any order of the corpus, number of workers and filter. A smaller share is a subset of each larger one.
"""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from mtx.data.filter.filter_protocol import count_dropped
from mtx.data.normalise import without_prefixes
from mtx.data.split import NUM_HASHES, side_hashes
from mtx.infra.dal.row_views import SOURCE_COLUMN

OUTSIDE_SHARE = "outside_share"  # reason under which the pairs outside of the share are counted
HASH_SEED = 0x7368617265  # other hashes than those that hold pairs out, so that a share is no biased sample

Share = Annotated[float, Field(gt=0, le=1, description="a share above 0 and at most 1, such as 0.25")]


def share_mask(pairs: pa.RecordBatch, share: float, swapped: tuple[int, ...] = ()) -> NDArray[np.bool_]:
    """Return which pairs are in a share: bool [n].

    Args:
        pairs: columns `src` and `tgt`; pairs with the same source sentence are in the same shares.
        share: the probability of a source sentence, above 0 and at most 1.
        swapped: the parts whose targets count instead, by their numbers in the column of sources.
    """
    if share >= 1 or not pairs.num_rows:
        return np.ones(pairs.num_rows, dtype=np.bool_)
    hashes, of_targets = side_hashes([pairs], seed=HASH_SEED, with_targets=bool(swapped))
    if swapped:
        hashes = np.where(np.isin(pairs.column(SOURCE_COLUMN).to_numpy(), swapped), of_targets, hashes)
    found: NDArray[np.bool_] = hashes < np.uint64(int(share * NUM_HASHES))
    return found


def pairs_in_share(
    batches: Iterator[pa.RecordBatch],
    share: float,
    dropped: dict[str, int],
    ignored_prefixes: tuple[str, ...] = (),
    swapped: tuple[int, ...] = (),
) -> Iterator[pa.RecordBatch]:
    """Stream the pairs of a share, and count the other pairs as `outside_share`.

    Args:
        batches: the pairs that a filter keeps.
        share: the share, above 0 and at most 1.
        dropped: receives the count, as in `PairFilter.apply`.
        ignored_prefixes: texts before sources; the hash ignores them, so a sentence is in one share with any tag.
        swapped: as in `share_mask`.
    """
    for batch in batches:
        (untagged,) = without_prefixes([batch], ignored_prefixes)
        is_inside = share_mask(untagged, share, swapped)
        count_dropped(dropped, OUTSIDE_SHARE, ~is_inside, batch)
        yield batch if is_inside.all() else batch.filter(pa.array(is_inside))
