"""The application: Hydra's config in, one task done. The only place that sees a DictConfig.

Whatever is slow to import is imported inside functions, so that `mtx --help` answers at once.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mtx.errors import ConfigError, MtxError
from mtx.overrides import CONFIG_MODULE, CONFIG_NAME, completed, explain, hydra_loader

if TYPE_CHECKING:
    from mtx.training.datamodule import TranslationDataModule

WANTS_TRACES = "MTX_FULL_ERROR"  # what the user's HYDRA_FULL_ERROR was, also for processes that this one starts
NOT_DATA = frozenset({"model", "trainer", "logger", "task"})  # groups that a data module takes nothing from
INTERRUPTED = 130  # the exit code of a program stopped by Ctrl-C


def main() -> None:
    """Run `mtx` from the command line. Errors of mtx's own are one message and exit code 1, without a stack trace."""
    os.environ.setdefault(WANTS_TRACES, os.environ.get("HYDRA_FULL_ERROR", "0"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets Hydra hand errors on to us instead of printing them
    # Threads that wait for others sleep. By default they spin, and training takes seven times as long wherever another
    # process uses one of the cores. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.path.append(str(Path.cwd()))  # a user's own classes, as `model._target_=my_module.MyModel`
    sys.argv[1:] = completed(sys.argv[1:])
    try:
        _hydra_main()
    except (MtxError, HydraException, OmegaConfBaseException) as error:
        if _full_error():
            raise
        _fail(str(error) if isinstance(error, MtxError) else explain(error, sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nmtx: stopped. The store is whole, and the next run goes on with what is in it.", file=sys.stderr)
        sys.exit(INTERRUPTED)


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose the config from overrides as on the command line, as plain values. Raises ConfigError."""
    try:
        with hydra_loader():
            return _plain(hydra.compose(CONFIG_NAME, overrides=completed(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error


def compose_datamodule(overrides: Sequence[str] = ()) -> "TranslationDataModule":
    """Return the data module that overrides describe, ready for `trainer.fit(model, dm)`.

    The overrides are those of the command line: `compose_datamodule(["downloader=local",
    "downloader.path=corpus.jsonl.gz", "sampler=token_budget"])`. Raises ConfigError, before any work.
    """
    from mtx.experiment.config import check
    from mtx.experiment.run import datamodule_of

    config = compose(overrides)
    check({group: options for group, options in config.items() if group not in NOT_DATA})
    return datamodule_of(config)


@hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=CONFIG_NAME)
def _hydra_main(cfg: DictConfig) -> float | None:
    try:
        hydra_config = HydraConfig.get()
        in_sweep = hydra_config.mode == RunMode.MULTIRUN
        overrides = list(hydra_config.overrides.task)
        return _run_task(_plain(cfg), Path(hydra_config.runtime.output_dir), in_sweep=in_sweep, overrides=overrides)
    except MtxError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN or _full_error():
            raise  # so that a sweep goes on with its other jobs
        _fail(str(error))


def _run_task(config: dict[str, Any], output_dir: Path, *, in_sweep: bool, overrides: list[str]) -> float | None:
    from mtx.experiment.config import build, check
    from mtx.experiment.run import Run

    check(config)
    task = build({**config, "task": {**config["task"], "_partial_": True}}, "task")
    return cast(float | None, task(run=Run(config, output_dir=output_dir, in_sweep=in_sweep, overrides=overrides)))


def _plain(cfg: DictConfig) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {error.msg}") from error


def _full_error() -> bool:
    """Tell whether the user wants stack traces, by Hydra's own switch HYDRA_FULL_ERROR=1."""
    return os.environ.get(WANTS_TRACES) == "1"


def _fail(message: str) -> NoReturn:
    print(f"mtx: {message}", file=sys.stderr)
    sys.exit(1)
