"""Imports the datasets of an export into a store, after it has checked every byte, because an export is untrusted."""

import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mtx.components.identity import JSON
from mtx.data.dataset import TranslationDataset
from mtx.data.exchange.dependency_order import check_inputs, input_names
from mtx.data.exchange.export_formats import (
    check_parquet,
    read_parquet,
)
from mtx.data.exchange.export_manifest import ExportedFile, ExportManifest, rows_path
from mtx.data.exchange.safe_unpacking import unpack
from mtx.data.store import WORK_LOCK, Store
from mtx.data.tokenize.stored_tokenizer import tokenizer_from_str
from mtx.data.tokenize.tokenization import vocabulary_size
from mtx.data.tokenize.tokenizer_json_problem import tokenizer_json_problem
from mtx.errors import SourceError
from mtx.infra.dal.artifact import MANIFEST, check_files, read_manifest
from mtx.infra.dal.atomic_file import convert_disk_errors
from mtx.infra.dal.locks import path_lock
from mtx.infra.dal.tilde_expansion import expanded_path

TOKENIZER_FILES = frozenset({"tokenizer.json", "source.json", "target.json"})


MAX_RATIO = 200.0  # default limit of unpacked bytes per byte of an archive; text and token ids stay below 20


@dataclass(frozen=True)
class ImportSummary:
    """The ids that an import has stored, and the ids that were already stored and have been kept (`kept`)."""

    stored: tuple[str, ...]
    kept: tuple[str, ...]


def import_datasets(store: Store, source: Path, *, max_ratio: float = MAX_RATIO) -> ImportSummary:
    """Store the datasets and tokenizers of an export under their ids; ids that are already stored are kept.

    The sizes and digests of all files are checked before anything is stored. Nothing in an export is executed.

    Args:
        store: the store to write to.
        source: a folder or an archive that `export_dataset` wrote with the format `parquet`.
        max_ratio: maximum ratio of unpacked size to archive size.

    Raises:
        SourceError: `source` is not an export, or is unsafe.
        DamagedError: a file differs from its size or digest in the export's manifest.
        StoreError: writing fails.
    """
    scratch = store.scratch() / f"import-{uuid.uuid4().hex[:12]}"
    with path_lock(scratch / WORK_LOCK):
        try:
            manifest = unpack(expanded_path(source).absolute(), scratch, max_ratio=max_ratio)
            tokenizers = {name: _checked_tokenizer(scratch / "tokenizers" / name) for name in manifest.tokenizers}
            check_inputs(manifest.datasets, store)
            for dataset in manifest.datasets:
                sizes = _vocabulary_sizes(dataset, scratch, store)
                check_parquet(dataset, scratch / rows_path(dataset.id), _rows_file(manifest, dataset), sizes)
            stored: list[str] = []
            for name, described in tokenizers.items():
                store.tokenizers.get_or_build(name, _file_copier(scratch / "tokenizers" / name, stored), described)
            for dataset in manifest.datasets:
                store.repo.get_or_build(dataset.id, _dataset_reader(dataset, scratch, manifest, stored))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    everything = [*tokenizers, *(dataset.id for dataset in manifest.datasets)]
    return ImportSummary(tuple(stored), tuple(name for name in everything if name not in stored))


def _rows_file(manifest: ExportManifest, dataset: TranslationDataset) -> ExportedFile:
    return manifest.files[rows_path(dataset.id)]


def _checked_tokenizer(folder: Path) -> Mapping[str, JSON]:
    """Check a tokenizer's folder, and return the description in its manifest. Raises SourceError or DamagedError."""
    if not (folder / MANIFEST).is_file():
        raise SourceError(f"the tokenizer {folder.name} has no {MANIFEST}. Nothing was imported")
    manifest = read_manifest(folder)
    names = {path.name for path in folder.iterdir()} - {MANIFEST}
    listed = set(manifest.files) if manifest.files is not None else names
    if names != listed or not names or not names <= TOKENIZER_FILES:
        raise SourceError(
            f"the tokenizer {folder.name} has the files {', '.join(sorted(names | listed)) or 'none'}, but a tokenizer "
            f"has {', '.join(sorted(TOKENIZER_FILES))}. Nothing was imported"
        )
    check_files(folder, manifest, full=True)
    for name in sorted(names):
        content = (folder / name).read_bytes()
        try:
            tokenizer_from_str(content.decode())
        except Exception as error:  # the library raises plain Exception
            raise SourceError(
                f"{name} of {folder.name} is not a tokenizer: {tokenizer_json_problem(content, error)}. "
                "Nothing was imported"
            ) from error
    return manifest.described


def _vocabulary_sizes(dataset: TranslationDataset, scratch: Path, store: Store) -> dict[str, int]:
    """Return the bound of the token ids of each side of an encoded dataset, by column; empty for other datasets.

    Raises SourceError if the export and the store lack its tokenizer.
    """
    if dataset.stage != "encoded":
        return {}
    for name in input_names(dataset):
        folder = scratch / "tokenizers" / name
        if name.startswith("tokenizer-") and (folder.is_dir() or store.tokenizers.exists(name)):
            return _side_sizes(folder if folder.is_dir() else store.tokenizers.open(name))
    raise SourceError(
        f"{dataset.id} has token ids, but neither the export nor the store has the tokenizer that made them. Export "
        "the dataset again. Nothing was imported"
    )


def _side_sizes(folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for column in ("source_ids", "target_ids"):
        path = folder / f"{column.removesuffix('_ids')}.json"
        path = path if path.exists() else folder / "tokenizer.json"
        sizes[column] = vocabulary_size(tokenizer_from_str(path.read_text(encoding="utf-8")))
    return sizes


def _file_copier(folder: Path, stored: list[str]) -> Callable[[Path], None]:
    def copy(into: Path) -> None:
        for path in folder.iterdir():
            if path.name != MANIFEST:
                with convert_disk_errors(into):
                    shutil.copyfile(path, into / path.name)
        stored.append(folder.name)

    return copy


def _dataset_reader(
    dataset: TranslationDataset, scratch: Path, manifest: ExportManifest, stored: list[str]
) -> Callable[[], TranslationDataset]:
    def read() -> TranslationDataset:
        rows = read_parquet(dataset, scratch / rows_path(dataset.id), _rows_file(manifest, dataset))
        stored.append(dataset.id)
        return replace(dataset, data=rows, payload=None, selects=(), changes="", shards=())

    return read
