"""Hydra plug-in with mtx's sweeper, which wraps the sweeper that the user chose.

Hydra loads sweepers only from the namespace package `hydra_plugins`. It imports this module in every Hydra application
of the environment, so modules of mtx are imported only when a sweep starts. `mtx.app.hydra_sweep_callback` selects
this sweeper for mtx.
"""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class MtxSweeper(Sweeper):
    """Runs a sweep of mtx with the sweeper that the config group `hydra/sweeper` chose."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context, and restore the sweeper config that `SweepCallback` moved to `callbacks.mtx`."""
        with open_dict(config):
            config.hydra.sweeper = config.hydra.callbacks.mtx.pop("sweeper")
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Check all jobs, run them, and return the result of the launcher or of the user's sweeper."""
        from mtx.app.sweep_run import run_sweep

        assert self.config is not None
        assert self.hydra_context is not None
        return run_sweep(self.config, self.hydra_context, self.task_function)
