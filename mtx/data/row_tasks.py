"""Tasks over ranges of rows: what a stage does for a range, and the file that keeps the output of a finished task.

A finished task is a file with rows and a record with its digest and its counts. A repeated task finds both and reuses
them, so an interrupted build resumes, and a killed worker costs only the tasks that it had.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, cast

import pyarrow as pa

from mtx.data.dataset import Shard
from mtx.errors import DamagedError
from mtx.infra.dal.arrow import open_arrow
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.atomic_file import atomic_file
from mtx.infra.dal.chunked_columns import regrouped_batches
from mtx.infra.dal.manifest_digest import check_digest, fields_with_digest, json_bytes, read_json
from mtx.infra.dal.row_digest import RowDigest, digest_of
from mtx.progress.tracking import CountedWork, UncountedWork

log = logging.getLogger(__name__)

Counts: TypeAlias = dict[str, Any]
Batches: TypeAlias = Iterator[pa.RecordBatch]
Range: TypeAlias = tuple[int, int]  # first and end (exclusive)


def no_batches(first: int, end: int) -> Batches:
    """Return no input rows: `read` of a stage whose function finds its input itself. Picklable."""
    return iter(())


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
class RowTasks:
    """What is done with ranges of rows, each as one task.

    Attributes:
        description: text for the progress display, such as `encoding train`.
        num_rows: number of input rows; None: unknown, because they are streamed.
        read: streams the input rows from a first row number to an end (exclusive). Picklable.
        transform: computes output batches from input batches, given the number of the first row, and fills counts.
            Picklable.
        is_shardable: whether the output of a range of rows depends only on these rows.
        is_parallel: whether several processes may run tasks at once; False for tasks that use an accelerator.
        merge: adds the counts of a range to those of the preceding ranges.
        ranges: the ranges of an input that has no rows yet, such as files; empty: ranges of equal numbers of rows.
    """

    description: str
    num_rows: int | None
    read: Callable[[int, int], Batches]
    transform: Callable[[Batches, int, Counts], Batches]
    is_shardable: bool = True
    is_parallel: bool = True
    merge: Callable[[Counts, Counts], Counts] = added_counts
    ranges: Sequence[Range] = ()

    def plain(self) -> "RowTasks":
        """Return only what tasks need, so that nothing else of a stage is sent to other processes."""
        return RowTasks(**{each.name: getattr(self, each.name) for each in fields(RowTasks)})

    def row_ranges(self, rows_per_task: int) -> list[Range]:
        """Return the range of each task; none if the rows are not divided into tasks."""
        if self.ranges:
            return list(self.ranges)
        if self.num_rows is None or not self.is_shardable:
            return []
        starts = range(0, self.num_rows, rows_per_task)
        return [(start, min(start + rows_per_task, self.num_rows)) for start in starts]


def run_shard(
    tasks: RowTasks, folder: Path, progress: CountedWork | UncountedWork, rows: Range
) -> tuple[Shard, Counts]:
    """Write the output of a range of rows to a file, unless it is already there and undamaged; return its counts."""
    first, end = rows
    path = task_path(folder, first, end)
    if (found := _finished(path)) is not None:
        return found
    counts: Counts = {}
    digest = RowDigest()
    batches = tasks.transform(progress.through(tasks.read(first, end)), first, counts)
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


def task_path(folder: Path, first: int, end: int) -> Path:
    """Return the path of the output of a task."""
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


def stored_batches(path: Path) -> Batches:
    """Stream the output of a finished task, memory-mapped."""
    with pa.memory_map(str(path)) as mapped:
        reader = pa.ipc.open_file(mapped)
        for number in range(reader.num_record_batches):  # a table would lose empty batches, and so their columns
            yield reader.get_batch(number)


def row_range_batches(rows: Rows, first: int, end: int) -> Batches:
    """Stream the rows from `first` to `end` (exclusive) in at least one batch. Picklable with functools.partial."""
    if first == end:
        return iter([pa.RecordBatch.from_pylist([], schema=rows.schema)])
    return rows.range_batches(first, end)
