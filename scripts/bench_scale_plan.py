"""Benchmark: the plan of an epoch and its first batch for synthetic lengths, and a resume late in the epoch.

The lengths are log-normal with a median of 10 tokens; those of a target vary by a quarter around those of its source.
One pair in a hundred is not selected. The files have the layout of an encoded dataset, but the ids are a file with
holes, which takes no space on the disk and reads as zeros. A child process opens them as the data module does.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_scale_prepare import sample_peaks
from numpy.typing import NDArray

CHUNK = 1 << 22  # pairs whose lengths are drawn at once
LATE = 0.99  # share of the epoch after which a run resumes
SIDES = ("source", "target")


def write_pairs(folder: Path, num_pairs: int, seed: int) -> None:
    """Write the offsets of both sides and the selected rows, and the ids as files with holes."""
    rng = np.random.default_rng(seed)
    ends = dict.fromkeys(SIDES, 0)
    files = {side: (folder / f"{side}_offsets").open("wb") for side in SIDES}
    for file in files.values():
        file.write(np.zeros(1, dtype=np.int64).tobytes())
    with (folder / "selection").open("wb") as chosen, (folder / "num_bytes").open("wb") as num_bytes:
        for first in range(0, num_pairs, CHUNK):
            size = min(CHUNK, num_pairs - first)
            source = np.exp(rng.normal(np.log(10), 0.9, size))
            target = source * np.exp(rng.normal(0, 0.25, size))
            for side, lengths in zip(SIDES, (source, target), strict=True):
                offsets = np.cumsum(np.clip(lengths, 1, 300).astype(np.int64)) + ends[side]
                ends[side] = int(offsets[-1])
                files[side].write(offsets.tobytes())
            chosen.write((first + np.flatnonzero(rng.random(size) < 0.99)).astype(np.uint32).tobytes())
            num_bytes.write((target * 4).astype(np.int64).tobytes())
    for side, file in files.items():
        file.close()
        with (folder / f"{side}_ids").open("wb") as ids:
            ids.truncate(2 * ends[side])


def measure_plan(num_pairs: int, seed: int, sampler: str = "token_budget") -> None:
    """Print the seconds and the memory of a process that plans an epoch, takes a batch, and resumes late."""
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder), num_pairs, seed)
        process = subprocess.Popen(
            [sys.executable, __file__, folder, sampler], start_new_session=True, stdout=subprocess.PIPE, text=True
        )
        peaks: dict[str, int] = {}
        stage, is_over = ["start"], threading.Event()
        watched = threading.Thread(target=sample_peaks, args=(process.pid, lambda: stage[0], peaks, is_over))
        watched.start()
        assert process.stdout is not None
        print(f"{num_pairs:>12,} pairs, sampler={sampler}; load {os.getloadavg()[0]:.1f}")
        for line in process.stdout:
            name, _, value = line.rstrip().partition(": ")
            if value:
                print(f"{'':12} {name:44} {value:>22} {peaks.get(name, 0) / 1e6:8,.0f} MB", flush=True)
            else:
                stage[0] = name
        is_over.set()
        watched.join()
        if status := process.wait():
            raise RuntimeError(f"the process that plans ended with status {status}")
        print(f"{'':12} highest sum of anonymous memory {max(peaks.values()) / 1e6:,.0f} MB", flush=True)


def _mapped(path: Path, kind: type[np.generic]) -> NDArray[np.generic]:
    return np.memmap(path, dtype=kind, mode="r")


def _timed(name: str, work: Callable[[], object]) -> object:
    print(name, flush=True)
    started, cpu = time.perf_counter(), time.process_time()
    found = work()
    print(f"{name}: {time.perf_counter() - started:.2f} s, {time.process_time() - cpu:.2f} CPU s", flush=True)
    return found


def _plan_and_load(folder: Path, sampler: str) -> None:
    """Open the pairs, plan, take the first batch, resume late, and check that the resumed batch is the right one."""
    from mtx.batches.batch_format import BatchFormat
    from mtx.batches.collate import load_kernels
    from mtx.batches.plan.static_shapes import StaticShapesPlanner
    from mtx.batches.plan.token_budget import TokenBudgetPlanner
    from mtx.data.token_rows import EncodedPairs, TokenRows
    from mtx.training.loader import EncodedBatches, EpochBatches, PlanLoader
    from mtx.training.split_data import SplitData

    ids, offsets = ([folder / f"{side}_{kind}" for side in SIDES] for kind in ("ids", "offsets"))
    source, target = (
        TokenRows(_mapped(one, np.uint16), _mapped(other, np.int64)) for one, other in zip(ids, offsets, strict=True)
    )
    pairs = EncodedPairs(source, target, _mapped(folder / "selection", np.uint32))
    layout = BatchFormat(max_source_tokens=256, max_target_tokens=256)
    load_kernels(pairs, layout)
    num_bytes = _mapped(folder / "num_bytes", np.int64)
    split = _timed("opening the split", lambda: SplitData(pairs, num_bytes, layout, "drop"))
    planner = StaticShapesPlanner() if sampler == "static_shapes" else TokenBudgetPlanner()
    draft = _timed("draft of all epochs", lambda: split.draft(planner))
    batches = EpochBatches(draft, seed=1, lengths=split.lengths)
    _timed("plan of the first epoch", batches.plan)
    loader = PlanLoader(EncodedBatches(pairs, layout), batches)
    _timed("first batch", lambda: next(iter(loader)))
    late = int(len(loader) * LATE)
    resumed = EpochBatches(draft, seed=1, lengths=split.lengths)
    loader = PlanLoader(EncodedBatches(pairs, layout), resumed)
    loader.load_state_dict({"epoch": 0, "served": [[1, late]]})
    batch = _timed(f"resume at {LATE:.0%}, to its first batch", lambda: next(iter(loader)))
    assert np.array_equal(batch["row_ids"].numpy(), batches.plan()[late])


if __name__ == "__main__":
    _plan_and_load(Path(sys.argv[1]), sys.argv[2])
