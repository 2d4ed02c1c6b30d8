"""How fast mtx makes batches, beside other loaders on the same token ids, in turn, in one run.

All serve the first 200,000 pairs of a corpus: byte-level BPE of 16,000, at most 255 tokens and EOS a side; mtx and the
bare loop under 4,096 padded tokens a side. Rates count real tokens of both sides; an epoch's time includes its plan.
"""

import argparse
import gc
import importlib.util
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_large import report
from bench_large import worker_mb as process_mb
from torch.utils.data import DataLoader

import mtx
from mtx.data.dataset import TranslationDataset
from mtx.infra.dataset.collate import EncodedPairs
from mtx.infra.dataset.load import BucketBatchSampler, PTDataset, collate_fn
from mtx.infra.dataset.plan.base import padding
from mtx.training.datamodule import TranslationDataModule

CORPUS = Path(__file__).resolve().parents[2] / "shared/data/corpus.en-de.jsonl.gz"
MAX_TOKENS = 4096
VOCAB_SIZE = 16_000
STEP_S = 0.001  # of a training step on an accelerator, a short one
Batches = Iterator[dict[str, torch.Tensor]]
Contestant = Callable[[], Batches]


def main() -> None:
    options = _options()
    if options.quick:
        options.rounds, options.cap_s = 2, 0.3
    torch.set_num_threads(1)  # loaders are compared, not what torch does beside them
    warnings.filterwarnings("ignore", module="transformers")
    path = options.corpus or (CORPUS if CORPUS.exists() else None)
    if path is None or options.sample:
        print(
            "NOT THE CORPUS OF THE PUBLISHED TABLE: it is missing, or --sample was given. The sample corpus is used.\n"
        )
        path = None
    dm = data(path, options.pairs)
    first_s, added_mb = first_batch(dm)
    contestants = all_contestants(dm)
    for serve in contestants.values():
        next(iter(serve()))  # compiles what is compiled
    found = {name: census(serve, cap_s=2 * options.cap_s) for name, serve in contestants.items()}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(options.rounds):
        for name, serve in contestants.items():
            gc.collect()
            rates[name].append(found[name]["real"] * batches_per_s(serve, cap_s=options.cap_s))
        print(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    print_table(rates, found)
    if not any(name.startswith("Sockeye") for name in contestants):
        print(
            "\nSockeye was left out: it cannot be imported. See docs/performance.md for how it can be put beside mtx."
        )
    print(f"first batch after the loader is asked, all prepared: {first_s:.3f} s")
    print(f"memory that asking the loader and one epoch add: {added_mb:.0f} MB")
    for num_workers in (0, 2):
        waited_us = wait_us(dm, num_workers)
        print(f"a step of {STEP_S * 1e3:.0f} ms waits for its batch, {num_workers} workers: {waited_us:.0f} µs")
    for num_workers in (2, 4):
        print(f"memory that {num_workers} workers add in a pass: {worker_mb(dm, num_workers):.0f} MB")
    compare_processes(dm)
    compare_orders(path, options.pairs)
    if options.large:
        dataset = dm.train_dataloader().dataset
        report(dataset.pairs, dataset.batch_format, num_pairs=options.large_pairs, max_tokens=MAX_TOKENS)


def compare_processes(dm: TranslationDataModule) -> None:
    """Print what the processes of a plain DataLoader over the same batches add."""
    if not Path("/proc/self/smaps_rollup").exists():
        return
    loader = dm.train_dataloader()
    busy, idle = process_mb(loader.dataset, loader.batch_sampler, 4)
    print(f"memory that each of 4 processes of a plain DataLoader adds: {busy:.0f} MB; an idle one {idle:.0f} MB")


def data(path: Path | None, pairs: int) -> TranslationDataModule:
    """The data module, prepared: everything of the corpus in the training split, nothing filtered."""
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
    """Everything to compare; calling one starts an epoch."""
    encoded = dm.train_dataloader().dataset.pairs
    found = {
        "bare plan, compiled row copy": bare(dm, encoded),
        "the row copy alone, mtx's plan given": bare(dm, encoded, list(dm.train_dataloader().batch_sampler)),
        "mtx": mtx_loader(dm, 0),
        "mtx, 2 workers": mtx_loader(dm, 2),
        "transformers LengthGroupedSampler, 64": grouped(dm, encoded),
        "the original design, 32, tokenising": original(dm),
    }
    if importlib.util.find_spec("sockeye"):
        found["Sockeye, max-word 4096"] = sockeye(dm, encoded)
    return found


def mtx_loader(dm: TranslationDataModule, num_workers: int) -> Contestant:
    dm.num_workers = num_workers
    loader = dm.train_dataloader()
    dm.num_workers = 0
    return lambda: iter(loader)


def bare(dm: TranslationDataModule, encoded: EncodedPairs, planned: list[Any] | None = None) -> Contestant:
    """What a hand-written compiled loop needs: permute, sort by length, cut greedily, copy rows into five tensors."""
    from numba import njit

    @njit(nogil=True)
    def cut(source: Any, target: Any, order: Any, offsets: Any) -> int:
        number, start, longest = 0, 0, 0
        for i in range(order.size):
            longest = max(longest, source[order[i]], target[order[i]])
            if longest * (i + 1 - start) > MAX_TOKENS and i > start:
                number, start = number + 1, i
                offsets[number] = i
                longest = max(source[order[i]], target[order[i]])
        offsets[number + 1] = order.size
        return number + 1

    @njit(nogil=True)
    def copy(
        sids: Any, soff: Any, tids: Any, toff: Any, rows: Any, src: Any, smask: Any, dec: Any, lab: Any, tmask: Any
    ) -> None:
        for i in range(rows.size):
            start = soff[rows[i]]
            length = min(soff[rows[i] + 1] - start, 255)
            for j in range(length):
                src[i, j] = sids[start + j]
                smask[i, j] = True
            src[i, length] = 2
            smask[i, length] = True
            for j in range(length + 1, src.shape[1]):
                src[i, j] = 0
                smask[i, j] = False
            start = toff[rows[i]]
            length = min(toff[rows[i] + 1] - start, 255)
            dec[i, 0] = 1
            for j in range(length):
                dec[i, j + 1] = tids[start + j]
                lab[i, j] = tids[start + j]
                tmask[i, j] = True
            lab[i, length] = 2
            tmask[i, length] = True
            for j in range(length + 1, lab.shape[1]):
                dec[i, j] = 0
                lab[i, j] = 0
                tmask[i, j] = False

    lengths = dm.lengths("train")
    source, target = lengths.source, lengths.target
    flat = encoded.source.ids, encoded.source.offsets, encoded.target.ids, encoded.target.offsets
    random = np.random.default_rng(0)

    def plan() -> Iterator[Any]:
        shuffled = random.permutation(len(source))
        order = shuffled[np.lexsort((target[shuffled], source[shuffled]))]
        offsets = np.zeros(len(order) + 1, dtype=np.int64)
        number = cut(source, target, order, offsets)
        widths = [np.maximum.reduceat(side[order], offsets[:number]).tolist() for side in (source, target)]
        for batch in random.permutation(number):
            yield order[offsets[batch] : offsets[batch + 1]], widths[0][batch], widths[1][batch]

    if planned is not None:
        planned = [(rows, source[rows].max(), target[rows].max()) for rows in planned]

    def serve() -> Batches:
        for rows, width, other in plan() if planned is None else planned:
            shapes = [(len(rows), width)] * 2 + [(len(rows), other)] * 3
            types = (np.int64, np.bool_, np.int64, np.int64, np.bool_)
            made = [np.empty(shape, dtype) for shape, dtype in zip(shapes, types, strict=True)]
            copy(*flat, rows, *made)
            names = ("encoder_input_ids", "encoder_attn_mask", "decoder_input_ids", "labels", "decoder_attn_mask")
            yield dict(zip(names, map(torch.from_numpy, made), strict=True))

    return serve


def grouped(dm: TranslationDataModule, encoded: EncodedPairs) -> Contestant:
    """transformers: its sampler, its collator, and rows that are lists of ids already."""
    from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast
    from transformers.trainer_pt_utils import LengthGroupedSampler

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=dm.tokenizers.source, pad_token="<PAD>")
    eos = dm.batch_format.source.eos
    rows = [
        {"input_ids": [*encoded.source[i][:255].tolist(), eos], "labels": [*encoded.target[i][:255].tolist(), eos]}
        for i in range(len(encoded))
    ]
    lengths = [len(row["input_ids"]) for row in rows]
    collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
    loader = DataLoader(
        rows,  # type: ignore[arg-type]
        batch_size=64,
        sampler=LengthGroupedSampler(64, lengths=lengths),
        collate_fn=collator,
    )
    return lambda: iter(loader)


def sockeye(dm: TranslationDataModule, encoded: EncodedPairs) -> Contestant:
    """Sockeye 3: buckets padded beforehand, filled up with pairs that are repeated; its batches are slices of them."""
    from sockeye import constants, data_io

    lengths, ids = dm.lengths("train"), dm.batch_format
    buckets = data_io.define_parallel_buckets(
        256, 256, bucket_width=8, length_ratio=lengths.source.sum() / lengths.target.sum()
    )
    sources = [[*encoded.source[i][:255].tolist(), ids.source.eos] for i in range(len(encoded))]
    targets = [[ids.target.bos, *encoded.target[i][:255].tolist()] for i in range(len(encoded))]
    counts = [0] * len(buckets)
    for one, other in zip(sources, targets, strict=True):
        counts[data_io.get_parallel_bucket(buckets, len(one), len(other))[0]] += 1
    loader = data_io.RawParallelDatasetLoader(buckets=buckets, eos_id=ids.target.eos, pad_id=ids.target.pad)
    sizes = data_io.define_bucket_batch_sizes(
        buckets, MAX_TOKENS, constants.BATCH_TYPE_MAX_WORD, data_target_average_len=[None] * len(buckets)
    )
    made = loader.load([sources], [targets], counts).fill_up(sizes)
    batches = data_io.ParallelSampleIter(made, buckets, None, sizes)

    def serve() -> Batches:
        batches.reset()
        while batches.iter_next():
            batch = batches.next()
            yield {"source": batch.source, "labels": batch.labels[constants.TARGET_LABEL_NAME]}

    return serve


def original(dm: TranslationDataModule) -> Contestant:
    """The design that mtx began as: buckets by source words, 32 pairs, tokenised whenever a batch is made."""
    assert dm.ids is not None
    dataset: TranslationDataset = dm.storage.repo.get(dm.ids.filtered["train"])
    table = [dict(row) for row in dataset.data]
    words = [len(row["src"].split()) for row in table]
    sampler = BucketBatchSampler(bucket_ids=words, batch_size=32, len_key=words, drop_last=True, pool_batches=1)
    collate = partial(collate_fn, tok=dm.tokenizers.source, batch_format=dm.batch_format)
    loader = DataLoader(PTDataset(data=table), batch_sampler=sampler, collate_fn=collate)
    return lambda: iter(loader)


def batches_per_s(serve: Contestant, *, cap_s: float) -> float:
    """Batches a second over an epoch, or over its first `cap_s` seconds, which slow loaders do not finish."""
    num_batches = 0
    started = time.perf_counter()
    for _ in serve():
        num_batches += 1
        if time.perf_counter() - started > cap_s:
            break
    return num_batches / (time.perf_counter() - started)


def census(serve: Contestant, *, cap_s: float) -> dict[str, float]:
    """Count what batches hold, for an epoch or its first `cap_s` seconds: real tokens a batch, padding, shapes."""
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
    """Where the real tokens are: source [B, S], and target or labels [B, T]."""
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
        "medians of all rounds; ratios are medians of the ratios of each round; largest: slots of one side of a batch"
    )


def first_batch(dm: TranslationDataModule) -> tuple[float, float]:
    """Seconds from asking for the loader to its first batch, and MB that this and the rest of the epoch add."""
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
    """Median microseconds that a step waits for its batch, where steps leave the processor idle as accelerators do."""
    waits = []
    batches = mtx_loader(dm, num_workers)()
    next(batches)  # plans the epoch
    for _ in range(min(200, len(dm.train_dataloader()) - 1)):
        time.sleep(STEP_S)
        started = time.perf_counter()
        next(batches)
        waits.append(time.perf_counter() - started)
    return statistics.median(waits) * 1e6


def worker_mb(dm: TranslationDataModule, num_workers: int) -> float:
    """MB that this process and its children share out among them (PSS) while workers run, against before."""
    gc.collect()
    before = memory_mb("Pss")
    serve = mtx_loader(dm, num_workers)()
    next(serve)
    time.sleep(0.2)  # until the workers have filled their queues
    return memory_mb("Pss") - before


def memory_mb(kind: str) -> float:
    """Memory of this process, `Rss` or `Pss`; NaN where the system does not tell."""
    report = Path("/proc/self/smaps_rollup")
    if not report.exists():
        return float("nan")
    line = next(line for line in report.read_text().splitlines() if line.startswith(f"{kind}:"))
    return int(line.split()[1]) / 1024


def compare_orders(path: Path | None, pairs: int) -> None:
    """Print the padding of mtx beside that of a (source, target) sort, on this corpus and the small one."""
    print("\npadding of an epoch        (source, target) sort   mtx   ratio")
    corpora = {"sample en–ja": None} if path is None else {"this corpus": path, "sample en–ja": None}
    for name, corpus in corpora.items():
        dm = data(corpus, pairs)
        lengths = dm.lengths("train")
        plan = dm.train_dataloader().batch_sampler.plan()
        ours = padding(plan, lengths)["padding_ratio"]
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
    parser.add_argument("--pairs", type=int, default=200_000, help="pairs from the start of the corpus")
    parser.add_argument("--corpus", type=Path, help="a corpus that downloader=local reads")
    parser.add_argument("--sample", action="store_true", help="use the sample corpus that is installed with mtx")
    parser.add_argument("--rounds", type=int, default=5, help="times that each loader gets its turn")
    parser.add_argument("--cap-s", type=float, default=6.0, help="seconds after which a slow loader is stopped")
    parser.add_argument("--large", action="store_true", help="10 M pairs too, memory-mapped: 0.7 GB in the temp folder")
    parser.add_argument("--large-pairs", type=int, default=10_000_000, help="how many those are")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 0.3 s: to see that it works")
    return parser.parse_args()


if __name__ == "__main__":
    main()
