"""What is stored is the same down to the last byte, however many tasks made it: every stage, in every storage."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mtx.data.engine_protocol import Engine
from mtx.data.filter.default import DefaultFilter
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.process_pool_engine import ProcessPoolEngine
from mtx.data.split import HeldOut
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.data.tokenize.bpe import BPETokenization
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.sources.mixture import MixtureDownloader

STORAGES: dict[str, tuple[Any, Any]] = {
    "sqlite_arrow": (SQLiteObjectLayer, ArrowFileLayer),
    "files_arrow": (JSONFileObjectLayer, ArrowFileLayer),
    "shelve_jsonl": (ObjectAccessLayer, FileAccessLayer),
}
NUM_PAIRS = 140
NUM_TASKS = (1, 2, 7)


@dataclass(frozen=True, kw_only=True)
class Given(Downloader):
    """Pairs of which a third has white space around them and some are empty, with a column beside them."""

    name: str

    def info(self) -> SourceInfo:
        return SourceInfo(self.name, ("en", "de"), "1", {"name": self.name}, ("train",))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        rows = [
            {
                "src": f"{' ' * (number % 3 == 0)}{self.name} sentence {number}" * (number % 20 != 7),
                "tgt": f"Satz {number // 2}",
                "document": number // 7,
                "score": None if number % 5 == 0 else number / 4,
            }
            for number in range(NUM_PAIRS)
        ]
        yield from pa.Table.from_pylist(rows).to_batches(max_chunksize=9)


@dataclass(frozen=True, kw_only=True)
class WithOwnTest(Given):
    """The same pairs with a test split of its own, of which some sources are those of training pairs."""

    def info(self) -> SourceInfo:
        return SourceInfo(self.name, ("en", "de"), "1", {"name": self.name, "own": True}, ("train", "test"))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        taken = {"test": slice(0, 9), "train": slice(0, None)}[split]
        yield from pa.Table.from_batches(super().batches(split, counts)).to_batches()[taken]


def _prepared(
    root: Path,
    storage: str,
    num_tasks: int,
    downloader: Downloader,
    engine: Engine | None = None,
    held_out: HeldOut | None = None,
) -> tuple[Store, StageIds]:
    objects, files = STORAGES[storage]
    store = Store(root=root / f"{storage}-{num_tasks}-{engine is None}", objects=objects, files=files)
    tokenizer = BPETokenization(vocab_size=280, min_frequency=1, dropout=0.1)
    recipe = Recipe(downloader, held_out or HeldOut(validation=5, test=5), DefaultFilter(), tokenizer)
    longest = 2 * NUM_PAIRS if isinstance(downloader, MixtureDownloader) else NUM_PAIRS
    return store, prepare(recipe, store, StageRunner(store, engine=engine, shard_rows=-(-longest // num_tasks)))


def _digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file of payload, by its path."""
    files = (path for path in sorted(folder.rglob("*")) if path.suffix in (".arrow", ".jsonl", ".words", ".offsets"))
    found = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    types = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.types.json")}
    return {**found, **types}


def _manifests(store: Store, ids: StageIds) -> dict[str, Any]:
    """Return the manifests of all datasets without their shards."""
    stages = (ids.raw, ids.text, ids.split, ids.filtered, ids.encoded)
    found = (store.repo.manifest(name) for stage in stages for name in stage.values())
    return {manifest.id: replace(manifest, shards=[]).to_manifest() for manifest in found}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("is_mixture", [False, True])
def test_the_bytes_do_not_depend_on_the_number_of_tasks(tmp_path: Path, storage: str, is_mixture: bool) -> None:
    source: Downloader = Given(name="one")
    if is_mixture:
        source = MixtureDownloader(sources={"a": Given(name="one"), "b": Given(name="two")})  # type: ignore[dict-item]
    made = partial(_prepared, tmp_path, storage, downloader=source)
    stores = {num_tasks: made(num_tasks=num_tasks) for num_tasks in NUM_TASKS}
    ids = {num_tasks: found for num_tasks, (_, found) in stores.items()}
    assert ids[1] == ids[2] == ids[7]
    digests = {num_tasks: _digests(store.root) for num_tasks, (store, _) in stores.items()}
    assert {name.partition("/")[2].partition("-")[0] for name in digests[1]} == {
        *("raw", "text", "split", "filtered", "encoded", "words")
    }
    assert digests[1] == digests[2] == digests[7]
    manifests = [_manifests(store, ids[1]) for store, _ in stores.values()]
    assert manifests[0] == manifests[1] == manifests[2]
    for num_tasks, (store, found) in stores.items():
        shards = store.repo.manifest(found.encoded["train"]).shards
        assert len(shards) == (0 if num_tasks == 1 else num_tasks), "the stage was really cut into tasks"
        assert sum(shard.num_rows for shard in shards) in (0, NUM_PAIRS * (1 + is_mixture))
        for name in (*found.text.values(), *found.encoded.values()):
            store.repo.verify(name)


@pytest.mark.parametrize(
    "held_out",
    [
        HeldOut(validation=5, drop_leaks="either_side", drop_contaminated="ngram"),
        HeldOut(validation=5, by="document"),
        HeldOut(validation=None, drop_leaks=False, drop_contaminated=True),
    ],
)
def test_splits_do_not_depend_on_the_number_of_tasks(tmp_path: Path, held_out: HeldOut) -> None:
    source = WithOwnTest(name="one")
    made = [_prepared(tmp_path, "sqlite_arrow", number, source, held_out=held_out) for number in NUM_TASKS]
    manifests = [_manifests(*each) for each in made]
    assert manifests[0] == manifests[1] == manifests[2]
    assert _digests(made[0][0].root) == _digests(made[1][0].root) == _digests(made[2][0].root)
    train = manifests[0][made[0][1].split["train"]]
    assert (train["metrics"]["contaminated"]["pairs"] > 0) == (held_out.drop_leaks != "either_side")
    assert [list((store.root / "scratch").iterdir()) for store, _ in made] == [[], [], []]


def test_the_bytes_and_manifests_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    engine = ProcessPoolEngine(workers=2)
    source = Given(name="one")
    (here, ids), (there, other) = (_prepared(tmp_path, "sqlite_arrow", 3, source, used) for used in (None, engine))
    assert (ids, engine._pool) == (other, []), "the processes have ended"
    assert _digests(here.root) == _digests(there.root)
    assert _manifests(here, ids) == _manifests(there, ids)
    for name in ids.encoded.values():
        assert here.repo.manifest(name).to_manifest() == there.repo.manifest(name).to_manifest()
