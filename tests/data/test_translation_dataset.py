import dataclasses
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mtx.data import dataset as module
from mtx.data.dataset import FORMAT_VERSION, SPLITS, STAGES, UPGRADES, Shard, TranslationDataset, rows_digest
from mtx.errors import DamagedError, NewerFormatError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.arrow_rows import ROWS_AT_ONCE, Rows
from mtx.infra.dal.manifest_digest import fields_with_digest
from mtx.infra.dal.protocols import PayloadInfo

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
    with pytest.raises(ValueError, match=r"id if its rows come from a list_iterator, .* Pass id=…, or pass a sequence"):
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
        ({"stage": "cooked"}, "stage is one of raw, text, split, scores, filtered, encoded, but is 'cooked'"),
        ({"split": "dev"}, "split is one of train, validation, test, but is 'dev'"),
        ({"languages": "en"}, "languages are two, source and target, but are 'en'"),
        ({"languages": ("en",)}, r"languages are two, source and target, but are \('en',\)"),
        ({"data": Rows.of(ROWS), "n": 5}, "the dataset's n must be its number of rows, 3, but is 5"),
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
            {"format_version": 0},
            "format_version in the manifest of 'one' must be a number from 1 to 4, but is 0. Run mtx task=verify",
        ),
        ({"format_version": "2"}, "must be a number from 1 to 4, but is '2'"),
        ({"color": "red"}, r"the manifest of 'one' has missing or unknown fields: \['color'\]. Run mtx task=verify"),
        ({"stage": "cooked"}, "the manifest of 'one' is not valid: stage is one of"),
        ({"languages": None}, "the manifest of 'one' is not valid: "),
        ({"payload": {"rows": 1}}, "the manifest of 'one' is not valid: Python reports TypeError"),
    ],
)
def test_a_damaged_manifest_is_reported(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        TranslationDataset.from_manifest(fields_with_digest({**dataset_of(id="one").to_manifest(), **change}))


def test_what_is_no_manifest_is_reported() -> None:
    with pytest.raises(
        DamagedError, match=r"a manifest must be a JSON object, but this one is a list. Run mtx task=verify"
    ):
        TranslationDataset.from_manifest([])
    manifest = dataset_of(id="one").to_manifest()
    del manifest["n"]
    with pytest.raises(DamagedError, match=r"the manifest of 'one' has missing or unknown fields: \['n'\]"):
        TranslationDataset.from_manifest(fields_with_digest(manifest))


def test_a_manifest_of_a_newer_mtx_is_refused_with_both_versions() -> None:
    newer = fields_with_digest({**dataset_of(id="one").to_manifest(), "format_version": 5, "mood": "good"})
    message = "'one' has format version 5, but this mtx knows versions 1 to 4. A newer mtx wrote it, and nothing was"
    with pytest.raises(NewerFormatError, match=message):
        TranslationDataset.from_manifest(newer)


@pytest.mark.parametrize(
    "change", [{"n": 4}, {"name": "other"}, {"id": "two"}, {"manifest_sha256": "0" * 64}, {"format_version": 1}]
)
def test_a_manifest_that_its_own_digest_does_not_fit_is_damaged(change: dict[str, Any]) -> None:
    manifest = {**dataset_of(id="one").to_manifest(), **change}
    with pytest.raises(DamagedError, match="has changed on disk: its content does not match its digest"):
        TranslationDataset.from_manifest(manifest)


# As format version 1 was written, before manifests had a digest of their own. Never to be renewed.
VERSION_1 = """{
 "format_version": 1, "id": "raw-train-0123456789abcdef", "languages": ["en", "de"],
 "metrics": {"skipped": {"empty": 1}}, "n": 2, "name": "small", "payload": {"num_bytes": 706, "num_rows": 2,
 "sha256": "00ff"},
 "provenance": {"revision": "sha256:1", "source": {"class": "x", "version": 1}}, "split": "train", "stage": "raw"}"""


def test_a_manifest_of_version_1_is_read() -> None:
    assert TranslationDataset.from_manifest(json.loads(VERSION_1)) == TranslationDataset(
        id="raw-train-0123456789abcdef",
        name="small",
        stage="raw",
        split="train",
        languages=("en", "de"),
        n=2,
        provenance={"revision": "sha256:1", "source": {"class": "x", "version": 1}},
        metrics={"skipped": {"empty": 1}},
        payload=PayloadInfo(num_rows=2, num_bytes=706, sha256="00ff"),
    )


# As format version 3 was written: shards without digests. Never to be renewed.
VERSION_3 = {
    "changes": "raw-train-0123456789abcdef", "format_version": 3, "id": "text-train-0123456789abcdef",
    "languages": ["en", "de"], "metrics": {"changed": 1}, "n": 9, "name": "small",
    "payload": {"num_bytes": 706, "num_rows": 1, "sha256": "00ff"}, "provenance": {}, "selects": [],
    "shards": [{"first": 0, "end": 5}, {"first": 5, "end": 9}], "split": "train", "stage": "text",
    "manifest_sha256": "b78b9805bf1878be8db96f586e81c62ef42705058fdbcdb826aa97ab86def171",
}  # fmt: skip


def test_a_manifest_of_version_3_is_read_without_its_shards_which_had_no_digests() -> None:
    found = TranslationDataset.from_manifest(VERSION_3)
    assert (found.n, found.changes, found.shards) == (9, "raw-train-0123456789abcdef", ())


def test_shards_are_read_back_as_they_were_written() -> None:
    shards = (Shard(0, 5, 3, 120, "ab"), Shard(5, 9, 0, 0, "cd"))
    manifest = json.loads(json.dumps(dataset_of(id="one", shards=shards).to_manifest()))
    assert TranslationDataset.from_manifest(manifest).shards == shards


def test_every_version_but_this_has_a_step_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(UPGRADES) == list(range(1, FORMAT_VERSION))
    steps: list[int] = []

    def step(number: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
        known = UPGRADES.get(number, lambda fields: fields)
        return lambda fields: steps.append(number) or {**known(fields), "name": f"{fields['name']}{number}"}  # type: ignore[func-returns-value]

    monkeypatch.setattr(module, "FORMAT_VERSION", 5)
    for number in (1, 2, 3, 4):
        monkeypatch.setitem(UPGRADES, number, step(number))
    assert TranslationDataset.from_manifest(json.loads(VERSION_1)).name == "small1234"
    assert steps == [1, 2, 3, 4]


def test_names_by_content_stay_when_the_format_changes() -> None:
    rows = [{"src": "one", "tgt": "eins"}]
    dataset = TranslationDataset(name="small", stage="raw", split="train", languages=("en", "de"), data=rows)
    assert dataset.id == "raw-train-5f04bf69fd9438e3"


def test_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(dataset_of())) == dataset_of()
