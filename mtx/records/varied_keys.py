"""The keys in which the jobs of a comparison differ."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mtx.records.report_metrics import Value

if TYPE_CHECKING:
    from mtx.records.result_types import JobRecord

# Groups that change how, not what, is computed.
UNCOMPARED_GROUPS = frozenset({"hydra", "sweep", "launcher", "sweeper", "page"})
LOCATION_KEYS = frozenset({"storage.root"})  # keys that say where, not what
SEED_KEYS = frozenset({"filter.ablation_seed"})  # keys that follow the seed, so that they do not make other arms


def varied_keys(all_jobs: Sequence["JobRecord"]) -> tuple[str, ...]:
    """Return the keys that differ between jobs, groups first, without keys that only follow from a group's option."""
    jobs = [job for job in all_jobs if job.config]
    names = dict.fromkeys(name for job in jobs for name in job.choices if name not in UNCOMPARED_GROUPS)
    options = [name for name in names if len({job.choices.get(name) for job in jobs}) > 1]
    keys = sorted({key for job in jobs for key in job.config} - LOCATION_KEYS - SEED_KEYS)
    values = []
    for key in keys:
        group = key.partition(".")[0]
        if group in UNCOMPARED_GROUPS or (key.rpartition(".")[2] in ("_target_", "_partial_") and group in options):
            continue
        within = [group] if group in options else [name for name in options if name == "experiment"]
        by_option: dict[Any, set[Value]] = {}
        for job in jobs:
            by_option.setdefault(tuple(job.choices.get(name) for name in within), set()).add(job.config.get(key))
        if any(len(found) > 1 for found in by_option.values()):
            values.append(key)
    return (*options, *values)
