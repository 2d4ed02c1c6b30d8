"""The loggers of `task=fit`: built from the config, and given the settings, ids, figures and files of the run."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from mtx.assumption_log import assume
from mtx.components.check_and_build import build_multiple
from mtx.experiment.run_context import Run
from mtx.records.config_record import JobConfig
from mtx.records.page_recipients import send_files_to
from mtx.records.report_record import Report
from mtx.redaction_and_escaping import json_redactor
from mtx.training.lightning_resume import flat_mapping
from mtx.training.logged_run import LoggedRun, SettingsLog, Value
from mtx.training.loggers import given_loggers


def run_loggers(run: Run) -> list[Logger] | bool:
    """Build the loggers of a run; False if it has none.

    Raises:
        ConfigError: A logger cannot be built, or its package is missing.
    """
    return given_loggers(build_multiple(run.config, "logger", save_dir=str(run.output_dir), run_group=sweep_name(run)))


def sweep_name(run: Run) -> str | None:
    """Return the name of the sweep of a run, by which loggers group its jobs: DATE/TIME; None outside of a sweep."""
    return "/".join(run.output_dir.absolute().parts[-3:-1]) if run.in_sweep else None


def begun_log(run: Run, trainer: pl.Trainer, data: Report) -> LoggedRun:
    """Give the loggers of a run its whole config, without secrets, and the ids of its data.

    The loggers get the files of the run, too, once its page is written. Later ranks log nothing. A strategy that forks
    or spawns trains in other processes, whose loggers this process cannot continue. So these get no figures and files.
    """
    settings = JobConfig(json_redactor(run.config)(run.config)).settings()
    ids = cast(dict[str, Value], flat_mapping(data.to_json().get("ids") or {}))
    trainer.callbacks.append(SettingsLog(settings, ids))  # type: ignore[attr-defined]  # a list
    is_here = trainer.is_global_zero and not isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)
    logged = LoggedRun(trainer.loggers if is_here else [], assume)

    def send(paths: Sequence[Path], has_failed: bool) -> None:
        logged.files(paths, has_failed=has_failed)

    if logged.takes_files:
        send_files_to(send)
    return logged
