"""What sources on servers were when they last answered, so that a run whose pairs are stored needs no network.

One small file a source in `root/sources` of the store, named by a hash of the config. It holds no more than what a
question to the server would find (revision, languages, splits); the name of the raw dataset is worked out from it and
the config, and whatever is still to be read is compared with it first.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from mtx.data.dataset import SPLITS
from mtx.data.store import Store
from mtx.errors import DamagedError, NotStoredError, SourceError, StoreError, UnreachableError
from mtx.identity import JSON, digest
from mtx.infra.dal.aside import set_aside
from mtx.infra.dal.base import atomic_file, file_lock, folder, is_name, reason, remove_leftovers, writing
from mtx.infra.dal.sealed import check_seal, format_version, json_bytes, read_json, sealed
from mtx.infra.dal.upkeep import Leftover, num_bytes_of
from mtx.infra.dataset.download import Downloader, RemoteDownloader, SourceInfo
from mtx.infra.dataset.sources.mixture import MixtureDownloader

log = logging.getLogger(__name__)

FOLDER = "sources"
LOCKS = "locks"
FORMAT_VERSION = 1
PATIENCE_S = 20.0  # to ask for a newer revision, where an older one can be used
FRESH = timedelta(hours=1)  # the date is written anew when it is older: the jobs of a sweep need not all write it


def remembered(downloader: Downloader, store: Store) -> Downloader:
    """Return the same source, which asks its server no more than it has to; of a mixture, each of its sources."""
    if isinstance(downloader, MixtureDownloader):
        return replace(downloader, sources={name: remembered(part, store) for name, part in downloader.parts.items()})
    if isinstance(downloader, RemoteDownloader):
        return SeenDownloader(downloader, _Memory(store))
    return downloader


@dataclass(frozen=True)
class Seen:
    """What a source was.

    Attributes:
        revision: the commit, or whatever pins its content.
        languages: source and target.
        splits: of `train`, `validation`, `test`.
        provenance: what else was found, such as a new name.
        seen_at: when the server last said so, UTC.
    """

    revision: str
    languages: tuple[str, str]
    splits: tuple[str, ...]
    provenance: Mapping[str, JSON]
    seen_at: datetime


@dataclass(frozen=True)
class SeenDownloader(Downloader):
    """A source on a server together with what the store remembers of it.

    - A config that names a full commit: what is remembered is used, and nothing is asked.
    - A branch, or none: the server is asked for the newest revision. Where it does not answer, or offline mode is on,
      the one last seen is used, with a warning that says which and of when.
    - Nothing is remembered: the server is asked, and its errors pass through.
    """

    source: RemoteDownloader
    memory: "_Memory" = field(repr=False, compare=False)

    def info(self) -> SourceInfo:
        """Return what the source is, asked or remembered. Raises SourceError."""
        return self._found[0]

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream one split from the server, at the revision that `info` named. Raises SourceError."""
        info, reader = self._found
        if (now := reader.info()) != info:
            raise SourceError(
                f"{info.name} at {info.revision} is remembered with the splits {', '.join(info.splits)} and the "
                f"languages {' to '.join(info.languages)}, but has {', '.join(now.splits)} and "
                f"{' to '.join(now.languages)}. Remove {self.memory.path(self.source)} and run again"
            )
        return reader.batches(split, counts)

    @cached_property
    def _found(self) -> tuple[SourceInfo, RemoteDownloader]:
        """What was found out, once a run: later questions must not find a newer revision."""
        seen = self.memory.read(self.source)
        revision = self.source.pinned_to
        if seen is None or (revision is not None and revision != seen.revision):
            return self._asked(self.source)
        if revision is None:
            try:
                revision = self.source.newest(PATIENCE_S)
            except UnreachableError as error:
                log.warning(
                    "%s Going on with revision %s, which was the newest on %s; what was changed since is not read",
                    error,
                    seen.revision,
                    seen.seen_at.strftime("%Y-%m-%d at %H:%M UTC"),
                )
                return self._recalled(seen)
            if revision != seen.revision:
                return self._asked(self.source.at(revision))
            self.memory.write(self.source, replace(seen, seen_at=_now()), was=seen)
        return self._recalled(seen)

    def _recalled(self, seen: Seen) -> tuple[SourceInfo, RemoteDownloader]:
        reader = self.source.at(seen.revision)
        return replace(reader.described(seen.languages, seen.splits), provenance=seen.provenance), reader

    def _asked(self, source: RemoteDownloader) -> tuple[SourceInfo, RemoteDownloader]:
        info = source.info()
        found = Seen(info.revision, info.languages, info.splits, info.provenance, _now())
        self.memory.write(self.source, found)
        return info, source


class _Memory:
    """The files in `root/sources`: JSON with a seal. A file that is damaged counts as none, and is written anew."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.root / FOLDER

    def path(self, source: RemoteDownloader) -> Path:
        """Return the file for a source."""
        return self._folder / f"{digest(source.remembered_by)}.json"

    def read(self, source: RemoteDownloader) -> Seen | None:
        """Return what is remembered of a source; None where that is nothing, or nothing to rely on."""
        path = self.path(source)
        try:
            return _checked(_fields(path), source, _what(path))
        except FileNotFoundError:
            return None
        except (OSError, StoreError) as error:
            log.warning("%s; the source is asked anew", error)
            return None

    def write(self, source: RemoteDownloader, seen: Seen, was: Seen | None = None) -> None:
        """Remember what a source is now. A store that cannot be written to is no error: its data may be there."""
        if was is not None and seen.seen_at - was.seen_at < FRESH:
            return
        path = self.path(source)
        fields = {
            "format_version": FORMAT_VERSION,
            "source": source.remembered_by,
            "revision": seen.revision,
            "languages": seen.languages,
            "splits": seen.splits,
            "provenance": seen.provenance,
            "seen_at": seen.seen_at.isoformat(),
        }
        try:
            self._store.check_version()
            with file_lock(folder(self._folder), path.stem):
                remove_leftovers(path)
                with atomic_file(path) as file:
                    file.write(json_bytes(sealed(fields)))
        except StoreError as error:
            log.debug("not remembered: %s", error)


def names_of_records(store: Store) -> list[str]:
    """Return the names of the files in `root/sources`, sorted; lock files and what killed writers left aside."""
    place = store.root / FOLDER
    return sorted(path.name for path in place.glob("*") if path.name[0] != "." and path.name != LOCKS)


def check_record(store: Store, name: str) -> None:
    """Look whether a file in `root/sources` is as it was written. Raises NotStoredError, DamagedError, StoreError."""
    path = store.root / FOLDER / name
    try:
        fields = _fields(path)
    except FileNotFoundError as error:
        raise NotStoredError(f"{path} is gone") from error
    except OSError as error:
        raise DamagedError(f"{_what(path)} cannot be read: {reason(error)}") from error
    if name != f"{digest(fields.get('source'))}.json":
        raise DamagedError(f"{_what(path)} is of another source than its name says")


def set_record_aside(store: Store, name: str) -> list[str]:
    """Move a damaged file out of `root/sources`, and say where it is now. Raises InUseError, or StoreError."""
    place = store.root / FOLDER
    with file_lock(place, Path(name).stem, wait=False) if is_name(Path(name).stem) else nullcontext():
        try:
            check_record(store, name)
        except NotStoredError:
            return []
        except DamagedError:
            return [str(set_aside(place / name, store.damaged / FOLDER))]
    return []  # written anew meanwhile


def leftovers_of_records(store: Store) -> Iterator[Leftover]:
    """Find what killed writers left in `root/sources`. The files themselves stay: each saves asking a server."""
    place = store.root / FOLDER

    def remove(path: Path, name: str) -> bool:
        with file_lock(place, name, wait=False), writing(path):
            path.unlink(missing_ok=True)
        return True

    for path in sorted(place.glob(".*.json.*.tmp")):
        name = path.name[1:].partition(".")[0]  # .NAME.json.RANDOM.tmp
        if is_name(name):
            yield Leftover(path, "a write that was stopped", num_bytes_of(path), partial(remove, path, name))


def _what(path: Path) -> str:
    return f"what is remembered of a source, {path},"


def _fields(path: Path) -> dict[str, JSON]:
    """Return the content of a record. Raises OSError, DamagedError, or NewerFormatError."""
    what = _what(path)
    fields = read_json(path, what)
    if not isinstance(fields, dict):
        raise DamagedError(f"{what} is no JSON object")
    check_seal(fields, what)
    format_version(fields, what, FORMAT_VERSION)
    return fields


def _checked(fields: Mapping[str, Any], source: RemoteDownloader, what: str) -> Seen:
    """Take a record apart, and trust no field of it. Raises DamagedError."""
    try:
        languages, splits = tuple(fields["languages"]), tuple(fields["splits"])
        seen = Seen(fields["revision"], languages, splits, fields["provenance"], _utc(fields["seen_at"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedError(f"{what} lacks a field, or has one of another kind: {error!r}") from error
    fits = (
        fields.get("source") == source.remembered_by
        and isinstance(seen.revision, str)
        and source.at(seen.revision).pinned_to == seen.revision
        and len(languages) == 2
        and all(isinstance(language, str) and language for language in languages)
        and "train" in splits
        and all(split in SPLITS and splits.count(split) == 1 for split in splits)
        and isinstance(seen.provenance, dict)
    )
    if not fits:
        raise DamagedError(f"{what} is of another source, or says what no source is")
    return seen


def _now() -> datetime:
    return datetime.now(UTC)


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return moment.astimezone(UTC)
