"""`RepoSession`, a dataset repository that caches manifests and opened payloads during one run."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from mtx.data.dataset import TranslationDataset
from mtx.data.repo import DatasetRepo
from mtx.errors import NotStoredError
from mtx.infra.dal.protocols import Connectable, CopyingFileLayer, FindingObjectLayer

if TYPE_CHECKING:
    from mtx.infra.dal.arrow_rows import Rows


class RepoSession(DatasetRepo):
    """A repository for one run, which reads each manifest only once and opens each payload only once.

    Cached data stays valid, because a stored dataset never changes under its id. If another process removes a dataset,
    opening its rows raises NotStoredError.

    Args:
        repo: the repository to read from and write to.
    """

    def __init__(self, repo: DatasetRepo) -> None:
        super().__init__(fal=repo.fal, oal=repo.oal, before_writing=repo.before_writing)
        self._manifests: dict[str, TranslationDataset] = {}
        self._opened: dict[str, TranslationDataset] = {}
        self._payloads: dict[str, Rows] = {}
        self._checked: set[str] = set()

    def connection(self) -> AbstractContextManager[None]:
        """Return a context in which all calls share one connection to the manifests, if the layer has connections."""
        return self.oal.connection() if isinstance(self.oal, Connectable) else nullcontext()

    def manifest(self, dataset_id: str) -> TranslationDataset:
        """Return a dataset's manifest, without rows, from the cache if possible. Raises as `DatasetRepo.manifest`."""
        if dataset_id not in self._manifests:
            self._manifests[dataset_id] = super().manifest(dataset_id)
        return self._manifests[dataset_id]

    def get(self, dataset_id: str) -> TranslationDataset:
        """Return a dataset with its rows, from the cache if possible. Raises as `DatasetRepo.get`."""
        if dataset_id not in self._opened:
            try:
                self._opened[dataset_id] = super().get(dataset_id)
            except NotStoredError:  # another process removed the dataset after its manifest was read
                self._manifests.pop(dataset_id, None)
                raise
        return self._opened[dataset_id]

    def stored_rows(self, manifest: TranslationDataset) -> "Rows":
        """Return the rows in the payload of a dataset, from the cache if possible. Raises as `DatasetRepo` does."""
        if manifest.id not in self._payloads:
            self._payloads[manifest.id] = super().stored_rows(manifest)
        return self._payloads[manifest.id]

    def get_checked(self, dataset_id: str) -> TranslationDataset:
        """Return a dataset with its rows, whose bytes are compared once. Raises as `DatasetRepo.get_checked`."""
        if dataset_id not in self._checked:
            self._opened.pop(dataset_id, None)  # the check may replace the file that was opened
            self._payloads.pop(dataset_id, None)
            super().get_checked(dataset_id)
            self._checked.add(dataset_id)
        return self.get(dataset_id)

    def _add(self, dataset: TranslationDataset) -> None:
        super()._add(dataset)
        if not isinstance(self.fal, CopyingFileLayer):  # the digest is that of the bytes as they were written
            self._checked.add(dataset.id)

    def exists(self, dataset_id: str) -> bool:
        """Return whether a dataset is stored, or was stored when its manifest was read."""
        return dataset_id in self._manifests or super().exists(dataset_id)

    def remove(self, dataset_id: str) -> None:
        """Remove a dataset from the repository and from the cache. Raises NotStoredError."""
        self._manifests.pop(dataset_id, None)
        self._opened.pop(dataset_id, None)
        self._payloads.pop(dataset_id, None)
        self._checked.discard(dataset_id)
        super().remove(dataset_id)

    def _stored_manifest(self, dataset_id: str) -> TranslationDataset | None:
        if dataset_id not in self._manifests and isinstance(self.oal, FindingObjectLayer):
            if (value := self.oal.find(dataset_id)) is None:
                return None
            self._manifests[dataset_id] = self._manifest_of(dataset_id, value)
        try:  # one request instead of two (`exists` and `manifest`)
            return self.manifest(dataset_id)
        except NotStoredError:
            return None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}, "_payloads": {}}
