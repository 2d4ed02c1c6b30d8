"""Hold the lock of a stored dataset in another thread, as another process that uses the dataset does."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from mtx.data.repo import DatasetRepo


@contextmanager
def at_work_on(repo: DatasetRepo, name: str) -> Iterator[None]:
    held, told = threading.Event(), threading.Event()

    def hold() -> None:
        with repo.fal.lock(name):
            held.set()
            told.wait(30)

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        assert held.wait(30)
        try:
            yield
        finally:
            told.set()
        holder.result()
