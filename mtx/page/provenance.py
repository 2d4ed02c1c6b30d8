"""Compute the section on provenance: stages built and reused, common settings, and package versions."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtx.records.result_types import JobRecord
from mtx.records.setting_notation import brief_text, setting_text
from mtx.records.varied_keys import UNCOMPARED_GROUPS

MAX_JOBS = 8  # job names in one cell
MAX_SETTING_CHARS = 400  # characters of a setting's value
OUTPUTS = ("raw", "scores", "filtered", "tokenizer", "encoded")


@dataclass(frozen=True)
class StageOutputs:
    """The datasets or artifacts of one stage that the jobs used.

    Attributes:
        name: The name of the stage.
        num_outputs: The number of different datasets or artifacts.
        built_by: The names of the jobs that built at least one of them.
        num_built: The number of datasets or artifacts that these jobs built.
        reused: The number of times that a job used one that it had not built.
    """

    name: str
    num_outputs: int
    built_by: tuple[str, ...]
    num_built: int
    reused: int


def stage_outputs(jobs: Sequence[JobRecord]) -> tuple[StageOutputs, ...]:
    """Return for each stage how many datasets or artifacts the jobs used, built and reused."""
    used: dict[str, dict[str, list[JobRecord]]] = {stage: {} for stage in OUTPUTS}
    for job in jobs:
        for stage, ids in job.report.ids.by_stage().items():
            for name in ids:
                used.setdefault(stage, {}).setdefault(name, []).append(job)
    found = []
    for stage, outputs in used.items():
        built = [(name, job) for name, users in outputs.items() for job in users if name in job.report.built]
        uses = sum(len(users) for users in outputs.values())
        names = tuple(dict.fromkeys(job.name for _, job in built))
        if outputs:
            found.append(StageOutputs(stage, len(outputs), names, len({name for name, _ in built}), uses - len(built)))
    return tuple(found)


def package_versions(jobs: Sequence[JobRecord]) -> tuple[tuple[str, str], ...]:
    """Return the version of each package; several versions if jobs ran with different ones."""
    found: dict[str, dict[str, None]] = {}
    for job in jobs:
        for name, version in job.report.versions.items():
            found.setdefault(name, {})[version] = None
    return tuple((name, " and ".join(each)) for name, each in sorted(found.items()))


def common_settings(jobs: Sequence[JobRecord], varied: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the options and the config values that are the same in all jobs."""
    having = [job for job in jobs if job.config]
    if not having:
        return ()
    first = having[0]
    options = [
        (name, option)
        for name, option in first.choices.items()
        if name not in UNCOMPARED_GROUPS and all(job.choices.get(name) == option for job in having)
    ]
    shared = [
        (key, brief_text(setting_text(value), MAX_SETTING_CHARS))
        for key, value in first.config.items()
        if key not in varied
        and key.partition(".")[0] not in UNCOMPARED_GROUPS
        and all(key in job.config and job.config[key] == value for job in having)
    ]
    return (*options, *shared)


def names_text(names: Sequence[str]) -> str:
    """Return names of jobs as text, at most `MAX_JOBS` of them."""
    return ", ".join(names) if len(names) <= MAX_JOBS else f"{', '.join(names[:MAX_JOBS])}, …"
