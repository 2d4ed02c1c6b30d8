"""Is the store as it was written? All of it is looked at, and what is damaged is named and, if wanted, set aside."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from mtx.data.seen import check_record, names_of_records, set_record_aside
from mtx.data.store import Store
from mtx.errors import DamagedError, InUseError, NewerFormatError, NotStoredError, StoreError
from mtx.infra.dal.base import is_name
from mtx.infra.dal.bundle import BundleLayer
from mtx.infra.dal.oal import RESTORE
from mtx.infra.dal.sealed import VERIFY
from mtx.infra.dal.upkeep import ObjectUpkeep

State = Literal["damaged", "set aside", "of a newer mtx"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written.

    Attributes:
        name: of a dataset, a tokenizer or words; or of a file: one that keeps several manifests, or what is
            remembered of a source.
        reason: what is wrong, and how it was found.
        state: what became of it.
        places: where it is now, if it was set aside.
    """

    name: str
    reason: str
    state: State
    places: list[str] = field(default_factory=list)


@dataclass
class Verification:
    """What was looked at, and what was found.

    Attributes:
        num_checked: datasets, tokenizers, words, and what is remembered of sources.
        num_bytes: what they take, as their manifests say.
        findings: those that are not as they were written.
        undigested: names of things an older mtx stored without a digest of all of it: damage there may go unseen.
    """

    num_checked: int = 0
    num_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    undigested: list[str] = field(default_factory=list)


def verify_store(store: Store, *, full: bool = False, repair: bool = False) -> Verification:
    """Look at everything in the store.

    Args:
        store: changed only where `repair`.
        full: read every byte and compare digests; else manifests, sizes, and whether things can be opened.
        repair: move what is damaged into the store's folder `damaged`, so that the next run builds it again.

    Raises NewerFormatError where all of the store is of a newer mtx; of single things that is a finding.
    """
    store.check_version()
    found = Verification()
    for finding in _of_manifests(store, full=full, repair=repair):
        found.findings.append(finding)
    dataset_aside = partial(_dataset_aside, store) if repair else None
    for name in _dataset_names(store):
        _look(found, name, partial(_dataset, store, found, name, full), dataset_aside)
    for kind, layer in (("tokenizers", store.tokenizers), ("words", store.words)):
        bundle_aside = partial(_bundle_aside, layer, store.damaged / kind) if repair else None
        for name in layer.get_all_names():
            _look(found, name, partial(_bundle, layer, found, name, full), bundle_aside)
    record_aside = partial(set_record_aside, store) if repair else None
    for name in names_of_records(store):
        _look(found, name, partial(check_record, store, name), record_aside)
    return found


def _look(
    found: Verification, name: str, check: Callable[[], None], set_aside: Callable[[str], list[str]] | None
) -> None:
    """Check one thing, and set it aside where it is damaged and `set_aside` is there."""
    try:
        check()
    except NotStoredError:  # removed meanwhile
        return
    except NewerFormatError as error:
        found.findings.append(Finding(name, str(error), "of a newer mtx"))
    except StoreError as error:
        found.findings.append(_kept_or_aside(name, error, set_aside))
    found.num_checked += 1


def _kept_or_aside(name: str, error: StoreError, set_aside: Callable[[str], list[str]] | None) -> Finding:
    reason = str(error).removesuffix(VERIFY).removesuffix(RESTORE).rstrip(". ")  # said once, for all
    if set_aside is None or not isinstance(error, DamagedError):
        return Finding(name, reason, "damaged")
    try:
        return Finding(name, reason, "set aside", set_aside(name))
    except InUseError:
        return Finding(name, f"{reason}. Not set aside: another process is at work on it", "damaged")
    except StoreError as refused:
        return Finding(name, f"{reason}. Not set aside: {refused}", "damaged")


def _of_manifests(store: Store, *, full: bool, repair: bool) -> Iterator[Finding]:
    """Look at the files that keep the manifests of datasets."""
    layer = store.repo.oal
    if not isinstance(layer, ObjectUpkeep):
        return
    damages = layer.check(full=full)
    places: list[str] = []
    if damages and repair:
        places = layer.repair(store.damaged)
    for damage in damages:
        yield Finding(damage.name, damage.reason, "set aside" if places else "damaged", places)


def _dataset_names(store: Store) -> list[str]:
    try:
        return [name for name in store.repo.oal.get_all_names() if is_name(name)]
    except DamagedError:  # found already, by looking at the manifests as a whole
        return []


def _dataset(store: Store, found: Verification, name: str, full: bool) -> None:
    manifest = store.repo.oal.read(name)
    store.repo.verify(name, full=full)
    payload = store.repo.manifest(name).payload
    found.num_bytes += payload.num_bytes if payload else 0
    if isinstance(manifest, dict) and manifest["format_version"] == 1:
        found.undigested.append(name)


def _bundle(layer: BundleLayer, found: Verification, name: str, full: bool) -> None:
    layer.verify(name, full=full)
    found.num_bytes += layer.num_bytes(name)
    if layer.manifest(name).files is None:
        found.undigested.append(name)


def _dataset_aside(store: Store, name: str) -> list[str]:
    return store.repo.set_aside(name, store.damaged / "datasets")


def _bundle_aside(layer: BundleLayer, to: Path, name: str) -> list[str]:
    with layer.lock(name, wait=False):
        try:
            layer.verify(name)
        except DamagedError:
            return [layer.set_aside(name, to)]
    return []  # built again meanwhile
