"""Check that this machine has the accelerator, the devices and the packages that settings of the Trainer need.

Lightning finds this out while it builds a Trainer, and its errors name no key of the config. A sweep may be submitted
on a machine without accelerators, so each job checks its settings where it runs.
"""

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]  # not listed

from mtx.errors import ConfigError
from mtx.training.trainer_settings import check_trainer_settings

GPUS = ("cuda", "mps")
XLA = "torch_xla"  # the package that computes on a TPU
# Strategies by the beginning of their names, and the package that they need.
STRATEGY_PACKAGES = {"deepspeed": "deepspeed", "xla": XLA, "single_xla": XLA, "single_tpu": XLA}
PRECISION_PACKAGES = {"transformer-engine": "transformer_engine"}
PROFILER_PACKAGES = {"xla": XLA}
# What a Trainer with `barebones` refuses, apart from loggers, and the values that it takes.
SLOW_FEATURES = {
    "enable_checkpointing": "false",
    "enable_progress_bar": "false",
    "log_every_n_steps": "0",
    "enable_model_summary": "false",
    "num_sanity_val_steps": "0",
    "fast_dev_run": "false",
    "detect_anomaly": "false",
    "profiler": "null",
}
FORKING = ("ddp_fork", "ddp_notebook")


def check_trainer_hardware(options: Mapping[str, Any]) -> None:
    """Check settings of the Trainer by their values, and against the accelerators and packages of this machine.

    Args:
        options: the config of the group `trainer`.

    Raises:
        ConfigError: a setting cannot work here; the message lists every such setting.
    """
    check_trainer_settings(options)
    accelerator = _accelerator(options.get("accelerator", "auto"))
    problems = [
        _accelerator_problem(options.get("accelerator"), accelerator),
        _package_problem("strategy", options.get("strategy"), STRATEGY_PACKAGES),
        _package_problem("precision", options.get("precision"), PRECISION_PACKAGES),
        _package_problem("profiler", options.get("profiler"), PROFILER_PACKAGES),
        _barebones_problem(options),
    ]
    if problems[0] is None and accelerator is not None:
        problems.append(_devices_problem(options.get("devices"), accelerator))
        problems.append(_strategy_problem(options.get("strategy"), accelerator))
    if found := [problem for problem in problems if problem]:
        raise ConfigError("\n".join(found))


def check_other_nodes(trainer: pl.Trainer) -> None:
    """Check that a Trainer of several nodes finds the others, for which it would wait half an hour.

    Raises:
        ConfigError: no launcher has started this process, and no variable names the address of the first node.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if trainer.num_nodes < 2 or not isinstance(environment, LightningEnvironment) or "MASTER_ADDR" in os.environ:
        return
    raise ConfigError(
        f"trainer.num_nodes={trainer.num_nodes} trains on several machines, but no launcher has started this process. "
        "Start the command on each machine by srun or torchrun, or set the environment variables MASTER_ADDR, "
        "MASTER_PORT and NODE_RANK. For this machine alone, set trainer.num_nodes=1"
    )


def _accelerator(value: Any) -> str | None:
    """Return the accelerator that Lightning would choose: cpu, cuda, mps or tpu.

    None stands for an object of the user, and for a machine that may have a TPU, which `auto` would choose.
    """
    if not isinstance(value, str):
        return None
    if value not in ("auto", "gpu"):
        return value
    other = "gpu" if value == "gpu" else "cpu" if find_spec(XLA) is None else None
    return next((gpu for gpu in GPUS if _num_gpus(gpu)), other)


def _num_gpus(accelerator: str) -> int:
    """Return the number of devices of `cuda` or `mps` on this machine; 0 without a driver or the right torch."""
    return torch.cuda.device_count() if accelerator == "cuda" else int(torch.backends.mps.is_available())


def _accelerator_problem(value: Any, accelerator: str | None) -> str | None:
    """Return what an accelerator lacks on this machine; None if it is there, or is one of another package."""
    there = next((name for name in GPUS if _num_gpus(name)), "cpu")
    if accelerator == "tpu" and find_spec(XLA) is None:
        lacking = f"needs a TPU and the package {XLA}, which is not installed"
    elif accelerator in ("gpu", *GPUS) and not _num_gpus(accelerator):
        what = {"cuda": "a GPU of CUDA or ROCm", "mps": "a GPU of Apple"}.get(accelerator, "a GPU")
        is_built = torch.version.cuda or torch.version.hip or accelerator == "mps"
        why = "finds none" if is_built else "is built without CUDA"
        lacking = f"needs {what}, but torch {torch.__version__} {why} on this machine"
    else:
        return None
    return f"trainer.accelerator={value} {lacking}. Set trainer.accelerator={there}, or auto for the best one"


def _devices_problem(value: Any, accelerator: str) -> str | None:
    """Return what is wrong with the number or the list of devices of an accelerator; None for those of a TPU."""
    if accelerator == "cpu":
        is_number = isinstance(value, int) and value > 0
        if value is None or value == "auto" or is_number or (isinstance(value, str) and value.isdigit()):
            return None
        listed = value if isinstance(value, list | tuple) else str(value).strip(", ").split(",")
        number = 1 if str(value) == "-1" else len(listed)
        return (
            f"trainer.devices is a number of processes on the CPU, which has no numbered devices, but is {value!r}. "
            f"Set trainer.devices={number}, or trainer.accelerator=gpu on a machine with GPUs"
        )
    if accelerator not in GPUS or value in (None, "auto", -1, "-1"):
        return None
    there = _num_gpus(accelerator)
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        is_wrong = int(value) > there
    else:
        parts = value.strip(", ").split(",") if isinstance(value, str) else value
        numbers = [int(part) for part in parts if str(part).strip().isdigit()]
        is_wrong = len(set(numbers)) < len(parts) or max(numbers, default=there) >= there
    if not is_wrong:
        return None
    return (
        f"trainer.devices is at most {there}, or a list of different numbers from 0 to {there - 1}, because there are "
        f"{there} devices of {accelerator} on this machine, but is {value!r}. Set trainer.devices={there}"
    )


def _strategy_problem(value: Any, accelerator: str) -> str | None:
    """Return why a strategy of Lightning's registry does not work with an accelerator; None if it does."""
    name = value.lower() if isinstance(value, str) else ""
    if name.startswith("fsdp") and accelerator != "cuda":
        rule = f"divides a model among GPUs of CUDA or ROCm, but the accelerator is {accelerator}"
        other = "ddp" if accelerator == "cpu" else "auto"
        return f"trainer.strategy={value} {rule}. Set trainer.strategy={other}"
    if name.startswith("ddp") and accelerator == "mps":
        return f"trainer.strategy={value} does not work on a GPU of Apple (mps). Set trainer.strategy=auto"
    if name.startswith(FORKING) and sys.platform == "win32":
        return f"trainer.strategy={value} forks processes, which Windows cannot. Set trainer.strategy=ddp_spawn"
    return None


def _package_problem(key: str, value: Any, packages: Mapping[str, str]) -> str | None:
    """Return which package a value needs that is not installed; None if it is installed, or none is needed."""
    name = value.lower() if isinstance(value, str) else ""
    package = next((packages[start] for start in packages if name.startswith(start)), None)
    if package is None or find_spec(package) is not None:
        return None
    other = {"strategy": "auto", "precision": "bf16-mixed", "profiler": "simple"}[key]
    return f"trainer.{key}={value} needs the package {package}: pip install {package}. Or set trainer.{key}={other}"


def _barebones_problem(options: Mapping[str, Any]) -> str | None:
    """Return which settings exclude `barebones`, with which Lightning measures its own overhead; None without one."""
    if options.get("barebones") is not True:
        return None
    found = {key: off for key, off in SLOW_FEATURES.items() if options.get(key) not in (False, None, 0)}
    if not found:
        return None
    values = {key: "" if isinstance(options[key], Mapping) else f"={str(options[key]).lower()}" for key in found}
    named = " and ".join(f"trainer.{key}{value}" for key, value in values.items())
    off = " ".join(f"trainer.{key}={value}" for key, value in found.items())
    return f"trainer.barebones=true excludes {named}. Leave it out, or type {off} logger=[]"
