"""`Job`: the config, folder and overrides of a job. Separate from `job.py`, whose imports are slow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtx.components.check_and_build import Config


@dataclass(frozen=True)
class Job:
    """A job to run, of a sweep or alone.

    Attributes:
        config: The whole config as plain values.
        folder: The existing folder that gets the files of the job.
        overrides: The overrides on the command line of the job.
        choices: The option of each config group.
        sweep_dir: The folder of the job's sweep; None for a single run.
        config_sources: The words on the command line that say where Hydra finds configs, such as --config-dir=FOLDER.
    """

    config: Config
    folder: Path
    overrides: Sequence[str] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    sweep_dir: Path | None = None
    config_sources: Sequence[str] = ()
