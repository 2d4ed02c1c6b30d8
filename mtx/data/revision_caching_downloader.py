"""Uses recorded states of remote sources, so that a run whose data is stored needs no network.

The id of the raw dataset is computed from the config and the record (`remembered_sources.py`). Before mtx reads data
from the server, it compares the server's state with the record.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

import pyarrow as pa

from mtx.data.remembered_sources import Seen, SourceMemory
from mtx.data.store import Store
from mtx.errors import SourceError, UnreachableError
from mtx.infra.dataset.download import Downloader, RemoteDownloader, SourceInfo

log = logging.getLogger(__name__)

PATIENCE_S = 20.0  # seconds to wait for the newest revision if a recorded revision is available


def revision_caching_downloader(downloader: Downloader, store: Store) -> Downloader:
    """Return the downloader with recorded revisions, to save requests; for a mixture, each remote source gets one."""

    def remember(part: Downloader) -> Downloader:
        return RevisionCachingDownloader(part, SourceMemory(store)) if isinstance(part, RemoteDownloader) else part

    return downloader.with_parts(remember)


@dataclass(frozen=True)
class RevisionCachingDownloader(Downloader):
    """A remote source that uses its recorded state (`SourceMemory`) to save requests to the server.

    - If the config names a full commit, the record of that commit is used, without a request.
    - If the config names a branch or no revision, the server is asked for the newest revision. If it does not answer,
    or offline mode is on, the recorded revision is used, and a warning names it and its date.
    - If there is no record, the server is asked, and its errors are raised.
    """

    source: RemoteDownloader
    memory: SourceMemory = field(repr=False, compare=False)

    @property
    def original(self) -> Downloader:
        """The wrapped downloader of the source."""
        return self.source

    def info(self) -> SourceInfo:
        """Return revision, languages and splits of the source, from the record or the server. Raises SourceError."""
        return self._resolved_source[0]

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream one split from the server at the revision that `info` returned. Raises SourceError."""
        info, reader = self._resolved_source
        if (now := reader.info()) != info:
            raise SourceError(
                f"the record of {info.name} at {info.revision} has the splits {', '.join(info.splits)} and the "
                f"languages {' to '.join(info.languages)}, but the source has {', '.join(now.splits)} and "
                f"{' to '.join(now.languages)}. Remove {self.memory.path(self.source)} and run again"
            )
        return reader.batches(split, counts)

    @cached_property
    def _resolved_source(self) -> tuple[SourceInfo, RemoteDownloader]:
        """The state and the downloader of the source, resolved once, so that the revision cannot change in a run."""
        seen = self.memory.read(self.source)
        revision = self.source.pinned_revision
        if seen is None or (revision is not None and revision != seen.revision):
            try:
                return self._server_source(self.source)
            except UnreachableError as error:
                raise UnreachableError(f"{error}. {self.memory.stored_text(self.source)}") from error
        if revision is None:
            try:
                revision = self.source.newest_revision(PATIENCE_S)
            except UnreachableError as error:
                log.warning(
                    "%s Using revision %s, which was the newest on %s; later changes are not read",
                    error,
                    seen.revision,
                    seen.seen_at.strftime("%Y-%m-%d at %H:%M UTC"),
                )
                return self._recorded_source(seen)
            if revision != seen.revision:
                return self._server_source(self.source.at_revision(revision))
            self.memory.write(self.source, replace(seen, seen_at=_now()), was=seen)
        return self._recorded_source(seen)

    def _recorded_source(self, seen: Seen) -> tuple[SourceInfo, RemoteDownloader]:
        reader = self.source.at_revision(seen.revision)
        return replace(reader.pinned_info(seen.languages, seen.splits), provenance=seen.provenance), reader

    def _server_source(self, source: RemoteDownloader) -> tuple[SourceInfo, RemoteDownloader]:
        info = source.info()
        found = Seen(info.revision, info.languages, info.splits, info.provenance, _now())
        self.memory.write(self.source, found)
        return info, source


def _now() -> datetime:
    return datetime.now(UTC)
