"""By default a run validates after each tenth of its training, and has a checkpoint from its first update on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_runs import FakeRun, Scripted, alone, restored_sigint, started

HERE = __name__
TREESPEC = r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"  # Lightning's own use of torch
pytestmark = pytest.mark.filterwarnings(TREESPEC)

BY_DEFAULT: dict[str, Any] = {"val_check_interval": None, "check_val_every_n_epoch": None}


class StoppedEarly(Scripted):
    def on_train_batch_start(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        if self.trainer.global_step == 2:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def run_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    yield from alone(monkeypatch, tmp_path)


def steps(run: FakeRun) -> list[int]:
    return [validation["step"] for validation in run.report["validations"]]


def test_steps_are_divided_by_ten(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "a", model={"_target_": "fit_runs.Scripted"}, trainer={**BY_DEFAULT, "max_steps": 40})
    started(run)
    assert steps(run) == list(range(0, 41, 4))


def test_a_budget_is_divided_by_ten(tmp_path: Path) -> None:
    budget = {"_target_": "mtx.training.callbacks.TrainingBudget", "steps": 20}
    trainer = {**BY_DEFAULT, "max_steps": -1, "max_epochs": -1, "accumulate_grad_batches": 2}
    run = FakeRun(tmp_path / "a", model={"_target_": "fit_runs.Scripted"}, trainer=trainer, budget=budget)
    started(run)
    assert steps(run) == list(range(0, 21, 2))


def test_a_number_of_batches_of_the_users_own_is_kept(tmp_path: Path) -> None:
    trainer = {**BY_DEFAULT, "val_check_interval": 3}
    run = FakeRun(tmp_path / "a", model={"_target_": "fit_runs.Scripted"}, trainer=trainer)
    started(run)
    assert steps(run) == [0, 3, 6]


def test_a_run_that_is_stopped_before_its_first_validation_can_be_resumed(tmp_path: Path) -> None:
    trainer = {**BY_DEFAULT, "max_steps": 40}
    run = FakeRun(tmp_path / "day" / "a", model={"_target_": f"{HERE}.StoppedEarly"}, trainer=trainer)
    with restored_sigint(), pytest.raises(KeyboardInterrupt):
        started(run)
    assert "Training stopped at step 2. Resume from the last checkpoint" in run.out.getvalue()
    again = FakeRun(tmp_path / "day" / "b", model={"_target_": "fit_runs.Scripted"}, trainer=trainer)
    started(again, ckpt="last")
    assert steps(again) == list(range(0, 41, 4))  # the first one is of the run that was stopped
