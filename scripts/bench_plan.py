"""Benchmark: time to plan an epoch, compared with one sort of the same pairs, and padding ratio of each sampler.

Lengths are those of the first 200,000 pairs of a corpus. The tokenizer is byte-level BPE with a vocabulary of 16,000;
each side has at most 255 tokens and EOS. The budget is 4,096 padded tokens per side. For plan times, lengths are drawn
from this corpus, with random variation, for each number of pairs.
"""

import argparse
import gc
import os
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

import mtx
from mtx.batches.plan.bucket import BucketPlanner
from mtx.batches.plan.planner import Lengths, Planner, batch_shapes, padding_ratios
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.sequential import SequentialPlanner
from mtx.batches.plan.sorted import SortedPlanner
from mtx.batches.plan.static_shapes import StaticShapesPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.experiment.measure import neighbour_correlation

CORPUS = Path(__file__).resolve().parents[2] / "shared/data/corpus.en-de.jsonl.gz"
MAX_TOKENS = 4096
CHUNK = 2**20  # pairs drawn in one step, to limit memory

Ints = NDArray[np.int32]
T = TypeVar("T")


def main() -> None:
    options = _options()
    path = options.corpus or (CORPUS if CORPUS.exists() and not options.sample else None)
    if path is None:
        print("NOT THE CORPUS OF THE PUBLISHED TABLE: the corpus is missing, or --sample was given.")
    corpora = {"sample": lengths_of(None, options.pairs, options.vocab_size)}
    if path is not None:
        corpora = {path.name: lengths_of(path, options.pairs, options.vocab_size), **corpora}
    for name, lengths in corpora.items():
        print_padding(name, lengths)
        print_static_shapes(name, lengths, options.shapes)
    if not options.no_times:
        print_times(next(iter(corpora.values())), options.sizes, options.rounds)


def lengths_of(path: Path | None, num_pairs: int, vocab_size: int) -> Lengths:
    """Return the lengths of an unfiltered corpus without held-out pairs; `path` None: the sample corpus."""
    source = ["downloader=sample"] if path is None else ["downloader=local", f"downloader.path={path}"]
    dm = mtx.compose_datamodule(
        [
            *source,
            f"downloader.n={num_pairs}",
            "filter=none",
            f"tokenizer.vocab_size={vocab_size}",
            "datamodule.validation=null",
            "datamodule.test=null",
            "datamodule.max_source_tokens=256",
            "datamodule.max_target_tokens=256",
            "datamodule.too_long=truncate",
        ]
    )
    dm.prepare_data()
    dm.setup("fit")
    return dm.lengths("train")


def print_padding(name: str, lengths: Lengths) -> None:
    planners: dict[str, Planner] = {
        "random, 64": RandomPlanner(batch_size=64),
        "sequential, 64": SequentialPlanner(batch_size=64),
        "bucket, 64": BucketPlanner(batch_size=64),
        "sorted": SortedPlanner(max_tokens=MAX_TOKENS),
        "static_shapes, 32": StaticShapesPlanner(max_tokens=MAX_TOKENS),
        "token_budget, area of both": TokenBudgetPlanner(max_tokens=2 * MAX_TOKENS, budget="area"),
        "token_budget, window 10,000": TokenBudgetPlanner(max_tokens=MAX_TOKENS, window=10_000),
        "token_budget": TokenBudgetPlanner(max_tokens=MAX_TOKENS),
    }
    plans = {sampler: planner.plan(lengths, seed=0, epoch=0) for sampler, planner in planners.items()}
    by_sort = padding_ratios(plans["sorted"], lengths)["padding_ratio"]
    rows = []
    for sampler, plan in plans.items():
        ratios, of_batches = padding_ratios(plan, lengths), batch_shapes(plan, lengths)
        rows.append(
            [
                sampler,
                *[f"{ratios[side]:.4f}" for side in ("padding_ratio", "source_padding_ratio", "target_padding_ratio")],
                f"{ratios['padding_ratio'] / by_sort:.2f}",
                f"{len(plan):,}",
                f"{len(np.unique(of_batches, axis=0)):,}",
                f"{int((of_batches[:, 0] * of_batches[:, 1:].max(axis=1)).max()):,}",
                f"{neighbour_correlation(plan, lengths):+.3f}",
            ]
        )
    print(f"\n{name}: {len(lengths):,} pairs, one epoch of each sampler\n")
    titles = ("sampler", "padding", "source", "target", "÷ sorted", "batches", "shapes", "largest batch", "neighbours")
    print_table(titles, rows)


def print_static_shapes(name: str, lengths: Lengths, numbers: Sequence[int]) -> None:
    rows = []
    for number in numbers:
        planner = StaticShapesPlanner(num_shapes=number, max_tokens=MAX_TOKENS)
        draft = planner.draft(lengths)
        plans = [draft.plan(seed=0, epoch=epoch) for epoch in range(3)]
        used = len(np.unique(np.concatenate([batch_shapes(plan, lengths) for plan in plans]), axis=0))
        ours = padding_ratios(plans[0], lengths)["padding_ratio"]
        by_source = percentile_padding(lengths, lengths.source, number)
        by_longest = percentile_padding(lengths, np.maximum(lengths.source, lengths.target), number)
        compared = [f"{theirs:.4f} ({ours / theirs:.2f})" for theirs in (by_source, by_longest)]
        rows.append([str(number), str(used), f"{ours:.4f}", *compared])
    print(f"\n{name}: padding of static_shapes and of equally many percentile buckets (in brackets: mtx ÷ buckets)\n")
    titles = ("max. shapes", "shapes in 3 epochs", "padding", "percentiles of source", "percentiles of longer side")
    print_table(titles, rows)


def percentile_padding(lengths: Lengths, by: Ints, num_buckets: int) -> float:
    """Return the padding ratio of buckets that end at percentiles of `by`, each side padded to the bucket's maximum."""
    edges = np.unique(np.quantile(by, np.arange(1, num_buckets + 1) / num_buckets, method="higher"))
    bucket = np.searchsorted(edges, by)
    slots = 0
    for number in range(len(edges)):
        part = bucket == number
        slots += int(part.sum()) * (int(lengths.source[part].max()) + int(lengths.target[part].max()))
    return 1 - (int(lengths.source.sum()) + int(lengths.target.sum())) / slots


def print_times(lengths: Lengths, sizes: Sequence[int], most_rounds: int) -> None:
    print(f"\nmedian plan times in s; lengths drawn from {len(lengths):,} pairs, with random variation\n")
    titles = (
        "pairs", "rounds", "sampler", "draft", "plan", "first epoch", "one lexsort", "first epoch ÷ lexsort",
        "peak memory, bytes per pair", "draft, bytes per pair",
    )  # fmt: skip
    print_table(titles, [])
    planners: dict[str, Planner] = {
        "token_budget": TokenBudgetPlanner(max_tokens=MAX_TOKENS),
        "static_shapes": StaticShapesPlanner(max_tokens=MAX_TOKENS),
    }
    for num_pairs in sizes:
        drawn = resampled(lengths, num_pairs)
        rounds = most_rounds if num_pairs <= 10_000_000 else 1
        measured = paired_times(planners, drawn, rounds)
        for name, planner in planners.items():
            drafts, plans, sorts = np.asarray(measured[name]).T
            times = [f"{np.median(seconds):.3f}" for seconds in (drafts, plans, drafts + plans, sorts)]
            ratio = f"{np.median((drafts + plans) / sorts):.2f}"
            in_bytes = [f"{size / num_pairs:.1f}" for size in memory(planner, drawn)]
            print_table((), [[f"{num_pairs:,}", str(rounds), name, *times, ratio, *in_bytes]])
    print(f"\nload of the machine at the end: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")


def resampled(lengths: Lengths, num_pairs: int) -> Lengths:
    """Draw pairs with replacement, and multiply each length by a factor of exp(N(0, 0.1)), limited to 1 to 256."""
    random = np.random.default_rng(0)
    sides = np.empty((2, num_pairs), dtype=np.int32)
    for start in range(0, num_pairs, CHUNK):
        row = random.integers(0, len(lengths), min(CHUNK, num_pairs - start))
        for side, known in enumerate((lengths.source, lengths.target)):
            drawn = np.rint(known[row] * np.exp(random.normal(0, 0.1, len(row))))
            sides[side, start : start + len(row)] = drawn.clip(1, 256)
    return Lengths(sides[0], sides[1])


def paired_times(
    planners: dict[str, Planner], lengths: Lengths, rounds: int
) -> dict[str, list[tuple[float, float, float]]]:
    """Return, per planner and round, the seconds of the draft, of the plan, and of one numpy lexsort."""
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in planners}
    for epoch in range(rounds):
        sort_s = timed(lambda: np.lexsort((lengths.target, lengths.source)))[1]
        for name, planner in planners.items():
            draft, draft_s = timed(lambda planner=planner: planner.draft(lengths))
            plan_s = timed(lambda draft=draft, epoch=epoch: draft.plan(seed=0, epoch=epoch))[1]
            measured[name].append((draft_s, plan_s, sort_s))
            del draft
    return measured


def timed(work: Callable[[], T]) -> tuple[T, float]:
    gc.collect()
    started = time.perf_counter()
    made = work()
    return made, time.perf_counter() - started


def memory(planner: Planner, lengths: Lengths) -> tuple[int, int]:
    """Return the peak bytes allocated by the draft and the plan, and the bytes that the draft keeps."""
    gc.collect()
    tracemalloc.start()
    draft = planner.draft(lengths)
    kept = tracemalloc.get_traced_memory()[0]
    plan = draft.plan(seed=0, epoch=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del draft, plan
    return peak, kept


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table: the header if there are titles, then the rows."""
    if titles:
        print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=200_000, help="number of pairs, from the start of the corpus")
    parser.add_argument("--corpus", type=Path, help="path of a corpus in a format of downloader=local")
    parser.add_argument("--sample", action="store_true", help="use only the sample corpus that is installed with mtx")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each planner; 1 above 10 M pairs")
    parser.add_argument("--large", action="store_true", help="also plan 100 M pairs: takes minutes and about 4 GB")
    parser.add_argument("--no-times", action="store_true", help="measure only the padding ratio, not the plan times")
    parser.add_argument("--quick", action="store_true", help="measure small sizes in one round, to test the script")
    options = parser.parse_args()
    options.sizes = [200_000, 1_000_000, 2_000_000, 10_000_000] + [100_000_000] * options.large
    options.vocab_size, options.shapes = 16_000, (16, 32, 64)
    if options.quick:
        options.pairs, options.sizes, options.rounds = 1000, [5000], 1
        options.vocab_size, options.shapes = 1000, (4, 8)
    return options


if __name__ == "__main__":
    main()
