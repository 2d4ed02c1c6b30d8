"""`canonical_batch`: a record batch whose bytes depend on its values alone, not on how a source was read.

Arrow says nothing of the value behind a null, and an array without nulls may have a mask of them. Readers of formats
leave there what they had in memory, which depends on where a file was cut.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LARGE_BYTES = 1 << 20  # from about these bytes on, a mask could change into how many rows a batch is divided


def canonical_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the same rows with zeros behind nulls, and without masks where nothing is null."""
    if batch.nbytes < LARGE_BYTES and not any(_may_have_nulls(column) for column in batch.columns):
        return batch
    batch = pa.ipc.read_record_batch(batch.serialize(), batch.schema)  # the format has no masks without nulls
    return pa.RecordBatch.from_arrays([_zeroed(column) for column in batch.columns], schema=batch.schema)


def _may_have_nulls(array: pa.Array) -> bool:
    return bool(array.null_count) or pa.types.is_nested(array.type)


def _zeroed(array: pa.Array) -> pa.Array:
    """Return an array that begins at its buffers' start, with zeros behind nulls."""
    kind = array.type
    if not _may_have_nulls(array):
        return array
    if pa.types.is_nested(kind):
        children = array.flatten() if pa.types.is_struct(kind) else [array.values]
        buffers = array.buffers()[: 1 if pa.types.is_struct(kind) or pa.types.is_fixed_size_list(kind) else 2]
        fields = [_zeroed(child) for child in children]
        return pa.Array.from_buffers(kind, len(array), buffers, array.null_count, children=fields)
    if not (pa.types.is_primitive(kind) or pa.types.is_boolean(kind)):
        return array  # no text is behind a null
    zero = pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(bytes(8))])[0]  # numbers, Booleans, dates and times
    filled = pc.fill_null(array, zero)
    mask = np.packbits(array.is_valid().to_numpy(zero_copy_only=False), bitorder="little")
    return pa.Array.from_buffers(kind, len(array), [pa.py_buffer(mask), filled.buffers()[1]], array.null_count)
