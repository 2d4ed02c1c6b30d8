"""One stand-in Hub for all tests that ask one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `hub_asking`, which several tests share

from hub_asking import COMMIT, Session, session


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session(tmp_path_factory.mktemp("hub")) as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave tests that ask a Hub out of `scripts/test quick`: its process takes seconds to start."""
    for item in items:
        if "process" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def hub(process: Session) -> Session:
    process.ask(fault=None)
    process.ask(hub=COMMIT)
    return process
