"""Fault injection: kill processes, cut the power and flip bits while a store is used, and count lost or damaged data.

The script prints a table for each storage option. The exit code is 1 if any fault is found. The seed decides the
moments, the processes and the bits. Two runs with the same seed still differ, because the operating system schedules
the processes differently.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from faults_bytes import flip_all, small_store
from faults_kills import Killing, Kills
from faults_power import fail_power, kill_at_each_step
from faults_store import OPTIONS, write_corpus
from faults_writers import write_at_once

FIGURES = ("kills", "steps", "power", "writers", "bytes")
SHOWN = 10  # faults that are printed per measurement

Row = tuple[str, str, list[str]]  # name of the measurement, counts, and descriptions of the faults


def main() -> int:
    options = _options()
    random = np.random.default_rng(options.seed)
    num_faults = 0
    print(f"seed {options.seed}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    for option in options.storage:
        print(f"\nstorage={option}")
        for figure in options.only:
            with TemporaryDirectory(prefix="mtx-faults-") as folder:
                began = time.monotonic()
                for what, counts, wrong in MEASURES[figure](option, Path(folder), options, random):
                    num_faults += len(wrong)
                    print(f"  {what:38} faults {len(wrong):3}   {counts}, {time.monotonic() - began:.0f} s", flush=True)
                    for line in wrong[:SHOWN]:
                        print(f"    {line}", flush=True)
                    began = time.monotonic()
    print(f"\ntotal faults: {num_faults}; load at the end {os.getloadavg()[0]:.1f}")
    return 1 if num_faults else 0


def kills(option: str, folder: Path, options: argparse.Namespace, random: np.random.Generator) -> Iterator[Row]:
    killing = _killing(option, folder, options, random)
    for number in (1, options.processes):
        found = killing.run(options.kills, number)
        what = "one process" if number == 1 else f"{number} on one store"
        yield f"kill -9, {what}", _counts(found), _wrong(found)
        for state, times in sorted(found.hit.items()):
            print(f"      {times:4} kills during: {state}")


def steps(option: str, folder: Path, options: argparse.Namespace, random: np.random.Generator) -> Iterator[Row]:
    killing = _killing(option, folder, options, random)
    found = kill_at_each_step(option, killing.corpus, folder, killing.clean()[0], options.step)
    yield "kill -9 after each step", _counts(found), _wrong(found)


def power(option: str, folder: Path, options: argparse.Namespace, random: np.random.Generator) -> Iterator[Row]:
    killing = _killing(option, folder, options, random)
    found = fail_power(option, killing.corpus, folder, random, killing.clean()[0], options.disks)
    ways = ", ".join(f"{times} {way}" for way, times in sorted(found.hit.items()))
    yield "power fails after each step", f"{found.runs} steps, {found.kills} different disks ({ways})", _wrong(found)


def writers(option: str, folder: Path, options: argparse.Namespace, random: np.random.Generator) -> Iterator[Row]:
    seed = int(random.integers(2**31))
    found = write_at_once(option, folder, num_processes=options.writers, seconds=options.seconds, seed=seed)
    counts = ", ".join(f"{times:,} {operation}" for operation, times in found.operations.items())
    wrong = [
        f"{kind}: {line}" for kind, lines in vars(found).items() if isinstance(lines, list) for line in lines
    ]  # fmt: skip
    yield f"{options.writers} processes add, read, remove", counts, wrong


def flips(option: str, folder: Path, options: argparse.Namespace, random: np.random.Generator) -> Iterator[Row]:
    root = small_store(option, folder / "store")
    for kind, found in flip_all(option, root, random, options.every).items():
        unused = f", {found.unused:,} in unused bytes" if found.unused else ""
        counts = f"{found.tried:,} changed bytes, {found.found:,} detected{unused}"
        yield f"one bit flipped, {kind}", counts, [*found.missed, *found.unclear]


MEASURES: dict[str, Callable[[str, Path, argparse.Namespace, np.random.Generator], Iterator[Row]]] = {
    "kills": kills,
    "steps": steps,
    "power": power,
    "writers": writers,
    "bytes": flips,
}


def _killing(option: str, folder: Path, options: argparse.Namespace, random: np.random.Generator) -> Killing:
    corpus = write_corpus(folder / "corpus.jsonl", options.pairs, random)
    return Killing(option, corpus, random, timed_runs=1 if options.quick else 3)


def _counts(found: Kills) -> str:
    return f"{found.kills} kills, {found.acks:,} reported as stored, {found.leftovers} leftovers that task=gc removed"


def _wrong(found: Kills) -> list[str]:
    kinds = ("damaged", "lost", "failed", "differing", "not_tidied")
    return [f"{kind.replace('_', ' ')}: {line}" for kind in kinds for line in getattr(found, kind)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), help="measurements to run")
    parser.add_argument("--storage", nargs="+", choices=OPTIONS, default=OPTIONS, help="storage options to test")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments, processes and bits that are hit")
    parser.add_argument("--kills", type=int, default=200, help="kills of one process, and kills among --processes")
    parser.add_argument("--processes", type=int, default=4, help="processes that prepare the same data in one store")
    parser.add_argument("--pairs", type=int, default=1500, help="pairs to prepare; 1,500 take well under 1 s")
    parser.add_argument("--step", type=int, default=1, help="kill after every Nth step")
    parser.add_argument("--disks", type=int, help="number of simulated disks to check after a power cut; default: all")
    parser.add_argument("--writers", type=int, default=8, help="processes that add, read and remove at once")
    parser.add_argument("--seconds", type=float, default=60, help="seconds for which the writers run")
    parser.add_argument("--every", type=int, default=1, help="flip a bit in about one of N bytes; 1: in every byte")
    parser.add_argument("--quick", action="store_true", help="run few of each measurement, to test the script")
    options = parser.parse_args()
    if options.quick:
        options.kills, options.pairs, options.step, options.disks = 2, 200, 60, 12
        options.seconds, options.every = 0.7, 1000
    return options


if __name__ == "__main__":
    sys.exit(main())
