"""Texts read by index from their buffers: the same as Arrow's own reading, whatever the chunks."""

import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.errors import DamagedError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.text_column_reader import TextColumn
from mtx.infra.dataset.load import PTDataset

TEXTS = ["", "a", "Grüße", "日本語の文", "\x00", "👩‍👩‍👧", "x" * 5000]
chunked = st.lists(st.lists(st.sampled_from(TEXTS), max_size=5), min_size=1, max_size=6)


@settings(deadline=None)
@given(chunked, st.sampled_from([pa.string(), pa.large_string()]), st.data())
def test_texts_are_those_that_arrow_reads(chunks: list[list[str]], kind: pa.DataType, data: st.DataObject) -> None:
    column = pa.chunked_array([pa.array(chunk, kind) for chunk in chunks], kind)
    start = data.draw(st.integers(0, len(column)))
    column = column.slice(start, data.draw(st.integers(0, len(column) - start)))
    expected = column.to_pylist()
    rows = data.draw(st.lists(st.integers(0, len(expected) - 1), max_size=9)) if expected else []
    read = TextColumn(column)
    assert read.texts(rows) == [expected[row] for row in rows]
    assert [read.text(row) for row in rows] == [expected[row] for row in rows]


def table() -> pa.Table:
    """Three chunks; beside texts a column with nulls, one of lists and one of numbers."""
    columns = {
        "src": pa.array(["a", "b", "c", "d", "e"], pa.large_string()),
        "note": pa.array(["x", None, "y", None, "z"], pa.large_string()),
        "ids": pa.array([[1], [], [2, 3], [4], [5]], pa.large_list(pa.uint16())),
        "source": pa.array([0, 1, 0, 1, 0], pa.uint16()),
    }
    return pa.Table.from_batches(pa.table(columns).to_batches(max_chunksize=2))


def test_rows_are_taken_in_the_order_that_was_asked_for_any_column_type() -> None:
    rows = Rows(table())
    wanted = [4, 0, 0, 3]
    assert rows.take(wanted) == [rows[i] for i in wanted] == [table().to_pylist()[i] for i in wanted]
    assert rows.take([]) == []


@pytest.mark.parametrize("wanted", [[5], [0, 5], [-1, 2]])
def test_rows_that_are_not_there_are_refused(wanted: list[int]) -> None:
    with pytest.raises(IndexError, match=r"rows -?\d to \d of 5"):
        Rows(table()).take(wanted)


def test_a_text_that_is_no_utf8_is_damage() -> None:
    damaged = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    with pytest.raises(DamagedError, match="contains text that is not valid UTF-8"):
        Rows(pa.table({"src": damaged})).take([0])


def test_mapped_rows_read_the_same_after_a_pickle(tmp_path: Path) -> None:
    layer = ArrowFileLayer(location=tmp_path)
    layer.create("some", table())
    rows = layer.read("some")
    rows.take([1])
    assert pickle.loads(pickle.dumps(rows)).take([1, 4]) == rows.take([1, 4])


@pytest.mark.parametrize("data", [Rows(table()), table().to_pylist()])
def test_a_dataset_gives_a_batch_with_the_rows_numbers(data: Rows | list[dict[str, object]]) -> None:
    batch = PTDataset(data).__getitems__([3, 1])
    assert [(row["src"], row["row_id"]) for row in batch] == [("d", 3), ("b", 1)]
    assert batch == [PTDataset(data)[3], PTDataset(data)[1]]
