"""`RejectSample`, a few of the pairs that a rule drops, which reports show as examples.

The sample consists of the distinct pairs with the smallest hashes. Each distinct pair therefore has the same
probability to be sampled. The sample needs no random state, and does not depend on chunking or machine.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.filter.pair_set import pair_hashes
from mtx.infra.dataset.pair_stream import ROWS_PER_BATCH

MAX_SAMPLES = 5  # pairs per rule
MAX_CHARS = 300  # characters per text, including the ellipsis of a text that is cut
ELLIPSIS = "…"


class RejectSample:
    """The distinct pairs with the smallest hashes among all pairs that were offered.

    Args:
        max_samples: maximum number of pairs.
    """

    def __init__(self, max_samples: int = MAX_SAMPLES) -> None:
        self._max_samples = max_samples
        self._kept: list[tuple[int, int, str, str]] = []  # both halves of the hash, source, target; ascending

    def offer(self, pairs: pa.RecordBatch | pa.Table, found: NDArray[np.bool_]) -> None:
        """Offer those of `pairs` (columns `src` and `tgt`) for which `found` is True; `found` is bool [n].

        Pairs are processed in pieces of bounded size.
        """
        for start in range(0, len(found), ROWS_PER_BATCH):
            here = found[start : start + ROWS_PER_BATCH]
            if here.any():
                columns = pairs.select(["src", "tgt"]).slice(start, len(here)).filter(pa.array(here)).columns
                self._offer(*(_single_array(column) for column in columns))

    def _offer(self, source: pa.LargeStringArray, target: pa.LargeStringArray) -> None:
        hashes = pair_hashes(source, target)
        if len(self._kept) == self._max_samples:  # one comparison excludes most pairs
            rows = np.flatnonzero(hashes[:, 0] <= np.uint64(self._kept[-1][0]))
        else:
            rows = np.arange(len(hashes))
        rows = rows[np.lexsort((hashes[rows, 1], hashes[rows, 0]))]
        different = np.ones(len(rows), dtype=np.bool_)
        different[1:] = (hashes[rows][1:] != hashes[rows][:-1]).any(axis=1)
        rows = rows[different][: self._max_samples]
        offered = [
            (int(hashes[row, 0]), int(hashes[row, 1]), excerpt(source[row].as_py()), excerpt(target[row].as_py()))
            for row in rows.tolist()
        ]
        self._kept = sorted({*self._kept, *offered})[: self._max_samples]

    def state(self) -> list[JSON]:
        """Return the sampled pairs with their hashes, for `add_state`."""
        return [list(kept) for kept in self._kept]

    def add_state(self, state: Iterable[Any]) -> None:
        """Offer the pairs of another sample."""
        offered = ((int(high), int(low), source, target) for high, low, source, target in state)
        self._kept = sorted({*self._kept, *offered})[: self._max_samples]

    def as_json(self) -> list[JSON]:
        """Return the sampled pairs as objects with `source` and `target`, each text cut to 300 characters."""
        return [{"source": source, "target": target} for _, _, source, target in self._kept]


def excerpt(text: str) -> str:
    """Return a text of at most 300 characters: the text itself, or its beginning with `…` as the last character."""
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - len(ELLIPSIS)] + ELLIPSIS


def _single_array(column: pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    """Return a column as one array of large strings without nulls."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(column, pa.ChunkedArray):  # a column without chunks
        column = pa.array([], type=column.type)
    return pc.fill_null(column.cast(pa.large_string()), "")
