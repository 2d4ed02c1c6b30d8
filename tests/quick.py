"""Plugins for `scripts/test quick`, which skips slow tests, and for `scripts/test durations`, which finds them.

`slow_tests.txt` names each test function with at least `SLOW_CPU_S` of CPU time, including parameters and shared
fixtures. `scripts/test durations` runs all tests and rewrites this file.
"""

from pathlib import Path

import pytest
from cpu_time import Costs, function_of

SLOW_TESTS = Path(__file__).parent / "slow_tests.txt"
SLOW_CPU_S = 1.0


class QuickTests:
    """Deselects the tests that are marked `slow` or listed in `slow_tests.txt`."""

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        slow = set(SLOW_TESTS.read_text().split())
        left_out = {item for item in items if item.get_closest_marker("slow") or function_of(item.nodeid) in slow}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


class Durations:
    """Writes the names of slow test functions to `slow_tests.txt`."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs

    def pytest_sessionfinish(self) -> None:
        shared = self.costs.shared  # a slow shared fixture makes each of its test functions slow
        slow = sorted(name for name, cost in self.costs.by_function.items() if cost + shared[name] >= SLOW_CPU_S)
        SLOW_TESTS.write_text("\n".join(slow) + "\n")
