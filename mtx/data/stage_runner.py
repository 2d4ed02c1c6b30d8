"""Runs the stages of data preparation: locks and reuses stored datasets, and splits long stages into tasks.

A stage is a function from record batches to record batches, with counts. The id of its output is a hash of its inputs
and config. If a dataset with this id is stored, it is reused. If several processes request a missing dataset, one
process builds it. A long input is split into ranges of rows, each of which is one task of an engine. Finished tasks
stay in the store's folder `scratch` until the dataset is complete, so that an interrupted build resumes. The result
does not depend on the number of tasks.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, cast

import pyarrow as pa

from mtx.data.dataset import Shard, TranslationDataset
from mtx.data.engine_protocol import Engine, InProcessEngine
from mtx.data.freed_memory import make_room_for
from mtx.data.repo_read_cache import RepoSession
from mtx.data.store import WORK_LOCK, Store
from mtx.errors import DamagedError, StoreError
from mtx.infra.dal.arrow import open_arrow
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.atomic_file import atomic_file, remove_leftovers
from mtx.infra.dal.chunked_columns import regrouped_batches
from mtx.infra.dal.locks import path_lock
from mtx.infra.dal.manifest_digest import check_digest, fields_with_digest, json_bytes, read_json
from mtx.infra.dal.remote_url_check import is_url
from mtx.infra.dal.row_digest import RowDigest, digest_of
from mtx.progress.formatting import drop_counts
from mtx.progress.progress_log import say
from mtx.progress.tracking import CountedWork, UncountedWork, Waiting

log = logging.getLogger(__name__)

SHARD_ROWS = 1 << 20  # input rows per task: some seconds of work, and about 100 MB of text

Counts: TypeAlias = dict[str, Any]
Batches: TypeAlias = Iterator[pa.RecordBatch]


def unchanged_batches(batches: Batches) -> Batches:
    """Return the batches of all ranges unchanged. Only for stages that always run as one task."""
    return batches


def even_batches(batches: Batches) -> Batches:
    """Regroup the batches of all ranges into batches of equal size, which do not depend on the number of ranges."""
    schema, is_empty = None, True

    def watched() -> Batches:
        nonlocal schema
        for batch in batches:
            schema = batch.schema
            yield batch

    for batch in regrouped_batches(watched()):
        is_empty = False
        yield batch
    if is_empty and schema is not None:
        yield pa.RecordBatch.from_pylist([], schema=schema)


def added_counts(one: Mapping[str, Any], other: Mapping[str, Any]) -> Counts:
    """Add the numbers under equal keys of two nested mappings. For values of other types, keep that of `one`."""
    total: Counts = dict(one)
    for key, value in other.items():
        if key not in total:
            total[key] = value
        elif isinstance(value, Mapping):
            total[key] = added_counts(total[key], value)
        elif isinstance(value, int | float):
            total[key] += value
    return total


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The definition of a stage: its input, its function, and its output dataset.

    Attributes:
        output: the dataset to build, without rows, metrics and shards.
        description: text for the progress display, such as `encoding train`.
        num_rows: number of input rows; None: unknown, because they are streamed; then `read` is called once.
        read: streams the input rows from a first row number to an end (exclusive). Picklable.
        transform: computes output batches from input batches, given the number of the first row, and fills counts.
            Picklable.
        is_shardable: whether the output of a range of rows depends only on these rows.
        is_parallel: whether several processes may run tasks at once; False for tasks that use an accelerator.
        gather: converts the concatenated outputs of all ranges to the stored form. The rows and their order stay the
            same, and the batches do not depend on the ranges.
        merge: adds the counts of a range to those of the preceding ranges.
    """

    output: TranslationDataset
    description: str
    num_rows: int | None
    read: Callable[[int, int], Batches]
    transform: Callable[[Batches, int, Counts], Batches]
    is_shardable: bool = True
    is_parallel: bool = True
    gather: Callable[[Batches], Batches] = even_batches
    merge: Callable[[Counts, Counts], Counts] = added_counts


class StageRunner:
    """Runs stages, and stores their outputs as datasets.

    Args:
        store: the store for the datasets.
        repo: the session that reads and writes the store's repository; None: a new session.
        engine: runs the tasks; None: they run one after the other in this process. `close` ends its processes.
        shard_rows: maximum number of input rows per task.
        tells_former: whether datasets of earlier versions of mtx are searched for, before the first dataset is built.

    Attributes:
        built: ids of the datasets that this runner has built because they were missing.
    """

    def __init__(
        self,
        store: Store,
        *,
        repo: RepoSession | None = None,
        engine: Engine | None = None,
        shard_rows: int = SHARD_ROWS,
        tells_former: bool = True,
    ) -> None:
        self.store = store
        self.repo = repo or RepoSession(store.repo)
        self.built: list[str] = []
        self._models: dict[str, Path] = {}
        self._known: set[str] = set()  # ids that were built here, or were already reported as reused
        self._engine = engine or InProcessEngine()
        self._shard_rows = shard_rows
        self._tells_former = tells_former

    def open_model(self, model_id: str) -> Path:
        """Return the folder of a stored model, whose whole content this runner checks only once."""
        if model_id not in self._models:
            self._models[model_id] = self.store.models.open(model_id, full=True)
        return self._models[model_id]

    def run(self, dataset_id: str, stage: Callable[[], Stage]) -> TranslationDataset:
        """Return the manifest of a dataset, after building the dataset if it is missing.

        Args:
            dataset_id: id of the dataset.
            stage: returns the stage that builds the dataset; called only if the dataset is missing.
        """
        with Waiting(dataset_id) as waiting:

            def build() -> TranslationDataset:
                waiting.over()
                return self._build(dataset_id, stage())

            dataset = self.repo.ensure(dataset_id, build)
        if dataset.shards and dataset_id in self.built:  # only after the manifest is stored
            shutil.rmtree(self._scratch(dataset_id), ignore_errors=True)
        if dataset_id not in self._known:
            self._known.add(dataset_id)
            say_reused(f"{dataset.stage} {dataset.split}", pairs=len(dataset), **drop_counts(dataset.metrics))
        return dataset

    def close(self) -> None:
        """End the processes of the engine, if it has any."""
        if (close := getattr(self._engine, "close", None)) is not None:
            close()

    def _scratch(self, dataset_id: str) -> Path:
        """Return the scratch folder that keeps the finished shards of a dataset until all of them are finished."""
        return self.store.scratch() / dataset_id

    def _build(self, dataset_id: str, stage: Stage) -> TranslationDataset:
        # The search reads every manifest, and in a bucket each is a request.
        searches = self._tells_former and not self.built and not is_url(self.store.location)
        if searches and (former := self.repo.former_names()):
            log.warning(
                "%d datasets in %s were written by an earlier version of mtx; no run uses them now, and needed data is "
                "built again. mtx task=gc lists them, and mtx task=gc yes=true removes them",
                len(former),
                self.store.location,
            )
        if not self.built and (check := getattr(self._engine, "check_reachable", None)) is not None:
            check()  # before the first stage, which may take long
        self.built.append(dataset_id)
        self._known.add(dataset_id)
        make_room_for(stage.num_rows or 0)
        output = replace(stage.output, id=dataset_id)
        ranges = self._row_ranges(stage)
        if len(ranges) < 2:
            counts: Counts = {}
            return replace(output, metrics=counts, data=_unsharded_batches(stage, counts))
        counts = {}
        shards: list[Shard] = []
        data = stage.gather(self._sharded_batches(dataset_id, stage, ranges, counts, shards))
        return replace(output, metrics=counts, shards=shards, data=data)

    def _row_ranges(self, stage: Stage) -> list[tuple[int, int]]:
        if stage.num_rows is None or not stage.is_shardable:
            return []
        starts = range(0, stage.num_rows, self._shard_rows)
        return [(start, min(start + self._shard_rows, stage.num_rows)) for start in starts]

    def _sharded_batches(
        self,
        dataset_id: str,
        stage: Stage,
        ranges: Sequence[tuple[int, int]],
        counts: Counts,
        shards: list[Shard],
    ) -> Batches:
        folder = self._scratch(dataset_id)
        engine = self._engine if stage.is_parallel else InProcessEngine()
        with path_lock(folder / WORK_LOCK), CountedWork(stage.description, stage.num_rows) as progress:
            for first, end in ranges:  # only this process has the lock, so no task writes these files now
                path = _path(folder, first, end)
                remove_leftovers(path)
                remove_leftovers(path.with_suffix(".json"))
            if (check := getattr(engine, "check_workers", None)) is not None:
                check(folder)
            try:
                for shard, counted in engine.map(partial(run_shard, stage, folder, progress), ranges):
                    counts.update(stage.merge(counts, counted) if shards else counted)
                    shards.append(shard)
                    progress.reach(shard.end)  # includes tasks that ran in other processes
            except BaseException:  # any exception cancels the other tasks, and is raised again
                engine.cancel()
                raise
            if len(shards) != len(ranges):
                raise StoreError(f"{dataset_id} was not built: only {len(shards)} of {len(ranges)} tasks have finished")
            for shard in shards:
                yield from _stored_batches(_path(folder, shard.first, shard.end))
            progress.found(drop_counts(counts, sum(shard.num_rows for shard in shards)))


def _unsharded_batches(stage: Stage, counts: Counts) -> Batches:
    """Run a stage as one task. Progress counts the input rows, or the output rows if the input is streamed."""
    with CountedWork(stage.description, stage.num_rows) as progress:
        if stage.num_rows is None:
            made = progress.through(stage.gather(stage.transform(stage.read(0, 0), 0, counts)))
        else:
            batches = progress.through(stage.read(0, stage.num_rows))
            made = stage.gather(stage.transform(batches, 0, counts))
        kept = 0
        for batch in made:
            yield batch
            kept += batch.num_rows
        progress.reach(stage.num_rows or 0)
        progress.found(drop_counts(counts, kept))


def run_shard(
    stage: Stage, folder: Path, progress: CountedWork | UncountedWork, rows: tuple[int, int]
) -> tuple[Shard, Counts]:
    """Write the output of a range of rows to a file, unless it is already there and undamaged; return its counts."""
    first, end = rows
    path = _path(folder, first, end)
    if (found := _finished(path)) is not None:
        return found
    counts: Counts = {}
    digest = RowDigest()
    batches = stage.transform(progress.through(stage.read(first, end)), first, counts)
    head = next(batches, None)  # None: the output of these rows is empty
    schema = pa.schema([]) if head is None else head.schema
    with atomic_file(path) as file, pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema) as writer:
        for batch in () if head is None else chain([head], batches):
            writer.write_batch(batch)
            digest.add(batch)
    shard = Shard(first, end, digest.num_rows, digest.num_bytes, digest.hexdigest())
    with atomic_file(path.with_suffix(".json")) as file:
        file.write(json_bytes(fields_with_digest({"shard": shard, "counts": counts})))
    return shard, counts


def _path(folder: Path, first: int, end: int) -> Path:
    return folder / f"{first}-{end}.arrow"


def _finished(path: Path) -> tuple[Shard, Counts] | None:
    """Return the record of a finished task, or None if the record or its output is missing or damaged."""
    try:
        record = read_json(path.with_suffix(".json"), path.name)  # the task writes this file last
        assert isinstance(record, dict)
        check_digest(record, path.name)
        shard = Shard(**cast(dict[str, Any], record["shard"]))
        counts = cast(Counts, record["counts"])
        whole = path.exists() and digest_of(open_arrow(str(path)).table) == shard.sha256
    except FileNotFoundError:
        return None
    except DamagedError:
        whole = False
    if not whole:
        log.warning("%s, a file of an interrupted build, is damaged and is built again", path)
        return None
    return shard, counts


def _stored_batches(path: Path) -> Batches:
    with pa.memory_map(str(path)) as mapped:
        reader = pa.ipc.open_file(mapped)
        for number in range(reader.num_record_batches):  # a table would lose empty batches, and so their columns
            yield reader.get_batch(number)


def say_reused(what: str, **counts: object) -> None:
    """Log that a dataset or an artifact is already stored, with its counts."""
    say("prepare", f"{what} reused", counts)


def row_range_batches(rows: Rows, first: int, end: int) -> Batches:
    """Stream the rows from `first` to `end` (exclusive) in at least one batch. Picklable with functools.partial."""
    if first == end:
        return iter([pa.RecordBatch.from_pylist([], schema=rows.schema)])
    return rows.range_batches(first, end)
