"""The end of a training run. Real tokens of the six batches, both sides: 18, 5, 40, 3, 15, 17."""

from pathlib import Path
from typing import Any

import pytest
import small_runs
import torch

from mtx.errors import ConfigError, DataError
from mtx.training.callbacks import TrainingBudget
from mtx.training.callbacks.training_budget import Amounts


def spent_by(budget: TrainingBudget, package: Any = small_runs.pl, **options: Any) -> Amounts:
    """Train until the budget or the epoch ends."""
    trainer = small_runs.trainer(package, callbacks=[budget], **options)
    trainer.fit(small_runs.word_model(package)(), ckpt_path=options.pop("ckpt_path", None))
    assert budget.spent.steps == trainer.global_step
    return budget.spent


@pytest.mark.parametrize(("limit", "steps", "spent"), [(23, 2, 23), (24, 3, 63), (1, 1, 18), (98, 6, 98), (99, 6, 98)])
def test_training_ends_with_the_first_step_that_reaches_the_tokens(limit: int, steps: int, spent: int) -> None:
    found = spent_by(TrainingBudget(real_tokens=limit))
    assert (found.steps, found.real_tokens) == (steps, spent)


@pytest.mark.parametrize("package", small_runs.PACKAGES)
def test_training_ends_after_the_steps_in_either_package(package: Any) -> None:
    assert spent_by(TrainingBudget(steps=4), package) == Amounts(
        steps=4, seconds=pytest.approx(0, abs=60), real_tokens=66, source_bytes=None
    )


def test_the_end_waits_for_accumulated_gradients() -> None:
    found = spent_by(TrainingBudget(real_tokens=1), accumulate_grad_batches=4)
    assert (found.steps, found.real_tokens) == (1, 66)


def test_the_first_limit_that_is_reached_ends_the_training() -> None:
    assert spent_by(TrainingBudget(steps=5, real_tokens=63)).steps == 3
    assert spent_by(TrainingBudget(steps=2, real_tokens=63)).steps == 2


def test_without_a_limit_nothing_ends_but_everything_is_counted() -> None:
    budget = TrainingBudget()
    assert not budget.is_limited
    assert (spent_by(budget).real_tokens, budget.spent.steps) == (98, 6)


def test_seconds_leave_looks_at_held_out_text_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("mtx.training.callbacks.training_budget.time.perf_counter", lambda: now[0])

    class Slow(small_runs.word_model()):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            now[0] += 1
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            now[0] += 100

    budget = TrainingBudget(seconds=3)
    options = {"limit_val_batches": 1.0, "val_check_interval": 2}
    small_runs.trainer(callbacks=[budget], **options).fit(Slow())
    assert (budget.spent.steps, budget.spent.seconds) == (3, 3.0)


def test_a_run_that_goes_on_has_the_rest_of_its_budget(tmp_path: Path) -> None:
    saving = small_runs.Written(tmp_path, save_at=2)
    small_runs.trainer(callbacks=[TrainingBudget(), saving]).fit(small_runs.word_model()())
    more = TrainingBudget(real_tokens=60)
    small_runs.trainer(callbacks=[more]).fit(small_runs.word_model()(), ckpt_path=tmp_path / "mid.ckpt")
    assert (more.spent.steps, more.spent.real_tokens) == (3, 63)


def test_a_run_that_goes_on_with_nothing_left_takes_no_step(tmp_path: Path) -> None:
    first = TrainingBudget(real_tokens=23)
    trainer = small_runs.trainer(callbacks=[first])
    model = small_runs.word_model()()
    trainer.fit(model)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = small_runs.word_model()()
    small_runs.trainer(callbacks=[TrainingBudget(real_tokens=23)]).fit(again, ckpt_path=tmp_path / "a.ckpt")
    assert torch.equal(small_runs.flat_weights(again), small_runs.flat_weights(model))


def test_a_unit_that_the_run_before_did_not_count_is_refused(tmp_path: Path) -> None:
    saving = small_runs.Written(tmp_path, save_at=2)
    small_runs.trainer(callbacks=[TrainingBudget(), saving]).fit(small_runs.word_model()())
    more = small_runs.trainer(callbacks=[TrainingBudget(source_bytes=100)])
    with pytest.raises(
        ConfigError, match=r"the checkpoint's run had no budget\.source_bytes and did not count the unit"
    ):
        more.fit(small_runs.word_model()(), ckpt_path=tmp_path / "mid.ckpt")


def test_what_is_reached_is_told() -> None:
    budget = TrainingBudget(steps=2, real_tokens=23, seconds=9e9)
    assert budget.spent_units == []
    spent_by(budget)
    assert budget.spent_units == ["steps", "real_tokens"]


@pytest.mark.slow
def test_ranks_count_together_and_stop_at_the_same_step(tmp_path: Path) -> None:
    """Steps of two ranks: 18 + 5, 40 + 3, 15 + 17."""
    found = small_runs.in_ranks(tmp_path, 'TrainingBudget:{"real_tokens": 24}', devices=2)
    assert len(found["gradients"]) == 2


def test_source_bytes_come_from_the_data_module() -> None:
    class Counted(small_runs.pl.LightningDataModule):
        def num_source_bytes(self, row_ids: torch.Tensor, split: str) -> torch.Tensor:
            assert split == "train"
            return row_ids * 10

        def train_dataloader(self) -> Any:
            batches = [{**batch, "row_ids": torch.tensor([1, 2])} for batch in small_runs.BATCHES]
            return small_runs.Loader(self.trainer, batches)

        val_dataloader = train_dataloader

    budget = TrainingBudget(source_bytes=61)
    small_runs.trainer(callbacks=[budget]).fit(small_runs.word_model()(), datamodule=Counted())
    assert (budget.spent.steps, budget.spent.source_bytes) == (3, 90)


def test_a_unit_that_batches_do_not_tell_is_refused() -> None:
    with pytest.raises(DataError, match=r"budget\.source_bytes cannot be counted in these batches.* Set budget\.steps"):
        spent_by(TrainingBudget(source_bytes=10))


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_is_above_0(limit: float) -> None:
    with pytest.raises(ConfigError, match=r"budget\.seconds is a number above 0, or null, but is"):
        TrainingBudget(seconds=limit)
