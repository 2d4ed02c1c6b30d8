"""Measure the peak memory of a DataLoader's processes, from `/proc/PID/smaps_rollup`."""

import os
import time
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

PAUSE_S = 0.1  # between two measurements
KINDS = ("Pss", "Pss_Anon")


class _Pairs(Dataset[int]):
    """Dataset that reads every token of both sides of a pair, and returns the number of tokens."""

    def __init__(self, pairs: Any, num_rows: int) -> None:
        self.pairs = pairs
        self.num_rows = num_rows

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, row: int) -> int:
        return sum(1 for side in (self.pairs.source[row], self.pairs.target[row]) for _ in side)


def worker_peaks(make: Callable[[], Any], *, num_rows: int, num_workers: int, batch_size: int) -> tuple[float, float]:
    """Return the peak MB of a DataLoader's processes together: proportional set size, and its part without files.

    The memory that the parent process held before is subtracted.

    Args:
        make: returns an object with rows of token ids as `source` and `target`; called in a forked process.
        num_rows: number of rows to read, in random order.
        num_workers: number of workers of the DataLoader.
        batch_size: batch size of the DataLoader.
    """
    context = get_context("fork")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=_read, args=(make, num_rows, num_workers, batch_size, ready, go))
    process.start()
    ready.wait()
    assert process.pid is not None
    before = _held(process.pid)
    go.set()
    peaks = dict.fromkeys(KINDS, 0.0)
    while process.is_alive():
        for kind, held in _held(process.pid).items():
            peaks[kind] = max(peaks[kind], held - before[kind])
        time.sleep(PAUSE_S)
    if process.exitcode:
        raise RuntimeError(f"the reading process ended with status {process.exitcode}")
    return peaks["Pss"], peaks["Pss_Anon"]


def _read(make: Callable[[], Any], num_rows: int, num_workers: int, batch_size: int, *signals: Any) -> None:
    ready, go = signals
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    ready.set()
    go.wait()
    rows = _Pairs(make(), num_rows)
    for _ in DataLoader(rows, batch_size=batch_size, shuffle=True, num_workers=num_workers):
        pass
    os._exit(0)  # freeing the lists would take seconds


def _held(process: int) -> dict[str, float]:
    """Return the memory of a process and its children, in MB by kind."""
    sums = dict.fromkeys(KINDS, 0.0)
    for number in (process, *_children(process)):
        try:
            lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):  # the process has ended
            continue
        held = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
        for kind in KINDS:
            sums[kind] += held[kind]
    return sums


def _children(process: int) -> list[int]:
    try:
        return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
