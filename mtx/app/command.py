"""The application `mtx`: composes the config with Hydra, checks it, and runs one task.

Only `mtx.app` handles Hydra's DictConfig. Slow imports are inside functions, so that simple commands such as
`task=show` answer fast.
"""

import gc
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import mtx  # for the annotation of compose_datamodule, which LightningCLI evaluates
from mtx.app.corrected_command import config_source_words
from mtx.app.experiment_task_keys import without_keys_of_another_task
from mtx.app.fatal_signal_report import watch_process
from mtx.app.hydra_internals import omegaconf_errors_as_hydra_errors, run_single
from mtx.app.libyaml_reader import read_by_libyaml
from mtx.app.override_errors import (
    CONFIG_MODULE,
    CONFIG_NAME,
    check_flags,
    check_no_secret,
    check_options,
    completed_arguments,
    composition_error_message,
    hydra_loader,
    unreadable_config_message,
)
from mtx.app.plain_config import plain_config
from mtx.app.resolvers import READ_ONLY_TASKS, has_no_folder  # the import also registers the resolvers
from mtx.app.run_start_errors import run_error_message
from mtx.app.varied_group_overrides import hydra_arguments
from mtx.assumption_log import assume, collected_assumptions
from mtx.errors import ConfigError, MtxError
from mtx.exhausted_resources import exhausted_message
from mtx.library_errors import fault_note
from mtx.redaction_and_escaping import redacted_text, visible_text
from mtx.sweep.typed_plus import with_typed_plus

if TYPE_CHECKING:
    from rich.console import Console

    from mtx.sweep.job_spec import Job

log = logging.getLogger(__name__)

FULL_ERROR_VARIABLE = "MTX_FULL_ERROR"  # keeps the user's HYDRA_FULL_ERROR, also for child processes
NON_DATA_GROUPS = frozenset({"model", "trainer", "logger", "task"})  # groups that do not affect the data module
LOG_WIDTH = 100  # columns of a sweep job's log file
# Hydra's own options, and overrides that can turn a command into a sweep: these commands run through Hydra's `main`.
FOR_HYDRA = re.compile(r"-|[+~]*(?:hydra[./](?:mode|searchpath)|hydra/|experiment)\b")
INTERRUPTED_EXIT_CODE = 130  # the exit code of a program stopped by Ctrl-C


def main() -> None:
    """Run `mtx` from the command line.

    An error of mtx prints one message without a stack trace, and the exit code is 1. HYDRA_FULL_ERROR=1 prints stack
    traces.
    """
    os.environ.setdefault(FULL_ERROR_VARIABLE, os.environ.get("HYDRA_FULL_ERROR", "0"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of printing them
    # OpenMP threads that wait for others sleep. By default they spin, and training takes seven times as long if another
    # process uses one of the cores. torch reads the variable when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.path.append(str(Path.cwd()))  # finds a user's own classes, such as `model._target_=my_module.MyModel`
    read_by_libyaml()
    arguments = completed_arguments(sys.argv[1:])
    try:
        check_no_secret(arguments)  # before Hydra writes the overrides to files
        check_flags(arguments)
        check_options(arguments)
        # Hydra reads only sys.argv. `model=own` is added, and keys of groups that vary between jobs are rewritten.
        sys.argv[1:] = hydra_arguments(arguments)
        _run(sys.argv[1:])
    except (MtxError, HydraException, OmegaConfBaseException) as error:
        if wants_traces():
            raise
        if not isinstance(error, MtxError) and (told := exhausted_message(error)):
            _fail(told, is_exhausted=True)
        _fail(str(error) if isinstance(error, MtxError) else composition_error_message(error, arguments))
    except BrokenPipeError:
        if not _is_output_closed():
            raise
        sys.exit(1)
    except YAMLError as error:
        if wants_traces():
            raise
        _fail(unreadable_config_message(error))
    except Exception as error:
        told = run_error_message(error, arguments)
        if told is None:
            error.add_note(fault_note(error))
        if wants_traces() or told is None:
            raise
        _fail(told, is_exhausted=True)
    except KeyboardInterrupt:
        print("\nmtx: stopped. The store is intact, and the next run reuses all finished stages.", file=sys.stderr)
        sys.exit(INTERRUPTED_EXIT_CODE)


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose the config from command-line overrides, and return it as plain values.

    Raises:
        ConfigError: an override is invalid, or the config cannot be composed.
    """
    if isinstance(overrides, str) or not all(isinstance(each, str) for each in overrides):
        listed = [overrides] if isinstance(overrides, str) else [str(each) for each in overrides]
        raise ConfigError(f"overrides are a list of texts, but are {overrides!r}. Write {listed!r}")
    check_options(overrides)
    try:
        with hydra_loader(), omegaconf_errors_as_hydra_errors():
            return plain_config(hydra.compose(CONFIG_NAME, overrides=completed_arguments(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(composition_error_message(error, overrides)) from error


def compose_datamodule(overrides: Sequence[str] = ()) -> "mtx.TranslationDataModule":
    """Return the data module that command-line overrides describe, ready for `trainer.fit(model, dm)`.

    Example: `compose_datamodule(["downloader=local", "downloader.path=corpus.jsonl.gz", "sampler=token_budget"])`.

    Raises:
        ConfigError: the config is invalid. The check runs before any work.
    """
    from mtx.components.check_and_build import check_config
    from mtx.experiment.run_context import datamodule_of

    config = compose(overrides)
    check_config({group: options for group, options in config.items() if group not in NON_DATA_GROUPS})
    datamodule = datamodule_of(config)
    from mtx.training.datamodule import TranslationDataModule

    assert isinstance(datamodule, TranslationDataModule)
    return datamodule


def wants_traces() -> bool:
    """Return whether the user wants stack traces, by Hydra's environment variable HYDRA_FULL_ERROR=1."""
    return os.environ.get(FULL_ERROR_VARIABLE) == "1"


@omegaconf_errors_as_hydra_errors()
def _run(arguments: Sequence[str]) -> None:
    """Run a command that is not a sweep: directly if it cannot ask for a sweep, else through Hydra's `main`."""
    if any(FOR_HYDRA.match(argument) for argument in arguments):
        gc.enable()
        _hydra_main()
    else:
        run_single(_hydra_main, CONFIG_MODULE, CONFIG_NAME, arguments)


@hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=CONFIG_NAME)
def _hydra_main(cfg: DictConfig) -> Any:
    gc.enable()  # `mtx.__main__` disabled it for a faster start
    try:
        config = plain_config(cfg, also="\n".join(HydraConfig.get().overrides.hydra))  # may refer to variables
        runtime = cast(Mapping[str, Any], HydraConfig.get().runtime)
        config = without_keys_of_another_task(config, runtime, list(HydraConfig.get().overrides.task))
        return _run_job(config, HydraConfig.get())
    except MtxError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN or wants_traces():
            raise  # the sweep then continues with its other jobs
        _fail(str(error))
    except Exception as error:
        told = exhausted_message(error)
        if told is None or HydraConfig.get().mode == RunMode.MULTIRUN or wants_traces():
            raise
        _fail(told, is_exhausted=True)  # Hydra would print a line of its own first


def job_of(config: dict[str, Any], hydra_config: Any) -> "Job":
    """Return the job that Hydra runs.

    Args:
        config: config of the job, as plain values.
        hydra_config: Hydra's part of the config.
    """
    from mtx.sweep.job_spec import Job

    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    return Job(
        config,
        Path(hydra_config.runtime.output_dir),
        overrides=tuple(hydra_config.overrides.task),
        choices={
            group: str(option) for group, option in hydra_config.runtime.choices.items() if _is_own_group(group, option)
        },
        sweep_dir=Path(hydra_config.runtime.cwd) / str(hydra_config.sweep.dir) if in_sweep else None,
        config_sources=config_source_words(hydra_config),
    )


def _run_job(config: dict[str, Any], hydra_config: Any) -> Any:
    from mtx.progress.literal_console import PlainConsole

    job = job_of(config, hydra_config)
    moved_from = Path(hydra_config.runtime.cwd) if hydra_config.job.chdir else None
    if moved_from is not None:
        os.chdir(moved_from)
    if job.sweep_dir is None:
        watch_process()  # before a lock is taken, which the child that watches would hold, too
        if has_no_folder(config["task"]["_target_"], config.get("repair"), config.get("yes")):
            return _run_task(job, PlainConsole(), moved_from)  # without a status file, which nobody would read
    from mtx.sweep.job import run_job

    if job.sweep_dir is None:
        return run_job(job, lambda: _run_task(job, PlainConsole(), moved_from))
    log_file = job.folder / f"{hydra_config.job.name}.log"  # the terminal shows one line for each job of a sweep
    with log_file.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as file:
        return run_job(job, lambda: _run_task(job, PlainConsole(file=file, width=LOG_WIDTH), moved_from))


def _run_task(job: "Job", console: "Console", moved_from: Path | None) -> Any:
    """Check the config of a job, and run its task.

    Args:
        job: the job.
        console: where the task prints.
        moved_from: the working folder that `hydra.job.chdir=true` would have left; None without that setting.
    """
    from mtx.components.allowed_targets import TARGET_KEY
    from mtx.components.check_and_build import build
    from mtx.experiment.run_context import Run

    config = checked_config(job.config, job.overrides)
    task = build({**config, "task": {**config["task"], "_partial_": True}}, "task")
    in_sweep = job.sweep_dir is not None
    with collected_assumptions(sweep=job.sweep_dir) as assumptions:
        if moved_from is not None:
            assume(
                f"relative paths count from {moved_from}, where the command was typed, and the files of the run are in "
                f"{job.folder}, because hydra.job.chdir=true has no effect in mtx. Choose a folder with hydra.run.dir"
            )
        run = Run(
            config,
            output_dir=job.folder,
            console=console,
            in_sweep=in_sweep,
            overrides=job.overrides,
            config_sources=job.config_sources,
            assumptions=assumptions,
        )
        if config["task"][TARGET_KEY] in READ_ONLY_TASKS:
            return task(run=run)
        if "datamodule" in config:
            _ = run.datamodule  # built before the log reports the start, so that a config error prints one message
        from mtx.sweep.run_start_end_log import logged

        with logged(job):
            return task(run=run)


def checked_config(config: Mapping[str, Any], overrides: Sequence[str]) -> Mapping[str, Any]:
    """Return the part of a config that its task uses, after the check of all settings by names and types.

    Args:
        config: config of a run, as plain values.
        overrides: overrides of the run, whose groups are checked whether the task uses them or not.

    Raises:
        ConfigError: the config is invalid; the message lists every problem with its key.
    """
    from mtx.components.allowed_targets import TARGET_KEY, allowed_target
    from mtx.components.check_and_build import check_config
    from mtx.experiment.run_context import needed_config, without_lightning

    needed = needed_config(allowed_target(config["task"][TARGET_KEY], "task"), config, overrides)
    if "trainer" in needed:
        from mtx.training.trainer_settings import check_trainer_settings

        check_trainer_settings(needed["trainer"])
    check_config(without_lightning(needed))  # both data modules take the same options
    return needed


def _is_own_group(group: str, option: str | None) -> bool:
    """Return whether `group` is a config group of mtx that has an option chosen, not a group of Hydra."""
    return option is not None and "/" not in group and "@" not in group


def _is_output_closed() -> bool:
    """Return whether standard output is closed, as in `mtx … | head`. Python then prints no error at exit, either."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _fail(message: str, *, is_exhausted: bool = False) -> NoReturn:
    if is_exhausted:  # what libraries do at the exit may fail, too, which Python would report
        sys.unraisablehook = lambda _: None
    print(f"mtx: {visible_text(redacted_text(with_typed_plus(message, sys.argv[1:])))}", file=sys.stderr)
    sys.exit(1)
