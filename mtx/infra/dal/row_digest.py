"""A digest of the values of rows. It does not depend on the file format or on the division into record batches.

The manifest of a dataset contains the digest of each shard. With these digests, `mtx task=verify` can name the shard of
a damaged dataset.
"""

import hashlib
from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa

from mtx.errors import DataError


class RowDigest:
    """Incremental SHA-256 of record batches that have one schema.

    The digest hashes each column in three separate streams, called lanes. They are the row numbers of null values, the
    lengths of the values, and the bytes of the values. Because each lane has its own hash, the digest is the same for
    every division into batches. Values are little-endian.

    Attributes:
        num_rows: number of rows added so far.
        num_bytes: number of bytes hashed so far: the bytes of the values, 8 for each length, and 8 for each null value.
    """

    def __init__(self) -> None:
        self.num_rows = 0
        self.num_bytes = 0
        self._lanes: dict[str, Any] = defaultdict(hashlib.sha256)
        self._lengths: dict[str, int] = defaultdict(int)

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a record batch to the digest.

        Raises DataError for an unsupported column type, such as a union.
        """
        self.num_rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            self._add(name, column)

    def hexdigest(self) -> str:
        """Return the SHA-256 of all rows added so far, in hex."""
        lanes = sorted((name, lane.hexdigest()) for name, lane in self._lanes.items())
        return hashlib.sha256("\n".join([str(self.num_rows), *map(str, lanes)]).encode()).hexdigest()

    def _add(self, lane: str, array: pa.Array) -> None:
        kind = array.type
        if array.null_count:
            nulls = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
            self._update(f"{lane}/null", (nulls + self._lengths[lane]).astype("<i8"))
        self._lengths[lane] += len(array)
        array = array.drop_null() if array.null_count else array
        if pa.types.is_dictionary(kind):
            self._add(lane, array.dictionary_decode())
        elif pa.types.is_null(kind):
            return
        elif pa.types.is_boolean(kind):
            self._update(lane, array.cast(pa.uint8()).to_numpy())
        elif pa.types.is_struct(kind):
            for field, child in zip(kind, array.flatten(), strict=True):
                self._add(f"{lane}/{field.name}", child)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self._update(f"{lane}/length", np.diff(array.offsets.to_numpy()).astype("<i8"))
            self._add(f"{lane}/item", array.flatten())
        elif pa.types.is_fixed_size_list(kind):
            self._add(f"{lane}/item", array.flatten())
        elif _is_bytes(kind):
            array = array.cast(pa.large_binary())
            offsets = np.frombuffer(array.buffers()[1], dtype="<i8", count=len(array) + 1, offset=8 * array.offset)
            self._update(f"{lane}/length", np.diff(offsets))
            if offsets[-1] > offsets[0]:
                self._update(lane, memoryview(array.buffers()[2])[offsets[0] : offsets[-1]])
        elif pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
            width = kind.bit_width // 8
            if len(array):
                self._update(lane, memoryview(array.buffers()[1])[array.offset * width :][: len(array) * width])
        else:
            raise DataError(f"the column {lane!r} has the type {kind}, which mtx cannot store. Leave this column out")

    def _update(self, lane: str, data: Any) -> None:
        if size := memoryview(data).nbytes:  # no lane is created for zero bytes, so an empty batch changes nothing
            self._lanes[lane].update(data)
            self.num_bytes += size


def _is_bytes(kind: pa.DataType) -> bool:
    """Return whether values of the type `kind` are texts or byte strings of variable length."""
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in (*tests, types.is_string_view, types.is_binary_view))


def digest_of(table: pa.Table) -> str:
    """Return the digest of all rows of a table, in hex. Raises DataError for an unsupported column type."""
    digest = RowDigest()
    for batch in table.to_batches():
        digest.add(batch)
    return digest.hexdigest()
