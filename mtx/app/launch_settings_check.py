"""Check the settings of a sweep's launcher and sweeper before the first job."""

from collections.abc import Mapping
from typing import Any

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
