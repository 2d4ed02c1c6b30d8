"""Run a sweep in the process that starts it: plan the jobs, lock the folder, launch the jobs, and write the results.

Hydra calls this module through the plug-in `hydra_plugins.mtx_sweeper`, with the config that all jobs share. Launchers
may run jobs in other processes; the job's side is in `mtx.sweep.job`.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from mtx.app.command import wants_traces
from mtx.app.fatal_signal_report import watch_process
from mtx.app.hydra_internals import BASIC_LAUNCHER
from mtx.app.override_errors import readable_configs
from mtx.app.search_launch import launch_in_children
from mtx.app.sweep_plan import Sweep, planned
from mtx.assumption_log import assume
from mtx.cpu_count import usable_cores
from mtx.errors import StoreError
from mtx.own_process import is_own_process, keep_native_lines_in
from mtx.progress.literal_console import PlainConsole
from mtx.records.job_records import read_results
from mtx.records.job_status import hold_lock, read_status
from mtx.records.sweep_progress import SWEEP_LOCK
from mtx.records.sweep_record import PAGE_FILE, add_assumptions
from mtx.sweep.confirmation import confirmation_folders, confirmation_overrides, plan_confirmation
from mtx.sweep.job_lines import duration_line, first_line, job_line
from mtx.sweep.job_processes import has_died, in_child, launch_jobs
from mtx.sweep.live_page import LivePage, end_page_requests
from mtx.sweep.terminal_summary import end_sweep

LOG_FILE = "mtx.log"  # in the folder of the sweep, as in those of its jobs
# Launchers that run in a child. One of submitit starts processes that would outlive this one.
LAUNCHERS_IN_CHILD = (BASIC_LAUNCHER, "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher")
# Modules whose deprecation notices do not concern the user; from Python 3.12 on, Optuna's name its caller, Hydra.
PLUG_IN_MODULES = r"optuna\.|hydra_plugins\.|hydra\._internal\.instantiate"


def run_sweep(cfg: DictConfig, context: HydraContext, task_function: TaskFunction) -> Any:
    """Check a sweep, run it with the chosen sweeper, and print and write its results.

    Results are written even if the sweep fails or is interrupted.

    Args:
        cfg: config that all jobs share, and Hydra's part with the chosen sweeper. The sweep folder is written into it.
        context: Hydra's context, with the config loader for the jobs.
        task_function: function that runs a job.

    Raises:
        ConfigError: a job's config is invalid, `sweep.resume` names no sweep folder, or another process runs a sweep in
            the folder.
        SystemExit: a job failed, and its error has been printed.
    """
    with readable_configs():
        sweep = planned(sys.argv[1:], cfg, context.config_loader)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    busy = (
        f"another sweep is running in {sweep.folder}. Wait until it has ended, or choose another folder with "
        "hydra.sweep.dir=FOLDER"
    )
    watch_process()  # before a lock is taken, which the child that watches would hold, too
    with hold_lock(sweep.folder / SWEEP_LOCK, busy):
        keep_native_lines_in(sweep.folder / LOG_FILE)  # of jobs in other processes
        record = sweep.record()
        record.write(sweep.folder)
        _set_up(cfg, sweep)
        print(first_line(sweep.folder, record), flush=True)
        if (line := duration_line(record, OmegaConf.select(cfg, "budget.seconds"), _jobs_at_a_time(cfg))) is not None:
            print(line, flush=True)
        if record.num_jobs is None or record.num_done < record.num_jobs:
            LivePage(sweep.folder).write()
            print(f"page, which follows the sweep: {sweep.folder / PAGE_FILE}", flush=True)
        launch = _launch_grid if sweep.jobs is not None else _search
        try:
            returned = launch(sweep, cfg, context, task_function)
            _confirm(sweep, cfg, context, task_function)
        except Exception:
            results = end_sweep(sweep.folder, resume_command=sweep.resume_command)
            if wants_traces() or not results.count("failed"):
                raise  # not the error of a job, which has been printed
        except BaseException:  # Ctrl-C
            end_sweep(sweep.folder, resume_command=sweep.resume_command)
            raise
        else:
            results = end_sweep(sweep.folder, resume_command=sweep.resume_command)
        finally:
            end_page_requests(sweep.folder)
    if results.count("failed"):
        sys.exit(1)
    return returned


def _set_up(cfg: DictConfig, sweep: Sweep) -> None:
    """Write the sweep folder and the jobs' overrides into Hydra's config, where its sweepers and launchers read them.

    Launchers compose each job from `hydra.overrides.hydra`, so the folder is written there too.
    """
    said = {"hydra.sweep.dir": sweep.folder_override}
    with open_dict(cfg):
        cfg.hydra.sweep.dir = str(sweep.folder)
        if sweep.subdir is not None:
            cfg.hydra.sweep.subdir = sweep.subdir
            said["hydra.sweep.subdir"] = f"hydra.sweep.subdir='{sweep.subdir}'"
        kept = [text for text in cfg.hydra.overrides.hydra if text.partition("=")[0] not in said]
        cfg.hydra.overrides.hydra = [*kept, *said.values()]
        cfg.hydra.overrides.task = list(sweep.overrides)


def _launch_grid(sweep: Sweep, cfg: DictConfig, context: HydraContext, task_function: TaskFunction) -> Any:
    """Launch all jobs of a grid.

    Hydra's basic sweeper is not used. It would compose all jobs again, which takes 80 ms each, and it stops after a
    batch that contains a failed job.
    """
    OmegaConf.save(cfg, sweep.folder / "multirun.yaml")
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task_function, config=cfg)
    rows = [job.overrides for job in sweep.jobs or ()]
    returned = _launch(sweep, cfg, launcher, rows, size=cfg.hydra.sweeper.max_batch_size)
    for one in returned if wants_traces() else ():
        _ = one.return_value  # raises the error of a failed job
    return returned


def _launch(
    sweep: Sweep, cfg: DictConfig, launcher: Launcher, rows: Sequence[Sequence[str]], first: int = 0, **options: Any
) -> list[Any]:
    """Launch jobs, pass over those whose process died in an earlier attempt, and print a line for those that die."""
    folders = [sweep.folder / f"{sweep.prefix}{first + number}" for number in range(len(rows))]
    passed_over = set()
    jobs = (sweep.jobs or ())[first:]
    for number, folder in enumerate(folders):
        hashed = jobs[number].config_hash if number < len(jobs) else None
        died_in = sweep.died.get(hashed) if hashed else None
        earlier = sweep.folder / died_in if died_in else folder  # in a changed grid, another one
        with suppress(StoreError):  # a job with an unreadable status runs again
            if not cfg.sweep.retry and has_died(status := read_status(earlier)) and status is not None:
                passed_over.add(number)
                what = f"job {earlier.name} is passed over, because sweep.retry is false: {status.error}"
                assume(what)
                add_assumptions(sweep.folder, [what])
    is_child = cfg.hydra.launcher._target_ in LAUNCHERS_IN_CHILD and is_own_process() and not wants_traces()
    tick = LivePage(sweep.folder).tick
    launch = in_child(launcher.launch, tick) if is_child else launcher.launch
    return launch_jobs(
        launch, rows, folders, first=first, passed_over=passed_over, told=_line_printer(sweep), **options
    )


def _line_printer(sweep: Sweep) -> Callable[[Path], None]:
    """Return a function that prints the line of a job, from its folder."""
    console = PlainConsole()

    def tell(folder: Path) -> None:
        if (line := job_line(folder, sweep.folder, console.width)) is not None:
            console.print(line, highlight=False, soft_wrap=True)

    return tell


def _confirm(sweep: Sweep, cfg: DictConfig, context: HydraContext, task_function: TaskFunction) -> None:
    """Repeat the best two arms of a grid with new seeds, if `sweep.confirm` asks for it."""
    if not cfg.sweep.confirm or sweep.jobs is None:
        return
    named = {f"{sweep.prefix}{job.num}": job.overrides for job in sweep.jobs}
    named |= {folder: job.overrides for job in sweep.jobs if (folder := sweep.done.get(job.config_hash or ""))}
    results = read_results([sweep.folder])
    rows = confirmation_overrides(results, named, cfg.sweep.confirm)
    if not rows:
        return
    first = len(sweep.jobs)
    folders = confirmation_folders(results, rows, sweep.prefix, first)
    plan_confirmation(sweep.folder, dict(zip(folders, rows, strict=True)))
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task_function, config=cfg)
    _launch(sweep, cfg, launcher, rows, first)


def _search(sweep: Sweep, cfg: DictConfig, context: HydraContext, task_function: TaskFunction) -> Any:
    """Run a sweeper that chooses jobs during the sweep, and hide the deprecation warnings of its library."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=PLUG_IN_MODULES)
        sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=task_function, config=cfg)
        if is_own_process() and not wants_traces():
            is_basic = cfg.hydra.launcher._target_ == BASIC_LAUNCHER
            launch_in_children(
                sweeper,
                lambda number: sweep.folder / f"{sweep.prefix}{number}",
                str(cfg.task._target_) if is_basic else "",
                _line_printer(sweep),
                LivePage(sweep.folder).tick,
                is_in_child=cfg.hydra.launcher._target_ in LAUNCHERS_IN_CHILD,
            )
        return sweeper.sweep(list(sweep.overrides))


def _jobs_at_a_time(cfg: DictConfig) -> int:
    """Return how many jobs run at a time, as far as the launcher's option n_jobs says it as an integer; else 1."""
    typed = OmegaConf.select(cfg, "hydra.launcher.n_jobs")
    number = (typed or 1) if isinstance(typed, int) else 1  # a launcher of a user's own may take other values
    return max(number if number > 0 else usable_cores() + 1 + number, 1)  # -1: as many as there are cores
