"""Exports a dataset of a store to a folder or an archive; another store can import the format `parquet`."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtx.data.dataset import TranslationDataset
from mtx.data.exchange.atomic_export_target import atomic_target
from mtx.data.exchange.dataset_card import CARD_FILE
from mtx.data.exchange.dependency_order import all_inputs_first, input_names
from mtx.data.exchange.export_formats import (
    ExtraColumns,
    Newlines,
    write_datasets,
    write_description,
    write_megatron,
    write_moses,
    write_parquet,
)
from mtx.data.exchange.export_manifest import EXPORT_FILE, ExportedFile, ExportManifest, rows_path
from mtx.data.store import Store
from mtx.errors import ConfigError, DamagedError, NotStoredError
from mtx.infra.dal.atomic_file import convert_disk_errors, sha256_of
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.progress.tracking import CountedWork

Format = Literal["parquet", "moses", "datasets", "megatron"]


@dataclass(frozen=True)
class ExportSummary:
    """The result of an export: ids of datasets and tokenizers, and numbers of written and dropped pairs."""

    datasets: tuple[str, ...]
    tokenizers: tuple[str, ...] = ()
    num_pairs: int = 0
    num_dropped: int = 0
    num_with_other_break: int = 0


def export_dataset(
    store: Store,
    dataset_id: str,
    to: Path,
    *,
    format: Format = "parquet",
    inputs: bool = False,
    newlines: Newlines = "refuse",
    columns: ExtraColumns = "refuse",
    overwrite: bool = False,
    card: str | None = None,
) -> ExportSummary:
    """Write a dataset to a folder or an archive, atomically: the target is complete, or it does not exist.

    Args:
        store: the store of the dataset.
        dataset_id: id of the dataset.
        to: path of the target: an archive if it ends in .zip, .tar.gz or .tgz, else a folder.
        format: `parquet`, which can be imported; `moses`, two line files; `datasets`, for Hugging Face `datasets`; or
            `megatron`, token ids for Megatron-LM.
        inputs: also export the stored datasets that the dataset was built from; only for `parquet`.
        newlines: see `write_moses`.
        columns: see `write_moses`.
        overwrite: replace an earlier export.
        card: text of the dataset card to add as `README.md`; None: no card.

    Raises NotStoredError, DamagedError, ConfigError, StoreError, and DataError as `write_moses` does.
    """
    if inputs and format != "parquet":
        raise ConfigError(f"task.inputs=true goes with format=parquet, but the format is {format}. Set format=parquet")
    dataset = store.repo.get_checked(dataset_id)
    with atomic_target(expanded_path(to).absolute(), overwrite=overwrite) as folder:
        if card is not None:
            with convert_disk_errors(folder):
                (folder / CARD_FILE).write_text(card, encoding="utf-8")
        if format == "parquet":
            built_from = map(store.repo.get_checked, all_inputs_first(dataset, store) if inputs else ())
            return _write_export(store, [*built_from, dataset], folder)
        with CountedWork(f"writing {dataset_id}", unit=None, phase="export"):
            if format == "moses":
                described = write_moses(dataset, folder, newlines=newlines, columns=columns)
            else:
                write = write_megatron if format == "megatron" else write_datasets
                described = write(dataset, folder)
        write_description(described, folder)
        return ExportSummary(
            (dataset_id,),
            num_pairs=described["num_pairs"],
            num_dropped=described.get("num_pairs_dropped", 0),
            num_with_other_break=described.get("num_pairs_with_other_break", 0),
        )


def _write_export(store: Store, datasets: list[TranslationDataset], folder: Path) -> ExportSummary:
    files: dict[str, ExportedFile] = {}
    with convert_disk_errors(folder):
        (folder / "datasets").mkdir()
    for dataset in datasets:
        files[rows_path(dataset.id)] = write_parquet(dataset, folder / rows_path(dataset.id))
    wanted = dict.fromkeys(name for dataset in datasets for name in input_names(dataset))
    tokenizers = [name for name in wanted if name.startswith("tokenizer-")]
    for name in tokenizers:
        try:
            at = store.tokenizers.open(name)
        except NotStoredError as error:
            raise DamagedError(
                f"{datasets[-1].id} was built with {name}, which is no longer stored. "
                "Run mtx task=prepare with its config to train the tokenizer again, then export"
            ) from error
        store.tokenizers.verify(name)
        with convert_disk_errors(folder):
            shutil.copytree(at, folder / "tokenizers" / name)
        for path in sorted((folder / "tokenizers" / name).iterdir()):
            files[f"tokenizers/{name}/{path.name}"] = ExportedFile(path.stat().st_size, sha256_of(path))
    with convert_disk_errors(folder):
        (folder / EXPORT_FILE).write_bytes(ExportManifest(tuple(datasets), files).to_json())
    return ExportSummary(tuple(d.id for d in datasets), tuple(tokenizers), num_pairs=len(datasets[-1]))
