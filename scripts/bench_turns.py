"""Common parts of the stage benchmarks: command-line options, choice of the corpus, and measurements in turn."""

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[2] / "shared/data/corpus.en-de.jsonl.gz"


def options(description: str) -> argparse.Namespace:
    """Parse the command line; `rounds` is the number of rounds, `source` the overrides that choose the corpus.

    Prints a warning if the corpus is not the corpus of the published table.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pairs", type=int, help="number of pairs, from the start of the corpus; default: all")
    parser.add_argument("--corpus", type=Path, help="path of a corpus in a format of downloader=local")
    parser.add_argument("--sample", action="store_true", help="use the sample corpus that is installed with mtx")
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements of each contestant")
    parser.add_argument("--quick", action="store_true", help="measure 500 pairs in one round, to test the script")
    chosen = parser.parse_args()
    path = None if chosen.sample else chosen.corpus or (CORPUS if CORPUS.exists() else None)
    if path is None:
        print(
            "NOT THE CORPUS OF THE PUBLISHED TABLE: the corpus is missing, or --sample was given. "
            "The sample corpus is used."
        )
    if chosen.quick:
        chosen.pairs, chosen.rounds = chosen.pairs or 500, 1
    chosen.source = ["downloader=sample"] if path is None else ["downloader=local", f"downloader.path={path}"]
    if chosen.pairs is not None:
        chosen.source.append(f"downloader.n={chosen.pairs}")
    return chosen


def turns(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run each contestant once per round, and return the seconds of each contestant in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, run in contestants.items():
            gc.collect()
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
        print(f"round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    return seconds


def print_rates(seconds: Mapping[str, list[float]], num_pairs: int) -> None:
    """Print each contestant's pairs per second, and how many times faster the first contestant is."""
    first = next(iter(seconds.values()))
    print(f"\n{num_pairs:,} pairs, {os.cpu_count()} cores\n{'':44}{'s':>8}{'pairs/s':>12}{'mtx is ×':>10}")
    for name, own in seconds.items():
        median = statistics.median(own)
        ratio = statistics.median(theirs / ours for ours, theirs in zip(first, own, strict=True))
        print(f"{name:44}{median:8.3f}{num_pairs / median:12,.0f}{ratio:10.2f}")
    print("rate: median over all rounds; ratio: median of the ratios within each round")
