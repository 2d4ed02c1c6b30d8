"""Columns beside the texts, nulls among them, leave a store and come back, or are refused by name."""

from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.dataset import SelectedDataset, TranslationDataset
from mtx.data.exchange.dataset_export import export_dataset
from mtx.data.exchange.dataset_import import import_datasets
from mtx.data.store import Store
from mtx.data.tokenize.word_index import cut_words
from mtx.errors import DamagedError, DataError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.arrow_rows import ROWS_PER_BATCH
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.sources.local import LocalDownloader

OBJECT = pa.struct({"a": pa.int64(), "b": pa.list_(pa.large_string())})
VALUES: dict[str, tuple[list[Any], pa.DataType]] = {
    "int": ([1, None, -(2**63)], pa.int64()),
    "small": ([None, 7, 0], pa.uint8()),
    "float": ([0.1, None, float("inf")], pa.float64()),
    "single": ([0.1, None, -1e-30], pa.float32()),
    "bool": ([True, None, False], pa.bool_()),
    "text": (["x", None, ""], pa.large_string()),
    "when": ([datetime(2020, 1, 2, 3, 4, 5, 678), None, datetime(1, 1, 1)], pa.timestamp("us")),
    "zoned": ([datetime(2020, 1, 2), None, datetime(1970, 1, 1)], pa.timestamp("ms", "UTC")),
    "day": ([date(2020, 1, 2), None, date(1, 1, 1)], pa.date32()),
    "price": ([Decimal("1.20"), None, Decimal("-3.00")], pa.decimal128(9, 2)),
    "list": ([[1, None], None, []], pa.list_(pa.int64())),
    "texts": ([["a", ""], None, [None]], pa.list_(pa.large_string())),
    "object": ([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}], OBJECT),
    "nothing": ([None, None, None], pa.null()),
}
LAYERS = {"arrow": (SQLiteObjectLayer, ArrowFileLayer), "jsonl": (ObjectAccessLayer, FileAccessLayer)}


def table() -> pa.Table:
    texts = {name: pa.array(["a", "b", "c"], pa.large_string()) for name in ("src", "tgt")}
    return pa.table({**texts, **{name: pa.array(*one) for name, one in VALUES.items()}})


def store_in(root: Path, layers: str = "arrow") -> Store:
    objects, files = LAYERS[layers]
    return Store(root=root, objects=objects, files=files)


def dataset_of(data: Any, dataset_id: str = "raw-1", **fields: Any) -> TranslationDataset:
    described = {"name": "n", "stage": "raw", "split": "train", "languages": ("en", "de"), **fields}
    return TranslationDataset(id=dataset_id, data=data, **described)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("target", ["e", "e.zip", "e.tar.gz"])
def test_an_export_brings_all_columns_and_nulls_back(tmp_path: Path, layers: str, target: str) -> None:
    store, other = store_in(tmp_path / "store", layers), store_in(tmp_path / "other", layers)
    store.repo.add(dataset_of(table()))
    export_dataset(store, "raw-1", tmp_path / target)
    assert import_datasets(other, tmp_path / target).stored == ("raw-1",)
    found = other.repo.get("raw-1").rows.table
    assert found.schema == table().schema
    assert found.to_pylist() == table().to_pylist()
    other.repo.verify("raw-1")


@pytest.mark.parametrize("layers", LAYERS)
def test_the_datasets_library_reads_all_columns_and_nulls(tmp_path: Path, layers: str) -> None:
    import datasets

    store = store_in(tmp_path / "store", layers)
    store.repo.add(dataset_of(table()))
    export_dataset(store, "raw-1", tmp_path / "e", format="datasets")
    loaded = datasets.load_from_disk(str(tmp_path / "e"))
    assert loaded.data.table.to_pylist() == table().to_pylist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "store"], "nothing is left beside it"


def test_moses_text_refuses_columns_by_name_or_leaves_them_out(tmp_path: Path) -> None:
    store = store_in(tmp_path / "store")
    rows = pa.table({"src": ["a"], "tgt": ["b"], "domain": ["x"], "score": [None], "row": [0]})
    store.repo.add(dataset_of(rows))
    message = r"has columns in addition to its texts, .*: domain, score\. Drop them with task\.columns=drop, or set"
    with pytest.raises(DataError, match=message):
        export_dataset(store, "raw-1", tmp_path / "e", format="moses")
    assert not (tmp_path / "e").exists()
    export_dataset(store, "raw-1", tmp_path / "e", format="moses", columns="drop")
    read = LocalDownloader(source_path=tmp_path / "e/train.en", target_path=tmp_path / "e/train.de")
    assert list(read.download()) == [{"src": "a", "tgt": "b"}]
    assert '"columns_dropped": [\n  "domain",\n  "score"\n ]' in (tmp_path / "e/mtx-export.json").read_text()


@pytest.mark.parametrize(
    ("format", "values", "kind"),
    [
        ("parquet", pa.array([{}], pa.struct([])), "struct<>"),
        ("datasets", pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "map<string, int64>"),
    ],
)
def test_a_column_that_a_format_cannot_hold_is_refused_by_name(
    tmp_path: Path, format: Any, values: pa.Array, kind: str
) -> None:
    store = store_in(tmp_path / "store")
    store.repo.add(dataset_of(pa.table({"src": ["a"], "tgt": ["b"], "odd": values})))
    message = f"the column 'odd' of raw-1 holds {kind}, which format={format} does not support: "
    with pytest.raises(DataError, match=message):
        export_dataset(store, "raw-1", tmp_path / "e", format=format)
    assert not (tmp_path / "e").exists()


def test_a_selection_that_repeats_a_row_is_damaged(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.repo.add(dataset_of(table()))
    rows = pa.table({"row": pa.array([0, 1, 1], pa.uint32())})
    store.repo.add(dataset_of(rows, "filtered-1", stage="filtered", selects=(SelectedDataset("raw-1", 2),)))
    with pytest.raises(DamagedError, match="the row numbers of filtered-1 do not increase"):
        store.repo.verify("filtered-1", full=True)


# Memory


NUM_ROWS = 400_000
TEXT = "some words that repeat " * 8  # 184 bytes


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a text of 140 MB, and a selection of most of its rows."""
    store = store_in(tmp_path_factory.mktemp("large"))
    batch = pa.record_batch({name: pa.array([TEXT] * 50_000, pa.large_string()) for name in ("src", "tgt")})
    store.repo.add(dataset_of(iter([batch] * (NUM_ROWS // 50_000)), n=NUM_ROWS))
    rows = pa.table({"row": pa.array(np.arange(5, NUM_ROWS), pa.uint32())})
    selected = dataset_of(rows, "filtered-1", stage="filtered", selects=(SelectedDataset("raw-1", NUM_ROWS),))
    store.repo.add(selected)
    return store


def arrow_peak(work: Any) -> int:
    """Return the most bytes that Arrow allocated above what it had before."""
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        work()
    finally:
        pa.set_memory_pool(before)
    return int(pool.max_memory())


@pytest.mark.parametrize("format", ["parquet", "moses", "datasets"])
def test_an_export_takes_no_more_memory_than_some_batches(selection: Store, tmp_path: Path, format: Any) -> None:
    work = partial(export_dataset, selection, "filtered-1", tmp_path / "e", format=format)
    assert arrow_peak(work) < 4 * ROWS_PER_BATCH * 2 * len(TEXT)


def test_words_are_cut_from_texts_that_are_streamed() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Whitespace()
    asked = 0

    def texts() -> Any:
        nonlocal asked
        for number in range(100):
            asked += 1
            yield [f"word{number % 7} again"]

    distinct, stream = cut_words(tokenizer, texts)
    assert (len(distinct), asked) == (8, 100)
    next(stream)
    assert asked == 101, "only what is asked for is read"
