"""What every filter promises: pairs in, pairs out, and a count for each that did not come through."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import pyarrow as pa


class PairFilter(ABC):
    """Cleans one split of a raw dataset.

    Subclasses are frozen dataclasses of plain values. Columnar: no Python object a row.
    """

    @abstractmethod
    def apply(self, pairs: pa.Table, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the pairs that are kept, in order, as record batches of `PAIR_SCHEMA`.

        Args:
            pairs: columns `src` and `tgt`; may be memory-mapped and larger than memory.
            dropped: counts by reason, filled while streaming: each dropped pair counts once, under the first rule
                that drops it.
        """
