"""From a source to ids: what is reused, what is counted, and what survives other processes."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import warm_process

from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.none import NoFilter
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.byte import ByteTokenization
from mtx.data.tokenize.tokenizer_artifact import load_pair
from mtx.errors import EmptyDatasetError, SourceError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA

PAIRS = [(f"sentence {i}", f"Satz {i}") for i in range(50)]


@dataclass(frozen=True, kw_only=True)
class Given(Downloader):
    """The pairs given, by split; `log` gets a line for each reading."""

    pairs: tuple[tuple[str, str], ...] = tuple(PAIRS)
    validation: tuple[tuple[str, str], ...] = ()
    log: Path
    delay_s: float = 0.0
    fails: bool = False

    def info(self) -> SourceInfo:
        identity = {"pairs": [list(pair) for pair in self.pairs], "validation": [list(p) for p in self.validation]}
        return SourceInfo("given", ("en", "de"), "1", identity, ("train", *(["validation"] * bool(self.validation))))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        with self.log.open("a") as log:
            log.write(split + "\n")
        for src, tgt in self.pairs if split == "train" else self.validation:
            time.sleep(self.delay_s)
            yield pa.record_batch([[src], [tgt]], schema=PAIR_SCHEMA)
        if self.fails:
            raise SourceError("the line went dead")


def store(root: Path) -> Store:
    return Store(root=root / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer)


def recipe(root: Path, *, held_out: HeldOut | None = None, filter_: object = None, **options: object) -> Recipe:
    source = Given(log=root / "log", **options)  # type: ignore[arg-type]
    return Recipe(source, held_out or HeldOut(validation=5, test=5), filter_ or NoFilter(), ByteTokenization())  # type: ignore[arg-type]


def test_every_stage_is_stored_and_a_second_call_builds_nothing(tmp_path: Path) -> None:
    first = prepare(recipe(tmp_path), store(tmp_path))
    assert [name.split("-")[0] for name in first.built] == [
        *("raw", "text", "split", "split", "split", "filtered", "filtered", "filtered"),
        *("tokenizer", "encoded"),
    ]
    second = prepare(recipe(tmp_path), store(tmp_path))
    assert second.built == []
    assert (second.raw, second.filtered, second.encoded) == (first.raw, first.filtered, first.encoded)
    assert (tmp_path / "log").read_text() == "train\n"


def test_a_changed_filter_reuses_the_raw_dataset(tmp_path: Path) -> None:
    first = prepare(recipe(tmp_path), store(tmp_path))
    second = prepare(recipe(tmp_path, filter_=DefaultFilter()), store(tmp_path))
    assert second.raw == first.raw
    assert [name.split("-")[0] for name in second.built] == ["filtered"], "bytes need no training"


def test_splits_share_no_source_and_lose_no_pair(tmp_path: Path) -> None:
    made = prepare(recipe(tmp_path), store(tmp_path))
    repo = store(tmp_path).repo
    sources = {split: {row["src"] for row in repo.get(name).rows} for split, name in made.filtered.items()}
    assert sources["train"] | sources["validation"] | sources["test"] == {src for src, _ in PAIRS}
    assert {split: len(found) for split, found in sources.items()} == {"train": 40, "validation": 5, "test": 5}


def test_training_pairs_that_leak_the_sources_own_validation_are_dropped_and_counted(tmp_path: Path) -> None:
    made = prepare(recipe(tmp_path, validation=(("sentence 3", "anders"), ("new", "neu"))), store(tmp_path))
    train = store(tmp_path).repo.manifest(made.filtered["train"])
    assert train.metrics["dropped"] == {"in_held_out": 1}
    assert train.n == 50 - 1 - 5
    kept = prepare(
        recipe(tmp_path, validation=(("sentence 3", "anders"),), held_out=HeldOut(drop_leaks=False)), store(tmp_path)
    )
    assert store(tmp_path).repo.manifest(kept.filtered["train"]).n == 50


def test_one_tokenizer_a_side(tmp_path: Path) -> None:
    config = BPETokenization(vocab_size=280, joint=False, min_frequency=1)
    made = prepare(Recipe(recipe(tmp_path).downloader, HeldOut(), NoFilter(), config), store(tmp_path))
    pair = load_pair(config, store(tmp_path).tokenizers.open(made.tokenizer))
    assert not pair.joint
    assert pair.source.get_vocab() != pair.target.get_vocab()
    assert {path.name for path in pair.folder.iterdir()} == {"source.json", "target.json", "manifest.json"}
    assert json.loads((pair.folder / "manifest.json").read_text())["id"] == made.tokenizer
    ids = store(tmp_path).repo.get(made.encoded["train"]).rows[0]
    assert pair.source.decode(ids["source_ids"]) == "sentence 0"
    assert pair.target.decode(ids["target_ids"]) == "Satz 0"


def test_a_source_that_fails_half_way_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the line went dead"):
        prepare(recipe(tmp_path, fails=True), store(tmp_path))
    assert len(store(tmp_path).repo.show()) == 0
    assert prepare(recipe(tmp_path), store(tmp_path)).built


def test_an_empty_source_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match="given has no training pair left; dropped: none; the source has no"):
        prepare(recipe(tmp_path, pairs=(), held_out=HeldOut()), store(tmp_path))


def _prepare_elsewhere(root: Path, results: "multiprocessing.Queue[StageIds]") -> None:
    results.put(prepare(recipe(root, delay_s=0.01), store(root)))


def test_processes_that_ask_at_once_build_each_stage_once(tmp_path: Path) -> None:
    context = warm_process.server()
    results: multiprocessing.Queue[StageIds] = context.Queue()
    processes = [context.Process(target=_prepare_elsewhere, args=(tmp_path, results)) for _ in range(3)]
    for process in processes:
        process.start()
    made = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(len(ids.built) for ids in made) == 10
    assert len({json.dumps([ids.raw, ids.filtered, ids.encoded]) for ids in made}) == 1
    assert (tmp_path / "log").read_text() == "train\n"


def test_a_killed_process_leaves_a_store_that_the_next_one_finishes(tmp_path: Path) -> None:
    context = warm_process.server()
    results: multiprocessing.Queue[StageIds] = context.Queue()
    process = context.Process(target=_prepare_elsewhere, args=(tmp_path, results))
    process.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    again = prepare(recipe(tmp_path), store(tmp_path))
    clean = prepare(recipe(tmp_path), Store(root=tmp_path / "clean", objects=SQLiteObjectLayer, files=ArrowFileLayer))
    assert again.encoded == clean.encoded
    for name in [*again.raw.values(), *again.filtered.values(), *again.encoded.values()]:
        assert (tmp_path / "store/datasets" / f"{name}.arrow").read_bytes() == (
            tmp_path / "clean/datasets" / f"{name}.arrow"
        ).read_bytes()
    assert not list((tmp_path / "store").rglob("*.tmp"))
