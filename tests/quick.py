"""Plugins for `scripts/test quick`, which skips slow tests, and for `scripts/test durations`, which finds them.

`slow_tests.txt` names each test function with at least `SLOW_CPU_S` of CPU time, including parameters and shared
fixtures. `scripts/test durations` runs all tests and rewrites this file. It also writes the times of each test function
to `outputs/test_times_s.tsv`.
"""

import re
from pathlib import Path

import pytest
from cpu_time import Costs, function_of

SLOW_TESTS = Path(__file__).parent / "slow_tests.txt"
TIMES = Path(__file__).parents[1] / "outputs" / "test_times_s.tsv"
SLOW_CPU_S = 0.2


def slow_tests() -> set[str]:
    """Return the names of the test functions that are listed as slow."""
    return set(SLOW_TESTS.read_text().split())


class QuickTests:
    """Deselects the tests that are marked `slow` or listed in `slow_tests.txt`, and imports no file without others."""

    def __init__(self) -> None:
        self.slow = slow_tests()

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        if not collection_path.match("test_*.py"):
            return None
        file = collection_path.relative_to(config.rootpath).as_posix()
        names = re.findall(r"^def (test_\w+)", collection_path.read_text(encoding="utf-8"), re.MULTILINE)
        return (names != [] and {f"{file}::{name}" for name in names} <= self.slow) or None

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        left_out = {item for item in items if item.get_closest_marker("slow") or function_of(item.nodeid) in self.slow}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


class Durations:
    """Writes the names of slow test functions, and the times of all, in seconds.

    The columns are the CPU time of the function, that of its shared fixtures, the wall time, and the name.
    """

    def __init__(self, costs: Costs) -> None:
        self.costs = costs

    def pytest_sessionfinish(self) -> None:
        shared = self.costs.shared  # a slow shared fixture makes each of its test functions slow
        slow = sorted(name for name, cost in self.costs.by_function.items() if cost + shared[name] >= SLOW_CPU_S)
        SLOW_TESTS.write_text("\n".join(slow) + "\n")
        TIMES.parent.mkdir(exist_ok=True)
        lines = [
            f"{cost:.2f}\t{shared[name]:.2f}\t{self.costs.wall_s[name]:.2f}\t{name}\n"
            for name, cost in sorted(self.costs.by_function.items(), key=lambda each: -each[1])
        ]
        TIMES.write_text("".join(lines))
