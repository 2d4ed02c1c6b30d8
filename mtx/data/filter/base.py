"""What every filter promises: pairs in, pairs out, and a count for each that did not come through."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.filter.rejects import RejectSample
from mtx.data.pairs import SOURCE, Pairs
from mtx.identity import JSON


class DropCounts(dict[str, int]):
    """Counts by reason; of a mixture, each reason's by source too. With a few of the pairs that each reason dropped.

    Attributes:
        by_source: reason → int64 [sources], in the order of the mixture.
        samples: by reason.
    """

    def __init__(self, num_sources: int = 0) -> None:
        super().__init__()
        self.num_sources = num_sources
        self.by_source: dict[str, NDArray[np.int64]] = {}
        self.samples: dict[str, RejectSample] = {}

    def add(self, reason: str, sources: NDArray[Any]) -> None:
        """Count one more for each of some pairs, by the sources that they come from, besides the count of all."""
        counts = self.by_source.setdefault(reason, np.zeros(self.num_sources, dtype=np.int64))
        counts += np.bincount(sources, minlength=self.num_sources)

    def sample(self, reason: str, pairs: pa.RecordBatch | pa.Table, found: NDArray[np.bool_]) -> None:
        """Let a few of the pairs that a rule found be kept: see `RejectSample`."""
        self.samples.setdefault(reason, RejectSample()).offer(pairs, found)

    def rejects(self) -> dict[str, JSON]:
        """Return the kept pairs by reason, as lists of `source` and `target`."""
        return {reason: sample.as_json() for reason, sample in self.samples.items()}


def count_dropped(
    dropped: dict[str, int], reason: str, found: NDArray[np.bool_], pairs: pa.RecordBatch | pa.Table
) -> None:
    """Count pairs that a rule drops, under its reason; those of a mixture by source too. A few of them are kept.

    Args:
        dropped: what `PairFilter.apply` is given.
        reason: of the rule.
        found: bool [n], True at what it drops and no rule before it did.
        pairs: the pairs that it looked at.
    """
    if num_dropped := int(np.count_nonzero(found)):
        dropped[reason] = dropped.get(reason, 0) + num_dropped
        if isinstance(dropped, DropCounts):
            dropped.sample(reason, pairs, found)
            if SOURCE in pairs.schema.names:
                dropped.add(reason, pairs[SOURCE].to_numpy()[found])


class PairFilter(ABC):
    """Cleans one split of a raw dataset.

    Subclasses are frozen dataclasses of plain values: picklable, without state. They check their fields when made,
    and do no I/O. Columnar: no rule costs a Python call a row.
    """

    @abstractmethod
    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the pairs that are kept, in order, as record batches of `PAIR_SCHEMA`.

        The result does not depend on how the pairs are cut into chunks. There is at least one batch, even if empty.
        Pairs of a mixture have a third column, `source`, and keep it: batches are then of `MIXED_SCHEMA`.

        Args:
            pairs: columns `src` and `tgt`, as a table or as record batches of any size; may be memory-mapped and
                larger than memory.
            dropped: counts by reason, filled while streaming: each dropped pair counts once, under the first rule
                that drops it. Reasons that dropped nothing are not in it. `count_dropped` does all of that.
        """
