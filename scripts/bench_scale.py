"""Benchmark: encoding of large corpora by mtx and by a bare call of `tokenizers`, on one core and on several.

The corpora are synthetic. A seeded generator draws the numbers of words of a real corpus, and its words by frequency.
New words appear at the rate at which the real corpus gets them (Heaps' law); they are made of halves of real words. The
tokenizer is byte-level BPE, trained on the real corpus. mtx reads memory-mapped text and writes an encoded dataset. The
bare call gets lists of texts of every eighth block, and its result is discarded.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # one core for each process; read when tokenizers is imported

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from bench_scale_plan import measure_plan
from bench_scale_prepare import Measured, measure_prepare, print_exponents, print_measured, print_ratios, write_corpus
from bench_turns import CORPUS
from numpy.typing import NDArray

import mtx
from mtx.data.dataset import TranslationDataset
from mtx.data.encoding_stage import PairEncoder, joined_ids
from mtx.data.process_pool_engine import ProcessPoolEngine
from mtx.data.stage_runner import Stage, StageRunner, row_range_batches
from mtx.data.store import Store
from mtx.data.tokenize.tokenization import encode_texts
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer

BLOCK_PAIRS = 1 << 16
NOTHING, SPACE = pa.scalar("", pa.large_string()), pa.scalar(" ", pa.large_string())
BARE_EVERY = 8  # the bare call encodes every eighth block


class SideModel:
    """Words and lengths of one side of a real corpus, from which texts are generated."""

    def __init__(self, texts: pa.Array) -> None:
        words = pc.split_pattern(texts, " ")
        self.num_words = pc.list_value_length(words).to_numpy(zero_copy_only=False)
        flat = pc.list_flatten(words)
        counted = pc.value_counts(flat)
        self.words, counts = counted.field("values"), counted.field("counts").to_numpy()
        self.cumulated = np.cumsum(counts) / counts.sum()
        self.num_tokens = len(flat)
        half = len(pc.unique(flat.slice(0, len(flat) // 2)))
        self.exponent = float(np.log2(len(self.words) / half))  # of Heaps' law: distinct words = K x words^exponent

    def texts(self, lengths: NDArray[np.int64], start: int, rng: np.random.Generator) -> pa.Array:
        """Return one text for each number of words; `start` is the number of words generated before."""
        total = int(lengths.sum())
        chosen = np.searchsorted(self.cumulated, rng.random(total))
        growth = len(self.words) * self.exponent * self.num_tokens**-self.exponent
        at = np.arange(start, start + total, dtype=np.float64)
        is_new = (rng.random(total) < growth * np.maximum(at, 1) ** (self.exponent - 1)) & (at > self.num_tokens)
        heads, tails = (self.words.take(pa.array(rng.integers(0, len(self.words), int(is_new.sum())))) for _ in "ab")
        heads, tails = pc.utf8_slice_codeunits(heads, 0, 5), pc.utf8_slice_codeunits(tails, 2)
        vocabulary = pa.concat_arrays([self.words, pc.binary_join_element_wise(heads, tails, NOTHING)])
        chosen[is_new] = len(self.words) + np.arange(int(is_new.sum()))
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        lists = pa.LargeListArray.from_arrays(pa.array(offsets), vocabulary.take(pa.array(chosen)))
        return pc.binary_join(lists, SPACE)


def synthetic(models: tuple[SideModel, SideModel], num_pairs: int, seed: int) -> Iterator[pa.RecordBatch]:
    """Stream synthetic pairs; the same models and seed give the same pairs."""
    rng = np.random.default_rng(seed)
    starts = [0, 0]
    for first in range(0, num_pairs, BLOCK_PAIRS):
        rows = rng.integers(0, len(models[0].num_words), min(BLOCK_PAIRS, num_pairs - first))
        lengths = [model.num_words[rows].astype(np.int64) for model in models]
        sides = [model.texts(lengths[i], starts[i], rng) for i, model in enumerate(models)]
        starts = [start + int(own.sum()) for start, own in zip(starts, lengths, strict=True)]
        yield pa.record_batch(dict(zip(("src", "tgt"), sides, strict=True)))


def encoding_stage(store: Store, encode: PairEncoder) -> Stage:
    """Return the stage that encodes the dataset `text-1`."""
    text = store.repo.get("text-1")
    return Stage(
        output=TranslationDataset(name="synthetic", stage="encoded", split="train", languages=("en", "de")),
        description="encoding",
        num_rows=len(text.rows),
        read=partial(row_range_batches, text.rows),
        transform=encode,
        gather=partial(joined_ids, scratch=encode.scratch),
    )


def compare_one_core(store: Store, tokenizers: TokenizerPair) -> None:
    """Print the processor time of mtx and of the bare call in this process."""
    bare_s, bare_pairs = 0.0, 0

    def with_bare_calls(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        nonlocal bare_s, bare_pairs
        for number, batch in enumerate(batches):
            if number % BARE_EVERY == BARE_EVERY // 2 or (batch.num_rows < BLOCK_PAIRS and not number):
                texts = [batch[name].to_pylist() for name in ("src", "tgt")]
                started = time.process_time()
                for tokenizer, side in zip((tokenizers.source, tokenizers.target), texts, strict=True):
                    tokenizer.encode_batch_fast(side, add_special_tokens=False)
                bare_s += time.process_time() - started
                bare_pairs += batch.num_rows
            yield batch

    encode = PairEncoder(tokenizers, store.scratch())
    stage = encoding_stage(store, encode)
    num_pairs = stage.num_rows or 0
    layer = ArrowFileLayer(location=store.root / "bare")
    started, spent_s = time.process_time(), 0.0
    layer.create("encoded", encode(with_bare_calls(_rebatched(stage.read(0, num_pairs))), 0, {}))
    spent_s = time.process_time() - started - bare_s
    rates = num_pairs / spent_s, bare_pairs / bare_s
    encoders = {id(encoder): encoder for encoder in encode.encoders}.values()
    hits = ", ".join(f"{encoder.counts.hit_rate:.4f}" for encoder in encoders)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{num_pairs:>12,} pairs, one core: mtx {rates[0]:,.0f} pairs/s, bare {rates[1]:,.0f} pairs/s, "
        f"ratio {rates[0] / rates[1]:.1f}; pieces with known ids {hits}; peak of the process {peak} MB",
        flush=True,
    )


def compare_cores(store: Store, tokenizers: TokenizerPair, workers: int) -> None:
    """Print the time of the stage with one process and with several, and compare their bytes."""
    payloads, seconds = {}, {}
    for number in (1, workers):
        engine = ProcessPoolEngine(workers=number)
        encode = PairEncoder(tokenizers, store.scratch())
        stage = encoding_stage(store, encode)
        runner = StageRunner(store, engine=engine, shard_rows=-(-(stage.num_rows or 0) // 8))
        started = time.perf_counter()
        runner.run(f"encoded-{number}", lambda stage=stage: stage)
        runner.close()
        seconds[number] = time.perf_counter() - started
        payloads[number] = store.repo.manifest(f"encoded-{number}").payload
    digests = {number: payload.sha256 for number, payload in payloads.items() if payload is not None}
    assert len(set(digests.values())) == 1, digests
    print(
        f"{'':12} {workers} processes: {seconds[1]:.1f} s with one, {seconds[workers]:.1f} s with {workers}, "
        f"ratio {seconds[1] / seconds[workers]:.2f}; equal bytes; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def check(tokenizers: TokenizerPair, pairs: pa.Table) -> None:
    """Assert that mtx's ids are those of the library for all texts."""
    for name, encoder in zip(("src", "tgt"), PairEncoder(tokenizers, Path()).encoders, strict=True):
        for batch in pairs.select([name]).to_batches(max_chunksize=BLOCK_PAIRS):
            lengths, ids = encoder.encode(batch[name].cast(pa.large_string()))
            expected = encode_texts(encoder.tokenizer, batch[name].to_pylist())
            assert lengths.tolist() == [len(row) for row in expected], name
            assert np.array_equal(ids, np.concatenate([np.array(row, dtype=ids.dtype) for row in expected])), name
    print(f"mtx and the library return the same ids for all {pairs.num_rows:,} real pairs", flush=True)


def compare_preparations(models: tuple[SideModel, SideModel], sizes: list[int], chosen: argparse.Namespace) -> None:
    """Print what `mtx task=prepare` takes for each size of a synthetic corpus, and how that grows."""
    measured: list[Measured] = []
    overrides = [*chosen.overrides, *(["tokenizer.vocab_size=400"] * chosen.quick)]
    for num_pairs in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"synthetic.en-de.{chosen.format}"
            text_bytes = write_corpus(path, synthetic(models, num_pairs, chosen.seed))
            measured.append(measure_prepare(path, num_pairs, text_bytes, overrides))
            print_measured(measured[-1])
            if chosen.before is not None:
                former = measure_prepare(path, num_pairs, text_bytes, overrides, chosen.before)
                print_measured(former)
                print_ratios(measured[-1], former)
    print_exponents(measured)


def _rebatched(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return iter(pa.Table.from_batches(batches).combine_chunks().to_batches(max_chunksize=BLOCK_PAIRS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1_000_000, 3_000_000], help="sizes of the corpora")
    parser.add_argument("--sample", action="store_true", help="learn from the sample corpus that is installed with mtx")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generator")
    parser.add_argument("--workers", type=int, default=0, help="also compare one process with this number of processes")
    parser.add_argument("--check", action="store_true", help="compare the ids of the real corpus with the library's")
    parser.add_argument("--quick", action="store_true", help="generate 500 pairs, to test the script")
    parser.add_argument("--prepare", action="store_true", help="measure the command task=prepare instead of encoding")
    parser.add_argument("--format", choices=("parquet", "jsonl"), default="parquet", help="of the corpus for --prepare")
    parser.add_argument("--before", type=Path, help="folder with another version of mtx, to measure after this one")
    parser.add_argument("--plan", type=int, nargs="+", help="measure plans of these numbers of pairs, and nothing else")
    parser.add_argument("overrides", nargs="*", help="further overrides of task=prepare, after --")
    chosen = parser.parse_args()
    if chosen.plan:
        for num_pairs in chosen.plan:
            measure_plan(num_pairs, chosen.seed)
        return
    is_sample = chosen.sample or not CORPUS.exists()
    source = ["downloader=sample"] if is_sample else ["downloader=local", f"downloader.path={CORPUS}"]
    small = [f"tokenizer.vocab_size={1000 if chosen.quick else 16_000}", *(["downloader.n=500"] * chosen.quick)]
    dm = mtx.compose_datamodule([*source, *small])
    dm.prepare_data()
    assert dm.ids is not None
    pairs = dm.storage.repo.get(dm.ids.filtered["train"]).rows.table
    if chosen.check:
        check(dm.tokenizers, pairs)
    models = SideModel(pairs["src"].combine_chunks()), SideModel(pairs["tgt"].combine_chunks())
    print(f"distinct words grow with words^{models[0].exponent:.2f} and words^{models[1].exponent:.2f}", flush=True)
    sizes = [500] if chosen.quick else chosen.pairs
    if chosen.prepare:
        compare_preparations(models, sizes, chosen)
        return
    for num_pairs in sizes:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(root=folder, objects=SQLiteObjectLayer, files=ArrowFileLayer)
            data = synthetic(models, num_pairs, chosen.seed)
            store.repo.add(
                TranslationDataset(
                    id="text-1", name="synthetic", stage="text", split="train", languages=("en", "de"), data=data
                )
            )
            compare_one_core(store, dm.tokenizers)
            if chosen.workers > 1:
                compare_cores(store, dm.tokenizers, chosen.workers)


if __name__ == "__main__":
    main()
