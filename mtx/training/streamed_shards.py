"""The shards of a streamed training split as loaders need them, built by a thread ahead of their use.

At most `AHEAD` shards are built beyond the one that is served. What a shard holds does not depend on when it was built.
"""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.batches.batch_format import BatchFormat
from mtx.batches.plan.planner import random_generator
from mtx.data.encoding_stage import encoded_pairs
from mtx.data.preparation import Recipe, StageIds
from mtx.data.repo_read_cache import RepoSession
from mtx.data.shard_preparation import ShardIds, ShardStages
from mtx.data.stage_runner import added_counts
from mtx.data.store import Store
from mtx.infra.dal.row_views import row_numbers
from mtx.progress.progress_log import say, silent_progress
from mtx.training.causal_prompts import split_prompts
from mtx.training.split_data import SplitData, TooLong

AHEAD = 2  # shards that are built beyond the one that is served
KEPT = AHEAD + 2  # opened shards in memory: those ahead, the one that is served, and the one before it
SHARD_ORDER = 2  # purpose of the random generator that orders the shards of an epoch


@dataclass(frozen=True)
class OpenedShard:
    """A shard whose training pairs are mapped into memory.

    Attributes:
        ids: the ids of its datasets.
        num_rows: rows that were read from the source.
        skipped: rows that the reader left out, by reason.
        dropped: pairs that split and filter dropped, by reason, held-out pairs included.
        num_held_out: pairs of the shard that are held out.
        split: the training pairs, with their lengths.
        num_source_bytes: UTF-8 bytes of the source of each training pair, int64.
    """

    ids: ShardIds
    num_rows: int
    skipped: dict[str, int]
    dropped: dict[str, int]
    num_held_out: int
    split: SplitData
    num_source_bytes: NDArray[np.int64]


class StreamedShards:
    """Opens the shards of a streamed training split, in the order of an epoch.

    Args:
        stages: builds the datasets of a shard.
        recipe: the settings of all stages.
        first: the ids of the stages of shard 0.
        store: the store.
        layout: the format of a batch, with the special ids of the tokenizers.
        too_long: what happens to a pair above a maximum of the layout.
        seed: seed of the order of shards.
    """

    def __init__(
        self,
        stages: ShardStages,
        recipe: Recipe,
        first: StageIds,
        store: Store,
        *,
        layout: BatchFormat,
        too_long: TooLong,
        seed: int,
    ) -> None:
        self.rows_per_shard = stages.shards.num_rows
        self._stages = stages
        self._recipe = recipe
        self._first = first
        self._store = store
        self._layout = layout
        self._too_long = too_long
        self._seed = seed
        self._opened: dict[int, OpenedShard] = {}
        self._lock = threading.Lock()  # of `_opened`, which the training reads while a thread opens shards
        self.num_shards: int | None = None  # known once the end of the source was reached

    def open(self, number: int) -> OpenedShard | None:
        """Return a shard, after building what the store lacks of it; None if the source has no such shard."""
        with self._lock:
            if (known := self._opened.get(number)) is not None:
                return known
        if self.num_shards is not None and number >= self.num_shards:
            return None
        started = time.perf_counter()
        with silent_progress():
            ids = self._stages.build(number)
        if ids is None:
            self.num_shards = number
            return None
        opened = self._open(ids)
        if opened.num_rows < self.rows_per_shard:
            self.num_shards = number + 1
        say("stream", f"shard {number} ready", {"pairs": len(opened.split.pairs), "s": time.perf_counter() - started})
        with self._lock:
            self._opened[number] = opened
            while len(self._opened) > KEPT:
                del self._opened[next(iter(self._opened))]
        return opened

    def _open(self, ids: ShardIds) -> OpenedShard:
        repo = RepoSession(self._store.repo)  # a new one for each shard, as it keeps what it has opened
        rows = repo.get(ids.encoded).rows
        filtered = repo.manifest(ids.filtered)
        selection = row_numbers(repo.stored_rows(filtered))  # without the texts, which a bucket would send
        of_shard = replace(
            self._first,
            raw={**self._first.raw, "train": ids.raw},
            filtered={**self._first.filtered, "train": ids.filtered},
        )
        prompts = split_prompts("train", self._layout, self._stages.tokenizers, self._recipe, of_shard, repo)
        split = SplitData(
            encoded_pairs(rows, selection),
            rows.column("num_target_bytes").to_numpy(),
            self._layout,
            self._too_long,
            prompts=prompts,
        )
        raw = repo.manifest(ids.raw)
        dropped = _counts(filtered.metrics, "dropped")
        num_held_out = 0
        for held_out in map(repo.manifest, ids.held_out):
            num_held_out += len(held_out)
            dropped = added_counts(dropped, _counts(held_out.metrics, "dropped"))
        return OpenedShard(
            ids,
            len(raw),
            _counts(raw.metrics, "skipped"),
            dropped,
            num_held_out,
            split,
            rows.column("num_source_bytes").to_numpy()[selection],
        )

    def order(self, epoch: int) -> Iterator[int]:
        """Yield the numbers of the shards in the order of an epoch: as in the source in epoch 0, else at random.

        A later epoch needs the number of shards, so the source is read to its end first, if it was not before.
        """
        if epoch == 0:
            number = 0
            while self.num_shards is None or number < self.num_shards:
                yield number
                number += 1
            return
        number = 0
        while self.num_shards is None:
            self.open(number)
            number += 1
        yield from random_generator(self._seed, epoch, SHARD_ORDER).permutation(self.num_shards).tolist()

    def ahead(self, epoch: int, begin: int) -> Generator[OpenedShard, None, None]:
        """Yield the shards of an epoch from place `begin` on, while a thread builds the next ones."""
        numbers = self.order(epoch)
        waiting: deque[Future[OpenedShard | None]] = deque()
        stopped = self._stages.shards.begin_reading()
        with ThreadPoolExecutor(1, thread_name_prefix="mtx-shards") as thread:
            try:
                place = 0
                while True:
                    while len(waiting) <= AHEAD and (number := next(numbers, None)) is not None:
                        if place >= begin:
                            waiting.append(thread.submit(self.open, number))
                        place += 1
                    if not waiting or (shard := waiting.popleft().result()) is None:
                        return
                    yield shard
            finally:
                stopped.set()
                thread.shutdown(cancel_futures=True)

    def rows_of(self, row_ids: NDArray[np.int64]) -> tuple[OpenedShard, NDArray[np.int64]]:
        """Return the shard of the `row_ids` of a batch, int64 [B], and the numbers of the rows in it, int64 [B]."""
        number = int(row_ids[0]) // self.rows_per_shard if len(row_ids) else 0
        shard = self.open(number)
        assert shard is not None
        return shard, row_ids - number * self.rows_per_shard

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


def _counts(metrics: Any, key: str) -> dict[str, int]:
    return {reason: int(count) for reason, count in dict(metrics.get(key) or {}).items()}
