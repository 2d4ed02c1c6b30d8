"""Fixtures and options of all tests, such as a temporary store, so that no test touches the user's store."""

import gc
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from command_line import Mtx

sys.path.insert(0, str(Path(__file__).parent))  # lets tests of all folders import helpers such as `nasties`
# With PYTHONDONTWRITEBYTECODE, each of about a hundred subprocesses would compile mtx and the tests again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Temporary folders lie in memory: waiting for a disk to sync took up to half of the time of tests that store data.
if Path("/dev/shm").is_dir() and shutil.disk_usage("/dev/shm").free > 4 << 30:
    tempfile.tempdir = os.environ.setdefault("TMPDIR", "/dev/shm")  # the variable is for subprocesses
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads the variable on import; pytest-xdist already uses all cores


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out slow tests")
    parser.addoption("--write-durations", action="store_true", help="write the names of slow tests to slow_tests.txt")


def pytest_configure(config: pytest.Config) -> None:
    from cpu_time import Costs, Meter
    from quick import Durations, QuickTests, slow_tests
    from slow_first import SlowFirst

    is_worker = hasattr(config, "workerinput")
    if is_worker or not config.getoption("numprocesses", None):
        config.pluginmanager.register(Meter())
    if not is_worker:  # only the main process receives the reports of all tests
        costs = Costs()
        config.pluginmanager.register(costs)
        if config.getoption("--write-durations"):
            config.pluginmanager.register(Durations(costs))
    if is_worker:
        config.pluginmanager.register(SlowFirst(slow_tests(), config.workerinput["workercount"]))
    if config.getoption("--quick"):
        config.pluginmanager.register(QuickTests())


def pytest_collection() -> None:
    """Collect no garbage while modules and tests are made, which live until the end: that took seconds."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave modules and tests out of the garbage collection, and collect less often."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(200_000, 50, 50)  # with 20,000, collections took 6 % of the time


@pytest.fixture(scope="session", autouse=True)
def cached_composition() -> Iterator[pytest.MonkeyPatch]:
    """Compute once per process what configs have in common: the tests compose thousands."""
    from cached_composition import cache_composition

    with pytest.MonkeyPatch.context() as patch:
        cache_composition(patch)
        yield patch


@pytest.fixture(scope="session", autouse=True)
def store_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a temporary store for the whole session; a test can reuse the stages that earlier tests built."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTX_STORE", str(root))
        yield root


@pytest.fixture(autouse=True)
def log_settings() -> Iterator[None]:
    """Take back the logging of a command that a test ran: its handlers write to a stream that pytest has closed."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in ("mtx", "mtx.progress"))]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    disabled = logging.root.manager.disable
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler) and handler not in handlers:
                handler.close()
        logger.handlers[:] = handlers
        if logger.level != level:  # each call clears the caches of all loggers
            logger.setLevel(level)
        logger.propagate = propagate
    if logging.root.manager.disable != disabled:
        logging.disable(disabled)
    for known in loggers_of_mtx(len(logging.root.manager.loggerDict)):
        known.disabled = False


@lru_cache(maxsize=1)
def loggers_of_mtx(num_loggers: int) -> list[logging.Logger]:
    """Return the loggers of mtx's modules, which are the same as before if `num_loggers` is."""
    found = logging.root.manager.loggerDict.items()
    return [known for name, known in found if name.startswith("mtx") and isinstance(known, logging.Logger)]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every plot by an empty one."""
    from warm_process import leave_plots_empty

    leave_plots_empty(monkeypatch)


@pytest.fixture
def mtx(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], undrawn: None) -> "Mtx":
    """Return a function that runs the command: `mtx("task=show")` runs `mtx task=show`, but leaves plots empty."""
    from command_line import command  # imports Hydra and torch in a second, which most tests do not need

    return command(monkeypatch, capfd)
