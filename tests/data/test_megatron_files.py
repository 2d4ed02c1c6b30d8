"""Token ids in the files of Megatron-LM are those of the store, read back by the layout that Megatron Core reads."""

import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.exchange.megatron_files import largest_id_of, write_sides
from mtx.errors import DataError

SOURCE, TARGET = [[5, 6, 7], [], [65_535]], [[4], [8, 9], []]


def batch(source: list[list[int]], target: list[list[int]]) -> pa.RecordBatch:
    columns = {"source_ids": source, "target_ids": target}
    return pa.record_batch({name: pa.array(ids, pa.large_list(pa.uint32())) for name, ids in columns.items()})


def read(stem: Path) -> tuple[list[list[int]], np.dtype]:
    """Read the sequences as Megatron Core's `_IndexReader` and `_MMapBinReader` do."""
    index = stem.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, num_sequences, num_documents = struct.unpack_from("<QBQQ", index, 9)
    assert (version, num_documents) == (1, num_sequences + 1)
    dtype = np.dtype({4: "<i4", 8: "<u2"}[code])
    at = 9 + struct.calcsize("<QBQQ")
    sizes = np.frombuffer(index, "<i4", num_sequences, at)
    offsets = np.frombuffer(index, "<i8", num_sequences, at + sizes.nbytes)
    documents = np.frombuffer(index, "<i8", num_documents, at + sizes.nbytes + offsets.nbytes)
    assert documents.tolist() == list(range(num_documents))
    assert len(index) == at + sizes.nbytes + offsets.nbytes + documents.nbytes
    data = stem.with_suffix(".bin").read_bytes()
    pairs = zip(sizes.tolist(), offsets.tolist(), strict=True)
    return [np.frombuffer(data, dtype, size, offset).tolist() for size, offset in pairs], dtype


@pytest.mark.parametrize(("more", "dtype"), [(3, "<u2"), (70_000, "<i4")])
def test_sequence_k_of_both_sides_is_pair_k(tmp_path: Path, more: int, dtype: str) -> None:
    batches = [batch(SOURCE, TARGET), batch([], []), batch([[more]], [[1, 2]]).slice(0)]
    largest = largest_id_of(batches, "encoded-1")
    assert largest == max(65_535, more)
    assert write_sides(batches, tmp_path, largest_id=largest) == 4
    assert read(tmp_path / "source") == ([*SOURCE, [more]], np.dtype(dtype))
    assert read(tmp_path / "target") == ([*TARGET, [1, 2]], np.dtype(dtype))


def test_slices_and_no_pairs(tmp_path: Path) -> None:
    write_sides([batch(SOURCE, TARGET).slice(1, 2)], tmp_path, largest_id=65_535)
    assert read(tmp_path / "source")[0] == SOURCE[1:]
    (tmp_path / "none").mkdir()
    assert write_sides([], tmp_path / "none", largest_id=0) == 0
    assert read(tmp_path / "none" / "source")[0] == []


def test_a_dataset_without_ids_is_told_with_what_to_type() -> None:
    texts = pa.record_batch({"src": ["a"], "tgt": ["b"]})
    with pytest.raises(DataError, match=r"text-1 has none\. Choose .* mtx task=show stage=encoded lists them"):
        largest_id_of([texts], "text-1")
