"""The training data of a run, and the command that builds a dataset anew, from the records of runs."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mtx.components.groups import PARTS
from mtx.errors import ConfigError
from mtx.records.job_status import read_status
from mtx.records.report_record import REPORT_FILE, Report
from mtx.records.run_list import ListedRun, listed_entries
from mtx.redaction_and_escaping import redacted_override

DATA_KEYS = frozenset({*PARTS, "score", "datamodule", "experiment", "seed"} - {"storage", "sampler"})


def dataset_of_run(folder: Path) -> str:
    """Return the id of the training pairs of a run, after its filter.

    Raises ConfigError if the folder has no report with such an id, and DamagedError if the report cannot be read.
    """
    report = Report.read(folder)
    if report is None or "train" not in report.ids.filtered:
        raise ConfigError(
            f"{folder} has no {REPORT_FILE} that names training pairs. Set dataset=ID, or dataset=FOLDER of one run, "
            "such as a job of a sweep"
        )
    return report.ids.filtered["train"]


def building_command(dataset_id: str, runs: Sequence[Path]) -> str | None:
    """Return the command that builds a dataset anew, by the newest run that used it and has a status; None: no run."""
    users = [run for entry in listed_entries(runs) for run in entry.runs if dataset_id in run.used]
    return next((command for run in users if (command := prepare_command(run)) is not None), None)


def prepare_command(run: ListedRun) -> str | None:
    """Return the command `mtx task=prepare` with all overrides of a run that decide its data; None without a status."""
    status = read_status(run.folder)
    if status is None:
        return None
    kept = [
        redacted_override(override)
        for override in status.overrides
        if override.lstrip("+~").partition("=")[0].partition(".")[0].partition("@")[0] in DATA_KEYS
    ]
    single = ["hydra.mode=RUN"] if any(override.startswith("experiment=") for override in kept) else []
    return shlex.join(["mtx", "task=prepare", *kept, *single])
