"""`AppliedFilter`: remembers which rows a filter keeps, so that a second pass does not judge the pairs again."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.filter_protocol import DropCounts, PairFilter
from mtx.data.sorted_membership import is_member
from mtx.infra.dal.row_views import ROW_COLUMN


class AppliedFilter(PairFilter):
    """A filter whose result is known after `first_pass`; 8 bytes of memory per kept pair.

    Args:
        keeper: the filter.
        num_sources: number of sources of a mixture; 0 for a single source.
    """

    def __init__(self, keeper: PairFilter, num_sources: int = 0) -> None:
        self._keeper = keeper
        self._counts = DropCounts(num_sources)
        self._pieces: list[NDArray[np.int64]] = []
        self._has_rows = True

    def first_pass(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Stream the pairs that the filter keeps, and remember their row numbers."""
        for batch in pair_batches(self._keeper.apply(pair_batches(batches), self._counts)):
            self._has_rows &= ROW_COLUMN in batch.schema.names
            if self._has_rows:
                self._pieces.append(batch.column(ROW_COLUMN).to_numpy(zero_copy_only=False).astype(np.int64))
            yield batch

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the pairs that the filter keeps; pairs without row numbers are judged again."""
        if not self._has_rows:
            yield from self._keeper.apply(pairs, dropped)
            return
        self._add_counts(dropped)
        kept = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *self._pieces]))
        for batch in pair_batches(pairs):
            rows = batch.column(ROW_COLUMN).to_numpy(zero_copy_only=False)
            yield batch.filter(pa.array(is_member(kept, rows)))

    def _add_counts(self, dropped: dict[str, int]) -> None:
        for reason, count in self._counts.items():
            dropped[reason] = dropped.get(reason, 0) + count
        if isinstance(dropped, DropCounts):
            dropped.samples.update(self._counts.samples)
            dropped.funnel = self._counts.funnel
            for reason, counts in self._counts.by_source.items():
                dropped.by_source[reason] = dropped.by_source.get(reason, 0) + counts
