"""Runs the stages of data preparation: locks and reuses stored datasets, and splits long stages into tasks.

A stage is a function from record batches to record batches, with counts. The id of its output is a hash of its inputs
and config. If a dataset with this id is stored, it is reused. If several processes request a missing dataset, one
process builds it. A long input is split into ranges of rows, each of which is one task of an engine. Finished tasks
stay in the store's folder `scratch` until the dataset is complete, so that an interrupted build resumes. The result
does not depend on the number of tasks.
"""

import logging
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from mtx.data.dataset import Shard, TranslationDataset
from mtx.data.engine_protocol import Engine, InProcessEngine
from mtx.data.freed_memory import make_room_for
from mtx.data.repo_read_cache import RepoSession
from mtx.data.row_tasks import (
    Batches,
    Counts,
    Range,
    RowTasks,
    added_counts,
    even_batches,
    row_range_batches,
    run_shard,
    stored_batches,
    task_path,
    unchanged_batches,
)
from mtx.data.store import WORK_LOCK, Store
from mtx.errors import StoreError
from mtx.infra.dal.atomic_file import remove_leftovers
from mtx.infra.dal.locks import path_lock
from mtx.infra.dal.remote_url_check import is_url
from mtx.progress.formatting import drop_counts
from mtx.progress.progress_log import say
from mtx.progress.tracking import CountedWork, Waiting

__all__ = [
    "Batches",
    "Counts",
    "Stage",
    "StageRunner",
    "added_counts",
    "even_batches",
    "row_range_batches",
    "unchanged_batches",
]

log = logging.getLogger(__name__)

SHARD_ROWS = 1 << 20  # input rows per task: some seconds of work, and about 100 MB of text
BYTES_PER_ROW = 128  # of a source, to cut it into tasks before its rows are known


@dataclass(frozen=True, kw_only=True)
class Stage(RowTasks):
    """The definition of a stage: its input, its function, and its output dataset.

    If `num_rows` is None and there are no `ranges`, `read` is called once. Otherwise, tasks compute the output.

    Attributes:
        output: the dataset to build, without rows, metrics and shards.
        gather: converts the concatenated outputs of all ranges to the stored form. The rows and their order stay the
            same, and the batches do not depend on the ranges.
        finish: in place of `gather`, a pass over the outputs of all ranges in this process. The added counts are
            complete once it has seen all outputs. It may drop rows and columns and change the counts, so the dataset
            then has no shards.
    """

    output: TranslationDataset
    gather: Callable[[Batches], Batches] = even_batches
    finish: Callable[[Batches, Counts], Batches] | None = None

    def whole(self, batches: Batches, counts: Counts) -> Batches:
        """Return the stored form of the outputs of all ranges."""
        return self.gather(batches) if self.finish is None else self.finish(batches, counts)


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
        self._open = ExitStack()  # locks of folders and outputs of tasks, until the dataset is stored
        self._pass_folders: set[Path] = set()
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
                return self._build(dataset_id, stage)

            with self._open:
                dataset = self.repo.ensure(dataset_id, build)
        if dataset_id in self.built:  # only after the manifest is stored
            for folder in (self._scratch(dataset_id), *self._pass_folders):
                shutil.rmtree(folder, ignore_errors=True)
            self._pass_folders.clear()
        if dataset_id not in self._known:
            self._known.add(dataset_id)
            say_reused(f"{dataset.stage} {dataset.split}", pairs=len(dataset), **drop_counts(dataset.metrics))
        return dataset

    def close(self) -> None:
        """End the processes of the engine, if it has any."""
        if (close := getattr(self._engine, "close", None)) is not None:
            close()

    def is_divided(self, num_rows: int) -> bool:
        """Return whether a stage of so many rows has several tasks."""
        return num_rows > self._shard_rows

    @property
    def piece_bytes(self) -> int:
        """About the bytes of text of a task that reads a part of a source."""
        return self._shard_rows * BYTES_PER_ROW

    def pass_folder(self, name: str) -> Path:
        """Return a locked scratch folder for what a stage computes before its own tasks, until its dataset is stored.

        Args:
            name: the id of the dataset, or another name that stands for all that decides the content of the folder.
        """
        folder = self._scratch(name)
        self._open.enter_context(path_lock(folder / WORK_LOCK))
        self._pass_folders.add(folder)
        return folder

    def pass_over(self, folder: Path, tasks: RowTasks) -> Batches:
        """Yield the outputs of tasks over all rows of an input, which a stage needs before its own tasks.

        An output is yielded as soon as its task and those before it have finished. The outputs of finished tasks stay
        until the dataset is stored, so an interrupted build does not compute them again. Read one pass to its end
        before the next.

        Args:
            folder: a subfolder of `pass_folder`, for these tasks alone.
            tasks: the tasks.
        """
        ranges = tasks.row_ranges(self._shard_rows)
        return self._sharded_batches(folder, tasks, ranges, {}, [], lambda batches, _: batches)

    def _scratch(self, dataset_id: str) -> Path:
        """Return the scratch folder that keeps the finished tasks of a dataset until all of them are finished."""
        return self.store.scratch() / dataset_id

    def _build(self, dataset_id: str, make: Callable[[], Stage]) -> TranslationDataset:
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
        stage = make()
        make_room_for(stage.num_rows or 0)
        output = replace(stage.output, id=dataset_id)
        ranges = stage.row_ranges(self._shard_rows)
        counts: Counts = {}
        shards: list[Shard] = []
        if len(ranges) < 2:
            return replace(output, metrics=counts, data=_unsharded_batches(stage, counts))
        data = self._sharded_batches(self._scratch(dataset_id), stage, ranges, counts, shards, stage.whole)
        return replace(output, metrics=counts, shards=shards if stage.finish is None else [], data=data)

    def _sharded_batches(
        self,
        folder: Path,
        tasks: RowTasks,
        ranges: Sequence[Range],
        counts: Counts,
        shards: list[Shard],
        whole: Callable[[Batches, Counts], Batches],
    ) -> Batches:
        engine = self._engine if tasks.is_parallel else InProcessEngine()
        with path_lock(folder / WORK_LOCK), CountedWork(tasks.description, tasks.num_rows) as progress:
            for first, end in ranges:  # only this process has the lock, so no task writes these files now
                path = task_path(folder, first, end)
                remove_leftovers(path)
                remove_leftovers(path.with_suffix(".json"))
            if (check := getattr(engine, "check_workers", None)) is not None:
                check(folder)
            outputs = _outputs(engine, folder, tasks, ranges, counts, shards, progress)
            self._open.enter_context(closing(outputs))  # so that no task runs on if the caller fails
            kept = 0
            for batch in whole(outputs, counts):
                yield batch
                kept += batch.num_rows
            progress.found(drop_counts(counts, kept))


def _outputs(
    engine: Engine,
    folder: Path,
    tasks: RowTasks,
    ranges: Sequence[Range],
    counts: Counts,
    shards: list[Shard],
    progress: CountedWork,
) -> Generator[pa.RecordBatch, None, None]:
    """Yield the outputs of the tasks in order, while later tasks run, and add their counts and their shards."""
    num_done = 0
    try:
        for shard, counted in engine.map(partial(run_shard, tasks.plain(), folder, progress), ranges):
            counts.update(tasks.merge(counts, counted) if shards else counted)
            shards.append(shard)
            num_done += shard.num_rows if tasks.num_rows is None else shard.end - shard.first
            progress.reach(num_done)  # includes tasks that ran in other processes
            yield from stored_batches(task_path(folder, shard.first, shard.end))
    except BaseException:  # any exception cancels the other tasks, and is raised again
        engine.cancel()
        raise
    if len(shards) != len(ranges):
        raise StoreError(f"{folder.name} was not built: only {len(shards)} of {len(ranges)} tasks have finished")


def _unsharded_batches(stage: Stage, counts: Counts) -> Batches:
    """Run a stage as one task. Progress counts the input rows, or the output rows if the input is streamed."""
    with CountedWork(stage.description, stage.num_rows) as progress:
        if stage.num_rows is None:
            made = progress.through(stage.whole(stage.transform(stage.read(0, 0), 0, counts), counts))
        else:
            batches = progress.through(stage.read(0, stage.num_rows))
            made = stage.whole(stage.transform(batches, 0, counts), counts)
        kept = 0
        for batch in made:
            yield batch
            kept += batch.num_rows
        progress.reach(stage.num_rows or 0)
        progress.found(drop_counts(counts, kept))


def say_reused(what: str, **counts: object) -> None:
    """Log that a dataset or an artifact is already stored, with its counts."""
    say("prepare", f"{what} reused", counts)
