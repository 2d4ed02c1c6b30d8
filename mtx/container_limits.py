"""Cores and memory that this process may use, with the limits of its container (cgroup version 2, or 1)."""

import math
from collections.abc import Iterator
from pathlib import Path

from mtx.cpu_count import granted_cores

CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
UNLIMITED_BYTES = 1 << 60  # cgroup version 1 shows a number above this if there is no limit


def quota_cores() -> int:
    """Return `granted_cores`, or the container's share of processor time in cores if it is smaller; at least 1."""
    quotas = [granted_cores()]
    for folder in _group_folders("cpu"):
        quota, *period = (
            _words(folder / "cpu.max")
            or [
                *_words(folder / "cpu.cfs_quota_us"),
                *_words(folder / "cpu.cfs_period_us"),
            ]
            or ["max"]
        )
        if quota.isdecimal() and period and period[0].isdecimal():
            quotas.append(math.ceil(int(quota) / int(period[0])))
    return max(1, min(quotas))


def available_bytes() -> int | None:
    """Return the memory that processes can still take before the machine or the container is full; None: unknown."""
    found = [int(value) << 10 for name, value in _table(MEMINFO).items() if name == "MemAvailable:"]
    for folder in _group_folders("memory"):
        limit = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        used = _words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes")
        if limit and used and limit[0].isdecimal() and int(limit[0]) < UNLIMITED_BYTES:
            statistics = _table(folder / "memory.stat")
            # files that were read are counted as used, but the kernel frees them when memory is needed
            cached = int(statistics.get("total_inactive_file") or statistics.get("inactive_file") or 0)
            found.append(int(limit[0]) - max(0, int(used[0]) - cached))
    return max(0, min(found)) if found else None


def _group_folders(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroup and of those around it, for a controller."""
    for line in _lines(OWN_GROUPS):
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = CGROUPS / controller if controllers else CGROUPS
        own = top / name.lstrip("/")
        for folder in (own, *own.parents):
            yield folder
            if folder == top:
                break


def _table(path: Path) -> dict[str, str]:
    """Return the first word after the name in each line, by name."""
    return {words[0]: words[1] for words in map(str.split, _lines(path)) if len(words) > 1}


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
