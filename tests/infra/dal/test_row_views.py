"""Rows that are taken from others: some replaced, some selected; the same as a list would give."""

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.infra.dal import row_views
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.row_views import PatchedRows, SelectedRows

Row = dict[str, Any]


def rows_of(texts: list[str], chunk: int = 3, **columns: pa.DataType) -> Rows:
    """Hold texts in chunks of a few rows, with a number beside each."""
    table = pa.table(
        {
            "src": pa.array(texts, pa.large_string()),
            "tgt": pa.array([text.upper() for text in texts], pa.large_string()),
            "score": pa.array(range(len(texts)), pa.float64()),
        }
    )
    return Rows(pa.Table.from_batches(table.to_batches(max_chunksize=chunk), schema=table.schema))


def changes_of(changed: dict[int, str]) -> Rows:
    rows = sorted(changed)
    return Rows(
        pa.table(
            {
                "row": pa.array(rows, pa.int64()),
                "src": pa.array([changed[row] for row in rows], pa.large_string()),
                "tgt": pa.array([changed[row] * 2 for row in rows], pa.large_string()),
            }
        )
    )


def numbers_of(rows: list[int]) -> Rows:
    return Rows(pa.table({"row": pa.array(rows, pa.uint32())}))


def check(view: Rows, expected: list[Row]) -> None:
    """Read a view in every way that rows can be read."""
    assert len(view) == len(expected)
    assert list(view) == expected
    assert [view[row] for row in range(len(view))] == expected
    assert view[1:3] == expected[1:3]
    assert view.table.to_pylist() == expected
    assert view.table.schema == view.schema
    order = list(range(len(view)))[::-1] * 2
    assert view.take(order) == [expected[row] for row in order]
    for name in view.schema.names:
        assert view.column(name).to_pylist() == [row[name] for row in expected]
    assert [row for batch in view.batches(["tgt"]) for row in batch.to_pylist()] == [
        {"tgt": row["tgt"]} for row in expected
    ]
    assert list(pickle.loads(pickle.dumps(view))) == expected
    with pytest.raises(IndexError):
        view[len(view)]


TEXTS = st.lists(st.text(st.sampled_from("ab語😀 "), max_size=3), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, seed=st.integers(0, 99), size=st.integers(1, 5))
def test_patched_rows_are_the_originals_but_for_what_changed(texts: list[str], seed: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_views, "ROWS_PER_BATCH", size)
        random = np.random.default_rng(seed)
        changed = {row: f"new {row}" for row in range(len(texts)) if random.random() < 0.4}
        expected = [
            {"src": changed.get(row, text), "tgt": changed[row] * 2 if row in changed else text.upper(), "score": row}
            for row, text in enumerate(texts)
        ]
        check(PatchedRows(rows_of(texts), changes_of(changed)), expected)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(TEXTS, min_size=1, max_size=3), seed=st.integers(0, 99), size=st.integers(1, 5))
def test_selected_rows_are_those_named_of_all_bases_put_end_to_end(
    parts: list[list[str]], seed: int, size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_views, "ROWS_PER_BATCH", size)
        random = np.random.default_rng(seed)
        limits = [int(random.integers(1, len(part) + 1)) for part in parts]
        bases: list[Rows] = [rows_of(part) for part in parts]
        bases[0] = PatchedRows(bases[0], changes_of({0: "first"}))
        all_rows = [
            {**row, "source": 7 + number}
            for number, (base, limit) in enumerate(zip(bases, limits, strict=True))
            for row in base[:limit]
        ]
        chosen = random.integers(0, len(all_rows), int(random.integers(0, 9))).tolist()
        expected = [
            {**{name: all_rows[row][name] for name in ("src", "tgt", "score")}, "row": row,
             "source": all_rows[row]["source"]}
            for row in chosen
        ]  # fmt: skip
        view = SelectedRows(bases, limits, numbers_of(chosen), [7 + number for number in range(len(parts))])
        check(view, expected)


def test_without_numbers_for_sources_there_is_no_such_column() -> None:
    view = SelectedRows([rows_of(["a", "b"])], [2], numbers_of([1]), [None])
    assert list(view) == [{"src": "b", "tgt": "B", "score": 1.0, "row": 1}]
    with pytest.raises(KeyError):
        view.column("source")


def test_columns_that_not_all_bases_have_are_left_out() -> None:
    other = Rows(rows_of(["c"]).table.drop_columns(["score"]))
    assert SelectedRows([rows_of(["a"]), other], [1, 1], numbers_of([1, 0])).schema.names == ["src", "tgt", "row"]


def test_rows_of_a_selection_are_selected_again() -> None:
    inner = SelectedRows([rows_of(list("abcdefgh"))], [8], numbers_of([7, 1, 5, 3]), [4])
    outer = SelectedRows([inner, rows_of(list("xyz"))], [4, 2], numbers_of([3, 0, 5]))
    found = [{"src": text, "tgt": text.upper(), "score": score} for text, score in (("d", 3.0), ("h", 7.0), ("y", 1.0))]
    check(outer, [{**row, "row": number} for row, number in zip(found, [3, 0, 5], strict=True)])
