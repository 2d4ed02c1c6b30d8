"""Shards of a source: consecutive parts of its training split with a fixed number of rows, each a source by itself.

The stages build a shard as they build a whole corpus, so a shard is stored, reused and named like one. Its id depends
on the revision of the source, the number of the shard and the number of rows.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from mtx.infra.dataset.download import Downloader, SourceInfo


class ReadingStoppedError(Exception):
    """The reader of shards was stopped, because nothing needs further shards; no error of a source."""


class SourceShards:
    """Reads the training split of a source shard by shard, in one pass if the shards are requested in order.

    A request for an earlier shard opens the source again. One thread reads at a time.

    Args:
        source: the source; it must have a single part.
        num_rows: rows of a shard; the last shard may have fewer.
    """

    def __init__(self, source: Downloader, num_rows: int) -> None:
        self.source = source
        self.num_rows = num_rows
        self._stopped = threading.Event()
        self._reader: _RowReader | None = None

    @cached_property
    def info(self) -> SourceInfo:
        """The description of the whole source. Raises SourceError if the source cannot be read."""
        return self.source.info()

    def shard(self, number: int) -> "ShardDownloader":
        """Return shard `number`, from 0. Shard 0 also has the validation and test splits of the source."""
        return ShardDownloader(self, number)

    def begin_reading(self) -> threading.Event:
        """Return an event that ends all reading from now on with ReadingStoppedError, once it is set."""
        self._stopped = threading.Event()
        return self._stopped

    def read(self, number: int, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a shard; none if the source has fewer rows.

        Args:
            number: number of the shard.
            counts: receives the number of rows that the source left out, by reason. Rows that are left out in one read
                belong to the shard with the first row of this read.

        Raises SourceError if the source cannot be read, or has changed since `info` described it.
        """
        _ = self.info  # describes the source before its first row is read
        first = number * self.num_rows
        if self._reader is None or self._reader.position > first:
            left_out: dict[str, int] = {}
            self._reader = _RowReader(self.source.batches("train", left_out), left_out)
        reader = self._reader
        while reader.position < first and self._next(reader, first, {}) is not None:
            pass
        while (batch := self._next(reader, first + self.num_rows, counts)) is not None:
            yield batch
        self.source.check_unchanged()

    def _next(self, reader: "_RowReader", end: int, counts: dict[str, int]) -> pa.RecordBatch | None:
        if self._stopped.is_set():
            raise ReadingStoppedError
        return reader.next_before(end, counts)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stopped": None, "_reader": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _stopped=threading.Event())


class _RowReader:
    """Reads a stream of record batches up to given row numbers, and counts the rows that the stream leaves out."""

    def __init__(self, batches: Iterator[pa.RecordBatch], left_out: dict[str, int]) -> None:
        self.position = 0  # number of the next row
        self._batches = batches
        self._left_out = left_out  # counts of the whole stream so far
        self._told: dict[str, int] = {}
        self._rest: pa.RecordBatch | None = None

    def next_before(self, end: int, counts: dict[str, int]) -> pa.RecordBatch | None:
        """Return the next rows before row `end`; None if there are none. Counts receive what this read leaves out."""
        if self.position >= end:
            return None
        if self._rest is None:
            self._rest = next(self._batches, None)
            for reason, number in self._left_out.items():
                if more := number - self._told.get(reason, 0):
                    counts[reason] = counts.get(reason, 0) + more
            self._told = dict(self._left_out)
        if (batch := self._rest) is None:
            return None
        size = min(batch.num_rows, end - self.position)
        self._rest = batch.slice(size) if size < batch.num_rows else None
        self.position += size
        return batch.slice(0, size)


@dataclass(frozen=True)
class ShardDownloader(Downloader):
    """One shard as a source of its own.

    Attributes:
        shards: reads the source.
        number: number of the shard, from 0.
    """

    shards: SourceShards
    number: int

    @property
    def original(self) -> Downloader:
        """The underlying source."""
        return self.shards.source.original

    @property
    def part_infos(self) -> Mapping[str, SourceInfo]:
        """The `info()` of the shard, as that of its only part."""
        return {"": self.info()}

    def info(self) -> SourceInfo:
        """Return the description of the shard: that of the source, with the number and the rows of the shard."""
        whole = self.shards.info
        return replace(
            whole,
            identity={**whole.identity, "stream": [self.number, self.shards.num_rows]},
            splits=whole.splits if self.number == 0 else ("train",),
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the shard; another split than `train` is that of the whole source."""
        return self.shards.read(self.number, counts) if split == "train" else self.shards.source.batches(split, counts)
