"""The stage runner: the same result at any number of tasks, on any engine, however often it is stopped."""

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mtx.data.dataset import TranslationDataset
from mtx.data.engine_protocol import Engine, InProcessEngine
from mtx.data.stage_runner import Batches, Counts, Stage, StageRunner, added_counts, row_range_batches
from mtx.data.store import Store
from mtx.errors import DamagedError, DataError, StoreError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.row_digest import digest_of
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.progress.progress_log import ProgressLog

Item = TypeVar("Item")
Result = TypeVar("Result")
PAIRS = [{"src": "x" * (number % 7), "tgt": f"target {number}", "domain": number % 3} for number in range(20)]


def score(batches: Batches, first: int, counts: Counts) -> Batches:
    """Score pairs by the length of their source: all that a scorer has to be."""
    counts["scored"] = 0
    for batch in batches:
        lengths = pc.cast(pc.utf8_length(batch.column("src")), pa.int32())
        counts["scored"] += batch.num_rows
        yield pa.record_batch({"row": pa.array(range(first, first + batch.num_rows)), "length": lengths})
        first += batch.num_rows


class TwoProcesses:
    """An engine of two processes: all that an engine has to be."""

    def map(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            yield from pool.map(task, items)

    def cancel(self) -> None:
        """Let the pool end."""


def store(root: Path, files: Any = ArrowFileLayer) -> Store:
    made = Store(root=root / "store", objects=SQLiteObjectLayer, files=files)
    if not made.repo.exists("raw-1"):
        made.repo.add(
            TranslationDataset(id="raw-1", name="x", stage="raw", split="train", languages=("en", "de"), data=PAIRS)
        )
    return made


def stage(where: Store, transform: Any = score) -> Stage:
    rows = where.repo.get("raw-1").rows
    output = TranslationDataset(name="x", stage="text", split="train", languages=("en", "de"))
    return Stage(
        output=output,
        description="scoring",
        num_rows=len(rows),
        read=partial(row_range_batches, rows),
        transform=transform,
    )


def run(where: Store, **options: Any) -> TranslationDataset:
    StageRunner(where, **options).run("scores-1", lambda: stage(where))
    return where.repo.get("scores-1")


EXPECTED = [{"row": number, "length": number % 7} for number in range(20)]


@pytest.mark.parametrize("files", [ArrowFileLayer, FileAccessLayer])
@pytest.mark.parametrize("num_shards", [1, 2, 7])
def test_the_result_is_the_same_at_any_number_of_shards(tmp_path: Path, num_shards: int, files: Any) -> None:
    made = run(store(tmp_path, files), shard_rows=-(-20 // num_shards))
    assert list(made.rows) == EXPECTED
    assert made.metrics == {"scored": 20}
    edges = [min(20, start) for start in range(0, 21 + 20 // num_shards, -(-20 // num_shards))]
    ranges = [(low, high) for low, high in pairwise(edges) if low < high] if num_shards > 1 else []
    assert [(shard.first, shard.end, shard.num_rows) for shard in made.shards] == [
        (low, high, high - low) for low, high in ranges
    ]
    for shard in made.shards:  # 8 bytes a row number, 4 a length
        assert shard.num_bytes == 12 * shard.num_rows
        assert shard.sha256 == digest_of(made.rows.table.slice(shard.first, shard.num_rows))
    assert list((tmp_path / "store" / "scratch").glob("scores*")) == []
    (tmp_path / "one").mkdir()
    assert made.payload == run(store(tmp_path / "one", files)).payload, "the bytes of one task"


@pytest.mark.slow
def test_an_engine_of_two_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    engine: Engine = TwoProcesses()
    here = run(store(tmp_path / "a"), shard_rows=3)
    there = run(store(tmp_path / "b"), shard_rows=3, engine=engine)
    assert here.payload == there.payload
    assert here.to_manifest() == there.to_manifest()


def test_a_stage_pickles() -> None:
    assert pickle.loads(pickle.dumps(score)) is score
    assert list(InProcessEngine().map(str, [1, 2])) == ["1", "2"]


def test_an_engine_that_is_cancelled_begins_no_further_task() -> None:
    engine, done = InProcessEngine(), []
    for result in engine.map(done.append, [1, 2, 3]):
        assert result is None
        engine.cancel()
    assert done == [1]


def die_at(row: int, how: str, marks: Path, batches: Batches, first: int, counts: Counts) -> Batches:
    mark = marks / f"{first}"
    mark.write_text((mark.read_text() if mark.exists() else "") + "x")
    if first == row and not (marks / "lives").exists():
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise DataError("this row cannot be scored")
    yield from score(batches, first, counts)


def _run_killed(root: Path, marks: Path, files: Any = ArrowFileLayer) -> None:
    where = store(root, files)
    StageRunner(where, shard_rows=5).run("scores-1", lambda: stage(where, partial(die_at, 10, "kill", marks)))


def _killed(root: Path, files: Any) -> tuple[Store, Path]:
    """Return a store in which a build was killed in its third task of four, and the marks of tasks that began."""
    marks = root / "marks"
    marks.mkdir()
    where = store(root, files)
    process = multiprocessing.get_context("fork").Process(target=_run_killed, args=(root, marks, files))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not where.repo.exists("scores-1")
    (marks / "lives").touch()
    return where, marks


def _go_on(where: Store, marks: Path) -> dict[str, str]:
    """Build again, and return the marks."""
    StageRunner(where, shard_rows=5).run("scores-1", lambda: stage(where, partial(die_at, 10, "kill", marks)))
    return {path.name: path.read_text() for path in marks.glob("[0-9]*")}


@pytest.mark.parametrize("files", [ArrowFileLayer, FileAccessLayer])
def test_a_killed_build_leaves_nothing_that_looks_whole_and_goes_on(tmp_path: Path, files: Any) -> None:
    where, marks = _killed(tmp_path, files)
    begun = _go_on(where, marks)
    assert begun == {"0": "x", "5": "x", "10": "xx", "15": "x"}, "what was finished is not made again"
    assert list(where.repo.get("scores-1").rows) == EXPECTED
    (tmp_path / "other").mkdir()
    uninterrupted = run(store(tmp_path / "other", files), shard_rows=5)
    assert where.repo.manifest("scores-1").to_manifest() == uninterrupted.to_manifest()
    assert list((tmp_path / "store" / "scratch").glob("scores*")) == []


@pytest.mark.parametrize("damage", ["rows", "record", "no rows", "older"])
def test_a_shard_that_is_not_whole_any_more_is_made_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    where, marks = _killed(tmp_path, ArrowFileLayer)
    folder = tmp_path / "store" / "scratch" / "scores-1"
    rows, record = folder / "5-10.arrow", folder / "5-10.json"
    if damage == "rows":
        rows.write_bytes(rows.read_bytes().replace((7).to_bytes(8, "little"), (8).to_bytes(8, "little"), 1))
    elif damage == "record":
        record.write_text(record.read_text().replace('"scored": 5', '"scored": 6'))
    elif damage == "no rows":
        rows.unlink()
    else:  # as mtx wrote it before shards had digests
        record.write_text('{"scored": 5}')
    assert _go_on(where, marks) == {"0": "x", "5": "xx", "10": "xx", "15": "x"}
    assert list(where.repo.get("scores-1").rows) == EXPECTED
    assert where.repo.manifest("scores-1").metrics == {"scored": 20}
    assert f"{rows}, a file of an interrupted build, is damaged and is built again" in caplog.messages


@pytest.mark.parametrize("files", [ArrowFileLayer, FileAccessLayer])
def test_verify_names_the_damaged_shard(tmp_path: Path, files: Any) -> None:
    where = store(tmp_path, files)
    StageRunner(where, shard_rows=5).run("scores-1", lambda: stage(where, long_ones))
    path = next((tmp_path / "store" / "datasets").glob("scores-1.[aj]*"))
    before, after = ((12).to_bytes(8, "little"), (13).to_bytes(8, "little"))
    if files is FileAccessLayer:
        before, after = b'"row": 12,', b'"row": 13,'
    path.write_bytes(path.read_bytes().replace(before, after, 1))
    message = r"has changed on disk in shard 3 \(built from rows 10 to 15 of its input\) of 4: SHA-256 "
    with pytest.raises(DamagedError, match=message):
        where.repo.verify("scores-1")


def test_verify_says_where_damage_is_in_no_shard(tmp_path: Path) -> None:
    where = store(tmp_path)
    run(where, shard_rows=5)
    path = tmp_path / "store" / "datasets" / "scores-1.arrow"
    content = bytearray(path.read_bytes())
    content[6] = 1  # padding behind the magic number
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="has changed on disk outside its rows, which are undamaged: SHA-256"):
        where.repo.verify("scores-1")


def test_an_error_in_one_task_stores_nothing(tmp_path: Path) -> None:
    where, marks = store(tmp_path), tmp_path / "marks"
    marks.mkdir()
    with pytest.raises(DataError, match="this row cannot be scored"):
        StageRunner(where, shard_rows=5).run("scores-1", lambda: stage(where, partial(die_at, 5, "raise", marks)))
    assert not where.repo.exists("scores-1")
    assert sorted(path.name for path in marks.glob("[0-9]*")) == ["0", "5"]


def test_files_that_a_killed_process_left_are_removed(tmp_path: Path) -> None:
    where, marks = store(tmp_path), tmp_path / "marks"
    marks.mkdir()
    folder = where.scratch() / "scores-1"
    folder.mkdir(parents=True)
    left = [folder / ".5-10.arrow.0a1b.tmp", folder / ".15-20.json.0a1b.tmp", folder / ".5-11.arrow.0a1b.tmp"]
    for path in left:
        path.touch()
    with pytest.raises(DataError, match="this row cannot be scored"):
        StageRunner(where, shard_rows=5).run("scores-1", lambda: stage(where, partial(die_at, 5, "raise", marks)))
    assert [path.exists() for path in left] == [False, False, True]


def test_an_engine_needs_no_method_close(tmp_path: Path) -> None:
    assert isinstance(TwoProcesses(), Engine)
    StageRunner(store(tmp_path), engine=TwoProcesses()).close()


def _run_and_tell(root: Path, results: "multiprocessing.Queue[list[str]]") -> None:
    where = store(root)
    runner = StageRunner(where, shard_rows=5)
    runner.run("scores-1", lambda: stage(where))
    results.put(runner.built)


def test_two_processes_at_once_build_it_once(tmp_path: Path) -> None:
    store(tmp_path)
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[list[str]] = context.Queue()
    processes = [context.Process(target=_run_and_tell, args=(tmp_path, results)) for _ in range(2)]
    for process in processes:
        process.start()
    built = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(built) == [[], ["scores-1"]]


def test_counts_are_added_at_any_depth_and_other_values_stay() -> None:
    one, other = {"a": 1, "by": {"x": 1}, "name": "n"}, {"a": 2, "by": {"x": 3, "y": 4}, "name": "m", "b": 5}
    assert added_counts(one, other) == {"a": 3, "by": {"x": 4, "y": 4}, "name": "n", "b": 5}


class Watched(InProcessEngine):
    """An engine that remembers whether it was cancelled."""

    num_cancelled = 0

    def cancel(self) -> None:
        self.num_cancelled += 1
        super().cancel()


def not_arrow(batches: Batches, first: int, counts: Counts) -> Batches:
    if first == 5:
        raise pa.ArrowInvalid("row 5 cannot be cast")  # a ValueError
    yield from score(batches, first, counts)


def test_a_value_error_of_a_task_passes_through_and_cancels_the_others(tmp_path: Path) -> None:
    where, engine = store(tmp_path), Watched()
    with pytest.raises(pa.ArrowInvalid, match="row 5 cannot be cast"):
        StageRunner(where, shard_rows=5, engine=engine).run("scores-1", lambda: stage(where, not_arrow))
    assert engine.num_cancelled == 1
    assert not where.repo.exists("scores-1")


class Forgetful(InProcessEngine):
    """An engine that loses its last task."""

    def map(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        return super().map(task, items[:-1])


def test_an_output_is_gathered_before_the_next_task_ends(tmp_path: Path) -> None:
    where, events = store(tmp_path), []

    def noted_score(batches: Batches, first: int, counts: Counts) -> Batches:
        events.append(f"task {first}")
        yield from score(batches, first, counts)

    def noted(batches: Batches) -> Batches:
        for batch in batches:
            events.append(f"gather {batch['row'][0]}")
            yield batch

    StageRunner(where, shard_rows=10).run("scores-1", lambda: replace(stage(where, noted_score), gather=noted))
    assert events == ["task 0", "gather 0", "task 10", "gather 10"]


def test_the_tasks_that_are_left_are_cancelled_if_their_outputs_cannot_be_gathered(tmp_path: Path) -> None:
    where, engine = store(tmp_path), Watched()

    def refused(batches: Batches) -> Batches:
        yield next(batches)
        raise StoreError("the disk is full")

    runner = StageRunner(where, shard_rows=5, engine=engine)
    with pytest.raises(StoreError, match="the disk is full") as kept:  # keeps the frames, and so the suspended tasks
        runner.run("scores-1", lambda: replace(stage(where), gather=refused))
    assert engine.num_cancelled == 1
    assert kept.value is not None
    assert list(run(where, shard_rows=5).rows) == EXPECTED


def test_an_engine_that_loses_a_task_stores_nothing(tmp_path: Path) -> None:
    where = store(tmp_path)
    with pytest.raises(StoreError, match="scores-1 was not built: only 3 of 4 tasks have finished"):
        run(where, shard_rows=5, engine=Forgetful())
    assert not where.repo.exists("scores-1")


def long_ones(batches: Batches, first: int, counts: Counts) -> Batches:
    counts["kept"] = 0
    for batch in score(batches, first, {}):
        found = batch.filter(pc.greater_equal(batch["row"], 10))
        counts["kept"] += found.num_rows
        if found.num_rows:
            yield found


@pytest.mark.parametrize("shard_rows", [5, 20])
def test_a_range_of_which_nothing_comes_out_is_no_error(tmp_path: Path, shard_rows: int) -> None:
    where = store(tmp_path)
    StageRunner(where, shard_rows=shard_rows).run("scores-1", lambda: stage(where, long_ones))
    made = where.repo.get("scores-1")
    assert list(made.rows) == EXPECTED[10:]
    assert made.metrics == {"kept": 10}


def none_kept(batches: Batches, first: int, counts: Counts) -> Batches:
    """Keep nothing, and say in an empty batch which columns there would be."""
    yield next(score(batches, first, counts)).slice(0, 0)


@pytest.mark.parametrize("shard_rows", [5, 20])
def test_the_columns_stay_if_no_range_has_a_row(tmp_path: Path, shard_rows: int) -> None:
    where = store(tmp_path)
    StageRunner(where, shard_rows=shard_rows).run("scores-1", lambda: stage(where, none_kept))
    made = where.repo.get("scores-1").rows
    assert made.schema.names == ["row", "length"]
    assert len(made) == 0


def gathered(batches: Batches) -> Batches:
    yield pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


@pytest.mark.parametrize("shard_rows", [5, 20])
def test_progress_counts_the_rows_that_are_read_whatever_comes_out(
    tmp_path: Path, shard_rows: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "mtx.progress")
    monkeypatch.setattr(ProgressLog.__init__, "__kwdefaults__", {**ProgressLog.__init__.__kwdefaults__, "every_s": 0.0})
    where = store(tmp_path)
    made = replace(stage(where, long_ones), gather=gathered)
    StageRunner(where, shard_rows=shard_rows).run("scores-1", lambda: made)
    lines = caplog.messages
    assert lines[0] == "prepare   scoring begin pairs=20"
    assert lines[-1].startswith("prepare   scoring done pairs=20 ")
    shares = [int(line.split("%")[0].split()[-1]) for line in lines[1:-1]]
    assert shares == sorted(shares)
    assert set(shares) == ({25, 50, 75, 100} if shard_rows == 5 else {100})


@pytest.mark.slow
def test_progress_counts_what_runs_in_other_processes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mtx.progress")
    run(store(tmp_path), shard_rows=5, engine=TwoProcesses())
    assert caplog.messages[-1].startswith("prepare   scoring done pairs=20 ")
