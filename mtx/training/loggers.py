"""Loggers that need more than a class's name in a config."""

import os
from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger

from mtx.errors import ConfigError


def tensorboard(save_dir: str | os.PathLike[str] = ".", name: str = "tensorboard") -> TensorBoardLogger:
    """Return a logger that writes TensorBoard's event files to the folder `name` in `save_dir`.

    Raises ConfigError where the package is missing.
    """
    try:
        return TensorBoardLogger(Path(save_dir), name=name, version="")
    except ModuleNotFoundError as error:
        raise ConfigError(
            'logger=tensorboard needs a package that is missing: pip install "mtx[tensorboard]", or take logger=csv'
        ) from error


def none() -> bool:
    """Return what a Trainer takes for no logger."""
    return False
