"""`datamodule.stream=true`: order, ledger, resume and refusals, on a few counted pairs."""

import dataclasses
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import rank_runs
import torch

from mtx.batches.plan.random import RandomPlanner
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.none import NoFilter
from mtx.data.filter.selection import SelectionFilter
from mtx.data.source_shards import SourceShards
from mtx.data.store import Store
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import ConfigError, SourceError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.training.datamodule import TranslationDataModule
from mtx.training.served_shard import without_last
from mtx.training.shard_stream_loader import ShardStreamLoader
from mtx.training.trainer_settings import check_stream_config

NUM_PAIRS, SHARD_ROWS = 26, 10
ROWS = [*range(10), *range(10, 20), *range(20, 26)]  # row_ids are shard × 10 + row, as long as nothing is dropped
DATA = {"n": NUM_PAIRS, "validation": 9, "stream": True, "stream_shard_rows": SHARD_ROWS, "num_workers": 0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stream")


def data(store: Path, **options: Any) -> Any:
    return rank_runs.datamodule(store, **{**DATA, **options})


def loader(store: Path, rank: tuple[int, int] | None = None, **options: Any) -> ShardStreamLoader:
    made = data(store, **options)
    if rank is not None:
        made._rank = lambda: rank
    made.prepare_data()
    made.setup("fit")
    found: ShardStreamLoader = made.train_dataloader()
    return found


def text_file(path: Path, lines: list[str]) -> LocalDownloader:
    path.write_text("".join(lines))
    return LocalDownloader(path=str(path), header=False, on_error="skip")


def flat(lists: Iterable[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(lists))


def rows(batches: Iterator[Any]) -> list[list[int]]:
    return [batch["row_ids"].tolist() for batch in batches]


def test_the_order_is_that_of_shards_seed_and_epoch(store: Path, tmp_path: Path) -> None:
    first, again, other = loader(store), loader(tmp_path), loader(store, seed=1)
    epochs = [rows(iter(first)) for _ in range(3)]
    assert epochs == [rows(iter(again)) for _ in range(3)]  # one store has all shards, the other builds them
    for epoch in epochs:
        assert sorted(flat(epoch)) == ROWS
    assert [batch[0] // SHARD_ROWS for batch in epochs[0]] == [0] * 3 + [1] * 3 + [2] * 2
    assert len({str(epoch) for epoch in epochs}) == 3
    assert rows(iter(other)) != epochs[0]
    assert rows(iter(loader(store, num_workers=2))) == epochs[0]
    assert len(first) == 8


def test_ranks_share_the_batches_of_the_same_order(store: Path) -> None:
    both = [rows(iter(loader(store, (rank, 2)))) for rank in range(2)]
    assert len(both[0]) == len(both[1])
    assert sorted(flat(flat(both))) == ROWS
    for step in zip(*both, strict=True):
        assert len({batch[0] // SHARD_ROWS for batch in step}) == 1  # ranks are in one shard


@pytest.mark.parametrize("batch_format", ["flat", "causal"])
def test_batches_of_other_formats_have_the_same_pairs_and_resume(store: Path, batch_format: str) -> None:
    whole = rows(iter(loader(store, batch_format=batch_format)))
    assert whole == rows(iter(loader(store)))
    stopped = loader(store, batch_format=batch_format)
    served = [next(passing)["row_ids"].tolist() for passing in [iter(stopped)] for _ in range(5)]
    resumed = loader(store, batch_format=batch_format)
    resumed.load_state_dict(stopped.state_dict())
    assert served + rows(iter(resumed)) == whole


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_loader_resumes_with_the_very_next_batch(store: Path, ranks: int) -> None:
    whole = rows(iter(loader(store)))
    for stop in (2, 3, 6):  # in a shard, at its end, and in the next but one
        stopped = loader(store)
        served = [next(passing)["row_ids"].tolist() for passing in [iter(stopped)] for _ in range(stop)]
        state = stopped.state_dict()
        resumed = [loader(store, (rank, ranks)) for rank in range(ranks)]
        for each in resumed:
            each.load_state_dict(state)
        rest = [rows(iter(each)) for each in resumed]
        if ranks == 1:
            assert served + rest[0] == whole
        assert sorted(flat(served) + flat(flat(rest))) == ROWS


def test_a_trainer_resumes_in_and_at_the_end_of_an_epoch(store: Path, tmp_path: Path) -> None:
    whole = rank_runs.fit(data(store), accumulate_grad_batches=3)
    checkpoint = tmp_path / "stopped.ckpt"
    for stop in ({"batch": 8}, {"in_step": 8}):
        first = rank_runs.fit(data(store), stop=rank_runs.StopAt(str(checkpoint), **stop), accumulate_grad_batches=3)
        second = rank_runs.fit(data(store), ckpt=checkpoint, accumulate_grad_batches=3)
        assert second.events[-1]["weights"] == whole.events[-1]["weights"], stop
        assert second.events[-len(second.events) :] == whole.events[-len(second.events) :], stop
        assert len(first.events) + len(second.events) >= len(whole.events)


def test_the_ledger_accounts_for_every_row(store: Path) -> None:
    made = data(store, validation=0, max_target_tokens=20, test=0, **{"max_source_tokens": None})
    made.prepare_data()
    made.setup("fit")
    served = made.train_dataloader()
    passing = iter(served)
    num_pairs = sum(len(next(passing)["row_ids"]) for _ in range(4))
    found = made.stream_ledger()
    assert found["served"] == num_pairs
    assert found["rows"] == 20
    assert found["dropped"]["dropped_length"] > 0
    assert found["rows"] == found["served"] + found["held_out"] + sum(found["dropped"].values()) + found["not_reached"]
    assert len(list(passing)) + 4 == len(served)
    found = made.stream_ledger()
    assert (found["rows"], found["shards"], found["not_reached"]) == (NUM_PAIRS, 3, 0)
    assert found["rows"] == found["served"] + sum(found["dropped"].values())


def test_held_out_pairs_come_from_the_first_shard_and_leave_the_others(tmp_path: Path) -> None:
    lines = [f"source {i % 12}\ttarget {i}\n" for i in range(36)]  # each source is in all three shards
    source = text_file(tmp_path / "pairs.tsv", lines)
    made = TranslationDataModule(
        storage=Store(root=tmp_path / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer),
        **{"downloader": source, "filter": NoFilter(), "tokenizer": ByteTokenization()},
        **{"sampler": RandomPlanner(batch_size=4), "validation": 3, "test": None},
        **{"stream": True, "stream_shard_rows": 12, "num_workers": 0},
    )
    made.prepare_data()
    made.setup("fit")
    assert sum(len(batch["row_ids"]) for batch in made.val_dataloader()) == 3
    trained = rows(iter(made.train_dataloader()))
    found = made.stream_ledger()
    assert (found["rows"], found["held_out"], found["dropped"]) == (36, 3, {"in_held_out": 6})
    assert found["served"] == len(flat(trained)) == 27
    of_last = made.num_source_bytes(torch.tensor([24, 25]), "train")  # the third shard: `source N`, in UTF-8 bytes
    assert set(of_last.tolist()) <= {8, 9}
    assert made.num_target_bytes(torch.tensor([24, 25]), "train").tolist() == [9, 9]  # `target 24` and later ones


def test_a_source_that_changes_under_way_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    shards = SourceShards(text_file(path, [f"source {i}\ttarget {i}\n" for i in range(20)]), 8)
    assert sum(batch.num_rows for batch in shards.read(0, {})) == 8
    path.write_text("".join(f"source {i}\tother {i}\n" for i in range(30)))
    with pytest.raises(SourceError, match="changed while mtx read"):
        list(shards.read(1, {}))


def test_shards_are_read_in_any_order_and_count_what_is_left_out(tmp_path: Path) -> None:
    lines = [f"source {i}\ttarget {i}\n" if i != 9 else "no pair\n" for i in range(20)]
    shards = SourceShards(text_file(tmp_path / "pairs.tsv", lines), 8)
    counts: list[dict[str, int]] = [{}, {}, {}, {}]
    found = {
        number: [row for batch in shards.read(number, counts[number]) for row in batch["src"].to_pylist()]
        for number in (2, 0, 1, 3)
    }
    assert [len(found[number]) for number in range(4)] == [8, 8, 3, 0]
    assert flat(found.values())[:3] == ["source 17", "source 18", "source 19"]
    assert sum(sum(each.values()) for each in counts) == 1


def test_what_needs_all_pairs_is_refused_by_name(store: Path) -> None:
    selection = SelectionFilter(before=DefaultFilter(), rules={"long": {"column": "src_chars", "max_quantile": 0.9}})
    with pytest.raises(ConfigError) as told:
        data(store, filter=selection, tokenizer=BPETokenization(), split_by="cluster", weight_by="score")
    for words in (
        "filter.before.drop_duplicates=false",
        "filter.rules.long=null",
        "tokenizer=byte",
        "datamodule.split_by=null",
        "datamodule.weight_by=null",
    ):
        assert f"Set {words}" in str(told.value)
    data(store, filter=dataclasses.replace(DefaultFilter(), drop_duplicates=False))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"trainer": {"max_steps": -1}}, "trainer.max_steps=10000"),
        ({"trainer": {"max_steps": 5, "overfit_batches": 2}}, "trainer.overfit_batches=0"),
        ({"trainer": {"max_steps": 5, "limit_train_batches": 0.5}}, "trainer.limit_train_batches=1000"),
        ({"trainer": {"max_steps": 5, "val_check_interval": 0.5}}, "trainer.val_check_interval=1000"),
    ],
)
def test_a_trainer_that_needs_the_number_of_batches_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_stream_config({"datamodule": {"stream": True}, **config})
    check_stream_config({"datamodule": {"stream": False}, **config})
    check_stream_config({"datamodule": {"stream": True}, "trainer": {}, "budget": {"seconds": 5}})


def test_steps_are_undone_over_the_edge_of_a_shard() -> None:
    assert without_last([[(2, 3)], [(2, 1), (1, 2)]], 4) == [[(2, 2)]]
    assert without_last([[(1, 3)], []], 0) == [[(1, 3)], []]
