"""Epochs with ids of their own, through the data module: real lengths, a fixed number of batches, exact resume."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.collate import Batch
from mtx.batches.plan.bucket import BucketPlanner
from mtx.batches.plan.packed_rows import PackedRowsPlanner
from mtx.batches.plan.planner import Draft, Lengths, Planner
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.sorted import SortedPlanner
from mtx.batches.plan.static_shapes import StaticShapesPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.data.filter.none import NoFilter
from mtx.data.sampled_encoding import SampledPairs
from mtx.data.store import Store
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.unigram import UnigramTokenization
from mtx.errors import ConfigError, EmptyDatasetError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import PAIR_SCHEMA, Downloader, SourceInfo
from mtx.training.datamodule import TranslationDataModule
from mtx.training.sampled_epochs import SampledEpochs

WORDS = ("the", "cat", "sat", "on", "a", "mat", "while", "rain", "fell", "softly", "over", "hills", "mountains")
BPE = BPETokenization(vocab_size=400, dropout=0.2)
UNIGRAM = UnigramTokenization(vocab_size=400, alpha=0.2)
BOTH = pytest.mark.parametrize("tokenizer", [BPE, UNIGRAM], ids=["bpe", "unigram"])


@dataclass(frozen=True, kw_only=True)
class Sentences(Downloader):
    """Pairs of 1 to 40 words, taken in turn."""

    n: int = 400

    def info(self) -> SourceInfo:
        return SourceInfo("sentences", ("en", "xx"), "1", {"n": self.n}, ("train",))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        def text(row: int, step: int) -> str:
            return " ".join(WORDS[(row * step + at * at) % len(WORDS)] for at in range(1 + row * step % 40)) + f" {row}"

        pairs = [{"src": text(row, 7), "tgt": text(row, 11).upper()} for row in range(self.n)]
        yield from pa.Table.from_pylist(pairs, schema=PAIR_SCHEMA).to_batches()


def ready(root: Path, **options: Any) -> TranslationDataModule:
    parts: dict[str, Any] = {
        "storage": Store(root=root, objects=SQLiteObjectLayer, files=ArrowFileLayer),
        "downloader": Sentences(),
        "filter": NoFilter(),
        "tokenizer": BPE,
        "sampler": TokenBudgetPlanner(max_tokens=512),
        "validation": 20,
        "test": None,
        "max_source_tokens": None,
        "max_target_tokens": None,
    }
    made = TranslationDataModule(**{**parts, **options})
    made.prepare_data()
    made.setup("fit")
    return made


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests, so that tokenizers are trained once."""
    return tmp_path_factory.mktemp("store")


def served(dm: TranslationDataModule, epoch: int) -> list[Batch]:
    loader = dm.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(one, other, strict=True)
    )


def ids_by_row(batches: list[Batch]) -> dict[int, list[int]]:
    return {
        int(row): ids[mask].tolist()
        for batch in batches
        for row, ids, mask in zip(batch["row_ids"], batch["encoder_input_ids"], batch["encoder_attn_mask"], strict=True)
    }


@BOTH
def test_epochs_have_other_ids_which_spell_the_same_texts(root: Path, tokenizer: Any) -> None:
    dm = ready(root, tokenizer=tokenizer)
    assert dm.ids is not None
    texts = dm.storage.repo.get(dm.ids.filtered["train"]).rows.table["src"].to_pylist()
    decode = dm.tokenizers.source.decode
    epochs = [ids_by_row(served(dm, epoch)) for epoch in range(3)]
    for epoch in epochs:
        assert {row: decode(ids) for row, ids in epoch.items()} == dict(enumerate(texts))
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert sum(epochs[one][row] != epochs[other][row] for row in range(len(texts))) > 0.8 * len(texts)


@BOTH
def test_an_epoch_is_what_seed_and_number_say_at_any_number_of_workers(root: Path, tokenizer: Any) -> None:
    first, second, other = (
        ready(root, tokenizer=tokenizer, num_workers=num_workers, seed=seed)
        for num_workers, seed in ((0, 5), (2, 5), (0, 6))
    )
    assert same(served(first, 3), served(second, 3))
    assert same(served(first, 3), served(first, 3))
    assert not same(served(first, 3), served(first, 4))
    assert not same(served(first, 3), served(other, 3))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 5])
def test_a_resumed_epoch_goes_on_byte_for_byte(root: Path, num_workers: int, stop: int) -> None:
    whole = served(ready(root), 2)
    begun = ready(root, num_workers=num_workers)
    loader = begun.train_dataloader()
    loader.batch_sampler.set_epoch(2)
    passing = iter(loader)
    for _ in range(stop):
        next(passing)
    state = pickle.loads(pickle.dumps(begun.state_dict()))
    del passing
    resumed = ready(root, num_workers=num_workers)
    resumed.load_state_dict(state)
    loader = resumed.train_dataloader()
    assert same(list(loader), whole[stop:])
    assert same(list(loader), served(ready(root), 3)), "and the next epoch is the next"


def test_a_checkpoint_of_another_dropout_is_refused(root: Path) -> None:
    begun = ready(root)
    next(iter(begun.train_dataloader()))
    state = begun.state_dict()
    other = ready(root, tokenizer=BPETokenization(vocab_size=400, dropout=0.3))
    with pytest.raises(ConfigError, match=r"tokenizer\.dropout was 0\.2 and is 0\.3"):
        other.load_state_dict(state)


PLANNERS: list[Planner] = [
    TokenBudgetPlanner(max_tokens=512),
    TokenBudgetPlanner(max_tokens=300, budget="area"),
    SortedPlanner(max_tokens=256),
    BucketPlanner(batch_size=16, num_buckets=4),
    RandomPlanner(batch_size=16),
]


@pytest.mark.parametrize("planner", PLANNERS, ids=lambda planner: type(planner).__name__)
@pytest.mark.parametrize("limits", [{}, {"max_source_tokens": 60, "max_target_tokens": 80}], ids=["all", "limited"])
def test_every_epoch_has_as_many_batches_within_the_budget_on_its_own_lengths(
    root: Path, planner: Planner, limits: dict[str, int]
) -> None:
    dm = ready(root, sampler=planner, **limits)
    loader = dm.train_dataloader()
    num_batches = len(loader)
    budget = getattr(planner, "max_tokens", None)
    for epoch in range(12):
        loader.batch_sampler.set_epoch(epoch)
        ledger = loader.batch_sampler.plan().ledger()
        lengths = dm.lengths("train", epoch=epoch)
        batches = list(loader)
        assert len(batches) == len(loader) == num_batches
        assert sum(len(batch["row_ids"]) for batch in batches) == ledger["batched"]
        assert ledger["repeated"] == 0
        assert ledger["dropped_remainder"] < 0.02 * ledger["num_pairs"]
        for batch in batches:
            rows, source, target = batch["row_ids"].numpy(), batch["encoder_attn_mask"], batch["decoder_attn_mask"]
            assert source.sum(dim=1).tolist() == lengths.source[rows].tolist()
            assert target.sum(dim=1).tolist() == lengths.target[rows].tolist()
            if budget is not None:
                slots = source.numel() + target.numel()
                assert slots <= budget if getattr(planner, "budget", "side") == "area" else True
                assert max(source.numel(), target.numel()) <= budget


def test_pairs_too_long_are_found_anew_in_each_epoch_and_counted(root: Path) -> None:
    limits = {"max_source_tokens": 60, "max_target_tokens": 80}
    dropping, truncating = (ready(root, too_long=how, **limits) for how in ("drop", "truncate"))
    free = ready(root)
    counts = []
    for epoch in range(4):
        full = free.lengths("train", epoch=epoch)
        is_long = (full.source > 60) | (full.target > 80)
        counts.append(int(is_long.sum()))
        assert dropping.split_counts("train", epoch=epoch)["dropped_length"] == counts[-1]
        counted = truncating.split_counts("train", epoch=epoch)
        assert (counted["num_pairs"], counted["dropped_length"], counted["truncated"]) == (380, 0, counts[-1])
        rows = {int(row) for batch in served(dropping, epoch) for row in batch["row_ids"]}
        assert not rows & set(np.flatnonzero(is_long).tolist())
        assert max(batch["encoder_input_ids"].shape[1] for batch in served(truncating, epoch)) == 60
    assert len(set(counts)) > 1


def test_bytes_of_a_truncated_target_are_those_of_the_epoch_that_is_served(root: Path) -> None:
    dm = ready(root, max_target_tokens=80, too_long="truncate")
    assert dm.ids is not None
    texts = dm.storage.repo.get(dm.ids.filtered["train"]).rows.table["tgt"].to_pylist()
    num_bytes = np.array([len(text.encode()) for text in texts])
    full = ready(root)
    loader = dm.train_dataloader()
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        real = full.lengths("train", epoch=epoch).target
        expected = num_bytes * np.minimum(real, 80) // real
        assert dm.num_target_bytes(torch.arange(len(texts)), "train").tolist() == expected.tolist()
        assert (expected < num_bytes).any()


@BOTH
def test_validation_is_the_best_segmentation_in_every_epoch(root: Path, tokenizer: Any) -> None:
    dm = ready(root, tokenizer=tokenizer)
    plain = ready(root, tokenizer=type(tokenizer)(vocab_size=400))
    assert same(list(dm.val_dataloader()), list(plain.val_dataloader()))
    assert dm.ids is not None
    assert plain.ids is not None
    assert dm.ids.encoded == plain.ids.encoded
    assert (dm.ids.words is not None, plain.ids.words) == (True, None)


def test_shapes_that_never_change_are_refused_for_lengths_that_do(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"static_shapes needs the same lengths .* tokenizer\.dropout=0"):
        ready(root, sampler=StaticShapesPlanner())


@dataclass
class Rolled:
    """Stands in for encoding: pairs of the lengths that are given for each epoch."""

    lengths: list[list[int]]
    encoded: list[int] = field(default_factory=list)

    def epoch(self, *, seed: int, epoch: int) -> EncodedPairs:
        self.encoded.append(epoch)
        rows = TokenRows.of([[9] * length for length in self.lengths[epoch]])
        return EncodedPairs(rows, rows)


class Opened:
    """All pairs, as long as they are."""

    def __init__(self, pairs: EncodedPairs) -> None:
        self.pairs = pairs
        self.lengths = Lengths.of(pairs.source.lengths)
        self.num_dropped = 0

    def draft(self, planner: Planner) -> Draft:
        return planner.draft(self.lengths)


def epochs_of(lengths: list[list[int]], planner: Planner) -> tuple[SampledEpochs[Opened], Rolled]:
    rolled = Rolled(lengths)
    pairs: SampledPairs = rolled  # type: ignore[assignment]  # has what is asked of one
    return SampledEpochs(pairs, Opened, planner, seed=0), rolled


def test_an_epoch_that_needs_more_batches_than_there_are_leaves_pairs_out_and_says_so() -> None:
    """Epoch 0 needs one batch of 10 positions and gets two; epoch 1 needs five, one for each pair."""
    epochs, _ = epochs_of([[2] * 5, [9] * 5], TokenBudgetPlanner(max_tokens=10))
    assert len(epochs) == len(epochs.plan(seed=0, epoch=0)) == len(epochs.plan(seed=0, epoch=1)) == 2
    assert epochs.plan(seed=0, epoch=0).ledger()["batched"] == 5
    ledger = epochs.plan(seed=0, epoch=1).ledger()
    assert (ledger["batched"], ledger["dropped_remainder"]) == (2, 3)


def test_an_epoch_that_needs_fewer_batches_gets_smaller_ones() -> None:
    epochs, _ = epochs_of([[9] * 5, [2] * 6], TokenBudgetPlanner(max_tokens=12))
    assert len(epochs) == 6
    assert [len(rows) for rows in epochs.plan(seed=0, epoch=1)] == [1] * 6


def test_an_epoch_of_nothing_but_long_pairs_is_an_error() -> None:
    epochs, _ = epochs_of([[2] * 5, [99] * 5], TokenBudgetPlanner(max_tokens=12))
    with pytest.raises(
        EmptyDatasetError, match=r"epoch 1 has no batch: .* each of the 5 pairs is too long\. Raise data"
    ):
        epochs.plan(seed=0, epoch=1)


def test_an_epoch_is_encoded_once_and_two_are_kept() -> None:
    epochs, rolled = epochs_of([[2] * 5] * 4, RandomPlanner(batch_size=2))
    for epoch in (0, 1, 1, 0, 2, 0, 1):
        epochs.plan(seed=0, epoch=epoch)
        assert len(epochs.lengths(epoch)) == 5
    assert rolled.encoded == [0, 1, 2, 1]
    assert len(pickle.loads(pickle.dumps(epochs)).plan(seed=0, epoch=3)) == 3


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 30), min_size=8, max_size=8), min_size=2, max_size=4),
    planner=st.sampled_from([TokenBudgetPlanner(max_tokens=40), TokenBudgetPlanner(max_tokens=60, budget="area")]),
)
def test_no_batch_of_any_epoch_exceeds_the_budget(lengths: list[list[int]], planner: TokenBudgetPlanner) -> None:
    epochs, _ = epochs_of(lengths, planner)
    for epoch, real in enumerate(lengths):
        plan = epochs.plan(seed=0, epoch=epoch)
        assert len(plan) == len(epochs)
        plan.ledger()
        sides = 2 if planner.budget == "area" else 1
        assert all(len(rows) * max(real[row] for row in rows) * sides <= planner.max_tokens for rows in plan)


class Recorder(pl.LightningModule):
    """Remembers the ids it is served, by row; learns one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[Batch] = []

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self.batches.append(batch)
        return self.weight * batch["labels"].float().mean()

    def validation_step(self, batch: Batch, index: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(root: Path, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(default_root_dir=root, limit_val_batches=0, enable_checkpointing=False, **quiet, **options)


def test_a_trainer_is_served_each_epochs_own_ids_and_resumes_them(root: Path, tmp_path: Path) -> None:
    epochs = [served(ready(root), epoch) for epoch in range(2)]
    whole = Recorder()
    trainer(tmp_path, max_epochs=2).fit(whole, ready(root))
    assert same(whole.batches, [batch for epoch in epochs for batch in epoch])
    stop = len(epochs[0]) + 3
    begun, rest = Recorder(), Recorder()
    stopped = trainer(tmp_path, max_steps=stop)
    stopped.fit(begun, ready(root))
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    trainer(tmp_path, max_epochs=2).fit(rest, ready(root), ckpt_path=tmp_path / "stopped.ckpt")
    assert same(rest.batches, epochs[1][3:])


def test_a_trainer_that_overfits_is_served_the_first_epoch_again(root: Path, tmp_path: Path) -> None:
    model = Recorder()
    trainer(tmp_path, max_epochs=3, overfit_batches=4).fit(model, ready(root))
    assert len(model.batches) == 12
    assert same(model.batches[:4], model.batches[8:])


class OnRank:
    """What a data module asks a Trainer on one of several ranks."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.distributed_sampler_kwargs = {"rank": rank, "num_replicas": world_size}
        self.overfit_batches = 0
        self.state = type("State", (), {"fn": "fit"})
        self.world_size = 1  # nothing to agree on: all have one store


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_an_epoch_of_sampled_texts(root: Path, world_size: int) -> None:
    alone = ids_by_row(served(ready(root), 1))
    together: dict[int, list[int]] = {}
    num_steps = set()
    for rank in range(world_size):
        dm = ready(root)
        dm.trainer = OnRank(rank, world_size)  # type: ignore[assignment]
        loader = dm.train_dataloader()
        loader.batch_sampler.on_set_epoch = None  # there is no Trainer's count to set
        loader.batch_sampler.set_epoch(1)
        batches = list(loader)
        num_steps.add(len(batches))
        mine = ids_by_row(batches)
        assert not together.keys() & mine.keys()
        together.update(mine)
    assert len(num_steps) == 1
    assert together == alone


def test_buckets_of_an_epoch_end_by_its_own_lengths(root: Path) -> None:
    sampler = BucketPlanner(batch_size=16, num_buckets=4, by="source")
    dm = ready(root, sampler=sampler)
    batches = dm.train_dataloader().batch_sampler
    told = [batches.draft.edges(seed=batches.seed, epoch=epoch) for epoch in range(3)]
    expected = [sampler.edges(dm.lengths("train", epoch=epoch).source).tolist() for epoch in range(3)]
    assert told == [{"source": edges} for edges in expected]
    assert len({tuple(edges) for edges in expected}) > 1


class Longer:
    """Two pairs, of which one exceeds a row in every epoch but the first."""

    def epoch(self, *, seed: int, epoch: int) -> Any:
        return Lengths(np.array([3, 9 if epoch else 3], np.int32), np.zeros(2, np.int32))


def test_pairs_that_exceed_a_row_only_as_sampled_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def opened(lengths: Any) -> Any:
        return SimpleNamespace(pairs=lengths, lengths=lengths, num_dropped=0, draft=lambda of: of.draft(lengths))

    made: Any = Longer()
    epochs: Any = SampledEpochs(made, opened, PackedRowsPlanner(row_tokens=8, num_rows=1), seed=0)
    assert [epochs.plan(seed=0, epoch=epoch).ledger()["dropped_length"] for epoch in range(3)] == [0, 1, 1]
    assert caplog.text.count("are too long for a batch") == 1
    assert "epoch 1, 1 pairs" in caplog.text
