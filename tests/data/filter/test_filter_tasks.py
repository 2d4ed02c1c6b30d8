"""Filters in tasks over ranges of rows: kept rows, counts and samples are those of one pass over all pairs."""

import hashlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import mtx
from mtx.data.bounded_pair_batches import Pairs
from mtx.data.engine_protocol import Engine, InProcessEngine
from mtx.data.filter import part_counts
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.filter_protocol import PairFilter
from mtx.data.filter.none import NoFilter
from mtx.data.filter.selection import SelectionFilter
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.process_pool_engine import ProcessPoolEngine
from mtx.data.score.rules import RulesScorer
from mtx.data.split import HeldOut
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import ConfigError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.sources.mixture import MixtureDownloader

NUM_PAIRS = 150
NUM_TASKS = (1, 2, 7)


@dataclass(frozen=True, kw_only=True)
class Noisy(Downloader):
    """Pairs of which some are empty, too long, identical, or duplicates of pairs far before, with further columns."""

    name: str

    def info(self) -> SourceInfo:
        return SourceInfo(self.name, ("en", "de"), "1", {"name": self.name}, ("train",))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        rng = np.random.default_rng(3)
        of = [number if number < 40 else int(rng.integers(0, number)) for number in range(NUM_PAIRS)]
        rows = [
            {
                "src": "" if number == 17 else f"sentence number {number} of all",
                "tgt": f"sentence number {number} of all"
                if number % 23 == 5
                else f"Satz {number} " + "x" * (3 * number),
                "quality": None if row % 11 == 0 else float((7 * row) % 31),
                "lang": ("de", "fr", None)[number % 3] if row % 2 else f"l{row}",
                "document": row // 6,
            }
            for row, number in enumerate(of)
        ]
        yield from pa.Table.from_pylist(rows).to_batches(max_chunksize=13)


@mtx.rule
def short_enough(pairs: pa.RecordBatch) -> tuple[list[bool], list[str]]:
    """Keeps pairs with a target of up to 300 characters."""
    lengths = [len(text) for text in pairs["tgt"].to_pylist()]
    return [length < 300 for length in lengths], ["much" if length > 380 else "some" for length in lengths]


RULES: dict[str, Any] = {"quality": {"min": 4}, "target_chars": {"max": 250}, "short": short_enough()}
FILTERS: dict[str, PairFilter] = {
    "none": NoFilter(),
    "default": DefaultFilter(max_ratio=5, max_words=9),
    "by document": DefaultFilter(dedup_by=["src", "document"]),
    "with duplicates": DefaultFilter(drop_duplicates=False, max_chars=200),
    "selection": SelectionFilter(before=DefaultFilter(), rules=RULES),
    "after a selection": SelectionFilter(
        before=SelectionFilter(before=DefaultFilter(), rules={"target_chars": {"max": 19}}),
        rules={"quality": {"min_quantile": 0.2, "without_value": "keep"}, "source_chars": {"min": 3}},
    ),
    "quantiles": SelectionFilter(
        before=DefaultFilter(),
        rules={
            "quality": {"min_quantile": 0.1, "within": "lang"},
            "share": {"column": "quality", "best_share": 0.8},
            "target_chars": {"lose_at_most": 0.05},
        },
    ),
    "best": SelectionFilter(before=DefaultFilter(), rules={"quality": {"best_of": "document"}}),
    "random": SelectionFilter(before=DefaultFilter(), rules=RULES, ablation="random_besides_quality"),
}


def prepared(
    root: Path, num_tasks: int, keeper: PairFilter, *, source: Downloader | None = None, **options: Any
) -> tuple[Store, StageIds]:
    engine: Engine | None = options.pop("engine", None)
    objects, files = JSONFileObjectLayer, ArrowFileLayer
    store = Store(root=root / f"{num_tasks}-{engine is None}", objects=objects, files=files)
    recipe = Recipe(source or Noisy(name="one"), HeldOut(validation=4), keeper, ByteTokenization(), **options)
    size = NUM_PAIRS * len((source or Noisy(name="one")).parts)
    return store, prepare(recipe, store, StageRunner(store, engine=engine, shard_rows=-(-size // num_tasks)))


class Watched(InProcessEngine):
    """An engine that remembers how many tasks of what it has run."""

    def __init__(self) -> None:
        super().__init__()
        self.num_tasks: dict[str, int] = {}

    def map(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        self.num_tasks[task.args[0].description] = len(items)  # type: ignore[attr-defined]
        return super().map(task, items)


@pytest.mark.parametrize("name", FILTERS)
def test_what_does_not_depend_on_other_pairs_runs_in_tasks(tmp_path: Path, name: str) -> None:
    engine = Watched()
    prepared(tmp_path, 7, FILTERS[name], engine=engine)
    assert ("filtering train" in engine.num_tasks) == (name not in ("best", "random"))
    assert ("filtering train: duplicates" in engine.num_tasks) == (name not in ("none", "with duplicates"))
    assert {"hashing train", "comparing train with held-out text"} <= engine.num_tasks.keys()
    assert set(engine.num_tasks.values()) == {7}


def stored_files(store: Store, ids: StageIds) -> dict[str, str]:
    """Return the digests of the rows and the manifests of all filtered datasets."""
    found = {}
    for name in ids.filtered.values():
        paths = [path for path in (store.root / "datasets").rglob(f"{name}*") if path.suffix in (".arrow", ".json")]
        assert len(paths) == 2
        found |= {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return found


@pytest.mark.parametrize("name", FILTERS)
def test_rows_and_manifest_are_the_same_at_any_number_of_tasks(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    files, warnings = [], []
    for num_tasks in NUM_TASKS:
        caplog.clear()
        store, ids = prepared(tmp_path, num_tasks, FILTERS[name])
        files.append(stored_files(store, ids))
        warnings.append([line for line in caplog.messages if line.startswith("the rules of filter=selection drop")])
        assert list((store.root / "scratch").iterdir()) == []
    assert files[0] == files[1] == files[2]
    assert warnings[0] == warnings[1] == warnings[2]
    assert len(warnings[0]) == (name == "after a selection"), "each range for itself would warn, too"


def test_a_mixture_with_a_share_and_scores_is_the_same_in_tasks_and_processes(tmp_path: Path) -> None:
    source = MixtureDownloader(sources={"a": Noisy(name="one"), "b": Noisy(name="two")}, caps={"b": 90})  # type: ignore[dict-item]
    rules = {"letters": {"column": "rules.letters", "min": -9}, "quality": {"min_quantile": 0.2, "within": "source"}}
    keeper = SelectionFilter(before=DefaultFilter(), rules=rules)
    options: dict[str, Any] = {"source": source, "share": 0.7, "scorers": {"rules": RulesScorer()}}
    found = [stored_files(*prepared(tmp_path, num_tasks, keeper, **options)) for num_tasks in NUM_TASKS]
    engine = ProcessPoolEngine(workers=2)
    found.append(stored_files(*prepared(tmp_path, 7, keeper, engine=engine, **options)))
    assert found[0] == found[1] == found[2] == found[3]


def test_values_beyond_those_that_are_told_apart_are_the_same_in_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (part_counts, __import__("mtx.data.filter.rule_funnel", fromlist=["MAX_KNOWN"])):
        monkeypatch.setattr(module, "MAX_KNOWN", 5)
    monkeypatch.setattr(part_counts.PartCounts.__init__, "__kwdefaults__", {"max_known": 5})
    files = [stored_files(*prepared(tmp_path, number, FILTERS["selection"])) for number in NUM_TASKS]
    assert files[0] == files[1] == files[2]


@dataclass(frozen=True, kw_only=True)
class Fatal(DefaultFilter):
    """Ends the process that judges the pairs with a sentence for the first time."""

    marks: str

    def _rules(self, source: pa.LargeStringArray, target: pa.LargeStringArray) -> Any:
        mark = Path(self.marks) / "killed"
        if "sentence number 30 of all" in source.to_pylist() and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super()._rules(source, target)


def test_after_the_kill_of_a_worker_the_rows_are_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Fatal(marks=str(tmp_path))
    store, ids = prepared(tmp_path, 7, keeper, engine=ProcessPoolEngine(workers=2))
    assert (tmp_path / "killed").exists()
    assert any("was ended by SIGKILL" in line for line in caplog.messages)
    assert stored_files(store, ids) == stored_files(*prepared(tmp_path, 1, keeper))


def test_the_search_for_duplicates_is_not_repeated_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = DefaultFilter()
    apply, judged = StageRunner.pass_over, []
    monkeypatch.setattr(DefaultFilter, "_judged", counted(DefaultFilter._judged, judged))

    def interrupted(self: StageRunner, folder: Path, tasks: Any) -> Any:
        yield from apply(self, folder, tasks)
        if folder.name == "duplicates" and len(judged) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(StageRunner, "pass_over", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, 7, keeper)
    assert len(judged) == 7
    judged.append("again")
    store, ids = prepared(tmp_path, 7, keeper)
    assert judged[7:] == ["again"]
    assert stored_files(store, ids) == stored_files(*prepared(tmp_path, 1, keeper))


def counted(method: Any, calls: list[Any]) -> Any:
    def called(self: Any, pairs: Any, first: int, counts: Any) -> Any:
        calls.append(first)
        return method(self, pairs, first, counts)

    return called


@dataclass(frozen=True, kw_only=True)
class EverySecond(PairFilter):
    """A filter of a user's own that depends on the pairs before."""

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        first = 0
        for batch in pairs if not isinstance(pairs, pa.Table) else pairs.to_batches():
            keep = (np.arange(first, first + batch.num_rows) % 2) == 0
            first += batch.num_rows
            yield batch.filter(pa.array(keep))


def test_a_filter_of_ones_own_that_may_depend_on_pairs_before_stays_one_task(tmp_path: Path) -> None:
    found = [prepared(tmp_path, number, EverySecond()) for number in NUM_TASKS]
    rows = [store.repo.get(ids.filtered["train"]).rows.column("row").to_pylist() for store, ids in found]
    assert rows[0] == rows[1] == rows[2]
    assert len(rows[0]) == 73


def test_a_missing_column_is_told_by_the_task_that_needs_it(tmp_path: Path) -> None:
    keeper = replace(DefaultFilter(), dedup_by=["src", "nothing"])
    with pytest.raises(ConfigError, match="nothing"):
        prepared(tmp_path, 7, keeper, engine=ProcessPoolEngine(workers=2))
