"""Benchmark: preparation of one corpus with each engine on two local workers, and with kills of workers and the driver.

The corpus is synthetic, from the generator of `bench_scale.py`. Each engine prepares it in a new process and an own
store. The time of the stages on the engine is the time in which the driver waits for tasks, of all stages but the
training of the tokenizer. It includes the start and the end of the workers. All engines must store the same bytes. An
engine whose package is not installed is named and left out.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtx.data.engine_protocol import Engine

ENGINES = {"local": None, "dask": "distributed", "ray": "ray"}  # with the package that each needs
WORKERS = {  # part of the command line of a worker, or of the name of its process
    "local": b"mtx.data.engine_worker",
    "dask": b"multiprocessing.spawn",
    "ray": b"ray::run_task",
}
NUM_TASKS = 8  # of each stage
NUM_KILLS = 5
TASKS_PER_KILL = 3  # tasks that finish before the next kill, so that no task is hit three times, which ends a run


class TimedEngine(Engine):
    """Passes tasks to another engine, and adds up the seconds in which the driver waits for them."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.seconds = 0.0

    def _timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.seconds += time.perf_counter() - started

    def map(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        results, end = self._engine.map(task, items), object()
        while (result := self._timed(next, results, end)) is not end:
            yield result

    def cancel(self) -> None:
        self._engine.cancel()

    def close(self) -> None:
        self._timed(self._engine.close)


def engine_of(name: str, workers: int) -> Any:
    """Return an engine with a number of local workers."""
    if name == "dask":
        from mtx.data.dask_engine import DaskEngine

        return DaskEngine(workers=workers)
    if name == "ray":
        from mtx.data.ray_engine import RayEngine

        return RayEngine(workers=workers)
    from mtx.data.process_pool_engine import ProcessPoolEngine

    return ProcessPoolEngine(workers=workers)


def write_corpus(path: Path, num_pairs: int, seed: int, *, is_sample: bool) -> None:
    """Write synthetic pairs that resemble a real corpus to a Parquet file."""
    from bench_scale import SideModel, synthetic
    from bench_turns import CORPUS

    import mtx

    is_sample = is_sample or not CORPUS.exists()
    source = ["downloader=sample"] if is_sample else ["downloader=local", f"downloader.path={CORPUS}"]
    dm = mtx.compose_datamodule([*source, "tokenizer=byte", f"storage.root={path.parent / 'model'}"])
    dm.prepare_data()
    assert dm.ids is not None
    pairs = dm.storage.repo.get(dm.ids.filtered["train"]).rows.table
    models = SideModel(pairs["src"].combine_chunks()), SideModel(pairs["tgt"].combine_chunks())
    row_groups = -(-num_pairs // NUM_TASKS)  # a task reads a row group
    pq.write_table(pa.Table.from_batches(synthetic(models, num_pairs, seed)), path, row_group_size=row_groups)


def prepare_with(name: str, corpus: Path, root: Path, vocab_size: int, workers: int) -> dict[str, float]:
    """Prepare the corpus in a store with an engine, and return the seconds in all and on the engine."""
    from mtx.data.filter.default import DefaultFilter
    from mtx.data.preparation import Recipe, prepare
    from mtx.data.split import HeldOut
    from mtx.data.stage_runner import StageRunner
    from mtx.data.store import Store
    from mtx.data.tokenize.bpe import BPETokenization
    from mtx.infra.dal.arrow import ArrowFileLayer
    from mtx.infra.dal.sqlite import SQLiteObjectLayer
    from mtx.infra.dataset.sources.local import LocalDownloader

    num_rows = pq.read_metadata(corpus).num_rows
    store = Store(root=root, objects=SQLiteObjectLayer, files=ArrowFileLayer)
    engine = TimedEngine(engine_of(name, workers))
    tokenizer = BPETokenization(vocab_size=vocab_size, max_train_pairs=100_000)
    recipe = Recipe(
        LocalDownloader(path=str(corpus), source_language="en", target_language="de"),
        HeldOut(validation=50, test=50),
        DefaultFilter(),
        tokenizer,
    )
    started = time.perf_counter()
    prepare(recipe, store, StageRunner(store, engine=engine, shard_rows=-(-num_rows // NUM_TASKS)))
    return {"all_s": time.perf_counter() - started, "tasks_s": engine.seconds}


def digest_of_store(root: Path) -> str:
    """Return the SHA-256 of all payload files of a store and of their names."""
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.arrow")):
        found.update(str(path.relative_to(root)).encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def child_command(name: str, corpus: Path, root: Path, chosen: argparse.Namespace) -> list[str]:
    """Return the command that prepares the corpus in a process of its own."""
    options = ["--vocab-size", str(chosen.vocab_size), "--workers", str(chosen.workers)]
    return [sys.executable, __file__, "--child", name, "--corpus", str(corpus), "--store", str(root), *options]


def run_child(command: list[str]) -> dict[str, float]:
    """Run a child process to its end, and return its seconds."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def workers_of(name: str, pid: int) -> list[int]:
    """Return the worker processes of an engine whose driver has the id `pid`."""
    found = []
    for each in descendants(pid):
        with suppress(OSError):
            if WORKERS[name] in Path(f"/proc/{each}/cmdline").read_bytes():
                found.append(each)
    return sorted(found)


def kill_workers(name: str, driver: "subprocess.Popen[str]", root: Path, rng: np.random.Generator) -> int:
    """Kill workers while tasks run, then the driver; return the number of workers that were killed."""
    killed = total = seen = 0
    while driver.poll() is None and killed < NUM_KILLS:
        workers, found = workers_of(name, driver.pid), len(list(root.glob("scratch/*/*.json")))
        total, seen = total + max(0, found - seen), found  # the files of a stage are removed at its end
        if workers and total >= killed * TASKS_PER_KILL and list(root.glob("scratch/*/*.arrow*")):
            os.kill(int(rng.choice(workers)), signal.SIGKILL)
            killed += 1
        time.sleep(0.05)
    time.sleep(float(rng.uniform(0.5, 2.0)))  # before the driver is killed
    return killed


def run_with_kills(name: str, corpus: Path, root: Path, chosen: argparse.Namespace) -> str:
    """Prepare the corpus while workers and then the driver are killed, and again to the end; say what happened."""
    rng = np.random.default_rng(chosen.seed)
    command = child_command(name, corpus, root, chosen)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        killed = kill_workers(name, driver, root, rng)
        children = descendants(driver.pid)
        was_running = driver.poll() is None
        driver.kill()
    started = time.monotonic()
    while (left := [pid for pid in children if Path(f"/proc/{pid}").exists()]) and time.monotonic() - started < 30:
        time.sleep(0.1)
    seconds = time.monotonic() - started
    ended = f"{len(left)} of {len(children)} processes left after 30 s" if left else "all its processes ended"
    shards = len(list(root.glob("scratch/*/*.json")))
    run_child(command)
    return (
        f"{killed} workers and {'the driver' if was_running else 'no driver, which had ended,'} killed; {ended} within "
        f"{seconds:.1f} s; {shards} finished tasks were in the store"
    )


def compare(corpus: Path, folder: Path, chosen: argparse.Namespace) -> None:
    """Print the times of all engines as ratios, and compare their bytes, without and with kills."""
    names = [name for name in chosen.engines if ENGINES[name] is None or find_spec(str(ENGINES[name])) is not None]
    for name in chosen.engines:
        if name not in names:
            print(f"NOT TRIED: engine={name}, since the package {ENGINES[name]} is not installed", flush=True)
    seconds, digests = {}, {}
    for name in [name for _ in range(chosen.rounds) for name in names]:
        root = folder / f"store-{name}-{len(seconds.get(name, []))}"
        seconds.setdefault(name, []).append(run_child(child_command(name, corpus, root, chosen)))
        digests[name] = digest_of_store(root)
        assert len(set(digests.values())) == 1, digests
    base = {key: min(each[key] for each in seconds[names[0]]) for key in ("all_s", "tasks_s")}
    for name in names:
        best = {key: min(each[key] for each in seconds[name]) for key in base}
        print(
            f"engine={name}: {best['all_s']:.1f} s in all, ratio {base['all_s'] / best['all_s']:.2f}; stages on the "
            f"engine {best['tasks_s']:.1f} s, ratio {base['tasks_s'] / best['tasks_s']:.2f}; equal bytes; load "
            f"{os.getloadavg()[0]:.1f}",
            flush=True,
        )
    for name in names if chosen.kills else ():
        root = folder / f"killed-{name}"
        told = run_with_kills(name, corpus, root, chosen)
        assert digest_of_store(root) == digests[name], name
        print(f"engine={name}: {told}; equal bytes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=1_000_000, help="size of the corpus")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES), help="engines to compare")
    parser.add_argument("--workers", type=int, default=2, help="workers of each engine")
    parser.add_argument("--vocab-size", type=int, default=8_000, help="tokens of the vocabulary")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each engine, of which the fastest counts")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generator and of the kills")
    parser.add_argument("--sample", action="store_true", help="learn from the sample corpus that is installed with mtx")
    parser.add_argument("--kills", action="store_true", help="also kill five workers and the driver of each engine")
    parser.add_argument("--quick", action="store_true", help="generate 2000 pairs, to test the script")
    for name in ("--child", "--corpus", "--store"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        root = Path(chosen.store)
        found = prepare_with(chosen.child, Path(chosen.corpus), root, chosen.vocab_size, chosen.workers)
        print(json.dumps(found))
        return
    if chosen.quick:
        chosen.pairs, chosen.vocab_size = 2000, 400
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name) / "synthetic.parquet"
        write_corpus(corpus, chosen.pairs, chosen.seed, is_sample=chosen.sample)
        compare(corpus, Path(name), chosen)


if __name__ == "__main__":
    main()
