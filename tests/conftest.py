"""What all tests share: a store of their own, so that the user's is never touched."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from command_line import Mtx

sys.path.insert(0, str(Path(__file__).parent))  # for `nasties` and others, which tests of several folders share


@pytest.fixture(scope="session", autouse=True)
def store_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store for the session; stages that one test built are there for the next."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTX_STORE", str(root))
        yield root


@pytest.fixture
def mtx(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> "Mtx":
    """Run the application as a user does: `mtx("task=show")` is what `mtx task=show` does."""
    from command_line import command  # Hydra and torch take a second, which most tests do without

    return command(monkeypatch, capfd)
