"""A resumed run ends in the weights of the run that was not stopped, dropout and all."""

import functools
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from small_runs import PACKAGES, flat_weights, in_ranks, trainer, word_model

from mtx.training.callbacks import ExactResume, TokenMeanGradients


class SaveAndStop(pl.Callback):
    """Saves behind a batch, or in the look behind it, and ends the run as a crash would."""

    def __init__(self, path: Path, batch: int, in_look: bool = False) -> None:
        self.path, self.batch, self.in_look = path, batch, in_look

    def save(self, trainer: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.batch:
            trainer.save_checkpoint(self.path)
            raise InterruptedError

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if not self.in_look:
            self.save(trainer)

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        if self.in_look:
            self.save(trainer)


def run(*more: pl.Callback, package: Any = pl, ckpt: Path | None = None, draws: bool = False, **options: Any) -> Any:
    """Train two epochs with dropout; `more` come first. Returns the final weights."""
    pl.seed_everything(3, verbose=False)
    model = word_model(package)(dropout=0.3)
    model.draws = draws
    if ckpt is not None:
        torch.rand(17)  # a resumed run has a history of its own
    defaults: dict[str, Any] = {"max_epochs": 2, "callbacks": [*more, ExactResume(), TokenMeanGradients()]}
    trainer(package, **{**defaults, **options}).fit(model, ckpt_path=ckpt)
    return flat_weights(model)


@functools.cache
def whole(**options: Any) -> Any:
    """Return the weights of a run that nothing stopped."""
    return run(**options)


LOOKS: dict[str, Any] = {"limit_val_batches": 1.0, "val_check_interval": 2}


@pytest.mark.parametrize("batch", [1, 3, 6, 7, 11])
@pytest.mark.parametrize("package", PACKAGES, ids=["pytorch_lightning", "lightning.pytorch"])
def test_a_resumed_run_ends_in_the_same_weights_to_the_bit(tmp_path: Path, package: Any, batch: int) -> None:
    path = tmp_path / "mid.ckpt"
    with pytest.raises(InterruptedError):
        run(SaveAndStop(path, batch), package=package)
    assert torch.equal(run(package=package, ckpt=path), whole(package=package))


def test_without_the_callback_it_would_not(tmp_path: Path) -> None:
    path = tmp_path / "mid.ckpt"
    with pytest.raises(InterruptedError):
        run(SaveAndStop(path, 3), callbacks=[SaveAndStop(path, 3)])
    assert not torch.equal(run(callbacks=[], ckpt=path), run(callbacks=[]))


@pytest.mark.parametrize("in_look", [False, True])
@pytest.mark.parametrize("batch", [2, 4, 6])
def test_it_does_so_with_looks_that_draw_random_numbers(tmp_path: Path, batch: int, in_look: bool) -> None:
    path = tmp_path / "mid.ckpt"
    with pytest.raises(InterruptedError):
        run(SaveAndStop(path, batch, in_look), **LOOKS)
    assert torch.equal(run(ckpt=path, **LOOKS), whole(**LOOKS))


def test_looks_and_trials_do_not_change_training() -> None:
    plain = whole(package=pl)
    assert torch.equal(whole(**LOOKS), plain)
    assert torch.equal(run(**LOOKS, num_sanity_val_steps=2), plain)


def test_numbers_of_python_and_numpy_go_on_too(tmp_path: Path) -> None:
    path = tmp_path / "mid.ckpt"
    with pytest.raises(InterruptedError):
        run(SaveAndStop(path, 4), draws=True)
    assert torch.equal(run(ckpt=path, draws=True), run(draws=True))


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 8])
def test_gradients_of_an_unfinished_window_go_on_too(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "mid.ckpt"
    with pytest.raises(InterruptedError):
        run(SaveAndStop(path, batch), accumulate_grad_batches=4)
    resumed = run(ckpt=path, accumulate_grad_batches=4)
    assert torch.equal(resumed, whole(accumulate_grad_batches=4))


def test_a_checkpoint_loads_with_weights_only(tmp_path: Path) -> None:
    path = tmp_path / "mid.ckpt"
    with pytest.raises(InterruptedError):
        run(SaveAndStop(path, 3), accumulate_grad_batches=2)
    assert "mtx_exact_resume" in torch.load(path, weights_only=True)


@pytest.mark.slow
def test_each_rank_goes_on_with_its_own_random_numbers(tmp_path: Path) -> None:
    options: dict[str, Any] = {"devices": 2, "max_epochs": 2, "dropout": 0.3}
    names = ("ExactResume", "TokenMeanGradients")
    whole = in_ranks(tmp_path, *names, save_at=2, **options)["weights"]
    path = tmp_path / "mid.ckpt"
    states = torch.load(path)["mtx_exact_resume"]["random"]
    assert not torch.equal(states[0]["torch"], states[1]["torch"])
    assert torch.equal(in_ranks(tmp_path / "again", *names, ckpt=str(path), **options)["weights"], whole)
    run(ckpt=path)  # and on another number of ranks it goes on somehow
