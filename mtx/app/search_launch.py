"""Launch the jobs of a search so that a job that ends its process is a failed trial, and the search goes on."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.core.utils import JobStatus as HydraJobStatus

from mtx.errors import JobFailedError
from mtx.records.job_status import read_status
from mtx.sweep.job_processes import Launch, in_child, launch_jobs

OWN_TASKS = "mtx.experiment."


def launch_in_children(
    sweeper: Any,
    folder_of: Callable[[int], Path],
    task: str,
    told: Callable[[Path], None],
    while_waiting: Callable[[], None],
    *,
    is_in_child: bool,
) -> None:
    """Let the jobs of each launch of a sweeper run in a child of this process, which returns what the jobs recorded.

    The task's module is imported before, so that a child does not import torch again.

    Args:
        sweeper: a sweeper of Hydra; one without a launcher where Optuna's has it stays as it is.
        folder_of: returns the folder of a job, from its number.
        task: import path of the task, if the launcher runs the jobs in the process that calls it; else an empty text.
        told: called with the folder of each job whose process died.
        while_waiting: called about 20 times a second while a child runs.
        is_in_child: the launcher runs in a child of this process.
    """
    owner = getattr(sweeper, "sweeper", sweeper)
    launcher = getattr(owner, "launcher", None)
    if launcher is None:
        return
    if task.startswith(OWN_TASKS):
        importlib.import_module(task.rpartition(".")[0])
    launch = in_child(launcher.launch, while_waiting) if is_in_child else launcher.launch
    launcher.launch = recorded_launch(launch, folder_of, told)


def recorded_launch(launch: Launch, folder_of: Callable[[int], Path], told: Callable[[Path], None]) -> Any:
    """Return a launch whose results are read from the folders of the jobs, also for jobs whose process died."""

    def launched(job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        folders = [folder_of(initial_job_idx + number) for number in range(len(job_overrides))]
        launch_jobs(launch, job_overrides, folders, first=initial_job_idx, told=told)
        return [_recorded(folder, row) for folder, row in zip(folders, job_overrides, strict=True)]

    return launched


def _recorded(folder: Path, overrides: Sequence[str]) -> JobReturn:
    status = read_status(folder)
    result = JobReturn(overrides=overrides)
    if status is not None and status.state == "completed":
        values = tuple((status.objectives or {}).values())
        result.status = HydraJobStatus.COMPLETED
        result.return_value = values if len(values) > 1 else values[0] if values else None
    else:
        result.status = HydraJobStatus.FAILED
        error = status.error if status is not None else None
        result.return_value = JobFailedError(error or f"the job in {folder} has written no status")
    return result
