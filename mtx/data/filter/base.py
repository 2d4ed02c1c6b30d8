"""What every filter promises: pairs in, pairs out, and a count for each that did not come through."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import pyarrow as pa

from mtx.data.pairs import Pairs


class PairFilter(ABC):
    """Cleans one split of a raw dataset.

    Subclasses are frozen dataclasses of plain values: picklable, without state. They check their fields when made,
    and do no I/O. Columnar: no rule costs a Python call a row.
    """

    @abstractmethod
    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the pairs that are kept, in order, as record batches of `PAIR_SCHEMA`.

        The result does not depend on how the pairs are cut into chunks. There is at least one batch, even if empty.

        Args:
            pairs: columns `src` and `tgt`, as a table or as record batches of any size; may be memory-mapped and
                larger than memory.
            dropped: counts by reason, filled while streaming: each dropped pair counts once, under the first rule
                that drops it. Reasons that dropped nothing are not in it.
        """
