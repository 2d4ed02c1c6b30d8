"""Columns beside the two texts: which are kept, of which types, from every format that has any, up to the filter."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtx.components.identity import digest
from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.filter_protocol import PairFilter, count_dropped
from mtx.data.filter.none import NoFilter
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import ConfigError, DataError, MalformedPairError, SourceError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.extra_columns import stored_type
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.infra.dataset.sources.mixture import MixtureDownloader
from mtx.testing import check_downloader

ROWS: list[dict[str, Any]] = [
    {"src": "one", "tgt": "eins", "n": 1, "score": 1, "ok": True, "domain": "news", "tags": ["a", None]},
    {"src": " two", "tgt": "zwei", "n": None, "score": 0.5, "ok": None, "domain": None, "tags": None},
    {"src": "three", "tgt": "drei", "n": -3, "score": None, "ok": False, "domain": "", "tags": []},
]
TYPES = {
    "n": pa.int64(),
    "score": pa.float64(),
    "ok": pa.bool_(),
    "domain": pa.large_string(),
    "tags": pa.list_(pa.large_string()),
}


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(split: str = "train", counts: dict[str, int] | None = None, **options: Any) -> pa.Table:
    downloader = LocalDownloader(**options)
    return pa.Table.from_batches(downloader.batches(split, {} if counts is None else counts))


# Which


def test_without_the_option_texts_come_alone_and_the_id_is_what_it_was(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    assert read(path=path).column_names == ["src", "tgt"]
    assert "columns" not in LocalDownloader(path=path).info().identity
    ids = {digest(LocalDownloader(path=path, columns=c).info().identity) for c in ("none", "all", ["n"], {"n": None})}
    assert len(ids) == 4


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_all_columns_come_along_with_their_types_and_nulls(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        jsonl(path, ROWS)
    found = read(path=path, columns="all")
    assert dict(zip(found.column_names[2:], found.schema.types[2:], strict=True)) == TYPES
    assert found.to_pylist() == ROWS


@pytest.mark.parametrize("options", [{"columns": ["domain", "n"]}, {"columns": {"domain": None, "n": "float"}}])
def test_columns_are_chosen_by_name_in_the_order_given(tmp_path: Path, options: dict[str, Any]) -> None:
    found = read(path=jsonl(tmp_path / "a.jsonl", ROWS), **options)
    assert found.column_names == ["src", "tgt", "domain", "n"]
    assert found.schema.field("n").type == (pa.int64() if isinstance(options["columns"], list) else pa.float64())


def test_objects_in_translation_have_columns_beside_them(tmp_path: Path) -> None:
    rows = [{"translation": {"en": "a", "de": "b"}, "score": 0.5}, {"score": 1, "translation": {"en": "c", "de": "d"}}]
    jsonl(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        found = read(path=tmp_path / name, columns="all")
        assert found.to_pylist() == [
            {"src": "a", "tgt": "b", "score": 0.5},
            {"src": "c", "tgt": "d", "score": 1.0},
        ]


@pytest.mark.parametrize("ending", ["tsv", "csv"])
def test_tables_hold_texts_unless_a_type_says_otherwise(tmp_path: Path, ending: str) -> None:
    tab = "\t" if ending == "tsv" else ","
    lines = [["src", "tgt", "id", "score", "when", "ok"], ["a", "b", "007", "1.5", "2020-02-03T04:05:06", "True"]]
    path = tmp_path / f"a.{ending}"
    path.write_text("".join(tab.join(line) + "\n" for line in [*lines, ["c", "d", "", "", "", ""]]))
    assert read(path=path, columns="all").slice(0, 1).to_pylist()[0]["score"] == "1.5"
    types = {"id": None, "score": "float", "when": "timestamp", "ok": "bool"}
    assert [list(row.values())[2:] for row in read(path=path, columns=types).to_pylist()] == [
        ["007", 1.5, datetime(2020, 2, 3, 4, 5, 6), True],
        ["", None, None, None],
    ]
    path.write_text("a\tb\tnews\n".replace("\t", tab))
    assert read(path=path, header=False, columns=["3"]).to_pylist() == [{"src": "a", "tgt": "b", "3": "news"}]


def test_files_that_lack_a_column_have_nulls_there_and_types_are_those_of_all(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", [{"src": "a", "tgt": "b", "n": 1}])
    jsonl(tmp_path / "b.jsonl", [{"src": "c", "tgt": "d", "n": 0.5, "domain": "x"}])
    (tmp_path / "c.tsv").write_text("src\ttgt\ne\tf\n")
    found = read(path=tmp_path, columns="all")
    assert found.schema.field("n").type == pa.float64()
    assert found.select(["n", "domain"]).to_pylist() == [
        {"n": 1.0, "domain": None},
        {"n": 0.5, "domain": "x"},
        {"n": None, "domain": None},
    ]


def test_every_split_has_the_same_columns(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "a.jsonl", [{"src": "a", "tgt": "b", "n": 1}])
    dev = jsonl(tmp_path / "b.jsonl", [{"src": "c", "tgt": "d"}])
    options: dict[str, Any] = {"path": {"train": str(train), "validation": str(dev)}, "columns": "all"}
    assert read(**options).schema == read("validation", **options).schema
    assert read("validation", **options).to_pylist() == [{"src": "c", "tgt": "d", "n": None}]


def test_it_holds_the_contract_of_all_downloaders(tmp_path: Path) -> None:
    check_downloader(LocalDownloader(path=jsonl(tmp_path / "a.jsonl", ROWS * 3), columns="all"))


def test_columns_that_mtx_has_itself_are_not_kept_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"src": "a", "tgt": "b", "row": 7, "source": "web", "n": 1}])
    assert read(path=path, columns="all").column_names == ["src", "tgt", "n"]
    assert caplog.messages == [f"{path}, line 1: columns not kept, because mtx reserves their names: row, source"]


# Refusals


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("score", r"is none, all, a list of names as \[NAME\], .*but is 'score'"),
        (7, "a list of names .*but is 7"),
        ([1], r"a list of names .*but is \[1\]"),
        (["n", "n"], r"must name each column only once, but is \['n', 'n'\]"),
        (["row"], "cannot keep a column called 'row', because mtx reserves the names src, tgt, row, source"),
        (
            {"n": "number"},
            r"downloader.columns.n must be one of .*int.*, or null for the source's type, but is 'number'",
        ),
    ],
)
def test_an_option_that_will_not_do_is_refused(columns: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LocalDownloader(path="a.jsonl", columns=columns)


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(
        SourceError, match=r"there is no column 'scor' besides the two texts; present: score, .*columns=all"
    ):
        read(path=path, columns=["scor"])
    (tmp_path / "a.en").write_text("a\n")
    (tmp_path / "a.de").write_text("b\n")
    with pytest.raises(SourceError, match="there is no column 'n' besides the two texts; present: none"):
        read(source_path=tmp_path / "a.en", target_path=tmp_path / "a.de", columns=["n"])


BAD = [("n", "x", "a text"), ("n", 0.5, "a number"), ("score", True, "true or false"), ("domain", 3, "a number")]


@pytest.mark.parametrize(("name", "value", "kind"), [*BAD, ("tags", "x", "a text"), ("ok", 1, "a number")])
def test_a_value_of_another_type_is_refused_by_line_and_name_or_counted(
    tmp_path: Path, name: str, value: Any, kind: str
) -> None:
    rows = [*ROWS, {"src": "bad", "tgt": "bad", name: value}, {"src": "four", "tgt": "vier"}]
    types = {"n": "int", "score": "float", "ok": "bool", "domain": "str", "tags": None}
    path = jsonl(tmp_path / "a.jsonl", rows[:-2] * 3400 + rows[-2:])  # behind the lines that tell the types
    with pytest.raises(
        MalformedPairError, match=rf"line 10201: the column '{name}' has the type .*, but here it has {kind} "
    ):
        read(path=path, columns=types)
    counts: dict[str, int] = {}
    found = read(path=path, columns=types, on_error="skip", counts=counts)
    assert counts == {"wrong_type": 1}
    assert found.slice(10_200).select(["src", "n"]).to_pylist() == [{"src": "four", "n": None}]


def test_a_cell_of_another_type_is_refused_by_line_and_name_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for kind, bad in (("int", "1_0"), ("float", "x"), ("bool", "maybe"), ("timestamp", "2020-01-01T00:00:00Z")):
        path.write_text(f"src,tgt,value\na,b,\nc,d,{bad}\n")
        with pytest.raises(MalformedPairError, match=f"line 3: the column 'value' has '{bad}', which is not a {kind}"):
            read(path=path, columns={"value": kind})
        counts: dict[str, int] = {}
        assert read(path=path, columns={"value": kind}, on_error="skip", counts=counts).num_rows == 1
        assert counts == {"wrong_type": 1}


def test_a_parquet_column_that_is_not_of_the_type_named_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"src": ["a"], "tgt": ["b"], "n": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(
        SourceError, match="rows 1 to 1: the column 'n' has a value that is not of type int, such as 'x'"
    ):
        read(path=tmp_path / "a.parquet", columns={"n": "int"})


def test_columns_that_cannot_be_stored_are_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"src": ["a"], "tgt": ["b"], "picture": [b"x"]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="the column 'picture' has the type binary, which mtx cannot store"):
        read(path=tmp_path / "a.parquet", columns="all")
    path = jsonl(tmp_path / "a.jsonl", [{"src": "a", "tgt": "b", "x": 1}, {"src": "a", "tgt": "b", "x": "y"}])
    with pytest.raises(SourceError, match="the column 'x' has values of different types"):
        read(path=path, columns="all")


def test_files_whose_types_do_not_go_together_are_refused(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", [{"src": "a", "tgt": "b", "n": 1}])
    jsonl(tmp_path / "b.jsonl", [{"src": "a", "tgt": "b", "n": "x"}])
    with pytest.raises(SourceError, match=r"the column 'n' has different types in different files: int, str\."):
        read(path=tmp_path, columns="all")


def test_odd_lines_have_the_same_values_as_others(tmp_path: Path) -> None:
    """A line that goes through Python's json: the text is repeated, or half a surrogate stands in a column not kept."""
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"src": "a", "tgt": "b", "n": 1, "score": NaN, "x": "\\ud800"}\n\n{"src": "c", "tgt": "d", "n": null}\n'
    )
    found = read(path=path, columns={"n": "int", "score": "float"}).to_pylist()
    assert [row["n"] for row in found] == [1, None]
    assert str(found[0]["score"]) == "nan"
    assert found[1]["score"] is None


def test_rows_that_are_left_out_leave_the_others_beside_their_values(tmp_path: Path) -> None:
    rows = pa.table({"src": ["a", None, "c", "d"], "tgt": ["b", "x", None, "e"], "n": [1, 2, 3, 4]})
    pq.write_table(rows, tmp_path / "a.parquet")
    found = read(path=tmp_path / "a.parquet", columns="all", on_error="skip")
    assert found.to_pylist() == [{"src": "a", "tgt": "b", "n": 1}, {"src": "d", "tgt": "e", "n": 4}]


def test_types_that_are_stored() -> None:
    assert stored_type(pa.dictionary(pa.int8(), pa.string())) == pa.large_string()
    assert stored_type(pa.list_(pa.large_list(pa.string()))) == pa.list_(pa.list_(pa.large_string()))
    assert stored_type(pa.struct([("a", pa.string())])) == pa.struct([("a", pa.large_string())])
    assert stored_type(pa.timestamp("ns", "UTC")) == pa.timestamp("ns", "UTC")
    assert stored_type(pa.struct([("a", pa.binary())])) is None
    assert stored_type(pa.struct([])) is None


# Through the stages


@dataclass(frozen=True, kw_only=True)
class Scored(PairFilter):
    """Keeps pairs with a score of at least 0.5, and shows what a filter sees."""

    kind = "filter/scored"
    version = 1

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        for batch in pair_batches(pairs):
            assert {name: batch.schema.field(name).type for name in TYPES} == TYPES
            low = pa.compute.less(batch["score"], 0.5).fill_null(True).to_numpy(zero_copy_only=False)
            count_dropped(dropped, "low_score", low, batch)
            yield batch.filter(pa.array(~low))


def prepared(root: Path, objects: Any, files: Any, filter_: PairFilter, downloader: Any) -> tuple[Store, StageIds]:
    store = Store(root=root / "store", objects=objects, files=files)
    return store, prepare(Recipe(downloader, HeldOut(), filter_, ByteTokenization()), store)


@pytest.mark.parametrize(
    ("objects", "files"), [(SQLiteObjectLayer, ArrowFileLayer), (ObjectAccessLayer, FileAccessLayer)]
)
def test_they_travel_from_raw_to_filtered_where_a_filter_chooses_by_them(
    tmp_path: Path, objects: Any, files: Any
) -> None:
    downloader = LocalDownloader(path=jsonl(tmp_path / "a.jsonl", ROWS), columns="all")
    store, ids = prepared(tmp_path, objects, files, Scored(), downloader)
    text = [{**row, "src": row["src"].strip()} for row in ROWS]
    assert list(store.repo.get(ids.raw["train"]).rows) == ROWS
    assert list(store.repo.get(ids.text["train"]).rows) == text
    assert list(store.repo.get(ids.split["train"]).rows) == [{**row, "row": i} for i, row in enumerate(text)]
    kept = [{**row, "row": i} for i, row in enumerate(text[:2])]
    rows = store.repo.get(ids.filtered["train"]).rows
    assert list(rows) == kept
    assert [rows[i] for i in range(2)] == rows.take([0, 1]) == kept
    assert store.repo.manifest(ids.filtered["train"]).metrics["dropped"] == {"low_score": 1}


def test_a_mixture_has_the_columns_that_all_its_sources_have(tmp_path: Path) -> None:
    a = jsonl(tmp_path / "a.jsonl", [{"src": "a", "tgt": "b", "n": 1, "only": 1}])
    b = jsonl(tmp_path / "b.jsonl", [{"src": "c", "tgt": "d", "n": 2}])
    c = jsonl(tmp_path / "c.jsonl", [{"src": "c", "tgt": "d", "n": 0.5}])
    layers = (SQLiteObjectLayer, ArrowFileLayer, NoFilter())
    sources = {"a": {"path": str(a), "columns": "all"}, "b": {"path": str(b), "columns": "all"}}
    store, ids = prepared(tmp_path, *layers, MixtureDownloader(sources=sources))
    found = [(row["src"], row["n"], row["source"]) for row in store.repo.get(ids.filtered["train"]).rows]
    assert found == [("a", 1, 0), ("c", 2, 1)]
    assert "only" not in store.repo.get(ids.filtered["train"]).rows.schema.names
    others = MixtureDownloader(sources={**sources, "c": {"path": str(c), "columns": "all"}})
    with pytest.raises(
        DataError, match=r"the column 'n' must have the same type in all sources .* but the types are int64 and double"
    ):
        prepared(tmp_path, *layers, others)
