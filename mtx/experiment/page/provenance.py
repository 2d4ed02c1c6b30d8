"""Where results come from: what was built and what was reused, settings, versions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtx.experiment.page.profile import mapping
from mtx.experiment.page.ranking import brief
from mtx.experiment.sweep.results import NOT_COMPARED, JobRecord
from mtx.experiment.sweep.summary import told

MOST_JOBS = 8  # named in a cell
LONGEST_SETTING = 400  # characters
OUTPUTS = ("raw", "filtered", "tokenizer", "encoded")


@dataclass(frozen=True)
class Stage:
    """The outputs of one stage.

    Attributes:
        name: of the stage.
        num_outputs: how many different ones the jobs used.
        built_by: names of the jobs that built one of them.
        num_built: outputs that these jobs built.
        reused: uses of an output by a job that had not built it.
    """

    name: str
    num_outputs: int
    built_by: tuple[str, ...]
    num_built: int
    reused: int


def stages(jobs: Sequence[JobRecord]) -> tuple[Stage, ...]:
    """Return what was built and what was reused, stage by stage."""
    used: dict[str, dict[str, list[JobRecord]]] = {stage: {} for stage in OUTPUTS}
    for job in jobs:
        for stage, ids in mapping(job.report.get("ids")).items():
            for name in dict.fromkeys(_names(ids)):
                used.setdefault(str(stage), {}).setdefault(name, []).append(job)
    found = []
    for stage, outputs in used.items():
        built = [(name, job) for name, users in outputs.items() for job in users if name in _built(job)]
        uses = sum(len(users) for users in outputs.values())
        names = tuple(dict.fromkeys(job.name for _, job in built))
        if outputs:
            found.append(Stage(stage, len(outputs), names, len({name for name, _ in built}), uses - len(built)))
    return tuple(found)


def versions(jobs: Sequence[JobRecord]) -> tuple[tuple[str, str], ...]:
    """Return the version of each package; several where jobs had several."""
    found: dict[str, dict[str, None]] = {}
    for job in jobs:
        for name, version in mapping(job.report.get("versions")).items():
            found.setdefault(str(name), {})[str(version)] = None
    return tuple((name, " and ".join(each)) for name, each in sorted(found.items()))


def settings(jobs: Sequence[JobRecord], varied: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return what all jobs had in common: groups' options, then values."""
    having = [job for job in jobs if job.config]
    if not having:
        return ()
    first = having[0]
    options = [
        (name, option)
        for name, option in first.choices.items()
        if name not in NOT_COMPARED and all(job.choices.get(name) == option for job in having)
    ]
    shared = [
        (key, brief(told(value), LONGEST_SETTING))
        for key, value in first.config.items()
        if key not in varied
        and key.partition(".")[0] not in NOT_COMPARED
        and all(key in job.config and job.config[key] == value for job in having)
    ]
    return (*options, *shared)


def named(names: Sequence[str]) -> str:
    """Write names of jobs, not too many of them."""
    return ", ".join(names) if len(names) <= MOST_JOBS else f"{', '.join(names[:MOST_JOBS])}, …"


def _built(job: JobRecord) -> frozenset[str]:
    built = job.report.get("built")
    return frozenset(map(str, built)) if isinstance(built, list) else frozenset()


def _names(ids: Any) -> Iterator[str]:
    if isinstance(ids, str):
        yield ids
    elif isinstance(ids, Mapping):
        for item in ids.values():
            yield from _names(item)
