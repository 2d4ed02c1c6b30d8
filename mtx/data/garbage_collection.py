"""Finds the parts of the store that nothing refers to; `task=gc` lists them, and removes them with `yes=true`.

Garbage collection is safe while runs are active. An item with a lock is removed under its lock, and an item that
another process uses stays. No decision depends on file ages, so wrong clocks have no effect.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

from mtx.components.identity import JSON
from mtx.data.dataset import TranslationDataset
from mtx.data.remembered_sources import record_leftovers
from mtx.data.store import WORK_LOCK, Store
from mtx.errors import DamagedError, NotStoredError, StoreError
from mtx.infra.dal.artifact import ArtifactLayer
from mtx.infra.dal.atomic_file import convert_disk_errors
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dal.locks import path_lock
from mtx.infra.dal.maintenance_protocols import (
    ArtifactMaintenance,
    FileMaintenance,
    Leftover,
    ObjectMaintenance,
    num_bytes_of,
    remove_all,
)
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.protocols import ObjectLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer

# All storage formats of manifests. Options may share a store's folder, so a manifest in any of these formats keeps its
# data in use.
OBJECT_LAYERS: tuple[Callable[..., ObjectLayer], ...] = (SQLiteObjectLayer, ObjectAccessLayer, JSONFileObjectLayer)


def store_leftovers(store: Store, *, orphans: bool = True) -> list[Leftover]:
    """Return everything in the store that nothing refers to, without changing the store.

    Leftovers are: remains of interrupted writers and builds, rows without a manifest, scratch files, and files that
    `task=verify` moved to the folder `damaged`. With `orphans`, also datasets that stages of earlier versions of mtx
    wrote, and selections, scores, encoded datasets, words and models with a missing input. A tokenizer is an orphan if
    its training dataset is missing, unless encoded datasets or words need it. A run can rebuild all orphans.

    Raises:
        NewerFormatError: a newer version of mtx wrote the store.
        DamagedError: manifests are unreadable, so it is unknown which data they refer to.
    """
    store.check_version()
    layers = [store.repo.oal, *(make(location=place) for place in _dataset_folders(store) for make in OBJECT_LAYERS)]
    for layer in layers:
        if isinstance(layer, ObjectMaintenance) and (damages := layer.check(full=False)):
            raise DamagedError(
                f"{damages[0].name} in {getattr(layer, 'location', store.location)} is damaged: {damages[0].reason}. "
                "So it is unknown which data is in use, and nothing is removed. Run "
                "mtx task=verify full=true repair=true first"
            )
    found: list[Leftover] = []
    if isinstance(store.repo.fal, FileMaintenance):
        found += store.repo.fal.leftovers(partial(_has_manifest, layers))
    for layer in layers:
        found += layer.leftovers() if isinstance(layer, ObjectMaintenance) else ()
    for artifacts in store.artifacts.values():
        found += artifacts.leftovers() if isinstance(artifacts, ArtifactMaintenance) else ()
    found += record_leftovers(store)
    found += _file_leftovers(store.root / "scratch", "a scratch file of an interrupted run", _remove_scratch)
    for place in (store.damaged, *sorted(store.damaged.glob("*/"))):
        found += _file_leftovers(place, "set aside as damaged")
    if orphans:
        found += _Orphans(store, layers).leftovers()
    return list({leftover.path: leftover for leftover in found}.values())  # two layers may report the same path


def _dataset_folders(store: Store) -> list[Path]:
    """Return all folders of datasets in the store; `storage` options with other formats may use other folders."""
    return sorted(path for path in store.root.glob("datasets*") if path.is_dir())


def _has_manifest(layers: list[ObjectLayer], name: str) -> bool:
    return any(layer.exists(name) for layer in layers)


def _remove_scratch(path: Path) -> bool:
    folder = path.is_dir() and not path.is_symlink()
    with path_lock(path / WORK_LOCK, wait=False) if folder else nullcontext():
        return _remove(path)


def _remove(path: Path) -> bool:
    with convert_disk_errors(path):
        remove_all(path)
    return True


def _file_leftovers(place: Path, reason: str, remove: Callable[[Path], bool] = _remove) -> Iterator[Leftover]:
    folders = {"datasets", "tokenizers", "words", "models", "sources"}  # subfolders of `damaged`, one per kind of item

    if place.is_symlink():  # the target of a link does not belong to the store
        return
    for path in sorted(place.glob("*")):
        if path.name not in folders:
            yield Leftover(path, reason, num_bytes_of(path), partial(remove, path))


class _Orphans:
    """Finds datasets and artifacts that were built from an input that is no longer stored."""

    def __init__(self, store: Store, layers: list[ObjectLayer]) -> None:
        self._store = store
        self._layers = layers

    def leftovers(self) -> Iterator[Leftover]:
        try:
            former = self._store.repo.former_names()
            derived = self._inputs_of_derived()
            words, models = (
                {name: self._inputs(layer, name) for name in layer.get_all_names()}
                for layer in (self._store.words, self._store.models)
            )
            tokenizers = {
                name: self._inputs(self._store.tokenizers, name) for name in self._store.tokenizers.get_all_names()
            }
        except DamagedError:  # a manifest is unreadable, so its inputs are unknown
            return
        needed = {
            name
            for inputs in [*derived.values(), *words.values()]
            if not self._missing_inputs(inputs)
            for name in inputs
        }
        for name in former:
            place = self._place(self._store.repo.fal, name)
            reason = "written by an earlier version of mtx; no run uses it now"
            yield self._leftover(place, name, reason, partial(self._remove_former, name))
        for name, inputs in derived.items():
            if name not in former and (gone := self._missing_inputs(inputs)):
                place = self._place(self._store.repo.fal, name)
                reason = f"built from {', '.join(gone)}, which is missing"
                yield self._leftover(place, name, reason, partial(self._remove_derived, name))
        for name, inputs in words.items():
            if gone := self._missing_inputs(inputs):
                yield self._orphan_artifact(self._store.words, name, gone)
        for name, inputs in models.items():
            if gone := self._missing_inputs(inputs):
                yield self._orphan_artifact(self._store.models, name, gone)
        for name, inputs in tokenizers.items():
            if (gone := self._missing_inputs(inputs)) and name not in needed:
                yield self._orphan_artifact(self._store.tokenizers, name, gone)

    def _inputs_of_derived(self) -> dict[str, list[str]]:
        """Return the required input ids of each dataset that stores no texts of its own, by dataset id."""
        return {dataset.id: needed for dataset in self._store.repo.manifests() if (needed := _required_ids(dataset))}

    def _inputs(self, layer: ArtifactLayer, name: str) -> list[str]:
        with suppress(NotStoredError):  # another process removed the item
            return artifact_inputs(layer.manifest(name).described)
        return []

    def _missing_inputs(self, inputs: list[str]) -> list[str]:
        return [name for name in inputs if not self._is_stored(name)]

    def _is_stored(self, name: str) -> bool:
        try:
            return self._store.tokenizers.exists(name) or _has_manifest(self._layers, name)
        except StoreError:  # not a valid name, so it is not treated as missing
            return True

    def _place(self, layer: object, name: str) -> Path | str:
        location = getattr(layer, "location", self._store.root)
        return location / name if isinstance(location, Path) else f"{location}/{name}"

    def _leftover(self, path: Path | str, name: str, reason: str, remove: Callable[[], bool]) -> Leftover:
        try:
            num_bytes = self._store.repo.fal.num_bytes(name)
        except NotStoredError:
            num_bytes = 0
        return Leftover(path, reason, num_bytes, remove)

    def _orphan_artifact(self, layer: ArtifactLayer, name: str, gone: list[str]) -> Leftover:
        path = self._place(layer, name)
        reason = f"built from {', '.join(gone)}, which is missing"
        return Leftover(path, reason, layer.num_bytes(name), partial(self._remove_artifact, layer, name))

    def _remove_derived(self, name: str) -> bool:
        repo = self._store.repo
        with repo.fal.lock(name, wait=False), suppress(NotStoredError):
            if self._missing_inputs(_required_ids(repo.manifest(name))):
                repo.remove(name)
                return True
        return False

    def _remove_former(self, name: str) -> bool:
        repo = self._store.repo
        with repo.fal.lock(name, wait=False), suppress(NotStoredError):
            repo.remove(name)
            return True
        return False

    def _remove_artifact(self, layer: ArtifactLayer, name: str) -> bool:
        with layer.lock(name, wait=False), suppress(NotStoredError):
            if self._missing_inputs(self._inputs(layer, name)):
                layer.delete(name)
                return True
        return False


def artifact_inputs(described: Mapping[str, JSON]) -> list[str]:
    """Return the ids of the datasets and artifacts that an artifact was built from, as its manifest records them."""
    own = [str(described[key]) for key in ("trained_on", "filtered", "tokenizer") if key in described]
    combined = [of[1] for of in _list_or_empty(described.get("inputs")) if isinstance(of, list) and len(of) == 2]
    scores = [str(name) for ids in combined for name in _list_or_empty(ids)]
    return [*own, *(str(name) for name in _list_or_empty(described.get("texts"))), *scores]


def _required_ids(dataset: TranslationDataset) -> list[str]:
    """Return the ids of the inputs without which a dataset is unusable."""
    if dataset.stage in ("encoded", "scores"):
        return [str(name) for name in _list_or_empty(dataset.provenance.get("inputs"))]
    return [*(each.id for each in dataset.selects), *([dataset.changes] if dataset.changes else [])]


def _list_or_empty(value: object) -> list[object]:
    return value if isinstance(value, list) else []
