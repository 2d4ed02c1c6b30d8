"""Factory functions for the `logger` config group, for loggers that need more than a class name in the config."""

import os
from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger

from mtx.errors import ConfigError


def tensorboard(save_dir: str | os.PathLike[str] = ".", name: str = "tensorboard") -> TensorBoardLogger:
    """Return a logger that writes TensorBoard event files to the folder `name` in `save_dir`.

    Raises ConfigError if the tensorboard package is not installed.
    """
    try:
        return TensorBoardLogger(Path(save_dir), name=name, version="")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "logger=tensorboard needs the tensorboard package, which is not installed. "
            'Run pip install "mtx[tensorboard]", or set logger=csv'
        ) from error


def none() -> bool:
    """Return False, which tells a Trainer to use no logger."""
    return False
