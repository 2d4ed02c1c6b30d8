"""What an import refuses by its content: token ids beyond the vocabulary, counts below 0, and circles of inputs."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtx.data.dataset import TranslationDataset
from mtx.data.exchange.dataset_export import export_dataset
from mtx.data.exchange.dataset_import import import_datasets
from mtx.data.exchange.dependency_order import inputs_first
from mtx.data.exchange.export_manifest import EXPORT_FILE
from mtx.data.store import Store
from mtx.errors import MtxError, SourceError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.manifest_digest import fields_with_digest
from mtx.infra.dal.sqlite import SQLiteObjectLayer

PAIRS = [{"src": "one", "tgt": "eins"}, {"src": "two", "tgt": "zwei"}]
IDS = pa.large_list(pa.uint16())


def store_in(folder: Path) -> Store:
    return Store(root=folder, objects=SQLiteObjectLayer, files=ArrowFileLayer)


def tokenizer(size: int) -> str:
    vocabulary = {f"t{number}": number for number in range(size)}
    return json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "t0"}})


def write_joint(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(tokenizer(10))


def write_separate(folder: Path) -> None:
    (folder / "source.json").write_text(tokenizer(10))
    (folder / "target.json").write_text(tokenizer(5))


def dataset(dataset_id: str, data: Any, inputs: list[str], stage: Any = "raw") -> TranslationDataset:
    provenance: Any = {"inputs": inputs}
    languages = ("en", "de")
    return TranslationDataset(
        id=dataset_id, name="n", stage=stage, split="train", languages=languages, data=data, provenance=provenance
    )


def ids_table(**changes: Any) -> pa.Table:
    columns = {
        "source_ids": pa.array([[1, 9], []], IDS),
        "target_ids": pa.array([[4], [0, 3]], IDS),
        "num_source_bytes": pa.array([3, 3]),
        "num_target_bytes": pa.array([4, 4]),
    }
    return pa.table({**columns, **changes})


@pytest.fixture(params=[write_joint, write_separate])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the export of two pairs of texts and their token ids, with one vocabulary or one for each side."""
    store = store_in(tmp_path / "store")
    store.repo.add(dataset("raw-train-1", PAIRS, ["source-1"]))
    store.tokenizers.get_or_build("tokenizer-1", request.param, {"stage": "tokenizer"})
    store.repo.add(dataset("encoded-train-1", ids_table(), ["raw-train-1", "tokenizer-1"], "encoded"))
    export_dataset(store, "encoded-train-1", tmp_path / "export", inputs=True)
    return tmp_path / "export"


def replace_rows(export: Path, table: pa.Table) -> None:
    """Replace the token ids, with the right sizes and digests of the files."""
    out = io.BytesIO()
    pq.write_table(table, out, write_page_checksum=True, use_compliant_nested_type=False)
    (export / "datasets/encoded-train-1.parquet").write_bytes(out.getvalue())
    manifest = json.loads((export / EXPORT_FILE).read_text())
    described = {"num_bytes": len(out.getvalue()), "sha256": hashlib.sha256(out.getvalue()).hexdigest()}
    manifest["files"]["datasets/encoded-train-1.parquet"].update(described)
    (export / EXPORT_FILE).write_text(json.dumps(manifest))


def replace_inputs(export: Path, changes: dict[str, Callable[[list[str]], list[str]]]) -> None:
    manifest = json.loads((export / EXPORT_FILE).read_text())
    for number, found in enumerate(manifest["datasets"]):
        if found["id"] in changes:
            found["provenance"]["inputs"] = changes[found["id"]](found["provenance"]["inputs"])
            manifest["datasets"][number] = fields_with_digest(found)
    (export / EXPORT_FILE).write_text(json.dumps(manifest))


def refused(export: Path, other: Store, message: str, error: type[MtxError] = SourceError) -> None:
    with pytest.raises(error, match=message):
        import_datasets(other, export)
    assert list(other.repo.manifests()) == []
    assert other.tokenizers.get_all_names() == []


def test_what_is_right_is_imported(exported: Path, tmp_path: Path) -> None:
    assert len(import_datasets(store_in(tmp_path / "other"), exported).stored) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_ids": pa.array([[10], []], IDS)}, "has the token id 10 in 'source_ids', .* are 0 to 9"),
        ({"source_ids": pa.array([[1], [65535]], IDS)}, "has the token id 65535 in 'source_ids'"),
        ({"target_ids": pa.array([[1], [10]], IDS)}, r"has the token id 10 in 'target_ids', .* are 0 to [49]"),
        ({"num_source_bytes": pa.array([-1, 3])}, "has -1 in 'num_source_bytes', but a text has at least 0 bytes"),
        ({"num_target_bytes": pa.array([4, -(2**63)])}, "in 'num_target_bytes', but a text has at least 0 bytes"),
        ({"target_ids": pa.array([[1], [1 << 31]], pa.large_list(pa.uint32()))}, "has the token id 2147483648"),
    ],
)
def test_ids_and_counts_out_of_range_are_refused(
    exported: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    replace_rows(exported, ids_table(**changes))
    refused(exported, store_in(tmp_path / "other"), message)


def test_the_target_side_has_a_bound_of_its_own(exported: Path, tmp_path: Path) -> None:
    replace_rows(exported, ids_table(target_ids=pa.array([[9], [1]], IDS)))
    if (exported / "tokenizers/tokenizer-1/target.json").exists():
        refused(exported, store_in(tmp_path / "other"), "has the token id 9 in 'target_ids', .* are 0 to 4")
    else:
        import_datasets(store_in(tmp_path / "other"), exported)


def test_token_ids_without_a_tokenizer_are_refused(exported: Path, tmp_path: Path) -> None:
    replace_inputs(exported, {"encoded-train-1": lambda inputs: ["raw-train-1"]})
    refused(exported, store_in(tmp_path / "other"), "neither the export nor the store has the tokenizer")


CIRCLES: dict[str, dict[str, Callable[[list[str]], list[str]]]] = {
    "itself": {"raw-train-1": lambda inputs: ["raw-train-1"]},
    "itself beside others": {"encoded-train-1": lambda inputs: [*inputs, "encoded-train-1"]},
    "each other": {"raw-train-1": lambda inputs: ["encoded-train-1"]},
    "itself twice": {"raw-train-1": lambda inputs: ["raw-train-1", "raw-train-1"]},
}


@pytest.mark.parametrize("circle", CIRCLES)
def test_a_dataset_that_is_its_own_input_is_refused(exported: Path, tmp_path: Path, circle: str) -> None:
    replace_inputs(exported, CIRCLES[circle])
    refused(exported, store_in(tmp_path / "other"), "a dataset cannot be built from itself")


def test_a_circle_through_what_is_stored_is_refused(exported: Path, tmp_path: Path) -> None:
    other = store_in(tmp_path / "other")
    other.repo.add(dataset("raw-train-2", PAIRS, ["encoded-train-1"]))
    replace_inputs(exported, {"raw-train-1": lambda inputs: ["raw-train-2"]})
    with pytest.raises(SourceError, match="a dataset cannot be built from itself"):
        import_datasets(other, exported)
    assert [found.id for found in other.repo.manifests()] == ["raw-train-2"]


def test_a_circle_in_a_store_of_an_earlier_version_ends_the_export_with_a_message(tmp_path: Path) -> None:
    store = store_in(tmp_path / "store")
    for number in range(3):
        store.repo.add(dataset(f"raw-train-{number}", PAIRS, [f"raw-train-{(number + 1) % 3}"]))
    with pytest.raises(SourceError, match="a dataset cannot be built from itself"):
        export_dataset(store, "raw-train-0", tmp_path / "export", inputs=True)


def test_a_long_chain_of_inputs_is_no_circle() -> None:
    chain = {str(number): [str(number + 1)] for number in range(20_000)}
    assert inputs_first(chain)[:2] == ["20000", "19999"]
