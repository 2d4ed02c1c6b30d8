"""A dataset out of a store into a file, and from there into another store: the same id, the same rows."""

import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer

from mtx.data.dataset import TranslationDataset
from mtx.data.exchange.archive import whole
from mtx.data.exchange.layout import EXPORT, ExportedFile, ExportManifest, rows_path
from mtx.data.exchange.rows import (
    Newlines,
    check_parquet,
    read_parquet,
    write_datasets,
    write_description,
    write_moses,
    write_parquet,
)
from mtx.data.exchange.unpack import unpack
from mtx.data.store import AT_WORK, Store
from mtx.errors import ConfigError, DamagedError, NotStoredError, SourceError
from mtx.identity import JSON
from mtx.infra.dal.base import path_lock, sha256_of, writing
from mtx.infra.dal.bundle import MANIFEST, check_files, read_manifest

Format = Literal["parquet", "moses", "datasets"]

TOKENIZER_FILES = frozenset({"tokenizer.json", "source.json", "target.json"})
MAX_RATIO = 200.0  # bytes unpacked for each byte of an archive; text and token ids stay below 20


@dataclass(frozen=True)
class Exported:
    """What was written: ids of datasets and tokenizers, pairs, and those left out."""

    datasets: tuple[str, ...]
    tokenizers: tuple[str, ...] = ()
    num_pairs: int = 0
    num_dropped: int = 0
    num_with_other_break: int = 0


@dataclass(frozen=True)
class Imported:
    """Ids that were stored, and ids that were there before, which are kept."""

    stored: tuple[str, ...]
    kept: tuple[str, ...]


def export_dataset(
    store: Store,
    dataset_id: str,
    to: Path,
    *,
    format: Format = "parquet",
    inputs: bool = False,
    newlines: Newlines = "refuse",
    overwrite: bool = False,
) -> Exported:
    """Write a dataset to a folder or an archive, which appears whole or not at all.

    Args:
        store: where it is.
        dataset_id: its id.
        to: a folder, or an archive where it ends in .zip, .tar.gz or .tgz.
        format: `parquet` with everything that an import needs, `moses`, or `datasets`.
        inputs: also the datasets that it was made from, as far as they are stored. Of `parquet` only.
        newlines: see `write_moses`.
        overwrite: replace an earlier export.

    Raises NotStoredError, DamagedError, ConfigError, DataError as `write_moses` does, and StoreError.
    """
    if inputs and format != "parquet":
        raise ConfigError(f"task.inputs=true goes with format=parquet, but the format is {format}. Set format=parquet")
    dataset = store.repo.get(dataset_id)
    with whole(to.expanduser().absolute(), overwrite=overwrite) as folder:
        if format == "parquet":
            return _write_export(store, [*_inputs(store, dataset)] * inputs + [dataset], folder)
        if format == "moses":
            described = write_moses(dataset, folder, newlines=newlines)
        else:
            described = write_datasets(dataset, folder)
        write_description(described, folder)
        return Exported(
            (dataset_id,),
            num_pairs=described["num_pairs"],
            num_dropped=described.get("num_pairs_dropped", 0),
            num_with_other_break=described.get("num_pairs_with_other_break", 0),
        )


def import_datasets(store: Store, source: Path, *, max_ratio: float = MAX_RATIO) -> Imported:
    """Store what an export holds, under the same ids; what is stored already is kept.

    Sizes and digests of all files are checked before anything is stored. Nothing in an export is run.

    Args:
        store: where to.
        source: a folder or an archive that `export_dataset` wrote as `parquet`.
        max_ratio: how many times its own size an archive may unpack to.

    Raises SourceError where it is no export or one that cannot be trusted, DamagedError where bytes differ from what
    it declares, and StoreError.
    """
    scratch = store.scratch() / f"import-{uuid.uuid4().hex[:12]}"
    with path_lock(scratch / AT_WORK):
        try:
            manifest = unpack(source.expanduser().absolute(), scratch, max_ratio=max_ratio)
            tokenizers = {name: _checked_tokenizer(scratch / "tokenizers" / name) for name in manifest.tokenizers}
            for dataset in manifest.datasets:
                check_parquet(dataset, scratch / rows_path(dataset.id), _file(manifest, dataset))
            stored: list[str] = []
            for name, described in tokenizers.items():
                store.tokenizers.get_or_build(name, _copier(scratch / "tokenizers" / name, stored), described)
            for dataset in manifest.datasets:
                store.repo.get_or_build(dataset.id, _reader(dataset, scratch, manifest, stored))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    everything = [*tokenizers, *(dataset.id for dataset in manifest.datasets)]
    return Imported(tuple(stored), tuple(name for name in everything if name not in stored))


def _inputs(store: Store, dataset: TranslationDataset) -> list[TranslationDataset]:
    """Return what a dataset was made from, and what that was, as far as it is stored; the first of all first."""
    found: dict[str, TranslationDataset] = {}
    for name in _names(dataset):
        if store.repo.exists(name):
            made_from = store.repo.get(name)
            found.update({earlier.id: earlier for earlier in _inputs(store, made_from)})
            found[name] = made_from
    return list(found.values())


def _names(dataset: TranslationDataset) -> list[str]:
    inputs = dataset.provenance.get("inputs")
    return [name for name in inputs if isinstance(name, str)] if isinstance(inputs, list) else []


def _write_export(store: Store, datasets: list[TranslationDataset], folder: Path) -> Exported:
    files: dict[str, ExportedFile] = {}
    with writing(folder):
        (folder / "datasets").mkdir()
    for dataset in datasets:
        files[rows_path(dataset.id)] = write_parquet(dataset, folder / rows_path(dataset.id))
    wanted = dict.fromkeys(name for dataset in datasets for name in _names(dataset))
    tokenizers = [name for name in wanted if name.startswith("tokenizer-")]
    for name in tokenizers:
        try:
            at = store.tokenizers.open(name)
        except NotStoredError as error:
            raise DamagedError(
                f"{datasets[-1].id} was made with {name}, which is not stored any more. "
                "Run mtx task=prepare with its config to train it again, then export"
            ) from error
        store.tokenizers.verify(name)
        with writing(folder):
            shutil.copytree(at, folder / "tokenizers" / name)
        for path in sorted((folder / "tokenizers" / name).iterdir()):
            files[f"tokenizers/{name}/{path.name}"] = ExportedFile(path.stat().st_size, sha256_of(path))
    with writing(folder):
        (folder / EXPORT).write_bytes(ExportManifest(tuple(datasets), files).to_json())
    return Exported(tuple(d.id for d in datasets), tuple(tokenizers), num_pairs=len(datasets[-1]))


def _file(manifest: ExportManifest, dataset: TranslationDataset) -> ExportedFile:
    return manifest.files[rows_path(dataset.id)]


def _checked_tokenizer(folder: Path) -> Mapping[str, JSON]:
    """Check a tokenizer's folder, and return what it was made from. Raises SourceError, or DamagedError."""
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
        try:
            Tokenizer.from_str((folder / name).read_text(encoding="utf-8"))
        except Exception as error:  # what the library raises has no type of its own
            raise SourceError(f"{name} of {folder.name} is no tokenizer: {error}. Nothing was imported") from error
    return manifest.described


def _copier(folder: Path, stored: list[str]) -> Callable[[Path], None]:
    def copy(into: Path) -> None:
        for path in folder.iterdir():
            if path.name != MANIFEST:
                with writing(into):
                    shutil.copyfile(path, into / path.name)
        stored.append(folder.name)

    return copy


def _reader(
    dataset: TranslationDataset, scratch: Path, manifest: ExportManifest, stored: list[str]
) -> Callable[[], TranslationDataset]:
    def read() -> TranslationDataset:
        rows = read_parquet(dataset, scratch / rows_path(dataset.id), _file(manifest, dataset))
        stored.append(dataset.id)
        return replace(dataset, data=rows, payload=None)

    return read
