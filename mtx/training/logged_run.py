"""What mtx gives the loggers of a run: its whole config, the ids of its data, the figures of its report, its page.

Lightning itself gives them only the model's hyperparameters and what the model logs.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from typing_extensions import override

from mtx.assumption_log import assume
from mtx.library_errors import library_reason
from mtx.progress.progress_log import log_trace

Value = None | bool | int | float | str

PREFIX = "report/"  # of the names of figures, so that they differ from the metrics of the training
NOT_IN_NAMES = re.compile(r"[^\w\-./ :]")  # characters that MLflow refuses in the name of a metric or parameter


class LoggedRun:
    """Gives all loggers of a run what mtx knows about it. A logger that fails is told, and never fails the run.

    Args:
        loggers: the loggers of the Trainer.
        say: takes a line about a logger that has failed.
    """

    def __init__(self, loggers: Sequence[Logger], say: Callable[[str], object]) -> None:
        self._loggers = loggers
        self._say = say

    def begin(self, settings: Mapping[str, Value], ids: Mapping[str, Value]) -> None:
        """Log the settings of the config, without secrets, and the ids of the data, by dotted names."""
        named = {_name(key): value for key, value in [*settings.items(), *((f"ids.{key}", ids[key]) for key in ids)]}
        self._each("its settings", lambda logger: logger.log_hyperparams(named))

    def figures(self, numbers: Mapping[str, float], step: int) -> None:
        """Log the numbers of the report at the last step."""
        named = {PREFIX + _name(key): value for key, value in numbers.items() if math.isfinite(value)}

        def give(logger: Logger) -> None:
            logger.log_metrics(named, step=step)
            logger.save()

        self._each("the figures of its report", give)

    @property
    def takes_files(self) -> bool:
        """Whether a logger stores files elsewhere than in the folder of the run."""
        return any(isinstance(logger, WandbLogger | MLFlowLogger) for logger in self._loggers)

    def files(self, paths: Sequence[Path], *, has_failed: bool = False) -> None:
        """Give the files of the run to all loggers that store files, and end their runs."""
        if found := [path for path in paths if path.is_file()]:
            self._each("the files of the run", lambda logger: _give_files(logger, found))
        self.close(has_failed=has_failed)

    def close(self, *, has_failed: bool = False) -> None:
        """End runs that would otherwise continue in the next job of this process."""
        self._each("the end of its run", lambda logger: _close(logger, has_failed=has_failed))

    def _each(self, what: str, give: Callable[[Logger], object]) -> None:
        for logger in self._loggers:
            try:
                give(logger)
            except Exception as error:  # of a server or a full disk, after a training that may have taken days
                self._say(f"{type(logger).__name__} did not take {what}: {library_reason(error)}{log_trace()}")


def _give_files(logger: Logger, paths: Sequence[Path]) -> None:
    if isinstance(logger, MLFlowLogger):
        for path in paths:
            logger.experiment.log_artifact(logger.run_id, str(path))
    elif isinstance(logger, WandbLogger):
        import wandb

        artifact = wandb.Artifact(f"run-{logger.experiment.id}", type="report")
        for path in paths:
            artifact.add_file(str(path))
        logger.experiment.log_artifact(artifact)
    elif isinstance(logger, TensorBoardLogger):  # its files are in the folder of the run, too
        logger.experiment.add_text("files", "\n".join(f"- {path}" for path in paths))
        logger.experiment.close()


def _close(logger: Logger, *, has_failed: bool) -> None:
    if isinstance(logger, WandbLogger):
        logger.experiment.finish(exit_code=int(has_failed))
    elif has_failed and isinstance(logger, MLFlowLogger):
        logger.finalize("failed")


def _name(key: str) -> str:
    return NOT_IN_NAMES.sub("_", key)


class SettingsLog(pl.Callback):
    """Logs the settings and the ids of a run when its training begins, in the process that trains.

    Args:
        settings: the settings of the config by dotted names, without secrets.
        ids: the ids of the data by dotted names.
    """

    def __init__(self, settings: Mapping[str, Value], ids: Mapping[str, Value]) -> None:
        self._settings = dict(settings)
        self._ids = dict(ids)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            LoggedRun(trainer.loggers, assume).begin(self._settings, self._ids)
