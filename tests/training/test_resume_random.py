"""The data module and `ExactResume` together: with dropout, and amid accumulated batches, nothing is taken twice."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from rank_runs import QUIET, StopAt, datamodule
from torch import Tensor

from mtx.training.callbacks import ExactResume, TokenMeanGradients

NUM_BATCHES = 7  # of 4 pairs, in an epoch


class Dropping(pl.LightningModule):
    """Its weights depend on every batch, on their order, and on which numbers are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = torch.nn.Embedding(264, 4)
        self.dropout = torch.nn.Dropout(0.3)
        self.rows: list[list[int]] = []

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        self.rows.append(batch["row_ids"].tolist())
        looked_up = self.dropout(self.vectors(batch["encoder_input_ids"])).mean(dim=(1, 2))
        loss: Tensor = (looked_up - batch["labels"].float().mean(dim=1) / 100).square().mean()
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        torch.rand(3)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def fit(store: Path, *callbacks: pl.Callback, ckpt: Path | None = None, **options: Any) -> Dropping:
    pl.seed_everything(3, verbose=False)
    model = Dropping()
    if ckpt is not None:
        torch.rand(17)  # a resumed run has a history of its own
    own = [ExactResume(), TokenMeanGradients()]
    ordered = [*own, *callbacks] if options.pop("are_last", False) else [*callbacks, *own]
    trainer = pl.Trainer(**{**QUIET, "callbacks": ordered, **options})
    with contextlib.suppress(InterruptedError):
        trainer.fit(model, datamodule=datamodule(store, n=26, validation=9), ckpt_path=ckpt, weights_only=True)
    return model


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate_grad_batches": 3}, {"accumulate_grad_batches": 2, "val_check_interval": 3}],
    ids=["plain", "accumulated", "accumulated, with looks"],
)
def test_a_run_with_dropout_that_stopped_anywhere_ends_in_the_same_weights(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = fit(tmp_path, **options)
    assert len(whole.rows) == 2 * NUM_BATCHES
    for batch in range(1, 2 * NUM_BATCHES):
        path = tmp_path / "stopped.ckpt"
        first = fit(tmp_path, StopAt(str(path), batch=batch), **options)
        second = fit(tmp_path, ckpt=path, **options)
        assert first.rows + second.rows == whole.rows, f"stopped behind batch {batch}"
        assert torch.equal(second.vectors.weight, whole.vectors.weight), f"stopped behind batch {batch}"


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
@pytest.mark.parametrize(
    "options",
    [
        {"val_check_interval": 2, "limit_train_batches": 5},
        {"accumulate_grad_batches": 2, "val_check_interval": 3},
        {"accumulate_grad_batches": 7, "val_check_interval": 1},
    ],
    ids=str,
)
def test_the_last_batch_of_an_epoch_is_trained_on_if_it_had_only_begun(tmp_path: Path, options: dict[str, Any]) -> None:
    whole, path = fit(tmp_path, **options), tmp_path / "stopped.ckpt"
    for batch in (len(whole.rows) // 2, len(whole.rows)):
        fit(tmp_path, StopAt(str(path), in_step=batch), **options)
        second = fit(tmp_path, ckpt=path, **options)
        assert second.rows == whole.rows[batch - 1 :]
        assert torch.equal(second.vectors.weight, whole.vectors.weight)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
@pytest.mark.parametrize("are_last", [False, True])
@pytest.mark.parametrize("scheduling", [{0: 1, 1: 2}, {0: 3, 1: 1}, {0: 2}, {1: 7}], ids=str)
def test_accumulation_that_changes_between_epochs_is_resumed(
    tmp_path: Path, scheduling: dict[int, int], are_last: bool
) -> None:
    def scheduler() -> pl.Callback:
        return GradientAccumulationScheduler(scheduling)

    whole = fit(tmp_path, scheduler(), are_last=are_last)
    for batch in (2, NUM_BATCHES, NUM_BATCHES + 3):
        path = tmp_path / "stopped.ckpt"
        first = fit(tmp_path, scheduler(), StopAt(str(path), batch=batch), are_last=are_last)
        second = fit(tmp_path, scheduler(), ckpt=path, are_last=are_last)
        assert first.rows + second.rows == whole.rows, f"stopped behind batch {batch}"
        assert torch.equal(second.vectors.weight, whole.vectors.weight), f"stopped behind batch {batch}"
