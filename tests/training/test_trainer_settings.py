"""Settings of the Trainer that are refused before the data is prepared, each in a line with key, rule and value."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from mtx.components.check_and_build import build, check_config
from mtx.errors import ConfigError
from mtx.training.callbacks import DataCosts, ExactResume, TrainingBudget
from mtx.training.trainer_callbacks import single_thread_before_fork, unlogged_monitor, with_defaults
from mtx.training.trainer_settings import check_trainer_settings, check_validation_interval

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"val_check_interval": 0}, "trainer.val_check_interval is a number of batches of at least 1, a share of an epoch"),
    ({"val_check_interval": -5}, "but is -5. Set trainer.val_check_interval=100"),
    ({"val_check_interval": 1.5}, "but is 1.5"),
    ({"val_check_interval": "often"}, "but is 'often'"),
    ({"val_check_interval": True}, "but is True"),
    ({"max_time": 3600}, "trainer.max_time is a time as DD:HH:MM:SS, or null, but is 3600. Set "),
    ({"max_time": 3600}, "Set trainer.max_time=00:01:00:00, or budget.seconds=3600 for seconds of training"),
    ({"max_time": 90061}, "Set trainer.max_time=01:01:01:01"),
    ({"max_time": "1h"}, "but is '1h'"),
    ({"max_time": "01:00:00"}, "but is '01:00:00'"),
    ({"max_epochs": -2}, "trainer.max_epochs is an integer of at least -1, or null, but is -2"),
    ({"max_steps": -7}, "trainer.max_steps is an integer of at least -1, but is -7"),
    ({"check_val_every_n_epoch": 0}, "trainer.check_val_every_n_epoch is an integer of at least 1, or null, but is 0"),
    ({"limit_train_batches": 1.5}, "trainer.limit_train_batches is"),
    ({"limit_val_batches": -1}, "trainer.limit_val_batches is"),
    ({"overfit_batches": -0.1}, "trainer.overfit_batches is"),
    ({"accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches is an integer of at least 1, but is 0"),
    ({"gradient_clip_val": -1.0}, "trainer.gradient_clip_val is"),
    ({"log_every_n_steps": -1}, "trainer.log_every_n_steps is"),
    ({"num_sanity_val_steps": -2}, "trainer.num_sanity_val_steps is an integer of at least -1, or null, but is -2"),
    ({"num_nodes": 0}, "trainer.num_nodes is an integer of at least 1, but is 0"),
    ({"reload_dataloaders_every_n_epochs": -1}, "trainer.reload_dataloaders_every_n_epochs is"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_a_setting_that_cannot_work_is_told_with_its_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        check_trainer_settings(options)
    assert "\n" not in str(caught.value)


TAKEN = [
    {"val_check_interval": 1.0, "check_val_every_n_epoch": 1},
    {"val_check_interval": 100, "max_time": None},
    {"val_check_interval": "00:00:10:00", "max_time": "00:12:00:00"},
    {"max_time": {"hours": 1}, "limit_val_batches": 0, "limit_train_batches": 1.0},
    {"max_steps": -1, "max_epochs": None, "gradient_clip_val": None, "gradient_clip_val ": 1},
    {"gradient_clip_val": 1, "overfit_batches": 0.0, "num_sanity_val_steps": -1},
]


@pytest.mark.parametrize("options", TAKEN)
def test_a_setting_that_works_is_taken(options: dict[str, Any]) -> None:
    check_trainer_settings(options)


@pytest.mark.parametrize("seed", [2**32, 2**64, 10**400, -1, 1.5, True, "3", None])
def test_a_seed_that_numpy_does_not_take_is_refused(seed: object) -> None:
    with pytest.raises(ConfigError, match=r"^seed must be an integer of at least 0 and below 4294967296, but is"):
        check_config({"seed": seed})


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_a_seed_below_the_bound_is_taken(seed: int) -> None:
    check_config({"seed": seed})


INTERVALS = [
    ({"val_check_interval": 100, "check_val_every_n_epoch": 1}, 3, "an epoch has 3 batches"),
    ({"val_check_interval": 4, "check_val_every_n_epoch": 2}, 3, "trainer.val_check_interval=3 or less"),
    ({"val_check_interval": 3, "check_val_every_n_epoch": 1, "limit_train_batches": 2}, 9, "an epoch has 2 batches"),
    ({"val_check_interval": 5, "check_val_every_n_epoch": 1, "limit_train_batches": 0.5}, 9, "has 4 batches"),
    ({"val_check_interval": 5, "check_val_every_n_epoch": 1, "devices": 2}, 8, "an epoch has 4 batches"),
]


@pytest.mark.parametrize(("options", "num_batches", "message"), INTERVALS)
def test_an_interval_longer_than_an_epoch_is_told(options: dict[str, Any], num_batches: int, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_validation_interval(options, lambda: num_batches)


@pytest.mark.parametrize(("interval", "epochs"), [(3, 1), (100, None), (1.0, 1), (None, 1), ("00:00:01:00", 1)])
def test_an_interval_within_an_epoch_is_taken(interval: object, epochs: int | None) -> None:
    check_validation_interval({"val_check_interval": interval, "check_val_every_n_epoch": epochs}, lambda: 3)


TRAINER = {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu", "logger": False}
BUILDS = [
    {"strategy": "ddpp"},
    {"accelerator": "tpuu"},
    {"devices": "abc"},
    {"devices": 0},
    {"profiler": "fast"},
    {"gradient_clip_algorithm": "abs"},
    {"precision": "bf16-mixd"},
    {"barebones": True, "enable_progress_bar": True},
    {"accelerator": "cuda", "devices": 64},
    {"plugins": "fast"},
]


@pytest.mark.parametrize("options", BUILDS)
def test_what_lightning_refuses_is_told_with_the_group(options: dict[str, Any]) -> None:
    told = r"^trainer cannot be built: pytorch_lightning.Trainer refuses its options: .+ Change "
    with pytest.raises(ConfigError, match=told) as error:
        build({"trainer": {**TRAINER, **options}}, "trainer")
    assert any(f"trainer.{key}, which is {value!r}" in str(error.value) for key, value in options.items())


def test_two_settings_that_are_refused_are_told_without_a_key() -> None:
    told = r"^trainer cannot be built: .+ refuses its options: .+ reports \w+\. Change the options of trainer$"
    with pytest.raises(ConfigError, match=told):
        build({"trainer": {**TRAINER, "profiler": "fast", "plugins": "fast"}}, "trainer")


NAMES = [
    ({"strategy": "ddpp"}, "trainer.strategy is one of ddp, .*fsdp.*, but is 'ddpp'. Set trainer.strategy=ddp$"),
    ({"accelerator": "tpuu"}, "trainer.accelerator is one of tpu, .*, but is 'tpuu'. Set trainer.accelerator=tpu$"),
    ({"profiler": "fast"}, "trainer.profiler is one of advanced, pytorch, simple, xla, but is 'fast'"),
    ({"gradient_clip_algorithm": "abs"}, "trainer.gradient_clip_algorithm is one of norm, value, but is 'abs'"),
    ({"devices": "abc"}, "trainer.devices is a number of devices .*, but is 'abc'. Set trainer.devices=1$"),
    ({"devices": 0}, "trainer.devices is a number of devices .*, but is 0. Set"),
    ({"devices": "0"}, "trainer.devices is a number of devices .*, but is '0'. Set"),
    ({"devices": []}, "trainer.devices is a number of devices .*, but is \\[\\]. Set"),
]


@pytest.mark.parametrize(("options", "told"), NAMES)
def test_names_that_lightning_does_not_know_are_refused_with_its_names(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_trainer_settings(options)


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "fsdp_cpu_offload", "accelerator": "gpu", "profiler": "Simple", "devices": -1},
        {"strategy": "ddp", "devices": "0,1", "gradient_clip_algorithm": "norm"},
        {"devices": [0, 1], "strategy": None, "profiler": None},
        {"devices": "auto"},
        {"devices": "0,"},
        {"devices": "-1"},
        {"devices": 4},
    ],
)
def test_names_that_lightning_knows_are_taken(options: dict[str, Any]) -> None:
    check_trainer_settings(options)


class NeedsPackage(pl.loggers.CSVLogger):
    """A logger whose package is missing, as its constructor says in the words of `said`."""

    def __init__(self, said: str, name: str | None = None) -> None:
        raise ModuleNotFoundError(said, name=name)


HERE = f"{__name__}.NeedsPackage"
MISSING = [
    ("Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install -U 'wandb>=0.12.10'`", None, "wandb"),
    ("No module named 'comet_ml'", "comet_ml", "comet_ml"),
    ("No module named 'mlflow.tracking'", "mlflow.tracking", "mlflow"),
    ("Please install it: pip install neptune", None, "neptune"),
    (
        "Neither `tensorboard` nor `tensorboardX` is available. Try `pip install`ing either.",
        "tensorboard",
        "tensorboard",
    ),
]


@pytest.mark.parametrize(("said", "name", "package"), MISSING)
def test_a_logger_whose_package_is_missing_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, said: str, name: str | None, package: str
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules["test_trainer_settings"])
    with pytest.raises(ConfigError) as caught:
        build({"logger.own": {"_target_": HERE, "said": said, "name": name}}, "logger.own")
    assert f"logger.own needs the package {package} for NeedsPackage: pip install {package}, or set logger=csv" == str(
        caught.value
    )


def check_early_stopping(trainer: pl.Trainer, callback: pl.Callback) -> None:
    assert isinstance(callback, EarlyStopping)
    callback._run_early_stopping_check(trainer)


def save_best(trainer: pl.Trainer, callback: pl.Callback) -> None:
    assert isinstance(callback, ModelCheckpoint)
    trainer.fit_loop.epoch_loop.val_loop._has_run = True
    callback._save_topk_checkpoint(trainer, trainer.callback_metrics)


MONITORING = [(EarlyStopping("val/los"), check_early_stopping), (ModelCheckpoint(monitor="val/los"), save_best)]


@pytest.mark.parametrize(("callback", "check"), MONITORING)
def test_a_monitor_that_the_model_does_not_log_is_told_with_what_it_logs(
    callback: pl.Callback, check: Callable[[pl.Trainer, pl.Callback], None]
) -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=[callback])
    trainer._logger_connector._callback_metrics["val/loss"] = torch.zeros(())
    with pytest.raises((RuntimeError, MisconfigurationException)) as found:
        check(trainer, callback)
    told = unlogged_monitor(found.value, trainer)
    assert told is not None
    assert f"{type(callback).__name__} monitors 'val/los', which the model has not logged by step 0. It has" in told
    assert "has logged val/loss. Set monitor: val/loss" in told


def test_another_error_before_the_first_validation_is_not_about_the_monitor() -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=[EarlyStopping("val/bits_per_byte")])
    trainer._logger_connector._callback_metrics["train/loss"] = torch.zeros(())
    with pytest.raises(RuntimeError) as found:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert unlogged_monitor(found.value, trainer) is None


DEFAULTS = (ExactResume(), DataCosts(), TrainingBudget())
CHECKPOINTS, BAR = ModelCheckpoint(), RichProgressBar()
OWN = {
    "a monitor": ([LearningRateMonitor()], []),
    "an early stop": ([EarlyStopping("val/loss")], []),
    "checkpoints": ([ModelCheckpoint()], ["ModelCheckpoint replaces ModelCheckpoint"]),
    "a bar": ([RichProgressBar()], ["RichProgressBar replaces RichProgressBar"]),
    "costs": ([DataCosts(every_n_steps=3)], ["DataCosts replaces DataCosts"]),
    "none": ([], []),
}


@pytest.mark.parametrize(("own", "said"), OWN.values(), ids=OWN)
def test_callbacks_of_the_user_are_added_and_replace_their_kind_alone(own: list[pl.Callback], said: list[str]) -> None:
    installed, replaced = with_defaults(own, [*DEFAULTS, CHECKPOINTS, BAR])
    assert replaced == said
    assert len(installed) == len(DEFAULTS) + 2 + len(own) - len(said)
    assert installed[len(installed) - len(own) :] == own


@pytest.mark.parametrize(
    ("strategy", "is_set"),
    [
        ("ddp_fork", True),
        ("ddp_fork_find_unused_parameters_true", True),
        ("ddp_fork_find_unused_parameters_false", True),
        ("ddp_notebook", True),
        pytest.param(DDPStrategy(start_method="fork"), True, id="DDPStrategy-fork"),
        ("ddp_spawn", False),
        ("ddp", False),
        pytest.param(DDPStrategy(start_method="spawn"), False, id="DDPStrategy-spawn"),
        ("auto", False),
    ],
    ids=str,
)
def test_a_process_that_forks_computes_with_one_thread(strategy: Any, is_set: bool) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        devices = 1 if strategy == "auto" else 2
        trainer = pl.Trainer(accelerator="cpu", devices=devices, strategy=strategy, logger=False)
        assert single_thread_before_fork(trainer) is is_set
        assert torch.get_num_threads() == (1 if is_set else 2)
    finally:
        torch.set_num_threads(before)
