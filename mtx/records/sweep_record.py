"""`sweep.json`: the command and the jobs of a sweep. Also the names of other files in folders of runs and sweeps."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from mtx.records.record_file import Count, FileRecord, Record

SWEEP_FILE = "sweep.json"
PAGE_FILE = "report.html"
HYDRA_FOLDER = ".hydra"


class PlannedJob(Record):
    """A planned job of a grid sweep; `config_hash` is None if the hash is known only inside of the job."""

    folder: str
    overrides: tuple[str, ...] = ()
    config_hash: str | None = None


class SweepRecord(FileRecord):
    """The command of a sweep, its jobs, and the jobs that earlier attempts completed.

    Attributes:
        command: The arguments on the command line, without those for output folders and for resuming.
        key: A hash of `command`, by which `sweep.resume=true` finds the folder.
        started: The start of the first attempt, ISO 8601.
        attempt: The number of the current attempt, from 1.
        attempt_started: The start of the current attempt, ISO 8601.
        num_jobs: The number of jobs; None if only the sweeper knows.
        num_done: The number of jobs that earlier attempts completed.
        varied: The keys whose values differ between jobs.
        jobs: The planned jobs of a grid; empty if a search chooses jobs while it runs.
        done: The config hash of each job that an earlier attempt completed, with the name of its folder.
        confirm_folders: The folders of the jobs that `sweep.confirm` added to repeat the best two arms.
        assumptions: What the current attempt assumed, such as jobs that it passed over and unequal amounts of training.
    """

    FILE: ClassVar[str] = SWEEP_FILE
    WHAT: ClassVar[str] = "record of a sweep"
    VERSION_KEY: ClassVar[str] = "sweep_version"
    VERSION: ClassVar[int] = 1
    INSTEAD: ClassVar[str] = "Sweep into another folder with hydra.sweep.dir=FOLDER, or remove the file"

    command: tuple[str, ...] = ()
    key: str | None = None
    started: str | None = None
    attempt: Count = 1
    attempt_started: str | None = None
    num_jobs: Count | None = None
    num_done: Count = 0
    varied: tuple[str, ...] = ()
    jobs: tuple[PlannedJob, ...] = ()
    done: dict[str, str] = Field(default_factory=dict)
    confirm_folders: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


def add_assumptions(folder: Path, assumptions: Sequence[str]) -> None:
    """Add assumptions to the record of a sweep. Nothing is written if the record has all of them, or is missing.

    Raises:
        DamagedError: The file cannot be read or has invalid fields.
        NewerFormatError: A newer version of mtx wrote the file.
        StoreError: The file cannot be written.
    """
    sweep = read_sweep(folder)
    if sweep is None or set(assumptions) <= set(sweep.assumptions):
        return
    added = tuple(dict.fromkeys((*sweep.assumptions, *assumptions)))
    sweep.model_copy(update={"assumptions": added}).write(folder)


def read_sweep(folder: Path) -> SweepRecord | None:
    """Return the record of a sweep from its folder; None if there is no `sweep.json`.

    Raises:
        DamagedError: The file cannot be read or has invalid fields.
        NewerFormatError: A newer version of mtx wrote the file.
    """
    return SweepRecord.read(folder)
