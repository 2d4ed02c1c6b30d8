"""No filter: pairs as they came."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from mtx.data.filter.base import PairFilter
from mtx.data.pairs import Pairs, pair_batches


@dataclass(frozen=True, kw_only=True)
class NoFilter(PairFilter):
    """Keeps every pair, unchanged."""

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream all pairs; `dropped` stays as it is."""
        yield from pair_batches(pairs)
