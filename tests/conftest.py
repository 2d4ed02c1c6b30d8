"""What all tests share: a store of their own, so that the user's is never touched."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `nasties`, which tests of several folders take texts from


@pytest.fixture(scope="session", autouse=True)
def store_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store for the session; stages that one test built are there for the next."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTX_STORE", str(root))
        yield root
