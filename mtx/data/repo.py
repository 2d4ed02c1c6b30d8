"""The repository of datasets: manifests in one layer, payload in another, and one way to build what is missing."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mtx.data.dataset import TranslationDataset
from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError
from mtx.infra.dal.base import FileLayer, ObjectLayer
from mtx.infra.dal.oal import already

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["id", "name", "stage", "split", "source_language", "target_language", "n", "bytes", "made_from"]


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
            return self._add(dataset)

    def get(self, dataset_id: str) -> TranslationDataset:
        """Return a dataset with its rows. Raises NotStoredError, or DamagedError where the rows do not fit."""
        manifest = self.manifest(dataset_id)
        rows = self.fal.read(dataset_id)
        if len(rows) != manifest.n:
            raise DamagedError(
                f"{dataset_id} has {len(rows)} rows, but its manifest says {manifest.n}. Remove it and build it again"
            )
        return dataclasses.replace(manifest, data=rows)

    def get_or_build(self, dataset_id: str, build: Callable[[], TranslationDataset]) -> TranslationDataset:
        """Return the dataset, or build and store it first; of several processes that ask, one builds."""
        if not self.exists(dataset_id):
            with self.fal.lock(dataset_id):
                if not self.exists(dataset_id):
                    self._add(build())
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
        with self.fal.lock(dataset_id):
            self.oal.delete(dataset_id)
            if self.fal.exists(dataset_id):
                self.fal.delete(dataset_id)

    def exists(self, dataset_id: str) -> bool:
        """Tell whether a dataset is stored."""
        return self.oal.exists(dataset_id)

    def _add(self, dataset: TranslationDataset) -> TranslationDataset:
        if self.oal.exists(dataset.id):
            raise AlreadyStoredError(already(dataset.id, getattr(self.oal, "location", "the store")))
        if self.fal.exists(dataset.id):  # rows without a manifest: a build that was stopped in between
            self.fal.delete(dataset.id)
        payload = self.fal.create(dataset.id, dataset.data if dataset.data is not None else [])
        stored = dataclasses.replace(dataset, data=None, n=payload.num_rows, payload=payload)
        self.oal.create(stored.id, stored.to_manifest())
        return dataclasses.replace(stored, data=self.fal.read(stored.id))


def _summary(dataset: TranslationDataset) -> dict[str, Any]:
    inputs = dataset.provenance.get("inputs")
    return {
        "id": dataset.id,
        "name": dataset.name,
        "stage": dataset.stage,
        "split": dataset.split,
        "source_language": dataset.languages[0],
        "target_language": dataset.languages[1],
        "n": dataset.n,
        "bytes": dataset.payload.num_bytes if dataset.payload else None,
        "made_from": ", ".join(map(str, inputs)) if isinstance(inputs, list) else str(dataset.provenance.get("revision", "")),
    }
