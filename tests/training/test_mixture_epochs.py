"""Epochs of a mixture through the data module: what is served, exact to the pair; resume; other ranks; refusals."""

import pickle
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from mtx.batches.collate import Batch
from mtx.batches.plan.bucket import BucketPlanner
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.static_shapes import StaticShapesPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.data.filter.none import NoFilter
from mtx.data.store import Store
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.byte import ByteTokenization
from mtx.data.tokenize.tokenization import Tokenization
from mtx.errors import ConfigError, DataError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import PAIR_SCHEMA, Downloader, SourceInfo
from mtx.infra.dataset.sources.mixture import MixtureDownloader
from mtx.training.datamodule import TranslationDataModule
from mtx.training.loader import EpochBatches, PlanLoader
from mtx.training.split_loader import LoaderSettings

BIG, SMALL = 120, 30
WORDS = ("rain", "fell", "softly", "over", "the", "hills")
SHARES = {"big": 1, "small": 2}  # of 150 pairs an epoch: 50 of 120, and 100 of 30
QUOTAS = {"big": 50, "small": 100}


@dataclass(frozen=True, kw_only=True)
class Sentences(Downloader):
    tag: str
    n: int

    def info(self) -> SourceInfo:
        return SourceInfo(self.tag, ("en", "xx"), self.tag, {"tag": self.tag, "n": self.n}, ("train",))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        texts = [f"{self.tag} {row} " + " ".join(WORDS[at % 6] for at in range(row % 17)) for row in range(self.n)]
        yield from pa.Table.from_pylist([{"src": t, "tgt": t.upper()} for t in texts], schema=PAIR_SCHEMA).to_batches()


SOURCES = {"big": Sentences(tag="big", n=BIG), "small": Sentences(tag="small", n=SMALL)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def ready(
    root: Path, *, tokenizer: Tokenization | None = None, sampler: Any = None, **mixing: Any
) -> TranslationDataModule:
    options = {"sources": SOURCES, "weights": SHARES, **mixing}
    made = TranslationDataModule(
        storage=Store(root=root, objects=SQLiteObjectLayer, files=ArrowFileLayer),
        downloader=MixtureDownloader(**options),
        filter=NoFilter(),
        tokenizer=tokenizer or ByteTokenization(),
        sampler=sampler or TokenBudgetPlanner(max_tokens=512),
        validation=None,
        test=None,
        num_workers=0,
    )
    made.prepare_data()
    made.setup("fit")
    return made


def served(dm: TranslationDataModule, epoch: int) -> list[Batch]:
    loader = dm.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def rows(batches: list[Batch]) -> list[int]:
    return [int(row) for batch in batches for row in batch["row_ids"]]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a
    )


@pytest.mark.parametrize(
    "sampler", [TokenBudgetPlanner(max_tokens=512), BucketPlanner(batch_size=8), RandomPlanner(batch_size=7)]
)
def test_epochs_are_exact_to_the_pair(root: Path, sampler: Any) -> None:
    dm = ready(root, sampler=sampler)
    of_row = dm.sources("train")
    over_all: Counter[int] = Counter()
    for epoch in range(12):
        found = Counter(rows(served(dm, epoch)))
        by_source = Counter(dm.source_names[of_row[row]] for row in found.elements())
        assert by_source == QUOTAS
        assert {found[row] for row in np.flatnonzero(of_row == 0).tolist()} == {0, 1}
        assert {found[row] for row in np.flatnonzero(of_row == 1).tolist()} == {3, 4}  # 100 = 30 × 3 + 10
        over_all += found
    assert {over_all[row] for row in np.flatnonzero(of_row == 0).tolist()} == {5}  # 12 × 50 = 120 × 5
    assert {over_all[row] for row in np.flatnonzero(of_row == 1).tolist()} == {40}  # 12 × 100 = 30 × 40


def test_every_epoch_has_the_length_that_was_promised(root: Path) -> None:
    dm = ready(root)
    assert {len(served(dm, epoch)) for epoch in range(6)} == {len(dm.train_dataloader())}


def test_without_weights_an_epoch_has_every_pair_once(root: Path) -> None:
    dm = ready(root, weights=None)
    assert sorted(rows(served(dm, 2))) == list(range(BIG + SMALL))
    assert np.bincount(dm.sources("train")).tolist() == [BIG, SMALL]


def test_epoch_pairs_says_how_long_an_epoch_is(root: Path) -> None:
    assert len(rows(served(ready(root, epoch_pairs=31), 0))) == 31
    assert len(rows(served(ready(root, weights=None, temperature=5, epoch_pairs=400), 3))) == 400


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_stopped_at_any_batch_goes_on_with_the_next(root: Path, num_workers: int) -> None:
    whole, following = served(ready(root), 1), served(ready(root), 2)
    resumed = ready(root)
    resumed.num_workers = num_workers
    for stop in range(1, len(whole) + 1):
        begun = ready(root)
        loader = begun.train_dataloader()
        loader.batch_sampler.set_epoch(1)
        passing = iter(loader)
        for _ in range(stop):
            next(passing)
        resumed._train_loader = None
        resumed.load_state_dict(pickle.loads(pickle.dumps(begun.state_dict())))
        loader = resumed.train_dataloader()
        assert same(list(loader), whole[stop:])
        assert same(list(loader), following)


def of_ranks(dm: TranslationDataModule, world_size: int) -> list[PlanLoader]:
    return [
        LoaderSettings(
            seed=dm.seed,
            rank=(rank, world_size),
            frozen=False,
            num_workers=0,
            pin_memory=False,
        ).loader("train", dm._prepared_data.split("train"), dm.sampler)
        for rank in range(world_size)
    ]


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_an_epoch_begun_by_some_ranks_is_finished_by_others_with_no_pair_more_or_less(
    root: Path, before: int, after: int
) -> None:
    dm = ready(root)
    whole = Counter(rows(served(dm, 3)))
    for stop in range(len(of_ranks(dm, before)[0]) + 1):
        found: Counter[int] = Counter()
        states = []
        for loader in of_ranks(dm, before):
            loader.batch_sampler.set_epoch(3)
            passing = iter(loader)
            for _ in range(stop):
                found.update(rows([next(passing)]))
            states.append(loader.state_dict())
        assert states[1:] == states[:-1], "one state for all ranks"
        for loader in of_ranks(dm, after):
            if stop:
                loader.load_state_dict(states[0])
            loader.batch_sampler.set_epoch(3)
            found.update(rows(list(loader)))
        left_out = whole - found
        assert not found - whole
        assert left_out.total() < max(before, after), "fewer than there are ranks, for equal steps"


def test_lengths_and_ranks_share_one_plan(root: Path) -> None:
    dm = ready(root)
    batches = of_ranks(dm, 2)[1].batch_sampler
    assert isinstance(batches, EpochBatches)
    assert pickle.loads(pickle.dumps(batches)).plan().ledger() == batches.plan().ledger()


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"weights": {"big": 1, "small": 3}}, r"downloader\.weights\.small was 2\.0 and is 3\.0"),
        ({"weights": None, "temperature": 5}, r"downloader\.temperature was None and is 5"),
        ({"epoch_pairs": 200}, r"downloader\.epoch_pairs was None and is 200"),
        ({"caps": {"big": 100}}, r"downloader\.caps\.big was None and is 100"),
        ({"weights": None}, r"downloader\.weights\.big was 1\.0 and is None"),
    ],
)
def test_a_checkpoint_of_another_mixture_is_refused(root: Path, other: dict[str, Any], told: str) -> None:
    begun = ready(root)
    next(iter(begun.train_dataloader()))
    with pytest.raises(ConfigError, match=told):
        ready(root, **other).load_state_dict(begun.state_dict())


def test_with_subword_sampling_the_same_rows_are_drawn_and_cut_anew(root: Path) -> None:
    plain = ready(root, tokenizer=BPETokenization(vocab_size=300))
    dm = ready(root, tokenizer=BPETokenization(vocab_size=300, dropout=0.3))
    assert len(served(dm, 0)) == len(served(dm, 4)) == len(dm.train_dataloader())
    for epoch in (0, 4):
        assert Counter(rows(served(dm, epoch))) == Counter(rows(served(plain, epoch)))
    whole = served(dm, 4)
    loader = dm.train_dataloader()
    loader.batch_sampler.set_epoch(4)
    passing = iter(loader)
    next(passing)
    resumed = ready(root, tokenizer=BPETokenization(vocab_size=300, dropout=0.3))
    resumed.load_state_dict(dm.state_dict())
    assert same(list(resumed.train_dataloader()), whole[1:])


def test_shapes_that_are_promised_for_all_epochs_do_not_go_with_shares(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"sampler=static_shapes.*downloader\.weights=null"):
        ready(root, sampler=StaticShapesPlanner())
    ready(root, sampler=StaticShapesPlanner(), weights=None)


def test_pairs_of_one_source_have_no_source_each(root: Path) -> None:
    dm = ready(root)
    with pytest.raises(DataError, match=r"the pairs of news have no known source.*downloader=mixture"):
        dm.sources("news")
