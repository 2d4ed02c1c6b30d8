"""`NoFilter`, the filter that keeps all pairs."""

from collections.abc import Iterator
from typing import ClassVar

import pyarrow as pa

from mtx.components.checked_options import component
from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.filter_protocol import PairFilter


@component("filter")
class NoFilter(PairFilter):
    """Keeps all pairs unchanged."""

    kind: ClassVar[str] = "filter/none"
    version: ClassVar[int] = 1
    is_pairwise: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The empty tuple: the filter reads only the texts."""
        return ()

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream all pairs unchanged, and leave `dropped` empty."""
        yield from pair_batches(pairs)
