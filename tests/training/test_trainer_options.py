"""What people set on a Trainer, each with the real one: the batches are those that (seed, epoch) says, no others."""

import time
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import BatchSizeFinder
from pytorch_lightning.tuner import Tuner
from rank_runs import QUIET, Recorder, StopAt, datamodule, fit
from torch import Tensor

from mtx.batches.plan.planner import Draft, Lengths, Mask, Planner
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.static_shapes import StaticShapesPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.errors import ConfigError, EmptyDatasetError
from mtx.training.datamodule import TranslationDataModule

STEPS = 13  # 50 pairs in batches of 4
LOOK = [[3, 6], [2, 5, 8], [1, 4, 7], [0]]  # 9 held-out pairs of 13 to 23 tokens under a budget of 48


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def made(store: Path, **options: Any) -> TranslationDataModule:
    return datamodule(store, **{"n": 50, "validation": 9, "eval_max_tokens": 48, **options})


def rows(model: Recorder, on: str = "train") -> list[list[int]]:
    return [event["rows"] for event in model.events if event["on"] == on]


def flat(batches: list[list[int]]) -> list[int]:
    return sorted(chain.from_iterable(batches))


def look_steps(model: Recorder) -> list[int]:
    return [event["step"] for event in model.events if event["on"] == "look"]


@pytest.fixture(scope="module")
def expected(store: Path) -> list[list[int]]:
    """The batches of three epochs, served without a Trainer."""
    data = made(store)
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    return [batch["row_ids"].tolist() for _ in range(3) for batch in loader]


def test_every_pair_comes_once_an_epoch_without_any_option(store: Path, expected: list[list[int]]) -> None:
    model = fit(made(store))
    assert rows(model) == expected[: 2 * STEPS]
    for epoch in (0, 1):
        assert flat(rows(model)[epoch * STEPS : (epoch + 1) * STEPS]) == list(range(50))


@pytest.mark.parametrize(("limit", "steps"), [(5, 5), (0.5, 6), (1.0, STEPS)])
def test_limit_train_batches_serves_the_first_of_each_epoch(
    store: Path, expected: list[list[int]], limit: float, steps: int
) -> None:
    model = fit(made(store), limit_train_batches=limit)
    assert rows(model) == expected[:steps] + expected[STEPS : STEPS + steps]


@pytest.mark.parametrize(("limit", "batches"), [(1.0, 4), (3, 3), (0.5, 2), (0, 0)])
def test_limit_val_batches_serves_the_first_of_each_look(store: Path, limit: float, batches: int) -> None:
    model = fit(made(store), limit_val_batches=limit)
    assert rows(model, "validation") == LOOK[:batches] * 2


@pytest.mark.parametrize("amount", [3, 0.25])
def test_overfit_batches_serves_the_same_batches_in_every_epoch(
    store: Path, expected: list[list[int]], amount: float
) -> None:
    assert rows(fit(made(store), overfit_batches=amount, max_epochs=3)) == expected[:3] * 3


def test_fast_dev_run_serves_one_batch(store: Path, expected: list[list[int]]) -> None:
    model = fit(made(store), fast_dev_run=True)
    assert rows(model) == expected[:1]
    assert len(rows(model, "validation")) == 1


def test_sanity_steps_do_not_shift_the_order_of_training(store: Path, expected: list[list[int]]) -> None:
    model = fit(made(store), num_sanity_val_steps=2, max_epochs=1)
    assert [event["on"] for event in model.events][:4] == ["look", "validation", "validation", "train"]
    assert rows(model) == expected[:STEPS]


def test_accumulated_batches_are_those_of_the_epoch(store: Path, expected: list[list[int]]) -> None:
    model = fit(made(store), accumulate_grad_batches=4)
    assert rows(model) == expected[: 2 * STEPS]
    assert model.events[-1]["step"] == 8  # 3 × 4 batches and one more, in each epoch


class Slow(pl.Callback):
    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        time.sleep(0.1)


def test_max_time_stops_within_an_epoch(store: Path, expected: list[list[int]]) -> None:
    model = Recorder()
    options = {**QUIET, "max_time": timedelta(seconds=0.35), "callbacks": [Slow()]}
    pl.Trainer(**options).fit(model, made(store))
    served = rows(model)
    assert 1 <= len(served) < STEPS
    assert served == expected[: len(served)]


def test_a_barebones_trainer_serves_the_same(store: Path, expected: list[list[int]]) -> None:
    model = Recorder()
    pl.Trainer(accelerator="cpu", barebones=True, max_epochs=2).fit(model, made(store))
    assert rows(model) == expected[: 2 * STEPS]


def test_mixed_precision_trains_on_the_same_batches(store: Path, expected: list[list[int]]) -> None:
    assert rows(fit(made(store), precision="bf16-mixed", max_epochs=1)) == expected[:STEPS]


def test_max_steps_ends_within_an_epoch(store: Path, expected: list[list[int]]) -> None:
    model = fit(made(store), max_steps=20, max_epochs=-1)
    assert rows(model) == expected[:20]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"val_check_interval": 5}, [5, 10, 18, 23]),
        ({"val_check_interval": 0.5}, [6, 12, 19, 25]),
        ({"val_check_interval": 10, "check_val_every_n_epoch": None}, [10, 20]),
        ({"check_val_every_n_epoch": 2}, [26]),
    ],
)
def test_looks_come_when_asked_for_and_shift_nothing(
    store: Path, expected: list[list[int]], options: dict[str, Any], steps: list[int]
) -> None:
    model = fit(made(store), **options)
    assert look_steps(model) == steps
    assert rows(model) == expected[: 2 * STEPS]
    assert rows(model, "validation") == LOOK * len(steps)


@pytest.mark.parametrize("every", [1, 2])
def test_reloaded_loaders_go_on_with_the_next_epoch(store: Path, expected: list[list[int]], every: int) -> None:
    model = fit(made(store), reload_dataloaders_every_n_epochs=every, max_epochs=3)
    assert rows(model) == expected


def test_fitting_again_with_the_same_data_module_begins_anew(store: Path, expected: list[list[int]]) -> None:
    data = made(store)
    fit(data, max_steps=5, max_epochs=-1)
    assert rows(fit(data, max_epochs=1)) == expected[:STEPS]


# The batch-size finder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out collecting garbage before each trial, which takes longer than the trial."""
    monkeypatch.setattr("pytorch_lightning.tuner.batch_size_scaling.garbage_collection_cuda", lambda: None)


class Greedy(Recorder):
    """Runs out of memory above so many padded positions of a side; notes what it is given."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.sizes: list[int] = []

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        self.sizes.append(max(batch["encoder_input_ids"].numel(), batch["labels"].numel()))
        if self.sizes[-1] > self.most:
            raise RuntimeError("CUDA out of memory. This is as torch says it.")
        return super().training_step(batch, index)


def find(root: Path, data: TranslationDataModule, model: pl.LightningModule, **options: Any) -> int | None:
    trainer = pl.Trainer(**{**QUIET, "max_epochs": 1, "default_root_dir": root})
    return Tuner(trainer).scale_batch_size(model, datamodule=data, steps_per_trial=2, **options)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mode", ["power", "binsearch"])
def test_the_finder_turns_a_budget_of_tokens(store: Path, tmp_path: Path, mode: str) -> None:
    data, model = made(store, n=100, max_tokens=64), Greedy(most=150)
    found = find(tmp_path, data, model, mode=mode, init_val=64)
    assert isinstance(data.sampler, TokenBudgetPlanner)
    assert data.batch_size == data.sampler.max_tokens == found
    assert found == 128 if mode == "power" else 128 < found < 160
    assert max(model.sizes) > 150  # it did fail in between
    after = Recorder()
    pl.Trainer(**{**QUIET, "max_epochs": 1}).fit(after, data)
    assert flat(rows(after)) == list(range(100))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mode", ["power", "binsearch"])
def test_the_finder_turns_a_number_of_pairs(store: Path, tmp_path: Path, mode: str) -> None:
    data = made(store, batch_size=4)
    found = find(tmp_path, data, Recorder(), mode=mode)
    assert isinstance(data.sampler, RandomPlanner)
    assert data.batch_size == data.sampler.batch_size == found
    assert found == 64 if mode == "power" else found == 60  # 50 pairs are one batch; binsearch takes 5 % off
    assert len(data.train_dataloader()) == 1


@pytest.mark.usefixtures("quick")
def test_the_finder_begins_with_its_defaults_also_where_no_pair_is_that_short(store: Path, tmp_path: Path) -> None:
    data, model = made(store, max_tokens=64), Recorder()
    found = find(tmp_path, data, model, max_val=256)
    assert found == data.batch_size == 400  # 25, which the longest pair takes, doubled until it is above max_val
    data.batch_size = 2
    longest = int(max(data.lengths("train").source.max(), data.lengths("train").target.max()))
    assert data.batch_size == longest == 25
    assert data.train_dataloader().batch_sampler.plan().ledger()["dropped_length"] == 0


def test_a_budget_that_drops_pairs_by_config_may_go_on_doing_so(store: Path) -> None:
    data = made(store, max_tokens=16)
    data.prepare_data()
    data.setup("fit")
    data.batch_size = 2
    assert data.batch_size == 16


@pytest.mark.usefixtures("quick")
def test_the_finder_as_a_callback_comes_before_training(store: Path, tmp_path: Path) -> None:
    data, model = made(store, max_tokens=64), Recorder()
    finder = BatchSizeFinder(steps_per_trial=1, init_val=64, max_trials=2)
    pl.Trainer(**{**QUIET, "max_epochs": 1, "callbacks": [finder], "default_root_dir": tmp_path}).fit(model, data)
    assert data.batch_size == 128
    assert flat(rows(model)[-len(data.train_dataloader()) :]) == list(range(50))


@pytest.mark.usefixtures("quick")
def test_the_finder_turns_the_held_out_budget_in_a_run_of_that_kind(store: Path, tmp_path: Path) -> None:
    data = made(store)
    trainer = pl.Trainer(**{**QUIET, "default_root_dir": tmp_path})
    Tuner(trainer).scale_batch_size(Recorder(), datamodule=data, method="validate", init_val=32, max_trials=2)
    assert data.eval_sampler.max_tokens == data.batch_size == 64
    assert isinstance(data.sampler, RandomPlanner)
    assert data.sampler.batch_size == 4


@pytest.mark.parametrize(
    ("sampler", "longest"),
    [
        (TokenBudgetPlanner(max_tokens=99), 25),
        (TokenBudgetPlanner(max_tokens=99, length_multiple=16), 32),
        (TokenBudgetPlanner(max_tokens=99, budget="area"), 34),
        (StaticShapesPlanner(max_tokens=99), 25),
        (RandomPlanner(batch_size=8), 1),
    ],
)
def test_the_least_budget_holds_the_longest_pair(store: Path, sampler: Planner, longest: int) -> None:
    data = made(store, sampler=sampler)
    data.prepare_data()
    data.setup("fit")
    data.batch_size = 1
    assert data.batch_size == longest
    assert data.train_dataloader().batch_sampler.plan().ledger()["batched"] == 50


class Odd(Planner):
    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> Draft:
        raise NotImplementedError


def test_the_budget_is_refused_with_the_reason(store: Path) -> None:
    odd = made(store, sampler=Odd())
    with pytest.raises(
        ConfigError,
        match=r"sampler's max_tokens or .* or batch_size or num_rows, but Odd has none of these\. Remove the",
    ):
        print(odd.batch_size)
    data = made(store)
    for value in (0, 2.5):
        with pytest.raises(ConfigError, match=rf"sampler\.batch_size is an integer of at least 1, but is {value}"):
            data.batch_size = value  # type: ignore[assignment]


def test_a_run_that_goes_on_keeps_its_batches(store: Path, tmp_path: Path) -> None:
    ckpt = tmp_path / "mid.ckpt"
    fit(made(store), stop=StopAt(str(ckpt), batch=5))
    finder = BatchSizeFinder(steps_per_trial=1, max_trials=1)
    options = {**QUIET, "callbacks": [finder], "default_root_dir": tmp_path}
    told = r"resumes from a checkpoint must keep its batches.*Remove the batch-size finder"
    with pytest.raises(ConfigError, match=told):
        pl.Trainer(**options).fit(Recorder(), made(store), ckpt_path=ckpt)


# The edges of coverage


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("max_tokens", [None, 1000])
def test_few_pairs_are_all_served(tmp_path: Path, n: int, max_tokens: int | None) -> None:
    model = fit(datamodule(tmp_path, n=n, validation=1, max_tokens=max_tokens), max_epochs=2)
    assert flat(rows(model)) == sorted([*range(n), *range(n)])
    assert rows(model, "validation") == [[0], [0]]


def test_held_out_pairs_above_the_budget_come_alone(store: Path) -> None:
    model = fit(made(store, eval_max_tokens=1), max_epochs=1)
    assert sorted(rows(model, "validation")) == [[row] for row in range(9)]


def test_training_pairs_above_the_budget_are_in_the_ledger(store: Path) -> None:
    data = made(store, max_tokens=16)
    model = fit(data, max_epochs=1)
    ledger = data.train_dataloader().batch_sampler.plan().ledger()
    served = flat(rows(model))
    assert len(served) == len(set(served)) == ledger["batched"] < 50
    assert ledger["batched"] + ledger["dropped_length"] == 50


def test_a_budget_below_every_pair_is_told(store: Path) -> None:
    with pytest.raises(
        EmptyDatasetError, match=r"no batch from the 50 pairs of the train split.*larger sampler.max_tokens"
    ):
        fit(made(store, max_tokens=2))


def test_no_held_out_pairs_are_no_look(store: Path, recwarn: pytest.WarningsRecorder) -> None:
    model = fit(datamodule(store, n=50), limit_val_batches=0)
    assert look_steps(model) == []
    assert len(rows(model)) == 2 * STEPS
