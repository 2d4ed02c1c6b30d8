"""Check settings of the Trainer that Lightning checks late, or with an error that names no key of the config."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from mtx.components.checked_options import Count, Natural, problem_of
from mtx.errors import ConfigError, choices

Limit = Annotated[int, Field(ge=-1)]
Amount = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)]
Interval = Count | Annotated[float, Field(gt=0, le=1)]
CLASS = re.compile(r"\w+(\.\w+)+")  # path by which a class is imported
EXAMPLE_CALLBACK = "mtx.training.callbacks.DataCosts"
TIME = re.compile(r"\d+:\d{1,2}:\d{1,2}:\d{1,2}")  # days, hours, minutes and seconds, as Lightning reads them

# Keys of `trainer`, with the values that Lightning accepts. Their types are checked by the Trainer's signature, too.
RULES: Mapping[str, Any] = {
    "max_epochs": Limit | None,
    "max_steps": Limit,
    "min_epochs": Natural | None,
    "min_steps": Natural | None,
    "num_nodes": Count,
    "limit_train_batches": Amount | None,
    "limit_val_batches": Amount | None,
    "limit_test_batches": Amount | None,
    "limit_predict_batches": Amount | None,
    "overfit_batches": Amount,
    "check_val_every_n_epoch": Count | None,
    "num_sanity_val_steps": Limit | None,
    "log_every_n_steps": Natural | None,
    "accumulate_grad_batches": Count,
    "gradient_clip_val": Annotated[float, Field(ge=0)] | Natural | None,
    "reload_dataloaders_every_n_epochs": Natural,
}
# Names that the Trainer accepts. Lightning's registries have those of strategies and accelerators of other packages.
NAMES: Mapping[str, tuple[str, ...]] = {
    "accelerator": ("auto", "cpu", "cuda", "gpu", "mps", "tpu"),
    "strategy": ("auto", "ddp", "ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_find_unused_parameters_true", "fsdp"),
    "precision": (
        *("32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true", "32", "16", "bf16", "64"),
        *("transformer-engine", "transformer-engine-float16"),
    ),
    "profiler": ("simple", "advanced", "pytorch", "xla"),
    "gradient_clip_algorithm": ("norm", "value"),
}
CASED_NAMES = ("accelerator", "precision")  # whose values Lightning does not convert to lower case
# What other libraries, and the types of torch, call precisions of Lightning.
OTHER_NAMES: Mapping[str, str] = {
    "fp16": "16-mixed",
    "float16": "16-mixed",
    "half": "16-mixed",
    "amp": "16-mixed",
    "bfloat16": "bf16-mixed",
    "fp32": "32-true",
    "float32": "32-true",
    "fp64": "64-true",
    "float64": "64-true",
    "double": "64-true",
}
DEVICES = re.compile(r"auto|-1|\d+(, ?\d+)*,?")


def check_trainer_settings(options: Mapping[str, Any]) -> None:
    """Check the settings of the Trainer by their values alone.

    Args:
        options: the config of the group `trainer`.

    Raises:
        ConfigError: a value cannot work; the message lists every such value.
    """
    problems = [problem_of(f"trainer.{key}", RULES[key], value) for key, value in options.items() if key in RULES]
    problems.append(_interval_problem(options.get("val_check_interval")))
    problems.append(_time_problem(options.get("max_time")))
    problems.append(_callbacks_problem(options.get("callbacks")))
    problems += [_name_problem(key, options.get(key)) for key in NAMES]
    problems.append(_devices_problem(options.get("devices")))
    if found := [problem for problem in problems if problem]:
        raise ConfigError("\n".join(found))


def _callbacks_problem(value: Any) -> str | None:
    """Return what is wrong with callbacks that are no list, such as the name of a class; None if nothing is."""
    if value is None or isinstance(value, list | tuple | Mapping):
        return None
    target = value if isinstance(value, str) and CLASS.fullmatch(value) else EXAMPLE_CALLBACK
    return (
        f"trainer.callbacks is a list of callbacks, each with a _target_, or null, but is {value!r}. Set "
        f'"trainer.callbacks=[{{_target_: {target}}}]"'
    )


def _name_problem(key: str, value: Any) -> str | None:
    """Return what is wrong with the name of a strategy, an accelerator, a precision, a profiler or an algorithm."""
    if key == "precision" and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)  # Lightning takes both 16 and "16"
    if not isinstance(value, str):
        return None
    lower = value.lower()
    name = value if key in CASED_NAMES else lower
    if name in (known := NAMES[key]):
        return None
    if key in ("strategy", "accelerator"):
        from pytorch_lightning.accelerators import AcceleratorRegistry
        from pytorch_lightning.strategies import StrategyRegistry

        registry = {"strategy": StrategyRegistry, "accelerator": AcceleratorRegistry}[key]
        known = tuple(dict.fromkeys([*known, *registry]))
        if name in known:
            return None
    names = choices(lower.removesuffix(".0"), known)
    nearest = names.partition(",")[0]
    if key == "precision":
        nearest = OTHER_NAMES.get(lower, nearest)
    return f"trainer.{key} is one of {names}, but is {value!r}. Set trainer.{key}={nearest}"


def _devices_problem(value: Any) -> str | None:
    """Return what is wrong with `trainer.devices`: a number, a list of numbers, or `auto`."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and (value > 0 or value == -1)
    is_text = isinstance(value, str) and DEVICES.fullmatch(value) is not None and value.strip("0") != ""
    if value is None or is_number or is_text or (isinstance(value, list | tuple) and len(value) > 0):
        return None
    return (
        "trainer.devices is a number of devices of at least 1, a list of their numbers, -1 for all, or auto, but is "
        f"{value!r}. Set trainer.devices=1"
    )


def check_validation_interval(options: Mapping[str, Any], epoch_batches: Callable[[], int]) -> None:
    """Check that a validation comes within an epoch, if its interval counts the batches of one epoch.

    Args:
        options: the config of the group `trainer`.
        epoch_batches: returns the number of training batches of an epoch; called only if it is needed.

    Raises:
        ConfigError: the interval is longer than an epoch.
    """
    interval, epochs = options.get("val_check_interval"), options.get("check_val_every_n_epoch")
    if epochs is None or isinstance(interval, bool) or not isinstance(interval, int):
        return
    devices = options.get("devices")
    ranks = devices if isinstance(devices, int) and devices > 0 else 1
    num_batches = -(-epoch_batches() // ranks)
    limit = options.get("limit_train_batches")
    if limit is not None:
        num_batches = int(num_batches * limit) if isinstance(limit, float) else min(num_batches, limit)
    if interval <= num_batches:
        return
    raise ConfigError(
        f"trainer.val_check_interval={interval} counts batches within an epoch, because "
        f"trainer.check_val_every_n_epoch={epochs} is set, but an epoch has {num_batches} batches. Set "
        f"trainer.val_check_interval={num_batches} or less, or trainer.check_val_every_n_epoch=null to count batches "
        "across epochs"
    )


def check_stream_config(config: Mapping[str, Any]) -> None:
    """Check the groups `trainer` and `budget` of a config whose data is streamed. Raises ConfigError."""
    if not config.get("datamodule", {}).get("stream"):
        return
    budget = {key: value for key, value in (config.get("budget") or {}).items() if not key.startswith("_")}
    limits = [*budget.values(), (config.get("downloader") or {}).get("n")]
    check_stream_settings(config.get("trainer") or {}, is_limited=any(limit is not None for limit in limits))


def check_stream_settings(options: Mapping[str, Any], *, is_limited: bool) -> None:
    """Check the settings of a Trainer for a streamed training split.

    Args:
        options: the settings by name; a missing one has its default.
        is_limited: whether a budget or the source limits the training.

    Raises:
        ConfigError: a setting needs the number of batches, or neither steps nor rows are limited.
    """
    steps = options.get("max_steps")
    if not is_limited and (steps is None or steps < 0):
        raise ConfigError(
            "datamodule.stream=true needs an end that does not depend on the size of the source, but neither "
            "trainer.max_steps, downloader.n nor a budget is set. Set trainer.max_steps=10000"
        )
    if options.get("overfit_batches"):
        raise ConfigError(
            f"trainer.overfit_batches={options['overfit_batches']} repeats the first batches, which a stream cannot. "
            "Set trainer.overfit_batches=0, or datamodule.stream=false"
        )
    for name, instead in (("limit_train_batches", 1000), ("val_check_interval", 1000)):
        value = options.get(name)
        if isinstance(value, float) and value < 1:
            raise ConfigError(
                f"trainer.{name}={value} is a share of an epoch, whose number of batches a stream does not know. Set a "
                f"number of batches, such as trainer.{name}={instead}"
            )


def _interval_problem(value: Any) -> str | None:
    """Return what is wrong with `trainer.val_check_interval`: batches, a share of an epoch, or a time."""
    if value is None or isinstance(value, Mapping) or (isinstance(value, str) and TIME.fullmatch(value)):
        return None
    if problem_of("", Interval, value) is None:
        return None
    return (
        "trainer.val_check_interval is a number of batches of at least 1, a share of an epoch above 0 and at most 1.0, "
        f"a time as DD:HH:MM:SS, or null, but is {value!r}. Set trainer.val_check_interval=100, or "
        "trainer.limit_val_batches=0 for no validation"
    )


def _time_problem(value: Any) -> str | None:
    """Return what is wrong with `trainer.max_time`."""
    if value is None or isinstance(value, Mapping) or (isinstance(value, str) and TIME.fullmatch(value)):
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    seconds = f", or budget.seconds={value:g} for seconds of training" if is_number else ", or budget.seconds=3600"
    time = _as_time(value) if is_number else "00:01:00:00"
    return f"trainer.max_time is a time as DD:HH:MM:SS, or null, but is {value!r}. Set trainer.max_time={time}{seconds}"


def _as_time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days:02}:{hours:02}:{minutes:02}:{rest:02}"
