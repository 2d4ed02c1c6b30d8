"""Measurement of the train loader with 10 million memory-mapped pairs: time to the first batch, and memory."""

import gc
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch.utils.data import DataLoader, Dataset

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import load_kernels
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.data.encoding_stage import encoded_pairs
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.infra.dal.arrow_rows import Rows
from mtx.training.loader import EncodedBatches, EpochBatches, PlanLoader
from mtx.training.split_data import SplitData

IDLE_S = 0.5  # time in which workers fill their queues


def report(encoded: EncodedPairs, layout: BatchFormat, *, num_pairs: int, max_tokens: int) -> None:
    """Print time and memory for `num_pairs` pairs, which repeat the rows of `encoded`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoded.arrow"
        _write(path, encoded, num_pairs)
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
            _measure(table, layout, max_tokens)


def _write(path: Path, encoded: EncodedPairs, num_pairs: int) -> None:
    rows = np.arange(num_pairs) % len(encoded)
    columns = {"source_ids": _repeated(encoded.source, rows), "target_ids": _repeated(encoded.target, rows)}
    batch = pa.record_batch({**columns, "num_target_bytes": pa.array(np.ones(num_pairs, dtype=np.int64))})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def _repeated(side: TokenRows, rows: Any) -> pa.LargeListArray:
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(side.lengths[rows], dtype=np.int64)])
    values = np.resize(side.ids[: side.offsets[-1]], offsets[-1])  # same order of rows as in `side`
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def _measure(table: pa.Table, layout: BatchFormat, max_tokens: int) -> None:
    pairs = encoded_pairs(Rows(table))
    load_kernels(pairs, layout)
    gc.collect()
    before = memory_mb("Anonymous")
    started = time.perf_counter()
    split = SplitData(pairs, table["num_target_bytes"].to_numpy(), layout, "truncate")
    opened_s = time.perf_counter() - started
    opened = memory_mb("Anonymous")
    started = time.perf_counter()
    draft = split.draft(TokenBudgetPlanner(max_tokens=max_tokens))
    batches = EpochBatches(draft, lengths=split.lengths)
    passing = iter(PlanLoader(EncodedBatches(pairs, layout), batches))
    next(passing)
    first_s = time.perf_counter() - started
    gc.collect()
    after = memory_mb("Anonymous")
    plan = batches.plan()
    arrays = plan.rows.nbytes + plan.offsets.nbytes + plan.order.nbytes
    lengths = split.lengths.source.nbytes + split.lengths.target.nbytes
    print(f"\n{len(pairs):,} pairs, ids memory-mapped")
    print(f"opening the split in setup(): {opened_s:.2f} s, {opened - before:.0f} MB, ", end="")
    print(f"of which the lengths take {lengths / 2**20:.0f} MB")
    print(f"time from the request for the loader to the first batch: {first_s:.2f} s")
    print(f"memory added by the plan and the first batch, without mapped files: {after - opened:.0f} MB, ", end="")
    print(f"of which the arrays of the plan take {arrays / 2**20:.0f} MB")


def worker_mb(dataset: EncodedBatches, batches: EpochBatches, num_workers: int) -> tuple[float, float]:
    """Return the MB of proportional set size that each worker of a DataLoader adds: while loading, and while idle."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    idle = _added(lambda: iter(DataLoader(_Idle(), batch_size=None, num_workers=num_workers)))
    busy = _added(lambda: iter(DataLoader(dataset, sampler=batches, batch_size=None, num_workers=num_workers)))
    return busy / num_workers, idle / num_workers


class _Idle(Dataset[int]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        return index


def _added(serve: Any) -> float:
    gc.collect()
    before = total_pss_mb()
    passing: Iterator[Any] = serve()
    next(passing)
    time.sleep(IDLE_S)
    return total_pss_mb() - before


def total_pss_mb() -> float:
    """Return the sum of the proportional set sizes of this process and its children, in MB."""
    processes = ["self", *(str(child.pid) for child in multiprocessing.active_children())]
    return sum(memory_of(process)["Pss"] for process in processes)


def memory_mb(kind: str) -> float:
    """Return the memory of this process of one kind, such as `Rss`, in MB."""
    return memory_of("self")[kind]


def memory_of(process: str) -> dict[str, float]:
    """Return all memory sizes that Linux reports for a process in `smaps_rollup`, in MB by kind."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
