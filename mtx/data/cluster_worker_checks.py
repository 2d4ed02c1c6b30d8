"""Checks of the workers of a cluster before the first task: versions of packages, and access to the store.

The workers run functions of the standard library only, since another version of mtx may lack those of mtx.
"""

import platform
from importlib.metadata import version
from pathlib import Path

from mtx.data.cluster_worker import minor_version, version_differences
from mtx.data.task_cluster import TaskCluster
from mtx.errors import ConfigError
from mtx.library_errors import library_reason


def check_versions(cluster: TaskCluster, engine: str, ours: dict[str, str]) -> dict[str, str]:
    """Check that all workers have the versions `ours`, and return these. Raises ConfigError, which names each."""
    theirs: dict[str, dict[str, str]] = {}
    for package in ours:
        asked = (platform.python_version,) if package == "python" else (version, package)
        for worker, found in cluster.run_on_all(*asked).items():
            versions = theirs.setdefault(worker, {})
            if not isinstance(found, BaseException):
                versions[package] = minor_version(found) if package == "python" else found
    problems: dict[str, list[str]] = {}  # workers by what differs, since workers of one machine have the same
    for worker, versions in theirs.items():
        if (differing := version_differences(ours, versions)) is not None:
            problems.setdefault(differing, []).append(worker)
    if not problems:
        return ours
    listed = "; ".join(f"{_some(workers)} has {differing}" for differing, workers in problems.items())
    pinned = " ".join(f"{name}=={value}" for name, value in ours.items() if name not in ("python", "mtx"))
    raise ConfigError(
        f"the workers of {engine} need the versions of this process, so that all tasks give the same bytes, but "
        f"{listed}. On their machines, install mtx {ours.get('mtx', '')} on Python {ours['python']}, run pip install "
        f"{pinned}, and start the workers again"
    )


def check_store(cluster: TaskCluster, engine: str, path: Path, token: str) -> None:
    """Check that all workers can read the file `path`, which holds `token`. Raises ConfigError."""
    for worker, found in cluster.run_on_all(Path.read_text, path).items():
        if found == token:
            continue
        reason = library_reason(found) if isinstance(found, BaseException) else "it is another folder there"
        raise ConfigError(
            f"a worker of {engine}, {worker}, does not see the store's folder {path.parent}: {reason}. Mount the store "
            "at the same path on all machines, set storage.root=FOLDER to a shared folder, or set engine=local"
        )


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"each of {len(names)} workers, such as {names[0]},"
