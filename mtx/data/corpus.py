"""The raw pairs of a corpus by split, whether it is one source or a mixture of several.

The sources of a mixture are stored each by itself, so that another mixture reads none of them again. Here their tables
are put end to end, without a copy, and each pair gets the number of its source.
"""

from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.filter.base import DropCounts
from mtx.data.pairs import MIXED_SCHEMA, SOURCE
from mtx.data.repo import DatasetRepo
from mtx.errors import DataError
from mtx.identity import JSON
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.sources.mixture import MixtureDownloader

CAPPED = "capped"  # the reason of pairs beyond `downloader.caps`
BETWEEN = "/"  # in the names of raw splits of a mixture: SOURCE/SPLIT


def parts_of(downloader: Downloader) -> dict[str, Downloader]:
    """Return the sources of a mixture by name, in order; empty: it is one source."""
    return downloader.parts if isinstance(downloader, MixtureDownloader) else {}


class Corpus:
    """What the stages behind the download read.

    Args:
        downloader: where the corpus comes from.
        info: what it is.
        raw: names of its raw datasets: by split, those of a mixture by `SOURCE/SPLIT`.
        repo: where they are.
    """

    def __init__(self, downloader: Downloader, info: SourceInfo, raw: Mapping[str, str], repo: DatasetRepo) -> None:
        self.info = info
        self.raw = raw
        self.names = list(parts_of(downloader))
        self._mixture = downloader if isinstance(downloader, MixtureDownloader) else None
        self._repo = repo

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the source has by itself."""
        return self.info.splits

    def table(self, split: str) -> pa.Table:
        """Return the pairs of a split; those of a mixture with the column `source`."""
        if self._mixture is None:
            return self.rows(self.raw[split])
        tables = []
        for number, name in enumerate(self.names):
            raw_id = self.raw.get(f"{name}{BETWEEN}{split}")
            if raw_id is None:
                continue
            table = self.rows(raw_id).slice(0, self._mixture.cap(name, split))
            source = pa.array(np.full(table.num_rows, number, dtype=np.uint16))
            tables.append(table.select(MIXED_SCHEMA.names[:2]).append_column(SOURCE, source).cast(MIXED_SCHEMA))
        return pa.concat_tables(tables)

    def num_capped(self) -> NDArray[np.int64]:
        """Return how many training pairs of each source of a mixture its cap leaves out: int64 [sources]."""
        caps = self._mixture.caps or {} if self._mixture is not None else {}
        sizes = [self._repo.manifest(self.raw[f"{name}{BETWEEN}train"]).n or 0 for name in self.names]
        capped = [max(0, size - caps.get(name, size)) for name, size in zip(self.names, sizes, strict=True)]
        return np.array(capped, dtype=np.int64)

    def rows(self, dataset_id: str) -> pa.Table:
        """Return the table of a stored dataset."""
        return self._repo.get(dataset_id).rows.table

    def described(self) -> dict[str, JSON]:
        """Name what the pairs depend on. Of a mixture, the order of its sources too: the first keeps duplicates."""
        if self._mixture is None:
            return {"raw": dict(self.raw)}
        parts: list[JSON] = [[name, *self._part(name)] for name in self.names]
        return {"mixture": parts, "caps": dict(self._mixture.caps or {})}

    def _part(self, name: str) -> list[JSON]:
        return [raw_id for key, raw_id in sorted(self.raw.items()) if key.rpartition(BETWEEN)[0] == name]


class SourceTally:
    """Counts the pairs of a split by source, as they come and as they are kept. Without sources, it counts nothing.

    Attributes:
        dropped: for the filter, to count what it drops.
        metrics: for the manifest: `dropped`; `rejects`, a few dropped pairs by reason; and of a mixture `sources`: by
            name, `pairs`, `dropped` by reason, and `kept`. Filled when the last pair has come.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.dropped = DropCounts(len(names))
        self.metrics: dict[str, JSON] = {"dropped": cast(dict[str, JSON], self.dropped)}
        self._begun, self._kept = np.zeros((2, len(names)), dtype=np.int64)

    def begun(self, table: pa.Table, chosen: NDArray[np.bool_] | None = None) -> None:
        """Count the pairs that there are to begin with: those chosen of a table, or all."""
        if self.names:
            sources = table[SOURCE].to_numpy()
            self._begun += np.bincount(sources if chosen is None else sources[chosen], minlength=len(self.names))

    def capped(self, counts: NDArray[np.int64]) -> None:
        """Count pairs of each source that are there, and beyond its cap."""
        if counts.any():
            self._begun += counts
            self.dropped[CAPPED] = int(counts.sum())
            self.dropped.by_source[CAPPED] = counts

    def kept(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Pass on what the filter kept, counted. Raises DataError where it lost the sources."""
        for batch in batches:
            if self.names:
                if SOURCE not in batch.schema.names:
                    raise DataError(
                        f"the filter keeps the columns {', '.join(batch.schema.names)}, but pairs of a mixture have "
                        f"{SOURCE!r} as well, which it has to hand on. Let its apply() select rows of the batches of "
                        "pair_batches(pairs) rather than make new ones"
                    )
                self._kept += np.bincount(batch.column(SOURCE).to_numpy(), minlength=len(self.names))
            yield batch
        self.metrics["rejects"] = self.dropped.rejects()
        if self.names:
            self.metrics["sources"] = {name: self._of(number) for number, name in enumerate(self.names)}

    def _of(self, number: int) -> dict[str, JSON]:
        dropped: dict[str, JSON] = {
            reason: int(counts[number]) for reason, counts in self.dropped.by_source.items() if counts[number]
        }
        return {"pairs": int(self._begun[number]), "dropped": dropped, "kept": int(self._kept[number])}
