"""Write the token ids of a dataset as the memory-mapped files of Megatron-LM: `source.bin`, `source.idx`, and `target`.

The layout is that of `IndexedDataset` of Megatron Core. A `.bin` file has all ids one after another. An `.idx` file has
the type of the ids, the length and the byte offset of each sequence, and the first sequence of each document. Here each
sequence is a document, so that sequence k of both sides is pair k. Numbers are little-endian.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.errors import DataError
from mtx.infra.dal.atomic_file import convert_disk_errors

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
TYPE_CODES: dict[np.dtype[Any], int] = {np.dtype("<u2"): 8, np.dtype("<i4"): 4}  # as Megatron numbers them
MAX_SMALL_ID = (1 << 16) - 1  # ids up to this one are stored in two bytes
SIDES = ("source", "target")


def write_sides(batches: Iterable[pa.RecordBatch], folder: Path, *, largest_id: int) -> int:
    """Write both sides of encoded pairs, and return the number of pairs.

    Args:
        batches: record batches with the columns `source_ids` and `target_ids`.
        folder: the folder of the four files.
        largest_id: the largest id of both sides, which decides the type of the ids.

    Raises StoreError if writing fails.
    """
    dtype: np.dtype[Any] = np.dtype("<u2") if largest_id <= MAX_SMALL_ID else np.dtype("<i4")
    lengths: dict[str, list[NDArray[np.int32]]] = {side: [] for side in SIDES}
    with convert_disk_errors(folder):
        files = {side: (folder / f"{side}.bin").open("xb") for side in SIDES}
        try:
            for batch in batches:
                for side, file in files.items():
                    column = batch.column(f"{side}_ids")
                    file.write(pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(dtype).tobytes())
                    lengths[side].append(pc.list_value_length(column).to_numpy(zero_copy_only=False).astype("<i4"))
        finally:
            for file in files.values():
                file.close()
        num_pairs = 0
        for side in SIDES:
            sizes = np.concatenate(lengths[side]) if lengths[side] else np.zeros(0, dtype="<i4")
            num_pairs = len(sizes)
            with (folder / f"{side}.idx").open("xb") as index:
                _write_index(index, sizes, dtype)
    return num_pairs


def largest_id_of(batches: Iterable[pa.RecordBatch], dataset_id: str) -> int:
    """Return the largest token id of both sides; 0 without ids. Raises DataError if the rows have no token ids."""
    largest = 0
    for batch in batches:
        if not {f"{side}_ids" for side in SIDES} <= set(batch.schema.names):
            raise DataError(
                f"format=megatron writes token ids, but {dataset_id} has none. Choose a dataset of the stage encoded: "
                "mtx task=show stage=encoded lists them"
            )
        found = [pc.max(pc.list_flatten(batch.column(f"{side}_ids"))).as_py() for side in SIDES]
        largest = max(largest, *(each or 0 for each in found))
    return largest


def _write_index(file: IO[bytes], sizes: NDArray[np.int32], dtype: np.dtype[Any]) -> None:
    offsets = np.zeros(len(sizes), dtype="<i8")
    np.cumsum(sizes[:-1].astype(np.int64) * dtype.itemsize, out=offsets[1:])
    file.write(MAGIC + struct.pack("<QBQQ", VERSION, TYPE_CODES[dtype], len(sizes), len(sizes) + 1))
    for part in (sizes, offsets, np.arange(len(sizes) + 1, dtype="<i8")):
        file.write(part.tobytes())
