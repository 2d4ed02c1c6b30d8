"""Canonical batches: equal rows, and equal bytes of a file whatever was behind nulls and whatever masks there were."""

import datetime
import io

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.canonical_batches import canonical_batch


def file_bytes(batch: pa.RecordBatch) -> bytes:
    target = io.BytesIO()
    with pa.ipc.new_file(target, batch.schema) as writer:
        writer.write_batch(batch)
    return target.getvalue()


def garbage(values: list[object], kind: pa.DataType) -> pa.Array:
    """Return an array with other bytes behind its nulls, and with a mask in any case."""
    plain = pa.array(values, kind)
    valid = np.array([value is not None for value in values])
    data = bytearray(plain.buffers()[1].to_pybytes())
    if pa.types.is_boolean(kind):
        data[0] |= int(np.packbits(~valid, bitorder="little")[0])
    else:
        width = kind.bit_width // 8
        for place in np.flatnonzero(~valid):
            data[place * width : (place + 1) * width] = b"\x7f" * width
    mask = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [mask, pa.py_buffer(bytes(data))])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.5, None, -2.0, None], pa.float64()),
        ([True, None, False, None], pa.bool_()),
        ([7, None, -9, None], pa.int32()),
        ([datetime.date(2024, 5, 1), None, None, None], pa.date32()),
        ([datetime.datetime(2024, 5, 1), None, None, None], pa.timestamp("us")),  # the type has no zone
    ],
)
def test_bytes_behind_nulls_are_zero(values: list[object], kind: pa.DataType) -> None:
    clean, other = pa.array(values, kind), garbage(values, kind)
    assert clean.to_pylist() == other.to_pylist() == values
    texts = pa.array(["a", "b", "c", "d"], pa.large_string())
    lists = [pa.ListArray.from_arrays([0, 1, 2, 2, 4], each) for each in (clean, other)]
    structs = [pa.StructArray.from_arrays([each, texts], ["x", "y"]) for each in (clean, other)]
    batches = [
        canonical_batch(pa.record_batch({"src": texts, "x": each, "list": one, "struct": two}))
        for each, one, two in zip((clean, other), lists, structs, strict=True)
    ]
    assert file_bytes(batches[0]) == file_bytes(batches[1])
    assert batches[1]["x"].to_pylist() == values
    assert batches[1]["list"].to_pylist() == [[values[0]], [values[1]], [], values[2:]]
    assert [each["x"] for each in batches[1]["struct"].to_pylist()] == values
    sliced = canonical_batch(pa.record_batch({"x": pa.concat_arrays([other, other]).slice(3, 4)}))
    assert sliced["x"].to_pylist() == [values[3], *values[:3]]


def test_nested_nulls_stay() -> None:
    rows = [{"x": [None, 1]}, {"x": None}, None, {"x": []}]
    batch = pa.record_batch({"s": pa.array(rows), "l": pa.array([[{"a": None}], None, [], [None, {"a": 2}]])})
    for part in (batch, batch.slice(1, 3)):
        assert canonical_batch(part).to_pylist() == part.to_pylist()
        canonical_batch(part).validate(full=True)


def test_masks_without_nulls_and_bytes_behind_values_are_left_out() -> None:
    texts = pa.array(["a", "bc", "d" * 70], pa.large_string())
    padded = pa.Array.from_buffers(texts.type, 2, texts.buffers())  # the last text is behind the values
    batch = pa.record_batch({"x": garbage([1, 2], pa.int64()), "src": padded})
    clean = pa.record_batch({"x": pa.array([1, 2]), "src": pa.array(["a", "bc"], pa.large_string())})
    found = canonical_batch(batch)
    assert found.equals(clean)
    assert [None if each is None else each.size for each in found["src"].buffers()] == [None, 24, 3]
    assert [None if each is None else each.size for each in found["x"].buffers()] == [None, 16]
    assert file_bytes(found) == file_bytes(canonical_batch(clean))
    empty = clean.slice(0, 0)
    assert canonical_batch(empty).schema == empty.schema
    assert canonical_batch(empty).num_rows == 0
