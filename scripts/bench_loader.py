"""Benchmark: speed at which mtx builds batches, compared with other loaders on the same token ids.

All loaders take turns in one run, and load the first 200,000 pairs of a corpus. The tokenizer is byte-level BPE with a
vocabulary of 16,000; each side has at most 255 tokens and EOS. The budget of mtx and of the bare loop is 4,096 padded
tokens per side. Rates count the real tokens of both sides. The time of an epoch includes its plan.
"""

import argparse
import gc
import importlib.util
import os
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from bench_large import report
from bench_large import worker_mb as process_mb
from other_loaders import MAX_TOKENS, Contestant, bare, grouped, original, sockeye

import mtx
from mtx.batches.plan.planner import padding_ratios
from mtx.training.datamodule import TranslationDataModule

CORPUS = Path(__file__).resolve().parents[2] / "shared/data/corpus.en-de.jsonl.gz"
VOCAB_SIZE = 16_000
STEP_S = 0.001  # duration of a simulated training step, a short step on an accelerator


def main() -> None:
    options = _options()
    if options.quick:
        options.rounds, options.cap_s = 1, 0.1
    torch.set_num_threads(1)  # only loaders are compared, so torch gets one thread
    warnings.filterwarnings("ignore", module="transformers")
    path = options.corpus or (CORPUS if CORPUS.exists() else None)
    if path is None or options.sample:
        print(
            "NOT THE CORPUS OF THE PUBLISHED TABLE: the corpus is missing, or --sample was given. "
            "The sample corpus is used.\n"
        )
        path = None
    dm = data(path, options.pairs)
    first_s, added_mb = first_batch(dm)
    contestants = all_contestants(dm)
    for serve in contestants.values():
        next(iter(serve()))  # compiles the numba functions before the measurement
    found = {name: census(serve, cap_s=2 * options.cap_s) for name, serve in contestants.items()}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(options.rounds):
        for name, serve in contestants.items():
            gc.collect()
            rates[name].append(found[name]["real"] * batches_per_s(serve, cap_s=options.cap_s))
        print(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    print_table(rates, found)
    if not any(name.startswith("Sockeye") for name in contestants):
        print("\nSockeye was not measured, because it is not installed. docs/performance.md says how to install it.")
    print(f"time from the request for the loader to the first batch, on prepared data: {first_s:.3f} s")
    print(f"memory added by the loader and one epoch: {added_mb:.0f} MB")
    for num_workers in (0, 2):
        waited_us = wait_us(dm, num_workers)
        print(f"wait of a {STEP_S * 1e3:.0f} ms step for its batch, {num_workers} workers: {waited_us:.0f} µs")
    for num_workers in (2, 4):
        print(f"memory added by {num_workers} workers in a pass: {worker_mb(dm, num_workers):.0f} MB")
    compare_processes(dm)
    compare_orders(path, options.pairs)
    if options.large:
        dataset = dm.train_dataloader().dataset
        report(dataset.pairs, dataset.batch_format, num_pairs=options.large_pairs, max_tokens=MAX_TOKENS)


def compare_processes(dm: TranslationDataModule) -> None:
    """Print the memory that each process of a plain DataLoader over the same batches adds."""
    if not Path("/proc/self/smaps_rollup").exists():
        return
    loader = dm.train_dataloader()
    busy, idle = process_mb(loader.dataset, loader.batch_sampler, 4)
    print(f"memory added by each of 4 processes of a plain DataLoader: {busy:.0f} MB; if idle {idle:.0f} MB")


def data(path: Path | None, pairs: int) -> TranslationDataModule:
    """Return the prepared data module, with the whole corpus in the training split and without a filter."""
    source = ["downloader=sample"] if path is None else ["downloader=local", f"downloader.path={path}"]
    dm = mtx.compose_datamodule(
        [
            *source,
            f"downloader.n={pairs}",
            "filter=none",
            f"tokenizer.vocab_size={VOCAB_SIZE}",
            f"sampler.max_tokens={MAX_TOKENS}",
            "datamodule.validation=null",
            "datamodule.test=null",
            "datamodule.max_source_tokens=256",
            "datamodule.max_target_tokens=256",
            "datamodule.too_long=truncate",
            "datamodule.num_workers=0",
        ]
    )
    dm.prepare_data()
    dm.setup("fit")
    return dm


def all_contestants(dm: TranslationDataModule) -> dict[str, Contestant]:
    """Return all loaders to compare, by name; calling a value starts an epoch."""
    encoded = dm.train_dataloader().dataset.pairs
    found = {
        "bare plan, compiled row copy": bare(dm, encoded),
        "compiled row copy with mtx's plan": bare(dm, encoded, list(dm.train_dataloader().batch_sampler)),
        "mtx": mtx_loader(dm, 0),
        "mtx, 2 workers": mtx_loader(dm, 2),
        "transformers LengthGroupedSampler, 64": grouped(dm, encoded),
        "the original design, 32, tokenizing": original(dm),
    }
    if importlib.util.find_spec("sockeye"):
        found["Sockeye, max-word 4096"] = sockeye(dm, encoded)
    return found


def mtx_loader(dm: TranslationDataModule, num_workers: int) -> Contestant:
    dm.num_workers = num_workers
    loader = dm.train_dataloader()
    dm.num_workers = 0
    return lambda: iter(loader)


def batches_per_s(serve: Contestant, *, cap_s: float) -> float:
    """Return the batches per second over an epoch, or over the first `cap_s` seconds if the epoch takes longer."""
    num_batches = 0
    started = time.perf_counter()
    for _ in serve():
        num_batches += 1
        if time.perf_counter() - started > cap_s:
            break
    return num_batches / (time.perf_counter() - started)


def census(serve: Contestant, *, cap_s: float) -> dict[str, float]:
    """Return real tokens per batch, padding, shapes and largest batch of an epoch or its first `cap_s` seconds."""
    real = slots = largest = num_batches = 0
    shapes = set()
    started = time.perf_counter()
    for batch in serve():
        source, target = masks(batch)
        real += int(source.sum()) + int(target.sum())
        slots += source.numel() + target.numel()
        shapes.add((len(source), source.shape[1], target.shape[1]))
        largest = max(largest, source.numel(), target.numel())
        num_batches += 1
        if time.perf_counter() - started > cap_s:
            break
    return {"real": real / num_batches, "padding": 1 - real / slots, "shapes": len(shapes), "largest": largest}


def masks(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the masks of real tokens: of the source [B, S], and of the target or labels [B, T]."""
    if "encoder_attn_mask" in batch:  # mtx
        return batch["encoder_attn_mask"], batch["decoder_attn_mask"]
    if "attention_mask" in batch:  # transformers
        return batch["attention_mask"], batch["labels"] != -100
    return batch["source"].squeeze(-1) != 0, batch["labels"] != 0


def print_table(rates: dict[str, list[float]], found: dict[str, dict[str, float]]) -> None:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"\n{'':40}{'M tokens/s':>11}{'mtx is ×':>10}{'padding':>9}{'shapes':>8}{'largest':>9}")
    for name, rate in medians.items():
        ratio = statistics.median(a / b for a, b in zip(rates["mtx"], rates[name], strict=True))
        row = found[name]
        print(f"{name:40}{rate / 1e6:11.2f}{ratio:10.2f}{row['padding']:9.3f}{row['shapes']:8,}{row['largest']:9,}")
    print(
        "rate: median over all rounds; ratio: median of the ratios within each round; "
        "largest: padded tokens of the larger side of the largest batch"
    )


def first_batch(dm: TranslationDataModule) -> tuple[float, float]:
    """Return the seconds from the request for the loader to the first batch, and the MB added in the whole epoch."""
    gc.collect()
    before = memory_mb("Rss")
    started = time.perf_counter()
    batches = iter(dm.train_dataloader())
    next(batches)
    seconds = time.perf_counter() - started
    most = memory_mb("Rss")
    for number, _ in enumerate(batches):
        if number % 100 == 99:
            most = max(most, memory_mb("Rss"))
    return seconds, most - before


def wait_us(dm: TranslationDataModule, num_workers: int) -> float:
    """Return the median wait of a step for its batch in µs; a step leaves the CPU idle, as with an accelerator."""
    waits = []
    batches = mtx_loader(dm, num_workers)()
    next(batches)  # the first batch also plans the epoch
    for _ in range(min(200, len(dm.train_dataloader()) - 1)):
        time.sleep(STEP_S)
        started = time.perf_counter()
        next(batches)
        waits.append(time.perf_counter() - started)
    return statistics.median(waits) * 1e6


def worker_mb(dm: TranslationDataModule, num_workers: int) -> float:
    """Return the MB of proportional set size that a loader with workers adds while it runs."""
    gc.collect()
    before = memory_mb("Pss")
    serve = mtx_loader(dm, num_workers)()
    next(serve)
    time.sleep(0.2)  # time in which workers fill their queues
    return memory_mb("Pss") - before


def memory_mb(kind: str) -> float:
    """Return the memory of this process, `Rss` or `Pss`, in MB; NaN if the system has no `smaps_rollup`."""
    report = Path("/proc/self/smaps_rollup")
    if not report.exists():
        return float("nan")
    line = next(line for line in report.read_text().splitlines() if line.startswith(f"{kind}:"))
    return int(line.split()[1]) / 1024


def compare_orders(path: Path | None, pairs: int) -> None:
    """Print the padding ratio of mtx and of a sort by (source, target) length, on this corpus and the sample corpus."""
    print("\npadding of an epoch        (source, target) sort   mtx   ratio")
    corpora = {"sample en–ja": None} if path is None else {"this corpus": path, "sample en–ja": None}
    for name, corpus in corpora.items():
        dm = data(corpus, pairs)
        lengths = dm.lengths("train")
        plan = dm.train_dataloader().batch_sampler.plan()
        ours = padding_ratios(plan, lengths)["padding_ratio"]
        order = np.lexsort((lengths.target, lengths.source))
        source, target = lengths.source[order], lengths.target[order]
        offsets = [0]
        longest = 0
        for i, length in enumerate(np.maximum(source, target).tolist()):
            longest = max(longest, length)
            if longest * (i + 1 - offsets[-1]) > MAX_TOKENS:
                offsets.append(i)
                longest = length
        sizes = np.diff([*offsets, len(order)])
        widths = np.maximum.reduceat(source, offsets) + np.maximum.reduceat(target, offsets)
        theirs = 1 - int(source.sum() + target.sum()) / int((sizes * widths).sum())
        print(f"{name:27}{theirs:21.4f}{ours:9.4f}{ours / theirs:7.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=200_000, help="number of pairs, from the start of the corpus")
    parser.add_argument("--corpus", type=Path, help="path of a corpus in a format of downloader=local")
    parser.add_argument("--sample", action="store_true", help="use the sample corpus that is installed with mtx")
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements of each loader")
    parser.add_argument("--cap-s", type=float, default=6.0, help="seconds after which a slow loader is stopped")
    parser.add_argument("--large", action="store_true", help="also measure 10 M pairs: needs 0.7 GB in the temp folder")
    parser.add_argument("--large-pairs", type=int, default=10_000_000, help="number of pairs for --large")
    parser.add_argument("--quick", action="store_true", help="measure one round of 0.1 s, to test the script")
    return parser.parse_args()


if __name__ == "__main__":
    main()
