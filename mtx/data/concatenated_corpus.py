"""The corpus of a run: the concatenated text datasets of one source, or of the sources of a mixture, per split.

Each source of a mixture has its own text dataset, so a mixture with other caps reuses the stored datasets.
A `Corpus` concatenates the text datasets without a copy and numbers the rows of a split from 0.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.dataset import SelectedDataset
from mtx.data.direction_tags import grouping_sides
from mtx.data.filter.filter_protocol import DropCounts
from mtx.data.normalise import without_prefixes
from mtx.data.repo import DatasetRepo
from mtx.data.stage_runner import row_range_batches
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.row_views import ROW_COLUMN, SelectedRows, common_columns
from mtx.infra.dataset.download import Downloader, SourceInfo

CAPPED_REASON = "capped"  # the drop reason of training pairs that exceed the cap of their source (`downloader.caps`)
NAME_SEPARATOR = "/"  # separates source and split in the split names of a mixture: SOURCE/SPLIT


def part_key(name: str, split: str) -> str:
    """Return the key of a source's split: `SOURCE/SPLIT` in a mixture, `SPLIT` for a single source without a name."""
    return f"{name}{NAME_SEPARATOR}{split}" if name else split


def part_names(downloader: Downloader) -> list[str]:
    """Return the names of a mixture's sources in order, or an empty list for a single source."""
    return [name for name in downloader.parts if name]


def source_identity(downloader: Downloader, raw: Mapping[str, str], repo: DatasetRepo) -> dict[str, JSON]:
    """Return the provenance of a source; for a mixture, the revision of each source and the sampling settings.

    Args:
        downloader: the source.
        raw: ids of its raw datasets, by `part_key`.
        repo: the repository that stores them.
    """
    names = part_names(downloader)
    if not names:
        return dict(repo.manifest(raw["train"]).provenance)
    parts = {name: repo.manifest(raw[part_key(name, "train")]).provenance for name in names}
    caps = {name: cap for name in names if (cap := downloader.cap(name, "train")) is not None}
    revisions, options = ({name: part[key] for name, part in parts.items()} for key in ("revision", "source"))
    described: dict[str, JSON] = {"sources": revisions, "options": options}
    return {**described, "caps": cast(dict[str, JSON], caps), **downloader.sampling}


class Corpus:
    """The text datasets of all splits, which the split, filtered and encoded stages read.

    Args:
        downloader: the downloader that the corpus comes from.
        info: the name, languages and splits of the source.
        text: ids of the text datasets, by `part_key`.
        repo: the repository that stores the text datasets.
        prefixes: the different texts before the sources of parts, which `untagged_batches` removes.
    """

    def __init__(
        self,
        downloader: Downloader,
        info: SourceInfo,
        text: Mapping[str, str],
        repo: DatasetRepo,
        prefixes: tuple[str, ...] = (),
    ) -> None:
        self.prefixes = prefixes
        self.info = info
        self.text = text
        self.names = part_names(downloader)
        self.grouping_sides = grouping_sides(downloader)
        self._downloader = downloader
        self._repo = repo

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the source itself provides, such as `("train", "test")`."""
        return self.info.splits

    @property
    def swapped_parts(self) -> tuple[int, ...]:
        """The indices of the parts whose pairs are held out by their target; see `grouping_sides`."""
        return tuple(part for part, side in enumerate(self.grouping_sides) if side == "tgt")

    def parts(self, split: str) -> tuple[SelectedDataset, ...]:
        """Return the text datasets of a split in order, each with its number of used rows (its cap, if it has one)."""
        found = []
        for place, name in enumerate(self._downloader.parts):
            if (text_id := self.text.get(part_key(name, split))) is not None:
                size, cap = self._repo.manifest(text_id).n or 0, self._downloader.cap(name, split)
                found.append(SelectedDataset(text_id, size if cap is None else min(cap, size), place if name else None))
        return tuple(found)

    def num_rows(self, split: str) -> int:
        """Return the number of rows of a split, without the rows beyond a cap."""
        return sum(part.num_rows for part in self.parts(split))

    def columns(self, split: str) -> list[str]:
        """Return the names of the columns that all text datasets of a split share."""
        return common_columns([self._repo.get(part.id).rows.schema for part in self.parts(split)])

    def batches(self, split: str) -> Iterator[pa.RecordBatch]:
        """Stream the text rows of a split in order, with only the columns that all text datasets of the split share."""
        opened = [(self._repo.get_checked(part.id).rows, part.num_rows) for part in self.parts(split)]
        names = common_columns([rows.schema for rows, _ in opened])
        for rows, num_rows in opened:
            for batch in row_range_batches(rows, 0, num_rows):
                yield batch.select(names)

    def untagged_batches(self, split: str) -> Iterator[pa.RecordBatch]:
        """Stream the text rows of a split without the prefixes of parts, so that equal sentences are equal."""
        return without_prefixes(self.batches(split), self.prefixes)

    def untagged_reader(self, split: str) -> Callable[[int, int], Iterator[pa.RecordBatch]]:
        """Return a picklable function that streams a range of the rows of `untagged_batches`: first and end."""
        view = self._view(split, np.arange(0))
        return partial(_untagged_range, view.bases, view.limits, self.prefixes)

    def selected_untagged_batches(self, split: str, rows: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """Stream the rows of `untagged_batches` with the given ascending numbers."""
        batches = (batch.drop_columns([ROW_COLUMN]) for batch in self._view(split, rows).batches())
        return without_prefixes(batches, self.prefixes)

    def _view(self, split: str, rows: NDArray[np.int64]) -> SelectedRows:
        parts = self.parts(split)
        opened = [self._repo.get_checked(part.id).rows for part in parts]
        return SelectedRows(opened, [part.num_rows for part in parts], Rows(pa.table({ROW_COLUMN: rows})))

    def part_batches(self, split: str) -> Iterator[tuple[list[pa.RecordBatch], int]]:
        """Stream the pairs of a split in order without the prefixes of parts, each batch with the index of its part."""
        for part in self.parts(split):
            for batch in row_range_batches(self._repo.get_checked(part.id).rows, 0, part.num_rows):
                pairs = without_prefixes([batch.select(["src", "tgt"])], self.prefixes)
                yield list(pairs), part.source or 0

    def source_of(self, split: str) -> NDArray[np.uint16] | None:
        """Return the index of each row's source in the mixture, as uint16 [n]; None for a single source."""
        if not self.names:
            return None
        parts = self.parts(split)
        places = np.array([part.source for part in parts], dtype=np.uint16)
        return np.repeat(places, [part.num_rows for part in parts])

    def num_capped(self) -> NDArray[np.int64]:
        """Return how many training pairs of each source exceed its cap: int64 [sources]."""
        capped = np.zeros(len(self.names), dtype=np.int64)
        for part in self.parts("train"):
            if part.source is not None:
                capped[part.source] = (self._repo.manifest(part.id).n or 0) - part.num_rows
        return capped

    def description(self) -> dict[str, JSON]:
        """Return the names of the sources and the ids of the text datasets in order, for the id of a split dataset.

        The order of the sources matters, because the duplicate filter keeps the first of equal pairs.
        """
        splits = [split for split in ("train", "validation", "test") if split in self.splits]
        parts = {split: [[part.source, part.id, part.num_rows] for part in self.parts(split)] for split in splits}
        return {"names": cast(list[JSON], self.names), "parts": cast(dict[str, JSON], parts)}


def _untagged_range(
    bases: Sequence[Rows], limits: Sequence[int], prefixes: tuple[str, ...], first: int, end: int
) -> Iterator[pa.RecordBatch]:
    names = common_columns([rows.schema for rows in bases])
    start = 0
    for rows, num_rows in zip(bases, limits, strict=True):
        low, high = max(first - start, 0), min(end - start, num_rows)
        if low < high:
            yield from without_prefixes((batch.select(names) for batch in row_range_batches(rows, low, high)), prefixes)
        start += num_rows


class SourceTally:
    """Counts the available, dropped and kept pairs of a split by source of a mixture.

    For a single source, only `dropped` is counted.

    Args:
        names: names of the sources of the mixture; empty for a single source.
        metrics: metrics of the preceding stage, to which this tally adds its counts; None for the first stage.
        is_part: whether the counts are those of a range of pairs, which `add_state` adds to others.

    Attributes:
        dropped: counts of dropped pairs by reason, which the filter updates.
        metrics: the metrics for the manifest: `dropped`, `rejects` with a few dropped pairs by reason, and `rules` with
            the funnel of a selection. A mixture also has `sources`, which gives `pairs`, `dropped` by reason and
            `kept` of each source. `write_metrics` fills them.
    """

    def __init__(self, names: list[str], metrics: Mapping[str, Any] | None = None, *, is_part: bool = False) -> None:
        self.names = names
        self.dropped = DropCounts(len(names), is_part=is_part)
        self.metrics: dict[str, JSON] = {"dropped": cast(dict[str, JSON], self.dropped)}
        self._begun, self._kept = np.zeros((2, len(names)), dtype=np.int64)
        self._rejects: dict[str, JSON] = {}
        if metrics is not None:
            self._restore(metrics)

    def _restore(self, metrics: Mapping[str, Any]) -> None:
        self.dropped.update(metrics["dropped"])
        self._rejects = dict(metrics["rejects"])
        for number, name in enumerate(self.names):
            counts = metrics["sources"][name]
            self._begun[number] = counts["pairs"]
            for reason, count in counts["dropped"].items():
                self.dropped.by_source.setdefault(reason, np.zeros(len(self.names), dtype=np.int64))[number] = count

    def count_available(self, sources: NDArray[np.uint16] | None) -> None:
        """Count the pairs that a split begins with by their sources (uint16 [n]; None for a single source)."""
        if sources is not None:
            self._begun += np.bincount(sources, minlength=len(self.names))

    def count_capped(self, counts: NDArray[np.int64]) -> None:
        """Add the pairs beyond each source's cap (int64 [sources]) to the available and to the dropped pairs."""
        if counts.any():
            self._begun += counts
            self.dropped[CAPPED_REASON] = int(counts.sum())
            self.dropped.by_source[CAPPED_REASON] = counts

    def count_kept(self, sources: NDArray[np.uint16] | None) -> None:
        """Count kept pairs by their sources (uint16 [n]; None for a single source)."""
        if sources is not None:
            self._kept += np.bincount(sources, minlength=len(self.names))

    def state(self) -> dict[str, JSON]:
        """Return the counts of dropped and of kept pairs, for `add_state`."""
        return {"dropped": self.dropped.state(), "kept": self._kept.tolist()}

    def add_state(self, state: Mapping[str, Any]) -> None:
        """Add the counts of another range of pairs."""
        self.dropped.add_state(state["dropped"])
        self._kept += np.array(state["kept"], dtype=np.int64)

    def write_metrics(self) -> None:
        """Fill `metrics` with the final counts. Call this after the last pair."""
        self.metrics["rejects"] = {**self._rejects, **self.dropped.rejects()}
        if self.dropped.funnel is not None:
            self.metrics["rules"] = self.dropped.funnel.as_json()
        if self.names:
            self.metrics["sources"] = {name: self._source_counts(number) for number, name in enumerate(self.names)}

    def _source_counts(self, number: int) -> dict[str, JSON]:
        dropped: dict[str, JSON] = {
            reason: int(counts[number]) for reason, counts in self.dropped.by_source.items() if counts[number]
        }
        return {"pairs": int(self._begun[number]), "dropped": dropped, "kept": int(self._kept[number])}
