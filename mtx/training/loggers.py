"""Factory functions for the `logger` config group, for loggers that need more than a class name in the config."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from mtx.errors import ConfigError

MLFLOW_VARIABLE = "MLFLOW_TRACKING_URI"  # MLflow's own setting of where runs are stored
SWEEP_TAG = "mtx.sweep"


def tensorboard(save_dir: str | os.PathLike[str] = ".", name: str = "tensorboard") -> TensorBoardLogger:
    """Return a logger that writes TensorBoard event files to the folder `name` in `save_dir`.

    Raises ConfigError if the tensorboard package is not installed.
    """
    with _extra("tensorboard"):
        return TensorBoardLogger(Path(save_dir), name=name, version="")


def wandb(
    save_dir: str | os.PathLike[str] = ".",
    project: str = "mtx",
    name: str | None = None,
    offline: bool = False,
    run_group: str | None = None,
    **settings: Any,
) -> WandbLogger:
    """Return a logger of Weights & Biases; `settings` go to Lightning's WandbLogger.

    Args:
        save_dir: the folder of the files that wandb keeps.
        project: the project of the run.
        name: the name of the run; None: wandb chooses one.
        offline: whether to send nothing; `wandb sync FOLDER` sends the run later.
        run_group: the name by which wandb groups runs; `task=fit` fills in the sweep.
        settings: further arguments, such as `entity`.

    Raises ConfigError if the wandb package is not installed.
    """
    with _extra("wandb"):
        return WandbLogger(
            name=name, save_dir=Path(save_dir), project=project, offline=offline, group=run_group, **settings
        )


def mlflow(
    save_dir: str | os.PathLike[str] = ".",
    experiment_name: str = "mtx",
    run_name: str | None = None,
    tracking_uri: str | None = None,
    tags: Mapping[str, str] | None = None,
    run_group: str | None = None,
) -> MLFlowLogger:
    """Return a logger of MLflow.

    Args:
        save_dir: not used: MLflow's store has all runs.
        experiment_name: the experiment of the run.
        run_name: the name of the run; None: MLflow chooses one.
        tracking_uri: the store of the runs; None: `MLFLOW_TRACKING_URI`, else the SQLite file `mlflow.db` in the
            working folder, with files in `mlruns`.
        tags: tags of the run.
        run_group: the value of the tag `mtx.sweep`; `task=fit` fills in the sweep.

    Raises ConfigError if the mlflow package, or the package of its SQLite store, is not installed.
    """
    store = tracking_uri or os.environ.get(MLFLOW_VARIABLE) or f"sqlite:///{Path('mlflow.db').resolve()}"
    files = Path("mlruns").resolve().as_uri() if store.startswith("sqlite:") else None
    grouped = {} if run_group is None else {SWEEP_TAG: run_group}
    with _extra("mlflow"):
        logger = MLFlowLogger(
            experiment_name=experiment_name,
            run_name=run_name,
            tracking_uri=store,
            tags={**(tags or {}), **grouped},
            artifact_location=files,
        )
        _ = logger.experiment  # opens the store, which may miss a package or refuse an address
        return logger


def none() -> bool:
    """Return False, which stands for no logger."""
    return False


def given_loggers(built: Mapping[str, Logger | bool]) -> list[Logger] | bool:
    """Return the loggers that a Trainer takes: a list, or False if there is none."""
    return [logger for logger in built.values() if isinstance(logger, Logger)] or False


@contextmanager
def _extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"logger={name} needs the {name} package, which is not installed. "
            f'Run pip install "mtx[{name}]", or set logger=csv'
        ) from error
