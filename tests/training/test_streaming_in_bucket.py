"""`datamodule.stream=true` in a bucket with a bounded cache: same batches, bounded disk, resume on another machine."""

import gc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rank_runs

from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.training.shard_stream_loader import ShardStreamLoader

NUM_SHARDS, SHARD_ROWS = 12, 100
DATA = {"stream": True, "stream_shard_rows": SHARD_ROWS, "num_workers": 0, "batch_size": 20, "validation": 9}


def loader(root: Any, cache: Path, cache_gb: float | None = None) -> ShardStreamLoader:
    layers = {"objects": SQLiteObjectLayer, "files": ArrowFileLayer}
    storage = Store(root=root, cache=cache, cache_gb=cache_gb, **layers)
    data = rank_runs.datamodule(cache, n=NUM_SHARDS * SHARD_ROWS, storage=storage, **DATA)
    data.prepare_data()
    data.setup("fit")
    made: ShardStreamLoader = data.train_dataloader()
    return made


def content(batch: dict[str, Any]) -> bytes:
    return b"".join(batch[key].numpy().tobytes() for key in sorted(batch))


def folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # removed meanwhile
            continue
    return total


def watched(served: ShardStreamLoader, cache: Path, sizes: list[int], names: set[str] | None = None) -> Iterator[bytes]:
    for batch in served:
        sizes.append(folder_bytes(cache))
        if names is not None:
            names.update(path.name for path in cache.rglob("*.arrow"))
        yield content(batch)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the datasets that are built."""
    ids: list[str] = []
    build = StageRunner._build

    def noted(self: StageRunner, dataset_id: str, stage: Any) -> Any:
        ids.append(dataset_id)
        return build(self, dataset_id, stage)

    monkeypatch.setattr(StageRunner, "_build", noted)
    return ids


def test_shards_in_a_bucket_give_the_same_batches_within_the_bound_and_on_another_machine(
    tmp_path: Path, built: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    here = [content(batch) for batch in loader(tmp_path / "local", tmp_path / "local")]
    assert len(here) == NUM_SHARDS * SHARD_ROWS // 20
    root = f"memory://{uuid.uuid4().hex[:12]}/mtx"
    unbounded, a, b = tmp_path / "unbounded", tmp_path / "a", tmp_path / "b"
    assert [content(batch) for batch in loader(f"{root}/first", unbounded)] == here
    bound = folder_bytes(unbounded) * 2 // 3
    tokenizer = sum(map(folder_bytes, unbounded.glob("*/tokenizers")))  # not part of the bound
    assert 0 < tokenizer < 10_000

    sizes: list[int] = []
    first = loader(root, a, bound / 1e9)
    passing = watched(first, a, sizes)
    served = [next(passing) for _ in range(32)]  # in the seventh shard
    state = first.state_dict()
    passing.close()
    assert served == here[:32]
    del first, passing  # with the copies that they have open
    gc.collect()
    whole = list(watched(loader(root, a, bound / 1e9), a, sizes))
    assert whole == here
    assert max(sizes) <= bound + tokenizer

    built.clear()
    gc.collect()
    second = loader(root, b, bound / 1e9)
    second.load_state_dict(state)
    names: set[str] = set()
    rest = watched(second, b, sizes, names)
    assert list(rest) == here[32:]
    assert built == []  # what another machine has finished is downloaded
    shards = NUM_SHARDS - 6  # that were left, and the first one: row numbers and token ids, but no texts
    assert len(names) <= 2 * (shards + 1)
    assert max(sizes) <= bound + tokenizer
    assert not [message for message in caplog.messages if "storage.cache_gb" in message]
