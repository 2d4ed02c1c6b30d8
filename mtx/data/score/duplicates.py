"""`DuplicatesScorer`: how often the source and the target of a pair occur in the corpus, and with how many partners."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from mtx.components.checked_options import component
from mtx.components.identity import JSON
from mtx.data.score.normal_form import normal_texts
from mtx.data.score.scorer import CorpusScorer, Sample, ScoreColumn
from mtx.data.score.spilled_arrays import SpilledArrays
from mtx.errors import ConfigError
from mtx.infra.dal.atomic_file import convert_disk_errors

BYTES_PER_PAIR = 120  # of a part while it is counted
MAX_PART_BITS = 8  # at most 256 parts
SIDES = ("src", "tgt")

Hashes = NDArray[np.uint64]

COLUMNS = {
    "source": "minus the number of other pairs with the same source; 0 or less",
    "target": "minus the number of other pairs with the same target; 0 or less",
    "targets_of_source": "minus the number of other targets that the source has in the corpus; 0 or less",
    "sources_of_target": "minus the number of other sources that the target has in the corpus; 0 or less",
}


@component("score.duplicates")
class DuplicatesScorer(CorpusScorer):
    """Scores a pair by the numbers of other pairs that have its source or its target, and of their distinct partners.

    Two texts are the same if their normal forms are equal: NFKC, lower case, and one space between words. Texts are
    compared by 64-bit hashes. The hashes are divided among temporary files, 48 bytes per pair. All pairs with a text
    are in one file, so that the files are counted one after another.

    Args:
        memory_gb: memory for the hashes, in 10⁹ bytes: 120 bytes per pair of a file. The result is the same.
    """

    kind: ClassVar[str] = "score/duplicates"
    version: ClassVar[int] = 1

    memory_gb: Annotated[float, Field(ge=0.1)] = 0.5

    def identity_fields(self) -> dict[str, JSON]:
        """Return no field: the memory does not change the output."""
        return {}

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The four scores."""
        return {name: ScoreColumn(description) for name, description in COLUMNS.items()}

    def corpus_columns(self, corpus: Sample, num_pairs: int, scratch: Path) -> Mapping[str, pa.Array]:
        """Return the columns of all pairs, which are memory-mapped files in `scratch`.

        Raises ConfigError if the memory is too small for a corpus of this size.
        """
        bits = self._part_bits(num_pairs)
        folders = {side: scratch / side for side in SIDES}
        for folder in folders.values():
            folder.mkdir()
        parts = {side: SpilledArrays(folders[side], np.uint64, in_memory=False) for side in SIDES}
        first = 0
        for batch in corpus():
            rows = np.arange(first, first + batch.num_rows, dtype=np.uint64)
            source, target = (normal_texts(batch.column(side)).hashes() for side in SIDES)
            for side, own, partner in (("src", source, target), ("tgt", target, source)):
                _divide(parts[side], np.stack([own, partner, rows], axis=1), bits)
            first += batch.num_rows
        found = {name: _column_file(scratch / name, num_pairs) for name in COLUMNS}
        for side, (pairs, partners) in zip(
            SIDES, (("source", "targets_of_source"), ("target", "sources_of_target")), strict=True
        ):
            for part in range(1 << bits):
                _count(parts[side].take(part).reshape(-1, 3), found[pairs], found[partners])
        return {name: pa.array(values) for name, values in found.items()}

    def _part_bits(self, num_pairs: int) -> int:
        """Return the number of first bits of a hash that choose its file."""
        num_bytes = num_pairs * BYTES_PER_PAIR
        bits = int(num_bytes // (self.memory_gb * 1e9)).bit_length()
        if bits > MAX_PART_BITS:
            least = math.ceil(num_bytes / 1e9 / (1 << MAX_PART_BITS) * 100 + 1) / 100
            raise ConfigError(
                f"duplicates of {num_pairs:,} pairs need at least {least} GB of memory, but memory_gb is "
                f"{self.memory_gb}. Set score.duplicates.memory_gb={least} or more"
            )
        return bits


def _divide(parts: SpilledArrays, pairs: Hashes, bits: int) -> None:
    """Append pairs (own hash, hash of the partner, row) to the parts that the first bits of their own hash choose."""
    if not bits:
        parts.append(0, pairs)
        return
    of_pair = (pairs[:, 0] >> np.uint64(64 - bits)).astype(np.uint16)
    order = np.argsort(of_pair, kind="stable")  # rows still ascend in each part
    numbers, starts = np.unique(of_pair[order], return_index=True)
    for number, part in zip(numbers.tolist(), np.split(pairs[order], starts[1:]), strict=True):
        parts.append(number, part)


def _column_file(path: Path, num_pairs: int) -> NDArray[np.float64]:
    """Return an array of zeros that is a memory-mapped file; without pairs, an array in memory."""
    if not num_pairs:
        return np.empty(0, dtype=np.float64)
    with convert_disk_errors(path):
        return np.memmap(path, dtype=np.float64, mode="w+", shape=num_pairs)


def _count(pairs: Hashes, num_pairs: NDArray[np.float64], num_partners: NDArray[np.float64]) -> None:
    """Write 1 minus the number of pairs with the text of each pair, and 1 minus that of distinct partners of the text.

    Args:
        pairs: own hash, hash of the partner, and row number of each pair: uint64 [n, 3]. All pairs with a text.
        num_pairs: receives the first number of each pair at its row number.
        num_partners: receives the second number of each pair at its row number.
    """
    if not len(pairs):
        return
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    own, partner = pairs[order, 0], pairs[order, 1]
    begins = np.ones(len(own), dtype=np.bool_)
    begins[1:] = own[1:] != own[:-1]
    is_distinct = begins.copy()
    is_distinct[1:] |= partner[1:] != partner[:-1]
    del own, partner
    starts = np.flatnonzero(begins)
    text = np.empty(len(order), dtype=np.int64)  # of each pair, in the order of `pairs`
    text[order] = np.cumsum(begins) - 1
    counts = np.diff(np.append(starts, len(order)))
    distinct = np.add.reduceat(is_distinct, starts, dtype=np.int64)
    rows = pairs[:, 2].astype(np.int64)
    num_pairs[rows] = 1.0 - counts[text]
    num_partners[rows] = 1.0 - distinct[text]
