"""A full disk, a quota, a folder nobody may write to, a clock that jumps: a clear message, and the store unharmed."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest
import warm_process
from conf_options import storages

from mtx.data.dataset import TranslationDataset
from mtx.data.garbage_collection import store_leftovers
from mtx.data.store import Store
from mtx.data.verify import verify_store
from mtx.errors import StoreError

LAYERS = storages()
ROWS = [{"src": "one", "tgt": "eins"}]


def dataset_of(name: str, number: int = 1) -> TranslationDataset:
    fields: dict[str, Any] = {"name": "small", "stage": "raw", "split": "train", "languages": ("en", "de")}
    return TranslationDataset(id=name, data=ROWS * number, **fields)


@pytest.fixture(params=LAYERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    store = Store(root=tmp_path / "store", **LAYERS[request.param])
    store.repo.add(dataset_of("before"))
    return store


def check_unharmed(store: Store, *names: str) -> None:
    assert store.repo.show()["id"].tolist() == ["before", *names]
    assert list(store.repo.get("before").rows) == ROWS
    assert verify_store(store, full=True).findings == []
    assert store_leftovers(store) == []


FILLER = """
import resource, signal, sys
from tests_of_mtx import LAYERS, Store, dataset_of
store = Store(root=sys.argv[1], **LAYERS[sys.argv[2]])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does by itself
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
store.repo.add(dataset_of("large", 20_000))
"""


@pytest.mark.parametrize("option", LAYERS)
def test_a_file_that_the_system_lets_grow_no_further_is_reported(tmp_path: Path, option: str) -> None:
    store = Store(root=tmp_path, **LAYERS[option])
    store.repo.add(dataset_of("before"))
    script = FILLER.replace("tests_of_mtx", Path(__file__).stem)
    folders = (str(Path(__file__).parent), str(Path(__file__).parents[1]))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    done = warm_process.run("-c", script, tmp_path, option, env=environment)
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert (
        "cannot be written: File too large. Nothing stored before has changed. Free disk space, get write permission, "
        "or choose another place: storage.root=FOLDER for the store, hydra.run.dir=FOLDER for the files of a run, "
        "to=FILE for what a task writes elsewhere"
    ) in message
    check_unharmed(store)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_disk_that_refuses_is_reported_and_the_next_run_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(
            StoreError, match=rf"cannot be written: {os.strerror(code)}. Nothing stored before has changed"
        ):
            store.repo.add(dataset_of("two"))
    check_unharmed(store)
    store.repo.add(dataset_of("two"))
    check_unharmed(store, "two")


@pytest.mark.parametrize("jump_s", [-50 * 365 * 86400, 50 * 365 * 86400])
def test_a_clock_that_jumps_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, jump_s: int) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    monkeypatch.setattr(time, "time_ns", lambda: int((real() + jump_s) * 1e9))
    for path in store.root.rglob("*"):  # as if written then
        os.utime(path, (real() + jump_s, real() + jump_s))
    check_unharmed(store)
    store.repo.add(dataset_of("two"))
    check_unharmed(store, "two")
