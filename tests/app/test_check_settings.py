"""`task=check` builds the Trainer, its callbacks, the logger and the model if their settings are changed."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Mtx

from mtx.experiment.model_check import check_model
from mtx.experiment.run_context import Run
from mtx.training.reference.transformer import TransformerTranslator

REFERENCE = "mtx.training.reference.transformer.TransformerTranslator"
CALLBACK = "pytorch_lightning.callbacks"
REFUSED = [
    ("trainer.accelerator=tpuu", "trainer.accelerator is one of tpu, auto, cpu, "),
    ("+trainer.strategy=ddpp", "trainer.strategy is one of ddp, "),
    ("+trainer.precision=bf16-mixd", "trainer.precision"),
    (
        "+trainer.max_time=3600",
        "trainer.max_time is a time as DD:HH:MM:SS, or null, but is 3600. Set ",
    ),
    ("trainer.val_check_interval=0", "trainer.val_check_interval is a number of batches of at least 1"),
    ("seed=4294967296", "seed must be an integer of at least 0 and below 4294967296, but is 4294967296. Set seed=0"),
    (f"trainer.callbacks=[{{_target_: {CALLBACK}.EarlyStopping}}]", "trainer.callbacks[0].monitor is required"),
    (f"trainer.callbacks=[{{_target_: {CALLBACK}.Timer, duration: often}}]", "trainer.callbacks[0] cannot be built: "),
    ("trainer.callbacks=[3]", "trainer.callbacks"),
    (f"trainer.callbacks={CALLBACK}.Timer", f'"trainer.callbacks=[{{_target_: {CALLBACK}.Timer}}]"'),
    ("trainer.callbacks=3", '"trainer.callbacks=[{_target_: mtx.training.callbacks.DataCosts}]"'),
    ("model.d_model=15", "model.d_model must be even and a multiple of model.num_heads, but is 15 with 4 heads"),
    ("model.num_heads=3", "Set model.num_heads to a divisor of 128, or change model.d_model"),
    ("model.max_positions=20", "takes at most model.max_positions=20 tokens, but batches may have 256"),
    ("model.d_model=2147483644", "must have less than 2**63 bytes, which model.d_model=2147483644 with"),
    ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches is an integer of at least 1, but is 0"),
    ("ckpt=no.ckpt", "ckpt must be a checkpoint file, `last`, or null, but there is no file 'no.ckpt'. Each"),
    ("ckpt=", "but there is no file ''. Each training run writes"),
    ("ckpt=[a]", "ckpt is a text, but is ['a']. Set ckpt=TEXT"),
]


@pytest.mark.parametrize(("argument", "told"), REFUSED, ids=[argument for argument, _ in REFUSED])
def test_a_setting_that_lightning_refuses_is_refused_by_check(mtx: Mtx, argument: str, told: str) -> None:
    result = mtx("task=check", argument)
    assert result.code == 1
    assert told in result.err
    assert "Traceback" not in result.err + result.out


@pytest.mark.skipif(importlib.util.find_spec("comet_ml") is not None, reason="comet_ml is installed")
def test_a_logger_whose_package_is_missing_is_told_before_any_work(mtx: Mtx) -> None:
    result = mtx("task=check", "+logger.own._target_=pytorch_lightning.loggers.CometLogger")
    assert result.code == 1
    told = "logger.own needs the package comet-ml for CometLogger: pip install comet-ml, or set logger=csv"
    assert told in result.err.replace("comet_ml", "comet-ml")


def test_changed_settings_that_work_are_valid(mtx: Mtx) -> None:
    monitor = f"trainer.callbacks=[{{_target_: {CALLBACK}.LearningRateMonitor}}]"
    assert "The config is valid." in mtx("task=check", "trainer.max_epochs=3", monitor).out


def test_a_fit_checks_the_model_before_it_reads_any_text(mtx: Mtx) -> None:
    told = mtx("task=fit", "downloader=local", "downloader.path=not_there.tsv", "model.d_model=17").err
    assert "model.d_model must be even" in told
    assert "there is no file" not in told


def test_a_fit_checks_the_checkpoint_before_it_reads_any_text(mtx: Mtx, tmp_path: Path) -> None:
    (tmp_path / "my.ckpt").write_text("no checkpoint")
    told = mtx("task=fit", "downloader=local", "downloader.path=not_there.tsv", f"ckpt={tmp_path / 'my.ckpt'}").err
    assert "my.ckpt cannot be read as a checkpoint: " in told
    assert "there is no file" not in told


def test_a_model_of_any_depth_is_checked_by_one_block(mtx: Mtx) -> None:
    assert "The config is valid." in mtx("task=check", "model.num_encoder_layers=999999", "model.d_model=64").out


def test_the_check_of_a_model_draws_no_random_numbers() -> None:
    run = Run({"model": {"_target_": REFERENCE, "d_model": 64}}, output_dir="unused")
    before = torch.get_rng_state()
    check_model(run)
    assert torch.equal(torch.get_rng_state(), before)


class OwnModel(TransformerTranslator):
    """A user-defined model whose constructor refuses every vocabulary but one."""

    def __init__(self, **options: Any) -> None:
        raise AssertionError("built without the data")


@pytest.mark.parametrize("options", [{"_target_": f"{__name__}.OwnModel"}, {"_target_": REFERENCE, "pad_id": 7}])
def test_models_that_depend_on_the_data_are_not_built_without_it(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTX_ALLOW_TARGETS", __name__)
    check_model(Run({"model": {**options, "d_model": 17}}, output_dir="unused"))
