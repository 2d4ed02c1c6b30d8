"""The repository of datasets: manifests in one layer, payload in another, and one way to build what is missing."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtx.data.dataset import TranslationDataset
from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError, StoreError
from mtx.infra.dal.base import FileLayer, ObjectLayer
from mtx.infra.dal.oal import absent, already

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["id", "name", "stage", "split", "source_language", "target_language", "n", "bytes", "made_from"]
REBUILD = "Remove it (DatasetRepo.remove) and build it again, or use another folder with storage.root=FOLDER"


class DatasetRepo:
    """Stores datasets: payload through `fal`, manifests through `oal`.

    A dataset is there once its manifest is, which is written last. Safe with several processes: whoever asks for
    a missing dataset through `get_or_build` waits while another builds it.
    """

    def __init__(self, *, fal: FileLayer, oal: ObjectLayer) -> None:
        self.fal = fal
        self.oal = oal

    def add(self, dataset: TranslationDataset) -> TranslationDataset:
        """Store a dataset, rows first, and return it as stored.

        `dataset.data` may be an iterable of record batches; it is written as it comes, and `metrics` are read when
        the last one has come. Raises AlreadyStoredError; what is there is kept.
        """
        with self.fal.lock(dataset.id):
            self._add(dataset)
        return self.get(dataset.id)

    def get(self, dataset_id: str) -> TranslationDataset:
        """Return a dataset with its rows. Raises NotStoredError, or DamagedError where the rows do not fit."""
        manifest = self.manifest(dataset_id)
        try:
            if manifest.payload is not None:
                _compare(dataset_id, "bytes", self.fal.num_bytes(dataset_id), manifest.payload.num_bytes)
            rows = self.fal.read(dataset_id)
        except NotStoredError as error:
            if not self.exists(dataset_id):  # removed between the two reads
                raise
            raise DamagedError(f"{dataset_id} has a manifest, but its rows are gone. {REBUILD}") from error
        _compare(dataset_id, "rows", len(rows), manifest.n)
        return dataclasses.replace(manifest, data=rows)

    def verify(self, dataset_id: str) -> None:
        """Read all of a dataset's payload and compare it with the manifest, down to the last bit.

        Raises NotStoredError, or DamagedError where they differ.
        """
        payload = self.get(dataset_id).payload
        if payload is not None:
            _compare(dataset_id, "SHA-256", self.fal.sha256(dataset_id), payload.sha256)

    def get_or_build(self, dataset_id: str, build: Callable[[], TranslationDataset]) -> TranslationDataset:
        """Return the dataset, or build and store it first; of several processes that ask, one builds.

        Args:
            dataset_id: the name it is asked for by.
            build: makes the dataset of that id. What it raises passes through, and nothing is stored.
        """
        if not self.exists(dataset_id):
            with self.fal.lock(dataset_id):
                if not self.exists(dataset_id):
                    built = build()
                    if built.id != dataset_id:
                        raise StoreError(
                            f"{dataset_id} was asked for, but {built.id} was built. Give it the id asked for"
                        )
                    self._add(built)
        return self.get(dataset_id)

    def manifest(self, dataset_id: str) -> TranslationDataset:
        """Return a dataset without its rows. Raises NotStoredError."""
        return TranslationDataset.from_manifest(self.oal.read(dataset_id))

    def manifests(self, stage: str | None = None, split: str | None = None) -> Iterator[TranslationDataset]:
        """Iterate over the datasets, without rows, by id."""
        for name in self.oal.get_all_names():
            try:
                dataset = self.manifest(name)
            except NotStoredError:  # removed meanwhile
                continue
            if stage in (None, dataset.stage) and split in (None, dataset.split):
                yield dataset

    def show(self, stage: str | None = None, split: str | None = None) -> "pd.DataFrame":
        """List the datasets as a DataFrame, one a row, with an `id` column; `stage` and `split` narrow it."""
        import pandas as pd

        return pd.DataFrame([_summary(dataset) for dataset in self.manifests(stage, split)], columns=COLUMNS)

    def remove(self, dataset_id: str) -> None:
        """Forget a dataset: its manifest first, so that it is never seen without rows. Raises NotStoredError."""
        if not self.exists(dataset_id):  # asked before the lock, so that no folder is made for what is not there
            raise NotStoredError(absent(dataset_id, self._location(), self.oal.get_all_names()))
        with self.fal.lock(dataset_id):
            self.oal.delete(dataset_id)
            if self.fal.exists(dataset_id):
                self.fal.delete(dataset_id)

    def exists(self, dataset_id: str) -> bool:
        """Tell whether a dataset is stored."""
        return self.oal.exists(dataset_id)

    def _add(self, dataset: TranslationDataset) -> None:
        """Store a dataset. The lock is held."""
        if self.oal.exists(dataset.id):
            raise AlreadyStoredError(already(dataset.id, self._location()))
        if self.fal.exists(dataset.id):  # rows without a manifest: a build that was stopped in between
            self.fal.delete(dataset.id)
        payload = self.fal.create(dataset.id, dataset.data if dataset.data is not None else [])
        stored = dataclasses.replace(dataset, data=None, n=payload.num_rows, payload=payload)
        self.oal.create(stored.id, stored.to_manifest())

    def _location(self) -> Path:
        return Path(getattr(self.oal, "location", "the store"))


def _compare(dataset_id: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise DamagedError(f"{dataset_id} has changed on disk: {what} {found}, but stored were {expected}. {REBUILD}")


def _summary(dataset: TranslationDataset) -> dict[str, Any]:
    inputs, revision = dataset.provenance.get("inputs"), dataset.provenance.get("revision", "")
    return {
        "id": dataset.id,
        "name": dataset.name,
        "stage": dataset.stage,
        "split": dataset.split,
        "source_language": dataset.languages[0],
        "target_language": dataset.languages[1],
        "n": dataset.n,
        "bytes": dataset.payload.num_bytes if dataset.payload else None,
        "made_from": ", ".join(map(str, inputs)) if isinstance(inputs, list) else str(revision),
    }
