"""A digest of rows: by their values, whatever the batches, the offsets and the file format they lie in."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtx.errors import DataError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.row_digest import RowDigest, digest_of

ROWS = pa.table(
    {
        "text": pa.array(["one", None, "", "zwei é", None, "x"], pa.large_string()),
        "short": pa.array(["a", "b", None, None, "", "c"], pa.string()),
        "number": pa.array([1, None, 3, None, 5, 6], pa.int64()),
        "share": pa.array([0.5, 1.0, None, -2.0, 0.0, 4.0], pa.float32()),
        "flag": pa.array([True, None, False, True, False, True]),
        "ids": pa.array([[1, 2], [], None, [3], [4, None], [5]], pa.large_list(pa.uint16())),
        "tags": pa.array([["x"], ["y", "z"], None, [], [None], ["w"]], pa.list_(pa.string())),
        "when": pa.array([0, 1, None, 3, 4, 5], pa.timestamp("us")),
        "nothing": pa.nulls(6),
        "inner": pa.array([{"a": 1}, {"a": None}, None, {"a": 4}, {"a": 5}, {"a": 6}]),
    }
)


@given(cuts=st.lists(st.integers(0, 6), max_size=6).map(sorted))
def test_it_does_not_depend_on_how_rows_are_cut(cuts: list[int]) -> None:
    edges = [0, *cuts, 6]
    pieces = [ROWS.slice(low, high - low) for low, high in pairwise(edges)]
    digest, fresh = RowDigest(), RowDigest()
    for piece in pieces:
        for batch in piece.to_batches():
            digest.add(batch)
    fresh.add(pa.Table.from_pylist(ROWS.to_pylist(), schema=ROWS.schema).combine_chunks().to_batches()[0])
    assert (digest.hexdigest(), digest.num_rows, digest.num_bytes) == (fresh.hexdigest(), 6, fresh.num_bytes)


@pytest.mark.parametrize("column", [name for name in ROWS.column_names if name != "nothing"])
@pytest.mark.parametrize("row", range(6))
def test_every_value_counts(column: str, row: int) -> None:
    values: list[Any] = ROWS[column].to_pylist()
    other = next(value for value in values if value is not None and value != values[row])
    changed = pa.array([*values[:row], other, *values[row + 1 :]], ROWS[column].type)
    assert digest_of(ROWS.set_column(ROWS.column_names.index(column), column, changed)) != digest_of(ROWS)


def test_texts_that_are_cut_at_another_place_differ() -> None:
    assert digest_of(pa.table({"text": ["ab", "c"]})) != digest_of(pa.table({"text": ["a", "bc"]}))


def test_it_is_the_same_in_every_later_version_and_on_every_machine() -> None:
    pairs = pa.table({"row": pa.array([3, 5]), "src": pa.array(["one", "two"], pa.large_string())})
    assert digest_of(pairs) == "7c64aea73b596e32c005051e38ae961c10b7a5116de93554c52c1cf235c397b0"


@pytest.mark.parametrize("layer", [ArrowFileLayer, FileAccessLayer])
def test_it_is_the_same_in_every_file_format(tmp_path: Path, layer: Any) -> None:
    pairs = ROWS.select(["text", "short", "number", "share", "flag", "tags", "ids"])
    layer(location=tmp_path).create("one", pairs)
    assert digest_of(layer(location=tmp_path).read("one").table) == digest_of(pairs)


def test_types_that_cannot_be_stored_are_refused_by_name() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(DataError, match=r"the column 'odd' has the type sparse_union<.*>, which mtx cannot store"):
        digest_of(pa.table({"odd": union}))
