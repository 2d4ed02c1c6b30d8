"""What is built from stored data compares its bytes with their digest, and wrong offsets are never followed."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conf_options import storages

from mtx.data.dataset import TranslationDataset
from mtx.data.encoding_stage import encoded_pairs
from mtx.data.exchange.dataset_export import export_dataset
from mtx.data.filter.default import DefaultFilter
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.repo_read_cache import RepoSession
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.bpe import BPETokenization
from mtx.errors import DamagedError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.row_views import PatchedRows, SelectedRows
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA


@dataclass(frozen=True, kw_only=True)
class Sentences(Downloader):
    """Sixty pairs, every third of which the normaliser changes."""

    def info(self) -> SourceInfo:
        return SourceInfo("sentences", ("en", "de"), "1", {"sentences": 60}, ("train",))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        src = [f"sentence {i}" + " " * (i % 3 == 0) for i in range(60)]
        yield pa.record_batch([src, [f"Satz {i}" for i in range(60)]], schema=PAIR_SCHEMA)


def recipe() -> Recipe:
    return Recipe(
        Sentences(), HeldOut(validation=5, test=5), DefaultFilter(), BPETokenization(vocab_size=300, min_frequency=1)
    )


def store_at(root: Path, option: str) -> Store:
    return Store(root=root, **storages()[option])


@pytest.fixture(scope="module", params=storages())
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, StageIds]:
    """Return a storage option, and the folder and the ids of a prepared store of that option."""
    root = tmp_path_factory.mktemp("prepared") / "store"
    return str(request.param), root, prepare(recipe(), store_at(root, request.param))


def damage(root: Path, dataset_id: str, place: float = 0.5) -> None:
    """Change one bit of the stored rows of a dataset, or of the files of a tokenizer."""
    found = [path for path in root.rglob(f"*{dataset_id}*") if path.suffix in (".arrow", ".jsonl")]
    path = found[0] if found else root / "tokenizers" / dataset_id / "tokenizer.json"
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damaged", ["raw", "text", "split", "filtered", "tokenizer"])
def test_nothing_is_built_from_a_changed_byte(
    prepared: tuple[str, Path, StageIds], damaged: str, tmp_path: Path
) -> None:
    option, clean, ids = prepared
    shutil.copytree(clean, tmp_path / "store")
    store = store_at(tmp_path / "store", option)
    stages = {name: getattr(ids, name)["train"] for name in ("raw", "text", "split", "filtered", "encoded")}
    later = list(stages)[list(stages).index(damaged) + 1 :] if damaged in stages else ["encoded"]
    for stage in later:
        store.repo.remove(stages[stage])
    if damaged == "filtered":  # the tokenizer is learned from the filtered pairs
        store.tokenizers.delete(ids.tokenizer)
    broken = stages.get(damaged, ids.tokenizer)
    damage(store.root, broken)
    with pytest.raises(DamagedError, match=broken) as error:
        prepare(recipe(), store)
    assert "task=verify full=true repair=true" in str(error.value)
    assert not any(store.repo.exists(stages[stage]) for stage in later)


def test_what_is_exported_is_compared(prepared: tuple[str, Path, StageIds], tmp_path: Path) -> None:
    option, clean, ids = prepared
    shutil.copytree(clean, tmp_path / "store")
    damage(tmp_path / "store", ids.raw["train"])
    with pytest.raises(DamagedError, match=ids.raw["train"]):
        export_dataset(store_at(tmp_path / "store", option), ids.filtered["train"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_copy_of_a_bucket_is_replaced_before_it_is_built_upon(tmp_path: Path) -> None:
    files, objects = partial(ArrowFileLayer), partial(SQLiteObjectLayer)
    store = Store(root="memory://damaged/mtx", objects=objects, files=files, cache=tmp_path)
    rows = [{"src": "one", "tgt": "eins"}]
    dataset = TranslationDataset(id="one", name="n", stage="raw", split="train", languages=("en", "de"), data=rows)
    store.repo.add(dataset)
    (copy,) = store.root.glob("datasets/*.arrow")
    copy.write_bytes(copy.read_bytes().replace(b"eins", b"zwei"))
    session = RepoSession(store.repo)
    assert list(session.get("one").rows) == [{"src": "one", "tgt": "zwei"}]  # opening reads no bytes
    assert list(session.get_checked("one").rows) == rows
    assert list(session.get("one").rows) == rows


# Offsets

TEXTS = [f"text {i}" for i in range(20)]
COLUMNS: dict[str, pa.Array] = {
    "large_string": pa.array(TEXTS, pa.large_string()),
    "string": pa.array(TEXTS, pa.string()),
    "large_binary": pa.array([text.encode() for text in TEXTS], pa.large_binary()),
    "ids": pa.array([[i, i + 1] for i in range(20)], pa.large_list(pa.uint16())),
    "list": pa.array([[float(i)] * 3 for i in range(20)], pa.list_(pa.float64())),
    "list of texts": pa.array([[text, text] for text in TEXTS], pa.list_(pa.string())),
    "struct": pa.array([{"a": text} for text in TEXTS], pa.struct([("a", pa.large_string())])),
}
READS: dict[str, Callable[[Rows], Any]] = {
    "a row": lambda rows: rows[3],
    "a slice": lambda rows: rows[2:5],
    "some rows": lambda rows: rows.take([1, 9, 10]),
    "all rows": list,
    "the table": lambda rows: rows.table,
    "a column": lambda rows: rows.column("value"),
    "batches": lambda rows: list(rows.batches()),
}


def with_offset(folder: Path, column: pa.Array, value: int) -> Rows:
    """Store a column, set one of its offsets to a value, and open it."""
    layer = ArrowFileLayer(location=folder)
    layer.create("one", pa.table({"value": column}))
    offsets = column.buffers()[1] or column.field(0).buffers()[1]  # a struct has none
    width = 8 if pa.types.is_struct(column.type) or "large" in str(column.type) else 4
    path = folder / "one.arrow"
    content = bytearray(path.read_bytes())
    at = content.index(offsets.to_pybytes()[: width * 21]) + width * 10
    content[at : at + width] = (value % (1 << (8 * width - 1))).to_bytes(width, "little", signed=False)
    if value < 0:
        content[at : at + width] = value.to_bytes(width, "little", signed=True)
    path.write_bytes(content)
    return layer.read("one")


@pytest.mark.parametrize("value", [1 << 40, 1_000_000, 0, -8])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_wrong_offset_is_refused_before_it_is_followed(column: str, value: int, tmp_path: Path) -> None:
    rows = with_offset(tmp_path, COLUMNS[column], value)
    assert len(rows) == 20
    with pytest.raises(DamagedError, match=r"one\.arrow has changed on disk: the column 'value' has wrong offsets"):
        rows.take([0])


@pytest.mark.parametrize("read", READS)
def test_every_way_to_read_checks_offsets(read: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="wrong offsets"):
        READS[read](with_offset(tmp_path, COLUMNS["large_string"], 1 << 40))


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("view", ["patched", "selected", "selected from patched"])
def test_every_way_to_read_a_view_checks_the_offsets_of_its_rows(view: str, read: str, tmp_path: Path) -> None:
    rows = with_offset(tmp_path, COLUMNS["large_string"], 1 << 40)
    patch = Rows(pa.table({"row": pa.array([2], pa.uint32()), "value": pa.array(["new"], pa.large_string())}))
    numbers = Rows(pa.table({"row": pa.array(range(12), pa.uint32())}))
    seen: Rows = PatchedRows(rows, patch) if "patched" in view else rows
    seen = SelectedRows([seen], [20], numbers) if "selected" in view else seen
    with pytest.raises(DamagedError, match="wrong offsets"):
        READS[read](seen)


def test_row_numbers_beyond_the_rows_are_refused(tmp_path: Path) -> None:
    numbers = Rows(pa.table({"row": pa.array([0, 1, 20], pa.uint32())}))
    rows = Rows(pa.table({"value": COLUMNS["string"]}))
    with pytest.raises(DamagedError, match="row numbers 0 to 20 refer to rows beyond the existing 20"):
        list(SelectedRows([rows], [20], numbers))
    ids = Rows(pa.table({"source_ids": COLUMNS["ids"], "target_ids": COLUMNS["ids"]}))
    with pytest.raises(DamagedError, match="row numbers 0 to 20 refer to token ids beyond the existing 20"):
        encoded_pairs(ids, np.array([0, 20], dtype=np.uint32))
