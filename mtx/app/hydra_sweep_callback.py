"""Hydra callbacks: install mtx's sweeper when a sweep starts, and print a line when a job ends.

`mtx.sweep.job` handles the status, lock and reuse of a job, since callbacks cannot. Hydra turns their errors into
warnings, does not let them skip a job, and calls none after Ctrl-C.
"""

import logging
import os
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig, open_dict
from typing_extensions import override

from mtx.progress.progress_log import LOGGER

SWEEPER = "hydra_plugins.mtx_sweeper.MtxSweeper"


class SweepCallback(Callback):
    """Wraps the chosen sweeper in mtx's sweeper, and prints one line for each job of a sweep when the job ends.

    The log of a job goes to its own file; the terminal shows only warnings.
    """

    @override
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        # Set here: from the main config, Hydra would instantiate nested objects, such as the sampler of Optuna, twice.
        with open_dict(config):
            config.hydra.callbacks.mtx.sweeper = config.hydra.sweeper
            config.hydra.sweeper = {"_target_": SWEEPER}

    @override
    def on_job_start(self, config: DictConfig, *, task_function: TaskFunction, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            for handler in (*logging.getLogger().handlers, *logging.getLogger(LOGGER).handlers):
                if not isinstance(handler, logging.FileHandler):
                    handler.setLevel(max(handler.level, logging.WARNING))

    @override
    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            from mtx.app.command import job_of
            from mtx.own_process import OWN_PROCESS_VARIABLE
            from mtx.progress.literal_console import PlainConsole
            from mtx.sweep.job_lines import job_line
            from mtx.sweep.live_page import write_page_of_running_sweep

            job = job_of({}, config.hydra)
            assert job.sweep_dir is not None
            console = PlainConsole()
            if (told := job_line(job.folder, job.sweep_dir, console.width)) is not None:
                console.print(told, highlight=False, soft_wrap=True)
            if os.environ.get(OWN_PROCESS_VARIABLE) != "":  # a child of the sweep's process, which writes the page
                write_page_of_running_sweep(job.sweep_dir)
