"""Benchmark: time of a sweep of 12 jobs (3 samplers × 4 batch sizes, `task=measure`), compared with its parts.

Three commands are timed, each in a new process, start-up included:
  (a) one preparation: `mtx task=prepare` on an empty store.
  (b) one measurement: `mtx sampler=…` on the store that (a) filled, as the mean over the three samplers.
      (b) without start-up is the mean time of these jobs in one process.
  (c) the sweep: `mtx -m sampler=…` with 12 jobs, on another empty store.
The bound is (c) ≤ 1.5 × (a + 12 b), for (b) with and without start-up.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BOUND = 1.5
LOADS_LIGHTNING = "+trainer.precision=32-true"  # makes task=check import Lightning, as a sweep does to check its jobs
SAMPLERS = ("random", "bucket", "sequential")
SIZES = (16, 32, 64, 128)


def main() -> None:
    options = _options()
    common = ["datamodule.num_workers=0", *options.overrides]
    if options.pairs:
        common.append(f"downloader.n={options.pairs}")
    print(f"load before: {Path('/proc/loadavg').read_text().split()[0]}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        start_s, _ = timed(["task=check", LOADS_LIGHTNING, *common], root, "prepared")
        prepare_s, _ = timed(["task=prepare", *common], root, "prepared")
        single = [timed([f"sampler={name}", "sampler.batch_size=64", *common], root, "prepared") for name in SAMPLERS]
        measure_s = statistics.fmean(seconds for seconds, _ in single)
        _, warm = timed(["-m", f"sampler={','.join(SAMPLERS)}", "sampler.batch_size=64", *common], root, "prepared")
        alone_s = statistics.fmean(job_seconds(job.parent) for job in warm.glob("*/status.json"))
        sizes = ",".join(map(str, SIZES))
        sweep_s, sweep = timed(
            ["-m", f"sampler={','.join(SAMPLERS)}", f"sampler.batch_size={sizes}", *common], root, "swept"
        )
        jobs_s = [job_seconds(job.parent) for job in sweep.glob("*/status.json")]
    num_jobs = len(jobs_s)
    whole, bare = prepare_s + num_jobs * measure_s, prepare_s + num_jobs * alone_s
    print(f"load after: {Path('/proc/loadavg').read_text().split()[0]}")
    print("| what | seconds |")
    print("| --- | ---: |")
    print(f"| start-up: mtx task=check | {start_s:.2f} |")
    print(f"| (a) one preparation, empty store | {prepare_s:.2f} |")
    print(f"| (b) one measurement | {measure_s:.2f} |")
    print(f"| (b) without start-up | {alone_s:.2f} |")
    print(f"| (c) the sweep, {num_jobs} jobs, empty store | {sweep_s:.2f} |")
    print(f"| sum of all jobs in (c) | {sum(jobs_s):.2f} |")
    between = (sweep_s - start_s - sum(jobs_s)) / num_jobs
    print(f"| time between jobs in (c), per job, without start-up | {between:.3f} |")
    print(f"\nc ÷ (a + {num_jobs} b), start-up in each b: {sweep_s / whole:.2f}")
    print(f"c ÷ (a + {num_jobs} b), no start-up in b:   {sweep_s / bare:.2f}")
    print(f"bound: {BOUND}; {'held' if max(sweep_s / whole, sweep_s / bare) <= BOUND else 'EXCEEDED'}")


def timed(arguments: list[str], root: Path, store: str) -> tuple[float, Path]:
    """Run mtx in a new process, and return the seconds and the run folder."""
    folder = root / f"out-{time.monotonic_ns()}"
    environment = {**os.environ, "MTX_STORE": str(root / store)}
    outputs = [f"hydra.run.dir={folder}"] if arguments[0] != "-m" else [f"hydra.sweep.dir={folder}"]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "mtx", *arguments, *outputs], env=environment, capture_output=True, text=True, cwd=root
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"mtx {' '.join(arguments)} failed:\n{done.stderr}")
    return seconds, folder


def job_seconds(folder: Path) -> float:
    return float(json.loads((folder / "status.json").read_text())["seconds"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, help="number of pairs of the corpus; default: all")
    parser.add_argument("overrides", nargs="*", help="more overrides, such as downloader=local downloader.path=FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
