"""`canonical_batch`: a record batch whose bytes depend on its values alone, not on how a source was read.

Arrow says nothing of the value behind a null, of the bytes behind the last value, and an array without nulls may have a
mask of them. Readers of formats leave there what they had in memory, which depends on where a file was cut.
"""

import numpy as np
import pyarrow as pa


def canonical_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the same rows with zeros behind nulls, with buffers that end with their values, and no needless masks."""
    plain = pa.ipc.read_record_batch(batch.serialize(), batch.schema)  # its arrays begin at their buffers' start
    return pa.RecordBatch.from_arrays([_canonical(column) for column in plain.columns], schema=batch.schema)


def _canonical(array: pa.Array) -> pa.Array:
    kind, size, types = array.type, len(array), pa.types
    buffers = array.buffers()
    mask = None
    if array.null_count:
        mask = pa.py_buffer(np.packbits(array.is_valid().to_numpy(zero_copy_only=False), bitorder="little"))
    if types.is_struct(kind):
        children = [_canonical(child) for child in array.flatten()]
        return pa.Array.from_buffers(kind, size, [mask], array.null_count, children=children)
    if types.is_list(kind) or types.is_large_list(kind):
        offsets = array.offsets
        values = _canonical(array.values.slice(0, offsets[-1].as_py()))
        ends = offsets.buffers()[1].slice(0, (size + 1) * offsets.type.bit_width // 8)
        return pa.Array.from_buffers(kind, size, [mask, ends], array.null_count, children=[values])
    if types.is_large_string(kind) and buffers[1] is not None and buffers[1].size:
        ends = buffers[1].slice(0, 8 * (size + 1))
        num_bytes = int(np.frombuffer(ends, dtype=np.int64)[-1])
        texts = pa.py_buffer(b"") if buffers[2] is None else buffers[2].slice(0, num_bytes)
        return pa.Array.from_buffers(kind, size, [mask, ends, texts], array.null_count)
    if types.is_boolean(kind):
        bits = np.packbits(array.fill_null(False).to_numpy(zero_copy_only=False), bitorder="little")
        return pa.Array.from_buffers(kind, size, [mask, pa.py_buffer(bits)], array.null_count)
    if types.is_primitive(kind) and size:
        width = kind.bit_width // 8
        values = buffers[1].slice(0, size * width)
        if mask is not None:
            filled = np.frombuffer(values, dtype=np.uint8).reshape(size, width).copy()
            filled[~array.is_valid().to_numpy(zero_copy_only=False)] = 0
            values = pa.py_buffer(filled)
        return pa.Array.from_buffers(kind, size, [mask, values], array.null_count)
    return array
