"""`SelectionCheck`: checks that a filter only selects pairs, and neither changes, repeats nor reorders them."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from mtx.data.filter.filter_protocol import PairFilter
from mtx.errors import DataError
from mtx.infra.dal.row_views import ROW_COLUMN


class SelectionCheck:
    """Checks that a filter only selects rows: it must return the column `row`, and must not change texts or order.

    The numbers of all rows increase over all batches. Texts are compared only for a filter of a user's own.
    """

    def __init__(self, keeper: PairFilter, batches: Iterator[pa.RecordBatch]) -> None:
        self._name = type(keeper).__name__
        self._is_own = type(keeper).__module__.startswith("mtx.")
        self._batches = batches
        self._last_row = -1  # number of the last row that the filter has returned
        self._waiting: list[pa.RecordBatch] = []  # input batches that the filter may not have returned yet

    def input_batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the pairs to the filter, and remember them for `check_batch`."""
        for batch in self._batches:
            if not self._is_own:
                self._waiting.append(batch)
            yield batch

    def checked_batches(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Stream the batches that the filter returns after `check_batch`."""
        for batch in batches:
            self.check_batch(batch)
            yield batch

    def check_batch(self, batch: pa.RecordBatch) -> None:
        """Raise DataError if a batch that the filter returns is not a selection of the input rows."""
        missing = [name for name in ("src", "tgt", ROW_COLUMN) if name not in batch.schema.names]
        if missing:
            raise DataError(
                f"{self._name} returned the columns {', '.join(batch.schema.names)}, but {' and '.join(missing)} is "
                "missing, which identifies the pairs. Let its apply() select rows of the batches of "
                "pair_batches(pairs) instead of building new batches"
            )
        if not batch.num_rows:
            return
        rows = batch.column(ROW_COLUMN).to_numpy()
        if rows[0] <= self._last_row or (rows[1:] <= rows[:-1]).any():
            raise DataError(
                f"{self._name} returned a pair twice, or changed the order of the pairs. A filter returns each pair of "
                f"its input at most once, in their order, but after row {max(self._last_row, int(rows[0]))} came "
                "another that is not above it. Let its apply() yield each batch of pair_batches(pairs) once"
            )
        self._last_row = int(rows[-1])
        if self._is_own:
            return
        while self._waiting and self._waiting[0].column(ROW_COLUMN)[-1].as_py() < rows[0]:
            self._waiting.pop(0)
        given = pa.Table.from_batches(self._waiting).combine_chunks()
        places = np.searchsorted(given[ROW_COLUMN].to_numpy(), rows)
        if len(given) and int(places.max()) < len(given):
            same = given.select(["src", "tgt", ROW_COLUMN]).take(pa.array(places)).combine_chunks()
            if all(same[name].combine_chunks().equals(pa.chunked_array([batch.column(name)]).combine_chunks())
                   for name in ("src", "tgt")) and np.array_equal(same[ROW_COLUMN].to_numpy(), rows):  # fmt: skip
                return
        raise DataError(
            f"{self._name} returned pairs that are not in its input. A filter must only select "
            "pairs. To change text, use a normaliser: normalise=default, or a Normaliser of your own"
        )
