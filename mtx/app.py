"""The application: Hydra's config in, one task done. The only place that sees a DictConfig.

Whatever is slow to import is imported inside functions, so that `mtx --help` answers at once.
"""

import os
import re
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
from yaml import YAMLError

from mtx import resolvers as _resolvers  # noqa: F401  # registers what configs compute
from mtx.errors import ConfigError, MtxError
from mtx.overrides import (
    CONFIG_MODULE,
    CONFIG_NAME,
    check_no_secret,
    check_options,
    completed,
    explain,
    hydra_loader,
    unreadable,
)
from mtx.shown import redacted, shown

if TYPE_CHECKING:
    from mtx.experiment.sweep.job import Job
    from mtx.multirun import Multirun
    from mtx.training.datamodule import TranslationDataModule

WANTS_TRACES = "MTX_FULL_ERROR"  # what the user's HYDRA_FULL_ERROR was, also for processes that this one starts
NOT_DATA = frozenset({"model", "trainer", "logger", "task"})  # groups that a data module takes nothing from
MAY_SWEEP = re.compile(r"-\w*m|\+?(?:hydra\.mode|experiment)=")  # `-m` among short options; overrides that can mean it
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
        check_no_secret(sys.argv[1:])  # before Hydra writes the overrides down
        check_options(sys.argv[1:])
        sweep = _sweep(sys.argv[1:])
        if sweep is None:
            _hydra_main()
        else:
            sys.exit(_run_sweep(sweep))
    except (MtxError, HydraException, OmegaConfBaseException) as error:
        if _full_error():
            raise
        _fail(str(error) if isinstance(error, MtxError) else explain(error, sys.argv[1:]))
    except YAMLError as error:
        if _full_error():
            raise
        _fail(unreadable(error))
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nmtx: stopped. The store is whole, and the next run goes on with what is in it.", file=sys.stderr)
        sys.exit(INTERRUPTED)


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose the config from overrides as on the command line, as plain values. Raises ConfigError."""
    check_options(overrides)
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


def _sweep(arguments: Sequence[str]) -> "Multirun | None":
    """Return the sweep that a command line asks for, its jobs checked; None for anything else. Raises ConfigError."""
    if not any(argument == "--multirun" or MAY_SWEEP.match(argument) for argument in arguments):
        return None
    from mtx.multirun import planned

    return planned(arguments)


def _run_sweep(sweep: "Multirun") -> int:
    """Run a sweep, then show and write its results, whatever came of it. Returns the exit code."""
    from mtx.experiment.sweep.end import end_sweep

    with sweep.running():
        sys.argv[1:] = sweep.arguments
        results = None
        try:
            _hydra_main()
        except (KeyboardInterrupt, SystemExit):
            results = end_sweep(sweep.folder, go_on=sweep.go_on)
            raise
        except Exception:
            results = end_sweep(sweep.folder, go_on=sweep.go_on)
            if _full_error() or not results.count("failed"):
                raise  # something else than a job's own error, which was told
        else:
            results = end_sweep(sweep.folder, go_on=sweep.go_on)
    return 1 if results.count("failed") else 0


@hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=CONFIG_NAME)
def _hydra_main(cfg: DictConfig) -> Any:
    try:
        return _run_job(_plain(cfg), HydraConfig.get())
    except MtxError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN or _full_error():
            raise  # so that a sweep goes on with its other jobs
        _fail(str(error))


def _run_job(config: dict[str, Any], hydra_config: Any) -> Any:
    from mtx.experiment.sweep.job import Job, run_job

    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    job = Job(
        config,
        Path(hydra_config.runtime.output_dir),
        overrides=tuple(hydra_config.overrides.task),
        choices={group: str(option) for group, option in hydra_config.runtime.choices.items() if _ours(group, option)},
        sweep_dir=Path(hydra_config.runtime.cwd) / str(hydra_config.sweep.dir) if in_sweep else None,
    )
    return run_job(job, lambda: _run_task(job, in_sweep=in_sweep))


def _run_task(job: "Job", *, in_sweep: bool) -> Any:
    from mtx.experiment.config import build, check
    from mtx.experiment.run import Run

    check(job.config)
    task = build({**job.config, "task": {**job.config["task"], "_partial_": True}}, "task")
    return task(run=Run(job.config, output_dir=job.folder, in_sweep=in_sweep, overrides=job.overrides))


def _ours(group: str, option: str | None) -> bool:
    """Tell whether a choice that Hydra made is one of mtx's groups, and not of Hydra's own."""
    return option is not None and "/" not in group and "@" not in group


def _plain(cfg: DictConfig) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {error.msg}") from error


def _full_error() -> bool:
    """Tell whether the user wants stack traces, by Hydra's own switch HYDRA_FULL_ERROR=1."""
    return os.environ.get(WANTS_TRACES) == "1"


def _output_is_closed() -> bool:
    """Tell whether nobody reads what is printed any more, as in `mtx … | head`; Python is then kept from trying."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _fail(message: str) -> NoReturn:
    print(f"mtx: {shown(redacted(message))}", file=sys.stderr)
    sys.exit(1)
