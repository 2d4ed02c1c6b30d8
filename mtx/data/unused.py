"""What in the store does nothing refer to? Found here, and removed only when told so.

Safe beside runs at work: what has a lock is removed under it, and what another process is at work on is left. Nothing
is judged by its age, so that a clock that jumps changes nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

from mtx.data.seen import leftovers_of_records
from mtx.data.store import AT_WORK, Store
from mtx.errors import DamagedError, NotStoredError, StoreError
from mtx.infra.dal.base import ObjectLayer, path_lock, writing
from mtx.infra.dal.bundle import BundleLayer
from mtx.infra.dal.files import JSONFileObjectLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dal.upkeep import BundleUpkeep, FileUpkeep, Leftover, ObjectUpkeep, num_bytes_of, remove_all

# The ways in which manifests may lie in a store, whose options may share its folder: what one of them names is in use.
KNOWN: tuple[Callable[..., ObjectLayer], ...] = (SQLiteObjectLayer, ObjectAccessLayer, JSONFileObjectLayer)


def unused(store: Store, *, orphans: bool = True) -> list[Leftover]:
    """Find what nothing refers to, and change nothing.

    That is: what stopped writers and builds left, rows without a manifest, scratch files, and what was set aside as
    damaged. With `orphans` also encoded datasets and words one of whose inputs is gone, and tokenizers whose training
    set is gone, unless an encoded dataset or words need them. A run would build them again.

    Raises NewerFormatError, and DamagedError where manifests cannot be read, so that nobody knows what they refer to.
    """
    store.check_version()
    layers = [store.repo.oal, *(make(location=place) for place in _places(store) for make in KNOWN)]
    for layer in layers:
        if isinstance(layer, ObjectUpkeep) and (damages := layer.check(full=False)):
            raise DamagedError(
                f"{damages[0].name} in {getattr(layer, 'location', store.location)} is damaged: {damages[0].reason}. "
                "So nobody knows what is in use, and nothing is removed. Run mtx task=verify repair=true first"
            )
    found: list[Leftover] = []
    if isinstance(store.repo.fal, FileUpkeep):
        found += store.repo.fal.leftovers(partial(_has_manifest, layers))
    for layer in layers:
        found += layer.leftovers() if isinstance(layer, ObjectUpkeep) else ()
    for bundles in (store.tokenizers, store.words):
        found += bundles.leftovers() if isinstance(bundles, BundleUpkeep) else ()
    found += leftovers_of_records(store)
    found += _files_in(store.root / "scratch", "a scratch file of a run that was stopped", _remove_scratch)
    for place in (store.damaged, *sorted(store.damaged.glob("*/"))):
        found += _files_in(place, "set aside as damaged")
    if orphans:
        found += _Orphans(store, layers).found()
    return list({leftover.path: leftover for leftover in found}.values())  # two layers may find the same


def _places(store: Store) -> list[Path]:
    """Return the folders of datasets of this option and of others, if any, in the same store."""
    return sorted(path for path in store.root.glob("datasets*") if path.is_dir())


def _has_manifest(layers: list[ObjectLayer], name: str) -> bool:
    return any(layer.exists(name) for layer in layers)


def _remove_scratch(path: Path) -> bool:
    folder = path.is_dir() and not path.is_symlink()
    with path_lock(path / AT_WORK, wait=False) if folder else nullcontext():
        return _remove(path)


def _remove(path: Path) -> bool:
    with writing(path):
        remove_all(path)
    return True


def _files_in(place: Path, reason: str, remove: Callable[[Path], bool] = _remove) -> Iterator[Leftover]:
    folders = {"datasets", "tokenizers", "words", "sources"}  # of `damaged`, which has a folder for each kind

    if place.is_symlink():  # what lies behind a link is not the store's to remove
        return
    for path in sorted(place.glob("*")):
        if path.name not in folders:
            yield Leftover(path, reason, num_bytes_of(path), partial(remove, path))


class _Orphans:
    """What was derived from something that is gone."""

    def __init__(self, store: Store, layers: list[ObjectLayer]) -> None:
        self._store = store
        self._layers = layers

    def found(self) -> Iterator[Leftover]:
        try:
            encoded = self._inputs_of_encoded()
            words = {name: self._inputs(self._store.words, name) for name in self._store.words.get_all_names()}
            tokenizers = {
                name: self._inputs(self._store.tokenizers, name) for name in self._store.tokenizers.get_all_names()
            }
        except DamagedError:  # what it refers to is not known
            return
        needed = {name for inputs in [*encoded.values(), *words.values()] if not self._gone(inputs) for name in inputs}
        for name, inputs in encoded.items():
            if gone := self._gone(inputs):
                place = self._place(self._store.repo.fal, name)
                yield self._orphan(place, name, gone, partial(self._remove_encoded, name))
        for name, inputs in words.items():
            if gone := self._gone(inputs):
                yield self._orphan_bundle(self._store.words, name, gone)
        for name, inputs in tokenizers.items():
            if (gone := self._gone(inputs)) and name not in needed:
                yield self._orphan_bundle(self._store.tokenizers, name, gone)

    def _inputs_of_encoded(self) -> dict[str, list[str]]:
        datasets = self._store.repo.manifests(stage="encoded")
        return {dataset.id: [str(name) for name in _list(dataset.provenance.get("inputs"))] for dataset in datasets}

    def _inputs(self, layer: BundleLayer, name: str) -> list[str]:
        with suppress(NotStoredError):  # removed meanwhile
            described = layer.manifest(name).described
            return [str(described[key]) for key in ("filtered", "tokenizer") if key in described]
        return []

    def _gone(self, inputs: list[str]) -> list[str]:
        return [name for name in inputs if not self._is_stored(name)]

    def _is_stored(self, name: str) -> bool:
        try:
            return self._store.tokenizers.exists(name) or _has_manifest(self._layers, name)
        except StoreError:  # no name that can be stored: nothing is known about it
            return True

    def _place(self, layer: object, name: str) -> Path | str:
        location = getattr(layer, "location", self._store.root)
        return location / name if isinstance(location, Path) else f"{location}/{name}"

    def _orphan(self, path: Path | str, name: str, gone: list[str], remove: Callable[[], bool]) -> Leftover:
        try:
            num_bytes = self._store.repo.fal.num_bytes(name)
        except NotStoredError:
            num_bytes = 0
        return Leftover(path, f"made from {', '.join(gone)}, gone", num_bytes, remove)

    def _orphan_bundle(self, layer: BundleLayer, name: str, gone: list[str]) -> Leftover:
        path = self._place(layer, name)
        reason = f"made from {', '.join(gone)}, gone"
        return Leftover(path, reason, layer.num_bytes(name), partial(self._remove_bundle, layer, name))

    def _remove_encoded(self, name: str) -> bool:
        repo = self._store.repo
        with repo.fal.lock(name, wait=False), suppress(NotStoredError):
            inputs = _list(repo.manifest(name).provenance.get("inputs"))
            if self._gone([str(name) for name in inputs]):
                repo.remove(name)
                return True
        return False

    def _remove_bundle(self, layer: BundleLayer, name: str) -> bool:
        with layer.lock(name, wait=False), suppress(NotStoredError):
            if self._gone(self._inputs(layer, name)):
                layer.delete(name)
                return True
        return False


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
