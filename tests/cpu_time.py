"""Measure the CPU time of tests, print the total, and fail the run if a test or the whole suite takes too long.

CPU time includes the subprocesses that a test waits for. CPU time depends less on other load than wall time does.
"""

import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest
import warm_process

LONG_TESTS = Path(__file__).parent / "long_tests.txt"
MAX_TEST_CPU_S = 20.0
MAX_SUITE_CPU_S = 20 * 60.0  # ten minutes of wall time on two cores
MARGIN = 2.5  # the same suite took 20 CPU minutes in quiet, and 35 on a machine that others used too
NUM_LISTED = 5


def cpu_s() -> float:
    """Return the CPU time of this process and of its finished subprocesses, in seconds."""
    return sum(os.times()[:4]) + warm_process.server_cpu_s()


def reasons() -> dict[str, str]:
    """Return the tests in `long_tests.txt`, which may take longer, with the reason of each."""
    lines = LONG_TESTS.read_text().splitlines()
    return {name: reason.strip() for name, _, reason in (line.partition(" ") for line in lines if line.strip())}


def function_of(node_id: str) -> str:
    """Return the name of a test without its parameters: `tests/test_readme.py::test_every_command_runs`."""
    return node_id.partition("[")[0]


class Meter:
    """Adds the CPU time of a test to each of its reports.

    `cpu_s` is the CPU time since the previous report; the first report includes all time before it. `shared_s` is the
    CPU time of the fixtures that the test shares with other tests.
    """

    def __init__(self) -> None:
        self.before = 0.0
        self.shared: dict[pytest.FixtureDef[object], float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        before = cpu_s()
        try:
            return (yield)
        finally:
            self.shared[fixturedef] = self.shared.get(fixturedef, 0.0) + cpu_s() - before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        now = cpu_s()
        report.cpu_s = now - self.before  # type: ignore[attr-defined]
        self.before = now
        used = item._fixtureinfo.name2fixturedefs.values() if hasattr(item, "_fixtureinfo") else ()
        report.shared_s = sum(self.shared.get(found[-1], 0.0) for found in used)  # type: ignore[attr-defined]
        return report


class Costs:
    """Sums the CPU time of all tests in the main process, and prints a summary at the end.

    Attributes:
        by_function: CPU time in seconds of each test function over all its parameters, without fixtures.
        shared: CPU time in seconds of the fixtures that a test function shares with other tests.
        wall_s: Wall time in seconds of each test function, with its fixtures.
        too_long: Test calls above `MAX_TEST_CPU_S` times `MARGIN` that are not in `long_tests.txt`.
    """

    def __init__(self) -> None:
        self.by_function: defaultdict[str, float] = defaultdict(float)
        self.shared: defaultdict[str, float] = defaultdict(float)
        self.wall_s: defaultdict[str, float] = defaultdict(float)
        self.total = 0.0
        self.too_long: list[str] = []
        self.allowed = reasons()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cost = getattr(report, "cpu_s", 0.0)
        self.total += cost
        name = function_of(report.nodeid)
        self.wall_s[name] += report.duration
        if report.when != "call":
            return
        self.by_function[name] += cost
        self.shared[name] = max(self.shared[name], getattr(report, "shared_s", 0.0))
        if cost > MAX_TEST_CPU_S * MARGIN and name not in self.allowed:
            self.too_long.append(f"{report.nodeid} took {cost:.0f} s of CPU time")

    @property
    def faults(self) -> list[str]:
        """The reasons why the run fails: tests that take too long, and a total that is too large."""
        if self.total <= MAX_SUITE_CPU_S * MARGIN:
            return self.too_long
        most = MAX_SUITE_CPU_S / 60
        return [*self.too_long, f"all tests took {self.total / 60:.1f} min of CPU time, and may take {most:.0f}"]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.faults and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for fault in self.faults:
            terminalreporter.write_line(f"TOO LONG: {fault}", red=True)
        if self.too_long:
            most = f"A test may take {MAX_TEST_CPU_S:.0f} s"
            terminalreporter.write_line(f"{most}. Shorten it, or add it to {LONG_TESTS.name} with a reason.", red=True)
        longest = sorted(self.by_function, key=lambda name: -self.by_function[name])[:NUM_LISTED]
        listed = ", ".join(f"{name.rpartition('::')[2]} {self.by_function[name]:.0f} s" for name in longest)
        bound = f"of {MAX_SUITE_CPU_S / 60:.0f} that the whole suite may take"
        terminalreporter.write_line(f"CPU time: {self.total / 60:.1f} min {bound}; most: {listed}")
