import dataclasses
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mtx.data.dataset import SPLITS, STAGES, TranslationDataset, rows_digest
from mtx.errors import DamagedError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.base import PayloadInfo
from mtx.infra.dal.rows import ROWS_AT_ONCE, Rows

ROWS = [{"src": "one", "tgt": "eins"}, {"src": "two", "tgt": "zwei"}, {"src": "猫", "tgt": ""}]


def dataset_of(**changes: Any) -> TranslationDataset:
    fields: dict[str, Any] = {
        "name": "small",
        "stage": "raw",
        "split": "train",
        "languages": ("en", "de"),
        "data": ROWS,
        "provenance": {"revision": "1", "source": {"path": "a", "numbers": [1, None]}},
        "metrics": {"skipped": {"empty": 1}},
    }
    return TranslationDataset(**{**fields, **changes})


def test_counts_its_rows_and_names_itself_by_stage_split_and_content() -> None:
    dataset = dataset_of()
    assert (dataset.n, len(dataset)) == (3, 3)
    assert dataset.id == "raw-train-" + dataset.id[-16:]
    assert set(dataset.id[-16:]) <= set("0123456789abcdef")
    assert dataset.id == dataset_of().id


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"stage": "filtered"},
        {"split": "test"},
        {"languages": ("de", "en")},
        {"data": ROWS[:2]},
        {"data": ROWS[::-1]},
        {"provenance": {}},
        {"metrics": {}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_differs_changes_its_name(change: dict[str, Any]) -> None:
    assert dataset_of(**change).id != dataset_of().id


def test_the_same_rows_give_the_same_name_in_whatever_form_they_come() -> None:
    table = pa.Table.from_pylist(ROWS, schema=pa.schema([("src", pa.large_string()), ("tgt", pa.string())]))
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    forms = [ROWS, tuple(ROWS), Rows(table), Rows(chunked), table, [dict(reversed(row.items())) for row in ROWS]]
    assert {dataset_of(data=form).id for form in forms} == {dataset_of().id}


def test_the_name_of_many_rows_takes_little_memory(tmp_path: Path) -> None:
    num_rows = 20 * ROWS_AT_ONCE
    layer = ArrowFileLayer(location=tmp_path)
    layer.create("one", pa.table({"src": ["source"] * num_rows, "tgt": ["target"] * num_rows}))
    rows = layer.read("one")
    tracemalloc.start()
    dataset_of(data=rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000  # two blocks of 8,192 rows as dicts and one as JSON, of 164,000 rows


def test_the_digest_of_rows_depends_on_where_they_are_cut_into_blocks_by_number_alone() -> None:
    rows = [{"n": number} for number in range(ROWS_AT_ONCE + 1)]
    assert rows_digest(rows) == rows_digest(iter(rows))
    assert rows_digest(rows) != rows_digest(rows[:-1])


def test_rows_that_come_once_are_left_untouched_and_need_an_id() -> None:
    rows = iter(ROWS)
    with pytest.raises(ValueError, match=r"rows come from a list_iterator needs an id: .* Pass id=…, or a sequence"):
        dataset_of(data=rows)
    dataset = dataset_of(data=rows, id="mine")
    assert (dataset.id, dataset.n) == ("mine", None)
    assert list(rows) == ROWS


def test_a_table_becomes_rows() -> None:
    dataset = dataset_of(data=pa.Table.from_pylist(ROWS))
    assert isinstance(dataset.data, Rows)
    assert dataset.data == ROWS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": "cooked"}, "stage is one of raw, filtered, encoded, but is 'cooked'"),
        ({"split": "dev"}, "split is one of train, validation, test, but is 'dev'"),
        ({"languages": "en"}, "languages are two, source and target, but are 'en'"),
        ({"languages": ("en",)}, r"languages are two, source and target, but are \('en',\)"),
        ({"data": Rows.of(ROWS), "n": 5}, "n is the number of rows, 3, but is 5"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataset_of(**change)


def test_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset_of().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("split", SPLITS)
def test_the_manifest_is_json_and_reads_back_as_the_same_dataset(stage: str, split: str) -> None:
    payload = PayloadInfo(num_rows=3, num_bytes=10, sha256="ab")
    dataset = dataset_of(stage=stage, split=split, payload=payload)
    manifest = json.loads(json.dumps(dataset.to_manifest()))
    assert "data" not in manifest
    assert TranslationDataset.from_manifest(manifest) == dataclasses.replace(dataset, data=None)
    assert TranslationDataset.from_manifest(manifest, data=ROWS) == dataset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format_version": 2},
            "a manifest of format version 1 was expected, but this one's is 2. Use the mtx version",
        ),
        ({"color": "red"}, r"the manifest of 'one' lacks or adds fields: \['color'\]"),
        ({"stage": "cooked"}, "the manifest of 'one' is not valid: stage is one of"),
        ({"languages": None}, "the manifest of 'one' is not valid: "),
        ({"payload": {"rows": 1}}, "the manifest of 'one' is not valid: .*unexpected keyword argument 'rows'"),
    ],
)
def test_a_damaged_manifest_is_reported(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        TranslationDataset.from_manifest({**dataset_of(id="one").to_manifest(), **change})


def test_what_is_no_manifest_is_reported() -> None:
    with pytest.raises(DamagedError, match="format version 1 was expected, but this one's is 'list'"):
        TranslationDataset.from_manifest([])
    manifest = dataset_of(id="one").to_manifest()
    del manifest["n"]
    with pytest.raises(DamagedError, match=r"the manifest of 'one' lacks or adds fields: \['n'\]"):
        TranslationDataset.from_manifest(manifest)


def test_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(dataset_of())) == dataset_of()
