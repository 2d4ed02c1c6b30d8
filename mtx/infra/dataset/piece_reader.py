"""`PieceReader`: what reads pieces of a source, so that tasks read a large source in several processes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import pyarrow as pa

from mtx.infra.dataset.language_names import SIDES

Batches: TypeAlias = Iterator[pa.RecordBatch]
SWAPPED = {"src": "tgt", "tgt": "src"}


class PieceReader(Protocol):
    """Reads pieces of a split, in any order and in any process. Picklable."""

    @property
    def ranges(self) -> Sequence[tuple[int, int]]:
        """Where each piece begins and ends, in order, in a unit of the source; equal ranges have equal content."""

    def read(self, first: int, counts: dict[str, int]) -> Batches:
        """Yield the pairs of the piece that begins at `first`; see `Downloader.batches`."""


@dataclass(frozen=True)
class SwappedReader:
    """Reads pieces with swapped sides."""

    reader: PieceReader

    @property
    def ranges(self) -> Sequence[tuple[int, int]]:
        """The pieces in order."""
        return self.reader.ranges

    def read(self, first: int, counts: dict[str, int]) -> Batches:
        """Yield the pairs of the piece that begins at `first`."""
        return swapped_sides(self.reader.read(first, counts))


def swapped_sides(batches: Iterable[pa.RecordBatch]) -> Batches:
    """Yield pairs with the source as the target and the target as the source; further columns follow."""
    for batch in batches:
        names = [SWAPPED.get(name, name) for name in batch.schema.names]
        order = [*SIDES, *(name for name in names if name not in SIDES)]
        yield pa.RecordBatch.from_arrays(batch.columns, names=names).select(order)
