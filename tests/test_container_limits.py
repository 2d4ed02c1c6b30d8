"""The limits of a container bound cores and memory."""

from pathlib import Path

import pytest

from mtx import container_limits
from mtx.container_limits import available_bytes, quota_cores


def limits_in(folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(container_limits, "CGROUPS", folder)
    monkeypatch.setattr(container_limits, "OWN_GROUPS", folder / "own")
    monkeypatch.setattr(container_limits, "MEMINFO", folder / "meminfo")
    monkeypatch.setattr(container_limits, "granted_cores", lambda: 32)


def test_the_smallest_limit_of_version_2_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "own": "0::/pod/job\n",
        "meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n",
        "pod/cpu.max": "250000 100000\n",
        "pod/job/cpu.max": "max 100000\n",
        "pod/memory.max": "6000000\n",
        "pod/memory.current": "5000000\n",
        "pod/memory.stat": "anon 4000000\ninactive_file 700000\n",
        "pod/job/memory.max": "max\n",
    }
    limits_in(tmp_path, monkeypatch, files)
    assert quota_cores() == 3
    assert available_bytes() == 1_700_000


def test_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "own": "4:memory:/job\n1:cpu,cpuacct:/\n",
        "cpu/cpu.cfs_quota_us": "400000\n",
        "cpu/cpu.cfs_period_us": "100000\n",
        "memory/job/memory.limit_in_bytes": "9000\n",
        "memory/job/memory.usage_in_bytes": "2000\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.usage_in_bytes": "2000\n",
    }
    limits_in(tmp_path, monkeypatch, files)
    assert quota_cores() == 4
    assert available_bytes() == 7_000


def test_without_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits_in(tmp_path, monkeypatch, {"own": "0::/\n", "cpu/cpu.cfs_quota_us": "-1\n"})
    assert quota_cores() == 32
    assert available_bytes() is None
