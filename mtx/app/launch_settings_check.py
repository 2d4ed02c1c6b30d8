"""Check the settings of a sweep's launcher and sweeper before the first job."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override, RangeSweep

from mtx.components.checked_options import Count, Natural, problem_of
from mtx.errors import ConfigError

# Keys of `hydra.launcher` and `hydra.sweeper`, with the values that the plug-ins of Hydra accept.
RULES: Mapping[str, Any] = {
    "hydra.launcher.cpus_per_task": Count | None,
    "hydra.launcher.nodes": Count,
    "hydra.launcher.tasks_per_node": Count,
    "hydra.launcher.mem_gb": Count | None,
    "hydra.launcher.gpus_per_node": Natural | None,
    "hydra.launcher.timeout_min": Count,
    "hydra.launcher.array_parallelism": Count,
    "hydra.launcher.max_num_timeout": Natural,
    "hydra.sweeper.max_batch_size": Count | None,
    "hydra.sweeper.n_trials": Count | None,
    "hydra.sweeper.n_jobs": Count,
}

MAX_VALUES = 1_000_000  # of a range; more would fill the memory before the first job


def check_ranges(overrides: Sequence[Override]) -> None:
    """Check that each sweep of a grid gives values: no `interval`, and a range that has some, as `seed=range(0,3)`.

    Raises:
        ConfigError: an interval, or a range that has no value, a step of 0, or too many values.
    """
    for override in overrides:
        if override.is_interval_sweep():
            raise ConfigError(
                f"{override.input_line} gives no values to a grid, because only a sweeper that draws values uses an "
                f"interval. Set '{override.key_or_group}=choice(VALUE,VALUE)', or choose one that draws: sweeper=optuna"
            )
        found = override.value() if override.is_range_sweep() else None
        if isinstance(found, RangeSweep) and not 1 <= (number := _num_values(found)) <= MAX_VALUES:
            key, text = override.key_or_group, str(override.input_line)
            raise ConfigError(
                f"range(START,STOP,STEP) gives the values from START up to STOP, without STOP, and must give 1 to "
                f"{MAX_VALUES:,} of them, but {text} gives {'too many' if number > 1 else 'none'}. Set "
                f"'{key}=range(0,3)', or '{key}=range(3,0,-1)' to count down"
            )


def _num_values(found: RangeSweep) -> float:
    """Return the number of values of a range; 0 if its step is 0 or not a number."""
    try:
        start, stop, step = float(found.start or 0), float(found.stop or 0), float(found.step)
        return max(0.0, math.ceil((stop - start) / step)) if step else 0.0
    except (OverflowError, ValueError):  # beyond a float, infinite, or not a number
        return math.inf if math.isfinite(float(found.step)) else 0.0


def check_job_folders(subdir: str, num_jobs: int | None) -> None:
    """Check that the folders of several jobs can differ. Raises ConfigError for one name without an interpolation."""
    if "$" not in subdir and num_jobs != 1:
        raise ConfigError(
            f"hydra.sweep.subdir is the folder of each job, and must contain an interpolation, so that no job writes "
            f"over another, but is {subdir!r}. Set 'hydra.sweep.subdir={subdir}-${{hydra.job.num}}'"
        )


def check_launch(launcher: Mapping[str, Any], sweeper: Mapping[str, Any]) -> None:
    """Check the numbers in the settings of a launcher and a sweeper.

    Raises:
        ConfigError: a value cannot work; the message lists every such value.
    """
    values = {f"hydra.launcher.{name}": launcher.get(name) for name in launcher}
    values |= {f"hydra.sweeper.{name}": sweeper.get(name) for name in sweeper if name != "params"}
    problems = [problem_of(key, RULES[key], value) for key, value in values.items() if key in RULES]
    jobs = values.get("hydra.launcher.n_jobs")
    if jobs == 0 or isinstance(jobs, bool):
        problems.append(
            f"hydra.launcher.n_jobs is an integer of at least 1, or -1 for all cores, but is {jobs!r}. Set "
            "hydra.launcher.n_jobs=-1"
        )
    if found := [problem for problem in problems if problem]:
        raise ConfigError("\n".join(found))
