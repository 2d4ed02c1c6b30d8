"""Runs of the real Trainer that stop anywhere and go on from their checkpoint, on as many ranks as before or others.

MTX_TEST_ALL=1 stops behind every batch and in every look instead of a choice of places.
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mtx.batches.batch_format import BatchFormat
from mtx.batches.pair_lengths import batch_lengths
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import ConfigError
from mtx.training.checkpoint_callback import LastAndBestCheckpoint
from mtx.training.datamodule import TranslationDataModule
from mtx.training.lightning_resume import check_same_data
from mtx.training.loader import EncodedBatches, EpochBatches, PlanLoader

_spec = importlib.util.spec_from_file_location("rank_runs", Path(__file__).with_name("rank_runs.py"))
assert _spec is not None
assert _spec.loader is not None
rank_runs = sys.modules["rank_runs"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rank_runs)

Event = dict[str, Any]
ALL = os.environ.get("MTX_TEST_ALL") == "1"
NUM_PAIRS, NUM_HELD_OUT, NUM_BATCHES = 26, 9, 7  # batches of 4
DATA = {"n": NUM_PAIRS, "validation": NUM_HELD_OUT}
ANY_CALLBACKS = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
SERVED = ("train", "validation", "look")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


def data(store: Path, **options: Any) -> TranslationDataModule:
    made: TranslationDataModule = rank_runs.datamodule(store, **{**DATA, **options})
    return made


def seen(model: Any, *names: str) -> list[Event]:
    """What a model was served, in turn: in which step, and each batch byte for byte."""
    return [event for event in model.events if event["on"] in (names or SERVED)]


def weights(model: Any) -> str:
    return str(model.events[-1]["weights"])


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "workers": {"num_workers": 2},
    "accumulated": {"accumulate_grad_batches": 3},
    "looks in mid-epoch": {"val_check_interval": 3},
    "a look behind each batch": {"val_check_interval": 1, "accumulate_grad_batches": 2},
    "looks counted over epochs": {
        "val_check_interval": 4,
        "check_val_every_n_epoch": None,
        "max_epochs": None,
        "max_steps": 7,
        "accumulate_grad_batches": 2,
    },
    "up to a step": {"max_steps": 11, "max_epochs": -1},
    "loaders asked for anew": {"reload_dataloaders_every_n_epochs": 1},
    "limited": {"limit_train_batches": 5, "accumulate_grad_batches": 2},
    "length read": {"read_length": True, "reload_dataloaders_every_n_epochs": 1},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_run_that_stopped_anywhere_goes_on_as_if_it_had_not(
    store: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    options = dict(options)
    num_workers = options.pop("num_workers", 0)
    accumulated = options.get("accumulate_grad_batches", 1)
    whole = rank_runs.fit(data(store), **options)
    num_batches, num_looks = len(seen(whole, "train")), len(seen(whole, "look"))
    per_epoch = options.get("limit_train_batches", NUM_BATCHES)
    batches = range(1, num_batches + 1) if ALL else (1, 4, per_epoch, per_epoch + 1, num_batches)
    stops = [{"batch": batch} for batch in batches] + [{"in_step": 5}]
    stops += [{"in_look": look} for look in (range(1, num_looks + 1) if ALL else (1, num_looks))]
    for stop in stops:
        checkpoint = tmp_path / "stopped.ckpt"
        stopping = rank_runs.StopAt(str(checkpoint), **stop)
        first = rank_runs.fit(data(store, num_workers=num_workers), stop=stopping, **options)
        second = rank_runs.fit(data(store, num_workers=num_workers), ckpt=checkpoint, **options)
        assert weights(second) == weights(whole), stop
        # all that follows, looks too: the end of the whole run
        assert seen(second) == seen(whole)[len(seen(whole)) - len(seen(second)) :], stop
        again = len(seen(first, "train")) + len(seen(second, "train")) - num_batches
        assert 0 <= again < accumulated, f"{stop}: none but those whose gradients were not yet in the weights"
        assert len(seen(first)) + len(seen(second)) >= len(seen(whole)), stop


def keep_last(folder: Path) -> tuple[pl.Callback, Path]:
    return LastAndBestCheckpoint(folder), folder / "last.ckpt"


def lightnings_own(folder: Path) -> tuple[pl.Callback, Path]:
    return pl.callbacks.ModelCheckpoint(folder, save_last=True, save_on_train_epoch_end=True), folder / "last.ckpt"


@ANY_CALLBACKS
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2, "limit_train_batches": 5}])
@pytest.mark.parametrize("keep", [keep_last, lightnings_own])
def test_a_run_that_reached_its_last_step_goes_on_with_more_steps(
    store: Path, tmp_path: Path, keep: Callable[[Path], tuple[pl.Callback, Path]], options: dict[str, Any]
) -> None:
    more = {**options, "max_epochs": -1, "max_steps": 11}
    whole = rank_runs.fit(data(store), **more)
    for step in range(1, 11) if ALL else (3, 5, 6, 7):  # also the last of an epoch
        callback, checkpoint = keep(tmp_path / str(step))
        kept = {"callbacks": [callback], "enable_checkpointing": True}
        first = rank_runs.fit(data(store), **{**more, "max_steps": step}, **kept)
        second = rank_runs.fit(data(store), ckpt=checkpoint, **more)
        assert seen(first) + seen(second) == seen(whole), f"ended behind step {step}"
        assert weights(second) == weights(whole)


@ANY_CALLBACKS
def test_killed_runs_go_on_from_what_callbacks_wrote(store: Path, tmp_path: Path) -> None:
    whole = rank_runs.fit(data(store))
    run = {
        "name": "killed",
        "store": str(store),
        "data": DATA,
        "trainer": {},
        "keep": str(tmp_path / "mtx"),
        "lightning_keep": str(tmp_path / "lightning"),
        "stop": {"path": "", "batch": NUM_BATCHES + 3, "kill": True},
    }
    (first,) = rank_runs.launch(tmp_path, run, fails=True)["killed"]
    assert sum(event["on"] == "train" for event in first) == NUM_BATCHES + 3
    # mtx's has the look at the end of the first epoch; Lightning's was asked to write behind each step
    for keeper, next_batch in (("mtx", NUM_BATCHES), ("lightning", NUM_BATCHES + 2)):
        second = rank_runs.fit(data(store), ckpt=tmp_path / keeper / "last.ckpt")
        assert seen(second, "train") == seen(whole, "train")[next_batch:]
        assert weights(second) == weights(whole)


STOPS = range(1, 9) if ALL else (1, 4)  # an epoch of two ranks has four steps
RANKS_AFTER = (1, 2, 3, 4)
OTHER_COUNTS: dict[str, dict[str, Any]] = {
    "accumulated": {"accumulate_grad_batches": 2},
    "limited": {"limit_train_batches": 3},
}
STEPS = {1: 7, 2: 4, 3: 3, 4: 2}  # of an epoch of 7 batches


@pytest.fixture(scope="module")
def by_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Event]]]:
    """Runs on 2 ranks that stopped, and what went on from them on other numbers of ranks."""
    folder = tmp_path_factory.mktemp("by_ranks")

    def run(name: str, devices: int, **more: Any) -> dict[str, Any]:
        trainer = {"devices": devices, "strategy": "ddp_fork" if devices > 1 else "auto", **more.pop("trainer", {})}
        return {"name": name, "data": DATA, "trainer": trainer, **more}

    def stopped(name: str, devices: int, batch: int, **more: Any) -> dict[str, Any]:
        stop = {"path": str(folder / f"{name}.ckpt"), "batch": batch}
        return run(name, devices, stop=stop, raises="", **more)

    runs = [run("whole on 2", 2)]
    for batch in STOPS:
        runs.append(stopped(f"stopped at {batch}", 2, batch))
        for to in RANKS_AFTER:
            runs.append(run(f"from {batch} on {to}", to, ckpt=str(folder / f"stopped at {batch}.ckpt")))
    runs.append(stopped("again on 3", 3, 2, ckpt=str(folder / "stopped at 1.ckpt")))
    runs.append(run("then on 1", 1, ckpt=str(folder / "again on 3.ckpt")))
    for name, trainer in OTHER_COUNTS.items():
        runs.append(stopped(f"{name} on 2", 2, 2, trainer=trainer))
        runs.append(run(f"{name} on 1", 1, trainer=trainer, ckpt=str(folder / f"{name} on 2.ckpt")))
    launched: dict[str, list[list[Event]]] = rank_runs.launch(folder, *runs, timeout_s=900 if ALL else 240)
    return launched


def check_epochs(*parts: list[list[Event]]) -> None:
    """Check that runs one after another served each epoch whole, with one look at its end, in equal steps."""
    for epoch in (0, 1):
        served = [row for part in parts for row in rank_runs.rows(part, "train", epoch)]
        assert sorted(served) == list(range(NUM_PAIRS)), f"epoch {epoch}"
        looks = [event for part in parts for event in part[0] if event["on"] == "look" and event["epoch"] == epoch]
        assert len(looks) == 1
    held_out = [row for part in parts for row in rank_runs.rows(part, "validation")]
    assert sorted(held_out) == sorted([*range(NUM_HELD_OUT)] * 2)
    for part in parts:
        assert len({tuple((e["on"], e.get("epoch"), e.get("step")) for e in rank) for rank in part}) == 1


@pytest.mark.timeout(1800 if ALL else 300)
@pytest.mark.parametrize("to", RANKS_AFTER)
@pytest.mark.parametrize("batch", STOPS)
def test_an_epoch_begun_by_two_ranks_is_finished_by_any_number(
    by_ranks: dict[str, list[list[Event]]], batch: int, to: int
) -> None:
    first, second = by_ranks[f"stopped at {batch}"], by_ranks[f"from {batch} on {to}"]
    assert len(second) == to
    check_epochs(first, second)
    if batch <= STEPS[2]:
        assert sum(e["on"] == "train" and e["epoch"] == 1 for e in second[0]) == STEPS[to], "the next epoch is whole"


@pytest.mark.timeout(300)
def test_the_same_ranks_go_on_as_if_they_had_not_stopped(by_ranks: dict[str, list[list[Event]]]) -> None:
    for whole, first, second in zip(
        by_ranks["whole on 2"], by_ranks["stopped at 1"], by_ranks["from 1 on 2"], strict=True
    ):
        assert [e for e in [*first, *second] if e["on"] in SERVED] == [e for e in whole if e["on"] in SERVED]
        assert second[-1]["weights"] == whole[-1]["weights"]


@pytest.mark.timeout(300)
def test_an_epoch_may_change_hands_twice(by_ranks: dict[str, list[list[Event]]]) -> None:
    check_epochs(by_ranks["stopped at 1"], by_ranks["again on 3"], by_ranks["then on 1"])


@pytest.mark.timeout(300)
def test_other_ranks_count_accumulated_and_limited_batches(by_ranks: dict[str, list[list[Event]]]) -> None:
    check_epochs(by_ranks["accumulated on 2"], by_ranks["accumulated on 1"])
    first, (second,) = by_ranks["limited on 2"], by_ranks["limited on 1"]
    rows = rank_runs.rows(first, "train", 0) + rank_runs.rows([second], "train", 0)
    assert len(rows) == len(set(rows))
    # two ranks took four batches, more than the three of one rank: one more ends the epoch, the next has its own three
    assert [e["epoch"] for e in second if e["on"] == "train"] == [0, 1, 1, 1]
    assert [e["epoch"] for e in second if e["on"] == "look"] == [0, 1]


@pytest.fixture(scope="module")
def checkpoint(store: Path) -> Path:
    rank_runs.fit(data(store), stop=rank_runs.StopAt(str(store / "stopped.ckpt"), batch=3))
    return store / "stopped.ckpt"


OTHER_DATA: dict[str, tuple[dict[str, Any], str]] = {
    "corpus": ({"mark": "x"}, "downloader.source.mark was '' and is 'x'"),
    "size": ({"n": 30}, "downloader.source.train was 26 and is 30"),
    "held out": ({"drop_leaks": False}, "held_out.drop_leaks was True and is False"),
    "tokenizer": ({"tokenizer": ByteTokenization(joint=False)}, "tokenizer.joint was True and is False"),
    "sampler": ({"batch_size": 5}, "sampler.batch_size was 4 and is 5"),
    "kind of sampler": ({"max_tokens": 64}, "sampler.max_tokens was None and is 64"),
    "seed": ({"seed": 1}, "datamodule.seed was 0 and is 1"),
    "longest": ({"max_target_tokens": 20}, "datamodule.max_target_tokens was 256 and is 20"),
}


@pytest.mark.parametrize(("options", "told"), OTHER_DATA.values(), ids=OTHER_DATA)
def test_a_checkpoint_of_other_data_is_refused(
    store: Path, checkpoint: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        rank_runs.fit(data(store, **options), ckpt=checkpoint)
    assert told in str(raised.value)
    assert "Set these keys to their former values, or start a new run from the weights alone" in str(raised.value)


def test_a_message_names_a_few_of_many_differences() -> None:
    with pytest.raises(ConfigError, match=r"sampler\.a was 0 and is None.*, and 2 more\. Set these keys"):
        check_same_data({"sampler": dict.fromkeys("abcdefghij", 0)}, {"sampler": {}})


@pytest.mark.parametrize("loop", ["validate", "test", "predict"])
def test_weights_of_a_checkpoint_are_evaluated_on_any_data(store: Path, checkpoint: Path, loop: str) -> None:
    other = data(store, mark="x", test=5, batch_size=5)
    model = rank_runs.Recorder()
    getattr(pl.Trainer(**rank_runs.QUIET), loop)(model, datamodule=other, ckpt_path=checkpoint)
    on = "validation" if loop == "validate" else loop
    assert rank_runs.rows([model.events], on) == list(range(NUM_HELD_OUT if loop == "validate" else 5))
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]["vectors.weight"]
    assert torch.equal(model.vectors.weight, saved)


class Counting(EncodedBatches):
    """Counts the batches that are built."""

    num_built = 0

    def build_batches(self, items: Sequence[Any], *, pin_memory: bool = False) -> list[dict[str, torch.Tensor]]:
        self.num_built += len(items)
        return super().build_batches(items, pin_memory=pin_memory)


def long_epoch(num_pairs: int) -> PlanLoader:
    lengths = np.random.default_rng(0).integers(1, 9, num_pairs).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    side = TokenRows(np.zeros(int(offsets[-1]), dtype=np.uint16), offsets)
    pairs = EncodedPairs(side, side)
    layout = BatchFormat()
    draft = TokenBudgetPlanner(max_tokens=32).draft(batch_lengths(pairs, layout))
    return PlanLoader(Counting(pairs, layout), EpochBatches(draft))


def test_no_batch_is_built_for_steps_that_are_behind() -> None:
    for steps in (10, 5000):
        loader = long_epoch(40_000)
        assert len(loader) > 5000
        loader.load_state_dict({"epoch": 0, "served": [[1, steps]]})
        next(iter(loader))
        assert isinstance(loader.dataset, Counting)
        assert loader.dataset.num_built == 1


def test_a_state_that_was_loaded_is_the_state_until_a_pass_begins() -> None:
    loader = long_epoch(1000)
    state = {"epoch": 2, "served": [[3, 4], [1, 2]]}
    loader.load_state_dict(state)
    assert loader.state_dict() == state
    next(iter(loader))
    assert loader.state_dict() == {"epoch": 2, "served": [[3, 4], [1, 3]]}
    loader.batch_sampler.set_epoch(3)
    assert loader.state_dict() == {"epoch": 3, "served": []}, "what was served of another epoch does not count"
