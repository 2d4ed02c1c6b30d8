"""Verifies the store (`task=verify`): checks all of it for damage, and moves damaged items aside on request."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from mtx.data.remembered_sources import check_record, quarantine_record, record_names
from mtx.data.repo_read_cache import RepoSession
from mtx.data.store import Store
from mtx.errors import DamagedError, InUseError, NewerFormatError, NotStoredError, StoreError
from mtx.infra.dal.artifact import ArtifactLayer
from mtx.infra.dal.maintenance_protocols import ObjectMaintenance
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.infra.dal.oal import RESTORE_HINT
from mtx.infra.dal.protocols import is_name
from mtx.progress.tracking import CountedWork

State = Literal["damaged", "set aside", "of a newer mtx"]


@dataclass(frozen=True)
class Finding:
    """A damaged item of the store, or an item that a newer version of mtx wrote.

    Attributes:
        name: id of a dataset or an artifact, or name of a file: a file of manifests, or a record of a source.
        reason: what is wrong, and which check failed.
        state: `damaged`; `set aside`, if it was moved to the folder `damaged`; or `of a newer mtx`.
        places: new paths of an item that was set aside.
    """

    name: str
    reason: str
    state: State
    places: list[str] = field(default_factory=list)


@dataclass
class Verification:
    """The result of verifying a store.

    Attributes:
        num_checked: number of checked datasets, artifacts and records of sources.
        num_bytes: size of the checked items in bytes, according to their manifests.
        findings: damaged items, and items that a newer version of mtx wrote.
        undigested: names of items that an older version of mtx stored without complete digests, so that some damage in
            them cannot be detected.
    """

    num_checked: int = 0
    num_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    undigested: list[str] = field(default_factory=list)


def verify_store(store: Store, *, full: bool = False, repair: bool = False) -> Verification:
    """Check everything in the store for damage.

    Args:
        store: the store; changed only with `repair`.
        full: read every byte and compare digests; False: check only manifests and sizes, and that files can be opened.
        repair: move damaged items to the store's folder `damaged`, so that the next run builds them again.

    Raises NewerFormatError if a newer version of mtx wrote the store; for a single item, this is a finding.
    """
    store.check_version()
    found = Verification()
    for finding in _manifest_findings(store, full=full, repair=repair):
        found.findings.append(finding)
    checks = list(_checks(store, found, full=full, repair=repair))
    with (
        RepoSession(store.repo).connection(),
        CountedWork("verifying the store", len(checks), "verify", unit="things") if full else nullcontext() as progress,
    ):
        for number, (name, check, quarantine) in enumerate(checks, 1):
            _check_item(found, name, check, quarantine)
            if progress is not None:
                progress.reach(number)
    return found


def _checks(
    store: Store, found: Verification, *, full: bool, repair: bool
) -> Iterator[tuple[str, Callable[[], None], Callable[[str], list[str]] | None]]:
    """Yield each item of the store as its name, the function that checks it, and the function that sets it aside."""
    quarantine_dataset = partial(_quarantine_dataset, store) if repair else None
    for name in _dataset_names(store):
        yield name, partial(_check_dataset, store, found, name, full), quarantine_dataset
    for kind, layer in store.artifacts.items():
        quarantine_artifact = partial(_quarantine_artifact, layer, store.damaged / kind) if repair else None
        for name in layer.get_all_names():
            yield name, partial(_check_artifact, layer, found, name, full), quarantine_artifact
    quarantine_damaged_record = partial(quarantine_record, store) if repair else None
    for name in record_names(store):
        yield name, partial(check_record, store, name), quarantine_damaged_record


def _check_item(
    found: Verification, name: str, check: Callable[[], None], quarantine: Callable[[str], list[str]] | None
) -> None:
    """Check one item, and set it aside if it is damaged and `quarantine` is not None."""
    try:
        check()
    except NotStoredError:  # another process removed the item
        return
    except NewerFormatError as error:
        found.findings.append(Finding(name, str(error), "of a newer mtx"))
    except StoreError as error:
        found.findings.append(_damage_finding(name, error, quarantine))
    found.num_checked += 1


def _damage_finding(name: str, error: StoreError, quarantine: Callable[[str], list[str]] | None) -> Finding:
    reason = (
        str(error).removesuffix(VERIFY_HINT).removesuffix(RESTORE_HINT).rstrip(". ")
    )  # the task prints the hint once
    if quarantine is None or not isinstance(error, DamagedError):
        return Finding(name, reason, "damaged")
    try:
        return Finding(name, reason, "set aside", quarantine(name))
    except InUseError:
        return Finding(name, f"{reason}. Not set aside: another process uses it", "damaged")
    except StoreError as refused:
        return Finding(name, f"{reason}. Not set aside: {refused}", "damaged")


def _manifest_findings(store: Store, *, full: bool, repair: bool) -> Iterator[Finding]:
    """Check the files that store the manifests of datasets; with `repair`, rescue readable manifests."""
    layer = store.repo.oal
    if not isinstance(layer, ObjectMaintenance):
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
    except DamagedError:  # `_manifest_findings` has already reported this damage
        return []


def _check_dataset(store: Store, found: Verification, name: str, full: bool) -> None:
    manifest = store.repo.oal.read(name)
    payload = store.repo.verify(name, full=full).payload
    found.num_bytes += payload.num_bytes if payload else 0
    if isinstance(manifest, dict) and manifest["format_version"] == 1:
        found.undigested.append(name)


def _check_artifact(layer: ArtifactLayer, found: Verification, name: str, full: bool) -> None:
    layer.verify(name, full=full)
    found.num_bytes += layer.num_bytes(name)
    if layer.manifest(name).files is None:
        found.undigested.append(name)


def _quarantine_dataset(store: Store, name: str) -> list[str]:
    return store.repo.quarantine(name, store.damaged / "datasets")


def _quarantine_artifact(layer: ArtifactLayer, to: Path, name: str) -> list[str]:
    with layer.lock(name, wait=False):
        try:
            layer.verify(name)
        except DamagedError:
            return [layer.quarantine(name, to)]
    return []  # another process has built the artifact again
