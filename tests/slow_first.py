"""Let the workers of pytest-xdist begin with slow tests, so that they end together with short ones.

`--dist worksteal` gives each worker an equal, contiguous part of the tests, and a worker without tests takes over from
the end of another part. A slow test at the end of all leaves the other workers without work.
"""

from collections.abc import Collection, Sequence

import pytest
from cpu_time import function_of


class SlowFirst:
    """Puts the modules with slow tests at the beginning of the part of each worker.

    Args:
        slow: names of slow test functions, as in `slow_tests.txt`.
        num_workers: number of processes that share the tests.
    """

    def __init__(self, slow: Collection[str], num_workers: int) -> None:
        self.slow = slow
        self.num_workers = num_workers

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        ordered = slow_first([item.nodeid for item in items], self.slow, self.num_workers)
        places = {name: place for place, name in enumerate(ordered)}
        items.sort(key=lambda item: places[item.nodeid])


def slow_first(tests: Sequence[str], slow: Collection[str], num_workers: int) -> list[str]:
    """Return the node ids in the order of `num_workers` parts, each with its slow modules first.

    Tests of a module stay together, since they share fixtures. Otherwise, the order stays.
    """
    modules: dict[str, list[str]] = {}
    for name in tests:
        modules.setdefault(name.partition("::")[0], []).append(name)
    counts = {module: sum(function_of(name) in slow for name in names) for module, names in modules.items()}
    parts: list[list[str]] = [[] for _ in range(num_workers)]
    num_slow = [0] * num_workers
    for module in (module for module in modules if counts[module]):
        least = num_slow.index(min(num_slow))
        parts[least] += modules[module]
        num_slow[least] += counts[module]
    for module in (module for module in modules if not counts[module]):
        min(parts, key=len).extend(modules[module])
    return [name for part in parts for name in part]
