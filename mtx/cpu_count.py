"""Numbers of CPU cores: all that this process may use, and the share of each of several parallel jobs."""

import os

from mtx.errors import ConfigError


def usable_cores() -> int:
    """Return the number of cores that the operating system lets this process use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def granted_cores() -> int:
    """Return the number of cores that this process should use: all usable cores, or OMP_NUM_THREADS if smaller."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable_cores(), int(told)) if told.isdecimal() and int(told) else usable_cores()


def cores_for_each(num_jobs: int) -> int:
    """Return the number of cores for each of `num_jobs` parallel jobs, at least 1.

    -1 means as many jobs as there are cores, as in joblib. Configs call this function as `${cores_for_each:4}`. Raises
    ConfigError if `num_jobs` is 0.
    """
    if num_jobs == 0:
        raise ConfigError("hydra.launcher.n_jobs is a number of jobs, or -1 for as many as there are cores, but is 0")
    cores = usable_cores()
    return max(1, cores // num_jobs) if num_jobs > 0 else max(1, cores // max(1, cores + 1 + num_jobs))
