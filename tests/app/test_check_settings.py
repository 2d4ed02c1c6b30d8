"""`task=check` builds the Trainer, its callbacks and the logger if their settings are changed, and refuses bad ones."""

import importlib.util

import pytest
from command_line import Mtx

CALLBACK = "pytorch_lightning.callbacks"
REFUSED = [
    ("trainer.accelerator=tpuu", "trainer cannot be built: pytorch_lightning.Trainer raised: You selected an invalid"),
    ("+trainer.strategy=ddpp", "trainer cannot be built: "),
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
    ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches is an integer of at least 1, but is 0"),
]


@pytest.mark.parametrize(("argument", "told"), REFUSED, ids=[argument for argument, _ in REFUSED])
def test_a_setting_that_lightning_refuses_is_refused_by_check(mtx: Mtx, argument: str, told: str) -> None:
    result = mtx("task=check", argument)
    assert result.code == 1
    assert told in result.err
    assert "Traceback" not in result.err + result.out


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_logger_whose_package_is_missing_is_told_before_any_work(mtx: Mtx) -> None:
    result = mtx(
        "task=check", "logger._target_=pytorch_lightning.loggers.WandbLogger", "~logger.name", "~logger.version"
    )
    assert result.code == 1
    assert "logger needs the package wandb for WandbLogger: pip install wandb, or set logger=csv" in result.err


def test_changed_settings_that_work_are_valid(mtx: Mtx) -> None:
    monitor = f"trainer.callbacks=[{{_target_: {CALLBACK}.LearningRateMonitor}}]"
    assert "The config is valid." in mtx("task=check", "trainer.max_epochs=3", monitor).out
