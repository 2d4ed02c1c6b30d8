"""Compressed payload gives the same rows as other payload, to every reader, and says when it is damaged."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx.errors import DamagedError
from mtx.infra.dal import compressed_rows
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.compressed_rows import CompressedRows
from mtx.infra.dal.row_views import PatchedRows, SelectedRows

NASTY = ["", "e\u0301", "العربية", "日本語。", "a\x00b", "w" * 3000, "plain", "x"]
PAIRS = [{"src": NASTY[n % 8], "tgt": f"target {n}", "talk": None if n % 3 else n} for n in range(23)]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    monkeypatch.setattr(compressed_rows, "ROWS_PER_CHUNK", 4)
    monkeypatch.setattr(compressed_rows, "CACHED_BYTES", 300)
    layer = ArrowFileLayer(location=tmp_path, compress_text=True)
    batches = pa.Table.from_pylist(PAIRS).to_batches(max_chunksize=5)
    info = layer.create("raw", batches)
    assert (info.num_rows, info.num_bytes) == (23, (tmp_path / "raw.arrow").stat().st_size)
    return ArrowFileLayer(location=tmp_path).read("raw")


def test_every_access_gives_the_rows(rows: Rows) -> None:
    assert isinstance(rows, CompressedRows)
    assert (len(rows), rows.schema.names, rows.schema.metadata) == (23, ["src", "tgt", "talk"], None)
    assert list(rows) == PAIRS
    assert [rows[number] for number in range(23)] == PAIRS
    assert rows[-1] == PAIRS[-1]
    assert rows[3:9] == PAIRS[3:9]
    assert rows[5:5] == []
    assert rows.take([22, 0, 7, 7]) == [PAIRS[22], PAIRS[0], PAIRS[7], PAIRS[7]]
    assert rows.table.to_pylist() == PAIRS
    assert rows.column("tgt").to_pylist() == [pair["tgt"] for pair in PAIRS]
    assert [row for batch in rows.range_batches(2, 22, ["tgt"]) for row in batch.to_pylist()] == [
        {"tgt": pair["tgt"]} for pair in PAIRS[2:22]
    ]
    assert list(pickle.loads(pickle.dumps(rows))) == PAIRS
    with pytest.raises(IndexError):
        rows[23]


def test_record_batches_are_kept_up_to_a_number_of_bytes_but_the_last_one_always(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    decompressed: list[int] = []
    chunks, _ = rows.chunks
    decompress = chunks._decompressed  # type: ignore[attr-defined]

    def watched(number: int) -> pa.RecordBatch:
        decompressed.append(number)
        return decompress(number)

    monkeypatch.setattr(chunks, "_decompressed", watched)
    assert [rows[number]["tgt"] for number in (0, 1, 4, 5)] == ["target 0", "target 1", "target 4", "target 5"]
    assert decompressed == [0, 1]  # the second has a long text, and is kept alone
    assert [rows[number]["tgt"] for number in (0, 8, 0, 8)] == ["target 0", "target 8"] * 2
    assert decompressed == [0, 1, 0, 2]


def test_a_few_rows_are_decompressed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [{"src": f"source {n}", "tgt": f"target {n}"} for n in range(100)]
    monkeypatch.setattr(compressed_rows, "ROWS_PER_CHUNK", 32)
    monkeypatch.setattr(compressed_rows, "CACHED_BYTES", 1)
    layer = ArrowFileLayer(location=tmp_path, compress_text=True)
    layer.create("raw", pa.Table.from_pylist(pairs).to_batches())
    rows = layer.read("raw")
    text = PatchedRows(rows, Rows.of([{"row": 99, "src": "new", "tgt": "neu"}]))
    decompressed: list[int] = []
    chunks, _ = rows.chunks
    decompress = chunks._decompressed  # type: ignore[attr-defined]
    monkeypatch.setattr(chunks, "_decompressed", lambda number: decompressed.append(number) or decompress(number))

    def selected(*numbers: int) -> list[dict[str, str]]:
        view = SelectedRows([text], [100], Rows(pa.table({"row": numbers})))
        return [{name: row[name] for name in ("src", "tgt")} for row in view]

    found = {numbers: selected(*numbers) for numbers in [(2, 7, 40, 90), (7, 90), (90, 2), (7, 7)]}
    assert decompressed == [0, 1, 2]
    assert all(of == [pairs[number] for number in numbers] for numbers, of in found.items())
    assert selected(7, 41) == [pairs[7], pairs[41]]
    assert decompressed == [0, 1, 2, 1]  # the first part has row 7, the second no row 41
    monkeypatch.setattr(compressed_rows, "SELECTED_BYTES", 1)
    assert selected(1, 33) == [pairs[1], pairs[33]]
    assert selected(1, 33) == [pairs[1], pairs[33]]
    assert decompressed == [0, 1, 2, 1, 0, 1, 0, 1]


def views(raw: Rows) -> list[Rows]:
    changed = Rows.of([{"row": 2, "src": "new", "tgt": "neu"}, {"row": 21, "src": "also", "tgt": "auch"}])
    text = PatchedRows(raw, changed)
    chosen = Rows(pa.table({"row": pa.array([0, 2, 3, 20, 21, 24, 30], pa.uint32())}))
    selected = SelectedRows([text, raw], [23, 9], chosen, [4, 7])
    return [text, selected, SelectedRows([selected], [7], Rows(pa.table({"row": pa.array([6, 3, 1, 0], pa.uint32())})))]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_views_of_compressed_rows_equal_views_of_others(rows: Rows, number: int) -> None:
    found, expected = views(rows)[number], views(Rows(rows.table))[number]
    assert found.is_compressed
    assert not expected.is_compressed
    assert found.schema == expected.schema
    assert list(found) == list(expected)
    assert [found[row] for row in range(len(found))] == list(expected)
    assert found.take([3, 1, 1]) == expected.take([3, 1, 1])
    assert found[1:4] == expected[1:4]
    assert found.table == expected.table
    assert found.column("src") == expected.column("src")


@pytest.mark.parametrize("pairs", [[], PAIRS[:1], PAIRS[:4]])
def test_few_pairs_and_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: list[dict[str, Any]]) -> None:
    monkeypatch.setattr(compressed_rows, "ROWS_PER_CHUNK", 4)
    layer = ArrowFileLayer(location=tmp_path, compress_text=True)
    layer.create("raw", pa.Table.from_pylist(pairs, schema=pa.Table.from_pylist(PAIRS).schema).to_batches() or [
        pa.RecordBatch.from_pylist([], schema=pa.Table.from_pylist(PAIRS).schema)
    ])  # fmt: skip
    found = layer.read("raw")
    assert list(found) == pairs
    assert found[0:5] == pairs
    assert found.take([]) == []


def test_text_takes_less_space_and_other_rows_stay_as_they_are(tmp_path: Path) -> None:
    texts = pa.array([f"the number {n} of a text that repeats" for n in range(5000)], pa.large_string())
    pairs, ids = pa.table({"src": texts, "tgt": texts}), pa.table({"row": pa.array(np.arange(99)), "src": texts[:99]})
    sizes = []
    for compress_text in (False, True):
        layer = ArrowFileLayer(location=tmp_path / str(compress_text), compress_text=compress_text)
        sizes.append(layer.create("raw", pairs).num_bytes)
        layer.create("changes", ids)
    assert sizes[1] < sizes[0] / 3
    one, other = ((tmp_path / name / "changes.arrow").read_bytes() for name in ("False", "True"))
    assert one == other


def test_a_changed_byte_is_told_and_ends_no_process(rows: Rows, tmp_path: Path) -> None:
    path = tmp_path / "raw.arrow"
    content = bytearray(path.read_bytes())
    magic = content.index(b"\x28\xb5\x2f\xfd")  # the start of a Zstandard frame
    content[magic : magic + 4] = bytes(4)
    path.write_bytes(content)
    damaged = ArrowFileLayer(location=tmp_path).read("raw")
    with pytest.raises(DamagedError, match=r"raw\.arrow cannot be decompressed: .*mtx task=verify"):
        list(damaged)


def test_the_digest_of_large_and_small_buffers_is_that_of_the_file(tmp_path: Path) -> None:
    batches = [pa.record_batch({"ids": np.arange(size)}) for size in (3, 400_000, 5)]
    info = ArrowFileLayer(location=tmp_path).create("encoded", batches)
    stored = (tmp_path / "encoded.arrow").read_bytes()
    assert (info.num_bytes, info.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
