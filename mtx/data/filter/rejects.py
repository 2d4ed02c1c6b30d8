"""A few of the pairs that a rule drops, kept so that people see what the rule does to their text.

Which ones is decided by hashes of the texts: those with the smallest are kept. That is a sample in which each distinct
pair has the same chance, it needs no random state, and it is the same at any chunking and on any machine.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.data.filter.seen import pair_hashes
from mtx.identity import JSON
from mtx.infra.dataset.pairs import ROWS_PER_BATCH

MAX_SAMPLES = 5  # of a rule
MAX_CHARS = 300  # of each text, the mark of a cut included
CUT = "…"


class RejectSample:
    """The pairs with the smallest hashes of all that were offered, each distinct pair once."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, int, str, str]] = []  # hash in two halves, and texts; ascending

    def offer(self, pairs: pa.RecordBatch | pa.Table, found: NDArray[np.bool_]) -> None:
        """Take those of `pairs` (columns `src` and `tgt`) that may belong to the sample; `found` is bool [n].

        Texts are looked at in bounded pieces, however many there are.
        """
        for start in range(0, len(found), ROWS_PER_BATCH):
            here = found[start : start + ROWS_PER_BATCH]
            if here.any():
                columns = pairs.select(["src", "tgt"]).slice(start, len(here)).filter(pa.array(here)).columns
                self._offer(*(_one_array(column) for column in columns))

    def _offer(self, source: pa.LargeStringArray, target: pa.LargeStringArray) -> None:
        hashes = pair_hashes(source, target)
        if len(self._kept) == MAX_SAMPLES:  # most are no candidates, which one comparison tells
            rows = np.flatnonzero(hashes[:, 0] <= np.uint64(self._kept[-1][0]))
        else:
            rows = np.arange(len(hashes))
        rows = rows[np.lexsort((hashes[rows, 1], hashes[rows, 0]))]
        different = np.ones(len(rows), dtype=np.bool_)
        different[1:] = (hashes[rows][1:] != hashes[rows][:-1]).any(axis=1)
        rows = rows[different][:MAX_SAMPLES]
        offered = [
            (int(hashes[row, 0]), int(hashes[row, 1]), cut(source[row].as_py()), cut(target[row].as_py()))
            for row in rows.tolist()
        ]
        self._kept = sorted({*self._kept, *offered})[:MAX_SAMPLES]

    def as_json(self) -> list[JSON]:
        """Return the sample: `source` and `target` of each, cut to 300 characters."""
        return [{"source": source, "target": target} for _, _, source, target in self._kept]


def cut(text: str) -> str:
    """Return a text of at most 300 characters, the last one `…` where it was longer."""
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - len(CUT)] + CUT


def _one_array(column: pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    """Return a column in one piece, as large strings without nulls."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(column, pa.ChunkedArray):  # no chunk at all
        column = pa.array([], type=column.type)
    return pc.fill_null(column.cast(pa.large_string()), "")
