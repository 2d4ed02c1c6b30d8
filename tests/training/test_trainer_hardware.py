"""Settings of the Trainer that need an accelerator or a package which this machine lacks."""

import importlib.util
import re
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from mtx.errors import ConfigError
from mtx.training import trainer_hardware_checks
from mtx.training.trainer_hardware_checks import check_other_nodes, check_trainer_hardware
from mtx.training.trainer_settings import check_trainer_settings

Options = dict[str, Any]
NOTHING: tuple[int, bool] = (0, False)
SLOW: Options = {"enable_checkpointing": True, "enable_progress_bar": True, "log_every_n_steps": 10}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, bool], None]:
    """Return a function that gives this machine a number of GPUs of CUDA, and a GPU of Apple or none."""

    def set_machine(num_cuda: int, has_mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num_cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
        packages = ("deepspeed", "torch_xla", "transformer_engine")
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(
            trainer_hardware_checks, "find_spec", lambda name: None if name in packages else find_spec(name)
        )

    return set_machine


REFUSED: list[tuple[Options, tuple[int, bool], str]] = [
    ({"accelerator": "gpu"}, NOTHING, "trainer.accelerator=gpu needs a GPU, but torch .+ on this machine. Set "),
    ({"accelerator": "gpu", "devices": 2}, NOTHING, "Set trainer.accelerator=cpu, or auto for the best one$"),
    ({"accelerator": "cuda"}, NOTHING, "trainer.accelerator=cuda needs a GPU of CUDA or ROCm, but torch"),
    ({"accelerator": "cuda"}, (0, True), "Set trainer.accelerator=mps, or auto"),
    ({"accelerator": "mps"}, NOTHING, "needs a GPU of Apple, but torch .+ finds none on this machine. Set"),
    ({"accelerator": "mps"}, (1, False), "Set trainer.accelerator=cuda, or auto"),
    ({"accelerator": "tpu"}, NOTHING, "trainer.accelerator=tpu needs a TPU and the package torch_xla, which"),
    ({"accelerator": "cuda", "devices": 4}, (2, False), "trainer.devices is at most 2, or a list of different numbers"),
    ({"accelerator": "auto", "devices": "4"}, (2, False), "but is '4'. Set trainer.devices=2$"),
    ({"devices": [0, 2]}, (2, False), r"from 0 to 1, because there are 2 devices of cuda .+ but is \[0, 2\]. Set"),
    ({"devices": [1, 1]}, (2, False), r"but is \[1, 1\]. Set trainer.devices=2$"),
    ({"devices": "0,3"}, (2, False), "but is '0,3'. Set trainer.devices=2$"),
    ({"accelerator": "mps", "devices": 2}, (0, True), "trainer.devices is at most 1, "),
    ({"accelerator": "cpu", "devices": [0, 1]}, NOTHING, r"a number of processes on the CPU.+is \[0, 1\]. Set .+=2, "),
    ({"accelerator": "cpu", "devices": "0,"}, NOTHING, "but is '0,'. Set trainer.devices=1, or trainer.accelerator"),
    ({"accelerator": "auto", "devices": -1}, NOTHING, "but is -1. Set trainer.devices=1, or"),
    ({"strategy": "fsdp"}, NOTHING, "divides a model among GPUs of CUDA or ROCm, but the accelerator is cpu. Set "),
    ({"strategy": "fsdp_cpu_offload"}, (0, True), "but the accelerator is mps. Set trainer.strategy=auto$"),
    ({"strategy": "ddp"}, (0, True), r"does not work on a GPU of Apple \(mps\). Set trainer.strategy=auto$"),
    ({"strategy": "deepspeed_stage_2"}, NOTHING, "needs the package deepspeed: pip install deepspeed. Or set trainer"),
    ({"strategy": "single_xla"}, NOTHING, "needs the package torch_xla: pip install torch_xla. Or set trainer.strat"),
    ({"precision": "transformer-engine"}, NOTHING, "pip install transformer_engine. Or set trainer.precision=bf16-mix"),
    ({"profiler": "xla"}, NOTHING, "pip install torch_xla. Or set trainer.profiler=simple$"),
    ({"barebones": True, **SLOW}, NOTHING, "=true excludes trainer.enable_checkpointing=true and .+ type trainer.en"),
    ({"barebones": True, **SLOW, "enable_checkpointing": False}, NOTHING, r"type .+=0 logger=\[\]$"),
    (
        {"barebones": True, "profiler": "simple"},
        NOTHING,
        "excludes trainer.profiler=simple. .+ type trainer.profiler=null",
    ),
    ({"barebones": True, "profiler": {"_target_": "a.B"}}, NOTHING, "excludes trainer.profiler. Leave"),
    ({"barebones": True, "fast_dev_run": 3}, NOTHING, "excludes trainer.fast_dev_run=3. .+ trainer.fast_dev_run=false"),
    (
        {"barebones": True, "detect_anomaly": True},
        NOTHING,
        "trainer.detect_anomaly=true. .+trainer.detect_anomaly=false",
    ),
    ({"barebones": True, "enable_model_summary": True}, NOTHING, "type trainer.enable_model_summary=false logger"),
    ({"barebones": True, "num_sanity_val_steps": 2}, NOTHING, "type trainer.num_sanity_val_steps=0 logger"),
]


@pytest.mark.parametrize(("options", "has", "told"), REFUSED)
def test_what_this_machine_lacks_is_told_with_its_key(
    options: Options, has: tuple[int, bool], told: str, machine: Callable[[int, bool], None]
) -> None:
    check_trainer_settings(options)
    machine(*has)
    with pytest.raises(ConfigError, match=told) as caught:
        check_trainer_hardware(options)
    assert "\n" not in str(caught.value)


TAKEN: list[tuple[Options, tuple[int, bool]]] = [
    ({}, NOTHING),
    ({"accelerator": "auto", "devices": 1, "strategy": "auto", "precision": "16-mixed"}, NOTHING),
    ({"accelerator": "cpu", "devices": "3", "strategy": "ddp_fork", "profiler": "simple"}, NOTHING),
    ({"accelerator": "gpu", "devices": -1, "strategy": "fsdp"}, (2, False)),
    ({"accelerator": "cuda", "devices": [1], "strategy": "ddp"}, (2, False)),
    ({"devices": "0,1", "precision": 16}, (2, False)),
    ({"accelerator": "gpu", "devices": "auto"}, (0, True)),
    ({"accelerator": "mps", "devices": "0,"}, (0, True)),
    (
        {"barebones": True, "enable_checkpointing": False, "enable_progress_bar": False, "log_every_n_steps": 0},
        NOTHING,
    ),
    ({"devices": 9, "barebones": False}, NOTHING),
    ({"barebones": True, "profiler": None, "fast_dev_run": False, "num_sanity_val_steps": 0}, NOTHING),
    ({"strategy": "DDP", "profiler": "Simple", "gradient_clip_algorithm": "NORM"}, NOTHING),
]


@pytest.mark.parametrize(("options", "has"), TAKEN)
def test_what_this_machine_has_is_taken(
    options: Options, has: tuple[int, bool], machine: Callable[[int, bool], None]
) -> None:
    machine(*has)
    check_trainer_hardware(options)


@pytest.mark.parametrize(
    "options", [options for options, has, _ in REFUSED if has == NOTHING and "profiler" not in options]
)
def test_lightning_itself_refuses_what_is_refused(options: Options) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises((Exception, SystemExit)):  # each kind of error has another class
        pl.Trainer(**{"accelerator": "cpu", "logger": False, **options})


@pytest.mark.parametrize("value", ["GPU", "Auto", "CPU"])
def test_an_accelerator_is_written_in_lower_case(value: str) -> None:
    with pytest.raises(ConfigError, match=rf"but is '{value}'. Set trainer.accelerator={value.lower()}$"):
        check_trainer_settings({"accelerator": value})


def test_devices_are_not_checked_where_auto_may_choose_a_tpu(
    machine: Callable[[int, bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(0, False)
    monkeypatch.setattr(trainer_hardware_checks, "find_spec", lambda name: object())
    check_trainer_hardware({"accelerator": "auto", "devices": [0, 1]})
    machine(1, False)
    with pytest.raises(ConfigError, match=r"trainer.devices is at most 1"):
        check_trainer_hardware({"accelerator": "auto", "devices": [0, 1]})


@pytest.mark.parametrize(
    ("num_nodes", "address", "is_refused"), [(2, None, True), (2, "10.0.0.1", False), (1, None, False)]
)
def test_several_nodes_need_a_launcher_or_an_address(
    num_nodes: int, address: str | None, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MASTER_ADDR", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    if address is not None:
        monkeypatch.setenv("MASTER_ADDR", address)
    trainer = pl.Trainer(accelerator="cpu", devices=1, num_nodes=num_nodes, logger=False, enable_checkpointing=False)
    if is_refused:
        with pytest.raises(ConfigError, match=r"trainer.num_nodes=2 trains on several .+ set trainer.num_nodes=1$"):
            check_other_nodes(trainer)
    else:
        check_other_nodes(trainer)


PRECISIONS = {"fp16": "16-mixed", "bfloat16": "bf16-mixed", "bf16-mixd": "bf16-mixed", "16-mix": "16-mixed", 8: "16"}
PRECISIONS |= {"BF16-mixed": "bf16-mixed", "FP16": "16-mixed", 64.0: "64", 16.0: "16"}


@pytest.mark.parametrize(("precision", "offered"), PRECISIONS.items())
def test_a_precision_of_another_name_is_refused_with_the_nearest(precision: object, offered: str) -> None:
    told = rf"^trainer.precision is one of .+, but is .+. Set trainer.precision={offered}$"
    with pytest.raises(ConfigError, match=told):
        check_trainer_settings({"precision": precision})


def test_the_message_of_a_command_proposes_keys_as_they_were_typed(mtx: Any) -> None:
    result = mtx("task=check", "+trainer.strategy=fsdp", "trainer=cpu")
    assert result.code == 1
    assert re.search(r"the accelerator is cpu. Set \+trainer.strategy=ddp$", result.err.strip())
