"""Several processes inside a sweep: with strategies that do not repeat the command, or not at all."""

import pytest
import pytorch_lightning as pl

from mtx.errors import ConfigError
from mtx.experiment.fit import check_sweep


def trainer(strategy: str, devices: int) -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", strategy=strategy, devices=devices, logger=False, enable_checkpointing=False)


def test_a_strategy_that_would_run_the_sweep_again_is_refused() -> None:
    told = r"trainer\.strategy=DDPStrategy .* whole sweep again\. Set trainer\.strategy=ddp_fork, or"
    with pytest.raises(ConfigError, match=told):
        check_sweep(trainer("ddp", 2))


@pytest.mark.parametrize(("strategy", "devices"), [("auto", 1), ("ddp_fork", 2), ("ddp_spawn", 2)])
def test_one_process_or_forked_or_spawned_ones_may_sweep(strategy: str, devices: int) -> None:
    check_sweep(trainer(strategy, devices))
