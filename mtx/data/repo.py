"""`DatasetRepo`, which stores and reads datasets: manifests in an object layer, payloads in a file layer."""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mtx.components.identity import JSON
from mtx.data.dataset import TranslationDataset, is_former
from mtx.data.payload_manifest_comparison import changed_error, compare, damaged_part, payload_rows, sizes_match
from mtx.errors import AlreadyStoredError, DamagedError, NewerFormatError, NotStoredError, StoreError
from mtx.exhausted_resources import raise_if_exhausted
from mtx.infra.dal.maintenance_protocols import Damage, FileMaintenance, ObjectMaintenance
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.infra.dal.oal import already_stored_message, not_stored_message
from mtx.infra.dal.protocols import CopyingFileLayer, FileLayer, ObjectLayer
from mtx.library_errors import library_reason

if TYPE_CHECKING:
    import pandas as pd

    from mtx.infra.dal.arrow_rows import Rows

log = logging.getLogger(__name__)

COLUMNS = ["id", "name", "stage", "split", "source_language", "target_language", "n", "bytes", "made_from"]


class DatasetRepo:
    """Stores datasets: payloads in the file layer `fal`, manifests in the object layer `oal`.

    A dataset exists if its manifest exists; the manifest is written last. Safe for several processes: if one process
    builds a dataset in `get_or_build`, other processes that request the dataset wait for it.

    Args:
        fal: the layer that stores payloads.
        oal: the layer that stores manifests.
        before_writing: called before each write to the store; its exceptions are passed on.
    """

    def __init__(self, *, fal: FileLayer, oal: ObjectLayer, before_writing: Callable[[], None] | None = None) -> None:
        self.fal = fal
        self.oal = oal
        self.before_writing = before_writing or _no_check

    def add(self, dataset: TranslationDataset) -> TranslationDataset:
        """Store a dataset, rows first, and return the stored dataset.

        `dataset.data` may be an iterable of record batches, which is written as a stream. `metrics` are read after the
        last batch. If the id is already stored, the stored dataset is kept and AlreadyStoredError is raised.
        """
        with self.fal.lock(dataset.id):
            self._add(dataset)
        return self.get(dataset.id)

    def get(self, dataset_id: str) -> TranslationDataset:
        """Return a dataset with its rows. Raises NotStoredError, or DamagedError if rows and manifest do not match."""
        from mtx.infra.dal.row_views import PatchedRows, SelectedRows

        manifest = self.manifest(dataset_id)
        rows = self.stored_rows(manifest)
        if manifest.changes:
            rows = PatchedRows(self._base_rows(dataset_id, manifest.changes), rows)
        elif manifest.selects:
            bases = [self._base_rows(dataset_id, each.id) for each in manifest.selects]
            limits = [each.num_rows for each in manifest.selects]
            rows = SelectedRows(bases, limits, rows, [each.source for each in manifest.selects])
        compare(dataset_id, "rows", len(rows), manifest.n)
        return dataclasses.replace(manifest, data=rows)

    def get_checked(self, dataset_id: str) -> TranslationDataset:
        """Return a dataset with its rows, after a comparison of all their bytes with the digests in the manifests.

        Everything that is built from stored rows reads them by this method, so that damage is not built upon. The bytes
        of the datasets that it selects from or patches are compared, too. A damaged local copy of a bucket's file is
        downloaded again.

        Raises as `get` does, and DamagedError if the bytes differ.
        """
        manifest = self.manifest(dataset_id)
        for base_id in dict.fromkeys([*(each.id for each in manifest.selects), manifest.changes]):
            if base_id and self.exists(base_id):  # `get` tells of a missing one
                self.get_checked(base_id)
        if manifest.payload is not None:
            self._check_bytes(manifest)
        return self.get(dataset_id)

    def _check_bytes(self, manifest: TranslationDataset) -> None:
        assert manifest.payload is not None
        try:
            if isinstance(self.fal, CopyingFileLayer):
                self.fal.renew_copy(manifest.id, manifest.payload)
                return
            compare(manifest.id, "bytes", self.fal.num_bytes(manifest.id), manifest.payload.num_bytes)
            found = self.fal.sha256(manifest.id)
        except NotStoredError:
            return  # `get` tells whether it was removed or its rows are missing
        if found != manifest.payload.sha256:
            raise changed_error(manifest.id, "SHA-256", found, manifest.payload.sha256)

    def stored_rows(self, manifest: TranslationDataset) -> "Rows":
        """Return the rows in the payload of a dataset, such as row numbers. Raises NotStoredError or DamagedError."""
        dataset_id = manifest.id
        try:
            return payload_rows(manifest, self.fal)
        except NotStoredError as error:
            if not self.oal.exists(dataset_id):  # another process removed the dataset after its manifest was read
                raise
            raise DamagedError(f"{dataset_id} has a manifest, but its rows are missing. {VERIFY_HINT}") from error

    def _base_rows(self, dataset_id: str, base_id: str) -> "Rows":
        """Return the rows that another dataset selects from or patches. Raises DamagedError if they are missing."""
        try:
            return self.get(base_id).rows
        except NotStoredError as error:
            raise DamagedError(
                f"{dataset_id} consists of rows of {base_id}, which is no longer stored. Remove {dataset_id} with "
                f"DatasetRepo.remove; the next run builds both again"
            ) from error

    def verify(self, dataset_id: str, *, full: bool = True) -> TranslationDataset:
        """Compare a dataset's payload with its manifest: its size; if `full`, also its number of rows and every byte.

        Returns the dataset. Raises NotStoredError, NewerFormatError, or DamagedError if the payload differs.
        """
        if not full:
            manifest = self.manifest(dataset_id)
            return manifest if sizes_match(manifest, self.fal, self.exists) else self.get(dataset_id)
        dataset = self.get(dataset_id)
        import pyarrow as pa

        rows = dataset.rows.stored_rows
        if dataset.payload is not None and (found := self.fal.sha256(dataset_id)) != dataset.payload.sha256:
            raise changed_error(dataset_id, "SHA-256", found, dataset.payload.sha256, damaged_part(dataset, rows))
        try:
            for chunk in rows.chunks[0]:
                chunk.validate(full=True)
        except pa.ArrowException as error:
            raise_if_exhausted(error)
            raise DamagedError(
                f"the rows of {dataset_id} are not valid Arrow data: {library_reason(error)}. {VERIFY_HINT}"
            ) from error
        most = sum(each.num_rows for each in dataset.selects) if dataset.selects else dataset.n
        if (dataset.selects or dataset.changes) and len(rows):
            from mtx.infra.dal.row_views import row_numbers

            numbers = row_numbers(rows)
            if not 0 <= int(numbers.min()) <= int(numbers.max()) < (most or 0):
                raise DamagedError(f"{dataset_id} refers to rows beyond the existing {most} rows. {VERIFY_HINT}")
            if (numbers[1:] <= numbers[:-1]).any():
                raise DamagedError(f"the row numbers of {dataset_id} do not increase from row to row. {VERIFY_HINT}")
        return dataset

    def quarantine(self, dataset_id: str, to: str | os.PathLike[str]) -> list[str]:
        """Move a damaged dataset out of the repository to the folder `to`, and return the new paths of its parts.

        Nothing is moved if `verify` finds no damage. Raises InUseError if another process uses the dataset, and
        StoreError if the layers of this repository do not support moving.
        """
        if not (isinstance(self.oal, ObjectMaintenance) and isinstance(self.fal, FileMaintenance)):
            raise StoreError(f"this storage cannot move {dataset_id} aside. Remove it with DatasetRepo.remove")
        with self.fal.lock(dataset_id, wait=False):
            try:
                self.verify(dataset_id)
            except DamagedError:
                places = [
                    self.oal.quarantine(dataset_id, to)
                ]  # the manifest first, so that no reader finds it without rows
                return [*places, *([self.fal.quarantine(dataset_id, to)] if self.fal.exists(dataset_id) else [])]
        return []

    def get_or_build(self, dataset_id: str, build: Callable[[], TranslationDataset]) -> TranslationDataset:
        """Return the stored dataset, or build and store it first. If several processes call this, only one builds.

        Args:
            dataset_id: id of the dataset.
            build: returns the dataset with that id. If it raises, the exception is passed on and nothing is stored.
        """
        self.ensure(dataset_id, build)
        return self.get(dataset_id)

    def ensure(self, dataset_id: str, build: Callable[[], TranslationDataset]) -> TranslationDataset:
        """Build and store the dataset if it is missing, as `get_or_build` does, but return only its manifest."""
        if (stored := self._stored_manifest(dataset_id)) is not None:
            return stored
        with self.fal.lock(dataset_id):
            if (stored := self._stored_manifest(dataset_id)) is not None:
                return stored
            self.before_writing()
            built = build()
            if built.id != dataset_id:
                raise StoreError(
                    f"{dataset_id} was requested, but {built.id} was built. Give the dataset the requested id"
                )
            with suppress(AlreadyStoredError):  # another machine, which does not share this lock, stored it first
                self._add(built)
        return self.manifest(dataset_id)

    def manifest(self, dataset_id: str) -> TranslationDataset:
        """Return a dataset's manifest, without rows. Raises NotStoredError, DamagedError or NewerFormatError."""
        return self._manifest_of(dataset_id, self.oal.read(dataset_id))

    def _manifest_of(self, dataset_id: str, value: JSON) -> TranslationDataset:
        dataset = TranslationDataset.from_manifest(value)
        compare(dataset_id, "id in its manifest", dataset.id, dataset_id)
        return dataset

    def _stored_manifest(self, dataset_id: str) -> TranslationDataset | None:
        """Return the manifest of a dataset, or None if the dataset is not stored."""
        if not self.exists(dataset_id):
            return None
        try:
            return self.manifest(dataset_id)
        except NotStoredError:  # another process removed the dataset
            return None

    def manifests(
        self, stage: str | None = None, split: str | None = None, *, unreadable: list[Damage] | None = None
    ) -> Iterator[TranslationDataset]:
        """Iterate over the manifests of all datasets, ordered by id, or of those of a `stage` and a `split`.

        Unreadable manifests are appended to `unreadable`. If `unreadable` is None, the first error (DamagedError or
        NewerFormatError) is raised after all readable manifests were yielded.
        """
        errors: list[StoreError] = []
        for name in self.oal.get_all_names():
            try:
                dataset = self.manifest(name)
            except NotStoredError:  # another process removed the dataset
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

    def former_names(self) -> list[str]:
        """Return the ids of datasets that stages of earlier versions of mtx wrote, under ids that no run uses now."""
        found = []
        for name in self.oal.get_all_names():
            with suppress(NotStoredError, DamagedError):
                manifest = self.oal.read(name)
                if isinstance(manifest, dict) and is_former(manifest):
                    found.append(name)
        return found

    def show(
        self, stage: str | None = None, split: str | None = None, *, unreadable: list[Damage] | None = None
    ) -> "pd.DataFrame":
        """Return the stored datasets as a DataFrame, one row per dataset; `stage` and `split` restrict the list.

        Unreadable manifests are appended to `unreadable`. If `unreadable` is None, each of them is logged as a warning.
        """
        import pandas as pd

        found: list[Damage] = [] if unreadable is None else unreadable
        rows = [_summary(dataset) for dataset in self.manifests(stage, split, unreadable=found)]
        for damage in found if unreadable is None else ():
            log.warning("%s is not listed: %s", damage.name, damage.reason)
        return pd.DataFrame(rows, columns=COLUMNS)

    def remove(self, dataset_id: str) -> None:
        """Remove a dataset, its manifest first, so that no reader finds it without rows. Raises NotStoredError."""
        if not self.exists(dataset_id):  # checked before the lock, because locking would create a folder
            raise NotStoredError(not_stored_message(dataset_id, self._location(), self.oal.get_all_names()))
        with self.fal.lock(dataset_id):
            self.oal.delete(dataset_id)
            with suppress(NotStoredError):  # `fal.exists` cannot tell: in a remote store it reads the deleted manifest
                self.fal.delete(dataset_id)

    def exists(self, dataset_id: str) -> bool:
        """Return whether a dataset is stored."""
        return self.oal.exists(dataset_id)

    def _add(self, dataset: TranslationDataset) -> None:
        """Store a dataset. The caller holds the lock of the dataset."""
        self.before_writing()
        if self.oal.exists(dataset.id):
            raise AlreadyStoredError(already_stored_message(dataset.id, self._location()))
        # Rows without a manifest are the remains of an interrupted build. In a bucket no name leads to them.
        if not isinstance(self.fal, CopyingFileLayer) and self.fal.exists(dataset.id):
            self.fal.delete(dataset.id)
        payload = self.fal.create(dataset.id, dataset.data if dataset.data is not None else [])
        num_rows = dataset.n if dataset.changes else payload.num_rows
        stored = dataclasses.replace(dataset, data=None, n=num_rows, payload=payload, shards=tuple(dataset.shards))
        self.oal.create(stored.id, stored.to_manifest())

    def _location(self) -> str:
        return str(getattr(self.oal, "location", "the store"))


def _no_check() -> None:
    """Allow every write. A named function, because a lambda would make the repository unpicklable."""


def input_ids(dataset: TranslationDataset) -> list[str]:
    """Return the ids of the inputs of a dataset (datasets and tokenizers), or the revision of its source."""
    inputs = dataset.provenance.get("inputs")
    return [str(name) for name in inputs] if isinstance(inputs, list) else [str(dataset.provenance.get("revision", ""))]


def _summary(dataset: TranslationDataset) -> dict[str, Any]:
    return {
        "id": dataset.id,
        "name": dataset.name,
        "stage": dataset.stage,
        "split": dataset.split,
        "source_language": dataset.languages[0],
        "target_language": dataset.languages[1],
        "n": dataset.n,
        "bytes": dataset.payload.num_bytes if dataset.payload else None,
        "made_from": ", ".join(input_ids(dataset)),
    }
