"""`KnownReasons`: a filter whose decision about each pair is known, so that tasks can apply it to ranges of pairs."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.filter_protocol import PairFilter, count_dropped
from mtx.infra.dal.atomic_file import atomic_file
from mtx.infra.dal.row_views import ROW_COLUMN

NOT_JUDGED = 255  # the number of rows that are in another split


class KnownReasons(PairFilter):
    """Drops the pairs that have a reason in a file, and counts them by reason.

    Args:
        names: the names of the reasons.
        path: a file with a byte for each row of the text: 0 to keep the pair, or the number of the reason, from 1.
    """

    is_pairwise: ClassVar[bool] = True

    def __init__(self, names: Sequence[str], path: Path) -> None:
        self._names = tuple(names)
        self._path = path

    @classmethod
    def of(
        cls, names: Sequence[str], judged: Iterable[tuple[NDArray[np.int64], NDArray[np.uint8]]], folder: Path
    ) -> Self:
        """Write the file into a folder, given ascending row numbers and their reasons, int64 [n] and uint8 [n]."""
        path = folder / "reasons.bin"
        end = 0
        with atomic_file(path) as file:
            for rows, reasons in judged:
                if len(rows):
                    block = np.full(int(rows[-1]) + 1 - end, NOT_JUDGED, dtype=np.uint8)
                    block[rows - end] = reasons
                    file.write(block.tobytes())
                    end += len(block)
        return cls(names, path)

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the pairs without a reason, and count the others in `dropped`."""
        known = np.memmap(self._path, dtype=np.uint8, mode="r")
        for batch in pair_batches(pairs):
            reasons = known[batch.column(ROW_COLUMN).to_numpy()]
            assert not (reasons == NOT_JUDGED).any()
            for number, name in enumerate(self._names, 1):
                count_dropped(dropped, name, reasons == number, batch)
            yield batch.filter(pa.array(reasons == 0))
