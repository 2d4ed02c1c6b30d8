"""The repository of datasets: manifests in one layer, payload in another, and one way to build what is missing."""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mtx.data.dataset import TranslationDataset
from mtx.errors import AlreadyStoredError, DamagedError, NewerFormatError, NotStoredError, StoreError
from mtx.infra.dal.base import FileLayer, ObjectLayer
from mtx.infra.dal.oal import absent, already
from mtx.infra.dal.sealed import VERIFY
from mtx.infra.dal.upkeep import Damage, FileUpkeep, ObjectUpkeep

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

COLUMNS = ["id", "name", "stage", "split", "source_language", "target_language", "n", "bytes", "made_from"]


class DatasetRepo:
    """Stores datasets: payload through `fal`, manifests through `oal`.

    A dataset is there once its manifest is, which is written last. Safe with several processes: whoever asks for
    a missing dataset through `get_or_build` waits while another builds it.

    Args:
        fal: keeps payload.
        oal: keeps manifests.
        before_writing: called before anything is stored; what it raises passes through.
    """

    def __init__(self, *, fal: FileLayer, oal: ObjectLayer, before_writing: Callable[[], None] | None = None) -> None:
        self.fal = fal
        self.oal = oal
        self._before_writing = before_writing or _no_check

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
            raise DamagedError(f"{dataset_id} has a manifest, but its rows are gone. {VERIFY}") from error
        _compare(dataset_id, "rows", len(rows), manifest.n)
        return dataclasses.replace(manifest, data=rows)

    def verify(self, dataset_id: str, *, full: bool = True) -> None:
        """Compare a dataset's payload with its manifest; where `full`, all of it, down to the last bit.

        Raises NotStoredError, NewerFormatError, or DamagedError where they differ.
        """
        dataset = self.get(dataset_id)
        if not full:
            return
        if dataset.payload is not None:
            _compare(dataset_id, "SHA-256", self.fal.sha256(dataset_id), dataset.payload.sha256)
        try:
            dataset.rows.table.validate(full=True)
        except pa.ArrowException as error:
            raise DamagedError(f"the rows of {dataset_id} are not what Arrow allows: {error}. {VERIFY}") from error

    def set_aside(self, dataset_id: str, to: str | os.PathLike[str]) -> list[str]:
        """Move a dataset, damaged as it may be, out of the repository, and return where its parts are now.

        Nothing happens where `verify` finds it in order by now. Raises InUseError where another process is at work on
        it, and StoreError where the layers cannot.
        """
        if not (isinstance(self.oal, ObjectUpkeep) and isinstance(self.fal, FileUpkeep)):
            raise StoreError(f"this storage cannot set {dataset_id} aside. Remove it with DatasetRepo.remove")
        with self.fal.lock(dataset_id, wait=False):
            try:
                self.verify(dataset_id)
            except DamagedError:
                places = [self.oal.set_aside(dataset_id, to)]  # first, so that it is never seen without rows
                return [*places, *([self.fal.set_aside(dataset_id, to)] if self.fal.exists(dataset_id) else [])]
        return []

    def get_or_build(self, dataset_id: str, build: Callable[[], TranslationDataset]) -> TranslationDataset:
        """Return the dataset, or build and store it first; of several processes that ask, one builds.

        Args:
            dataset_id: the name it is asked for by.
            build: makes the dataset of that id. What it raises passes through, and nothing is stored.
        """
        if not self.exists(dataset_id):
            with self.fal.lock(dataset_id):
                if not self.exists(dataset_id):
                    self._before_writing()
                    built = build()
                    if built.id != dataset_id:
                        raise StoreError(
                            f"{dataset_id} was asked for, but {built.id} was built. Give it the id asked for"
                        )
                    with suppress(AlreadyStoredError):  # another machine, which our lock says nothing to, was first
                        self._add(built)
        return self.get(dataset_id)

    def manifest(self, dataset_id: str) -> TranslationDataset:
        """Return a dataset without its rows. Raises NotStoredError, DamagedError, or NewerFormatError."""
        dataset = TranslationDataset.from_manifest(self.oal.read(dataset_id))
        _compare(dataset_id, "id in its manifest", dataset.id, dataset_id)
        return dataset

    def manifests(
        self, stage: str | None = None, split: str | None = None, *, unreadable: list[Damage] | None = None
    ) -> Iterator[TranslationDataset]:
        """Iterate over the datasets, without rows, by id.

        Manifests that cannot be read are put into `unreadable`; without it, the first of them is raised as DamagedError
        or NewerFormatError, once all others have been yielded.
        """
        errors: list[StoreError] = []
        for name in self.oal.get_all_names():
            try:
                dataset = self.manifest(name)
            except NotStoredError:  # removed meanwhile
                continue
            except (DamagedError, NewerFormatError) as error:
                errors.append(error)
                if unreadable is not None:
                    unreadable.append(Damage(name, str(error)))
                continue
            if stage in (None, dataset.stage) and split in (None, dataset.split):
                yield dataset
        if errors and unreadable is None:
            raise errors[0]

    def show(
        self, stage: str | None = None, split: str | None = None, *, unreadable: list[Damage] | None = None
    ) -> "pd.DataFrame":
        """List the datasets as a DataFrame, one a row, with an `id` column; `stage` and `split` narrow it.

        Manifests that cannot be read are put into `unreadable`; without it, they are named in the log.
        """
        import pandas as pd

        found: list[Damage] = [] if unreadable is None else unreadable
        rows = [_summary(dataset) for dataset in self.manifests(stage, split, unreadable=found)]
        for damage in found if unreadable is None else ():
            log.warning("%s is left out: %s", damage.name, damage.reason)
        return pd.DataFrame(rows, columns=COLUMNS)

    def remove(self, dataset_id: str) -> None:
        """Forget a dataset: its manifest first, so that it is never seen without rows. Raises NotStoredError."""
        if not self.exists(dataset_id):  # asked before the lock, so that no folder is made for what is not there
            raise NotStoredError(absent(dataset_id, self._location(), self.oal.get_all_names()))
        with self.fal.lock(dataset_id):
            self.oal.delete(dataset_id)
            with suppress(NotStoredError):  # asked without `exists`: in a remote store a manifest alone tells that
                self.fal.delete(dataset_id)

    def exists(self, dataset_id: str) -> bool:
        """Tell whether a dataset is stored."""
        return self.oal.exists(dataset_id)

    def _add(self, dataset: TranslationDataset) -> None:
        """Store a dataset. The lock is held."""
        self._before_writing()
        if self.oal.exists(dataset.id):
            raise AlreadyStoredError(already(dataset.id, self._location()))
        if self.fal.exists(dataset.id):  # rows without a manifest: a build that was stopped in between
            self.fal.delete(dataset.id)
        payload = self.fal.create(dataset.id, dataset.data if dataset.data is not None else [])
        stored = dataclasses.replace(dataset, data=None, n=payload.num_rows, payload=payload)
        self.oal.create(stored.id, stored.to_manifest())

    def _location(self) -> str:
        return str(getattr(self.oal, "location", "the store"))


def _no_check() -> None:
    """Let everything be written. A function by name, so that a repository can be pickled."""


def _compare(dataset_id: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise DamagedError(f"{dataset_id} has changed on disk: {what} {found}, but stored were {expected}. {VERIFY}")


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
