"""Records of remote sources: one small JSON file per source in the store's folder `sources`.

The file name is a hash of the source's config. The file holds only what a request to the server would return: revision,
languages and splits.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtx.components.identity import JSON, digest
from mtx.data.dataset import SPLITS
from mtx.data.store import Store
from mtx.errors import DamagedError, NotStoredError, StoreError, override_text
from mtx.exhausted_resources import raise_if_exhausted
from mtx.infra.dal.atomic_file import atomic_file, convert_disk_errors, make_folder, remove_leftovers
from mtx.infra.dal.locks import file_lock
from mtx.infra.dal.maintenance_protocols import Leftover, num_bytes_of
from mtx.infra.dal.manifest_digest import check_digest, fields_with_digest, format_version, json_bytes, read_json
from mtx.infra.dal.protocols import is_name
from mtx.infra.dal.quarantine import quarantine
from mtx.library_errors import library_reason

if TYPE_CHECKING:  # reading records needs no downloader, whose import is slow
    from mtx.infra.dataset.download import RemoteDownloader

log = logging.getLogger(__name__)

FOLDER = "sources"
LOCKS = "locks"
FORMAT_VERSION = 1
NAMING_KEYS = ("dataset", "language", "split", "n", "revision")  # options that the offer of a stored source names
MAX_OFFERED = 3
FRESH = timedelta(hours=1)  # a record's date is updated only if it is older than this, to save writes in a sweep


@dataclass(frozen=True)
class Seen:
    """The recorded state of a remote source.

    Attributes:
        revision: the commit, or another value that identifies the content.
        languages: source and target language.
        splits: the splits that the source has, of `train`, `validation`, `test`.
        provenance: further findings, such as a new name of the dataset.
        seen_at: when the server last confirmed this state, in UTC.
    """

    revision: str
    languages: tuple[str, str]
    splits: tuple[str, ...]
    provenance: Mapping[str, JSON]
    seen_at: datetime


class SourceMemory:
    """Reads and writes the records in the store's folder `sources`: JSON with a digest.

    A damaged record is treated as missing, and written again.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.root / FOLDER

    def path(self, source: "RemoteDownloader") -> Path:
        """Return the path of a source's record."""
        return self._folder / f"{digest(source.revision_key)}.json"

    def read(self, source: "RemoteDownloader") -> Seen | None:
        """Return the record of a source, or None if it is missing or damaged."""
        path = self.path(source)
        try:
            return _checked(_fields(path), source, _what(path))
        except FileNotFoundError:
            return None
        except (OSError, StoreError) as error:
            what = "" if isinstance(error, StoreError) else f"{_what(path)} cannot be read: "
            log.warning("%s%s; mtx asks the server of the source instead", what, library_reason(error))
            return None

    def stored_text(self, source: "RemoteDownloader") -> str:
        """Return a sentence about what the store has of the same kind of source, by which a run needs no server."""
        wanted, found = source.revision_key, []
        for name in record_names(self._store):
            try:
                fields: Mapping[str, Any] = _fields(self._folder / name)
            except (OSError, StoreError):
                continue
            recorded = fields.get("source")
            if not isinstance(recorded, Mapping) or recorded.get("kind") != wanted.get("kind"):
                continue
            changes = {**recorded, "revision": fields.get("revision")}
            found.append(
                " ".join(
                    override_text(f"downloader.{key}", str(value))
                    for key, value in changes.items()
                    if key in NAMING_KEYS and value is not None and (value != wanted.get(key) or key == "revision")
                )
            )
        if not found:
            return "The store has recorded no source of this kind; mtx task=show lists the data that it has"
        return f"Without a network, the store can serve: {', or '.join(sorted(found)[:MAX_OFFERED])}"

    def write(self, source: "RemoteDownloader", seen: Seen, was: Seen | None = None) -> None:
        """Record the current state of a source. If the store is not writable, do nothing and raise no error."""
        if was is not None and seen.seen_at - was.seen_at < FRESH:
            return
        path = self.path(source)
        fields = {
            "format_version": FORMAT_VERSION,
            "source": source.revision_key,
            "revision": seen.revision,
            "languages": seen.languages,
            "splits": seen.splits,
            "provenance": seen.provenance,
            "seen_at": seen.seen_at.isoformat(),
        }
        try:
            self._store.check_version()
            with file_lock(make_folder(self._folder), path.stem):
                remove_leftovers(path)
                with atomic_file(path) as file:
                    file.write(json_bytes(fields_with_digest(fields)))
        except StoreError as error:
            log.debug("the state of the source is not recorded: %s", error)


def record_names(store: Store) -> list[str]:
    """Return the file names of all records, sorted, without lock files and temporary files of killed writers."""
    place = store.root / FOLDER
    return sorted(path.name for path in place.glob("*") if path.name[0] != "." and path.name != LOCKS)


def check_record(store: Store, name: str) -> None:
    """Check that a record is undamaged and has the right name. Raises NotStoredError, DamagedError or StoreError."""
    path = store.root / FOLDER / name
    try:
        fields = _fields(path)
    except FileNotFoundError as error:
        raise NotStoredError(f"{path} is missing") from error
    except OSError as error:
        raise_if_exhausted(error)
        raise DamagedError(f"{_what(path)} cannot be read: {library_reason(error)}") from error
    if name != f"{digest(fields.get('source'))}.json":
        raise DamagedError(f"{_what(path)} belongs to another source than its file name")


def quarantine_record(store: Store, name: str) -> list[str]:
    """Move a damaged record out of the store's folder `sources`, and return its new path.

    Returns an empty list if the record is missing or undamaged. Raises InUseError or StoreError.
    """
    place = store.root / FOLDER
    with file_lock(place, Path(name).stem, wait=False) if is_name(Path(name).stem) else nullcontext():
        try:
            check_record(store, name)
        except NotStoredError:
            return []
        except DamagedError:
            return [str(quarantine(place / name, store.damaged / FOLDER))]
    return []  # another process has written the record again


def record_leftovers(store: Store) -> Iterator[Leftover]:
    """Yield the files of killed writers in the store's folder `sources`. Complete records stay: they save requests."""
    place = store.root / FOLDER

    def remove(path: Path, name: str) -> bool:
        with file_lock(place, name, wait=False), convert_disk_errors(path):
            path.unlink(missing_ok=True)
        return True

    for path in sorted(place.glob(".*.json.*.tmp")):
        name = path.name[1:].partition(".")[0]  # .NAME.json.RANDOM.tmp
        if is_name(name):
            yield Leftover(path, "an interrupted write", num_bytes_of(path), partial(remove, path, name))


def _what(path: Path) -> str:
    return f"the record of a source, {path},"


def _fields(path: Path) -> dict[str, JSON]:
    """Return the fields of a record. Raises OSError, DamagedError or NewerFormatError."""
    what = _what(path)
    fields = read_json(path, what)
    if not isinstance(fields, dict):
        raise DamagedError(f"{what} is not a JSON object")
    check_digest(fields, what)
    format_version(fields, what, FORMAT_VERSION)
    return fields


def _checked(fields: Mapping[str, Any], source: "RemoteDownloader", what: str) -> Seen:
    """Return the state in a record after checking every field. Raises DamagedError."""
    try:
        languages, splits = tuple(fields["languages"]), tuple(fields["splits"])
        seen = Seen(fields["revision"], languages, splits, fields["provenance"], _utc(fields["seen_at"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedError(
            f"{what} has a missing field or a field of the wrong type: {library_reason(error)}"
        ) from error
    fits = (
        fields.get("source") == source.revision_key
        and isinstance(seen.revision, str)
        and source.at_revision(seen.revision).pinned_revision == seen.revision
        and len(languages) == 2
        and all(isinstance(language, str) and language for language in languages)
        and "train" in splits
        and all(split in SPLITS and splits.count(split) == 1 for split in splits)
        and isinstance(seen.provenance, dict)
    )
    if not fits:
        raise DamagedError(f"{what} belongs to another source, or has values that no source can have")
    return seen


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(UTC)
