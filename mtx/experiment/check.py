"""`task=check`: validate the config and its components without reading any data."""

import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mtx.assumption_log import assume
from mtx.components.unchanged_packaged_options import is_packaged
from mtx.errors import ConfigError
from mtx.experiment.run_context import DATA_GROUPS, Run, datamodule_of, without_lightning
from mtx.training.trainer_settings import check_stream_config

PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "datasets", "tokenizers", "pyarrow", "numpy")
SLOW = ("torch", "pytorch_lightning", "transformers")  # packages whose import takes seconds

NOTHING_SLOW = "neither torch nor Lightning: mtx's own options are checked without importing them"


def check_only(run: Run) -> None:
    """Build the components that need no data, validate the others, and print their names and package versions.

    The function builds the store, downloader, filter, tokenizer, sampler and data module. It builds the Trainer with
    its callbacks, and the loggers, if their settings are changed. If settings of the reference model are changed, the
    model is built for a stand-in vocabulary. The arguments of other models are checked against their signature, because
    the data decides the sizes. mtx's own options need no import for this check. Torch and Lightning are imported only
    for user-defined components, for changed settings of the model, the Trainer or the logger, and for a checkpoint.
    """
    config = without_lightning(run.config)
    datamodule_of(config)  # raises the errors that a component's constructor finds in its own values
    check_stream_config(config)
    loggers = run.config.get("logger") or {}
    is_changed = "trainer" in config and not is_packaged("trainer", config)
    if is_changed or not all(is_packaged("logger", config, name) for name in loggers):
        _build_trainer(run)
    if "model" in config and not is_packaged("model", config):
        from mtx.experiment.model_check import check_model

        check_model(run)
    if run.config.get("ckpt") is not None:
        _check_checkpoint(run, run.config["ckpt"])
    targets = {group: str(config[group]["_target_"]).rpartition(".")[2] for group in DATA_GROUPS}
    run.console.print("The config is valid.")
    scorers = config.get("score") or {}
    targets |= {f"score.{name}": str(of["_target_"]).rpartition(".")[2] for name, of in scorers.items()}
    run.console.print("built    " + ", ".join(f"{group} {name}" for group, name in targets.items()), highlight=False)
    of_group = {group: run.config[group] for group in ("model", "trainer") if group in run.config}
    checked = {**of_group, **{f"logger.{name}": of for name, of in loggers.items()}}
    names = ", ".join(f"{key} {str(of['_target_']).rpartition('.')[2]}" for key, of in checked.items())
    run.console.print(f"checked  {names}", highlight=False)
    loaded = ", ".join(name for name in SLOW if name in sys.modules)
    run.console.print(f"loaded   {loaded or NOTHING_SLOW}", highlight=False)
    found = ", ".join(f"{name} {_version(name)}" for name in ("mtx", *PACKAGES))
    run.console.print(f"versions Python {platform.python_version()}, {found}", highlight=False)


def _build_trainer(run: Run) -> None:
    """Build the Trainer and the logger as `task=fit` does. Raises ConfigError if their settings are refused."""
    from mtx.experiment.fit import build_trainer, quiet_lightning  # which imports Lightning
    from mtx.training.training_record import TrainingRecord

    with quiet_lightning():
        build_trainer(run, TrainingRecord(run.output_dir / "training.json"), run.build("budget"))


def _check_checkpoint(run: Run, ckpt: Any) -> None:
    """Read the checkpoint from which `task=fit` would resume. Raises ConfigError if it is none, or is damaged."""
    from mtx.components.checked_options import problem_of
    from mtx.training.checkpoint_selection import UnsafeContentError, checkpoint_path, weight_shapes

    if problem := problem_of("ckpt", str, ckpt):
        raise ConfigError(problem)
    path = checkpoint_path(ckpt, config=run.config, output_dir=run.output_dir, say=assume)
    if path is not None:
        with suppress(UnsafeContentError):  # `task.trust_ckpt=true` allows it
            weight_shapes(path)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
