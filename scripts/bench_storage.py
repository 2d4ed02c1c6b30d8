"""Benchmark: speed at which stored pairs are read by index, in shuffled batches of 64, and memory of 4 workers.

The pairs of a corpus are repeated up to a million. Texts are read from mtx's payload (memory-mapped Arrow), and from
rows of `datasets` over the same table. The others read JSON Lines by seeking, a list of dicts, and Parquet. From
Parquet, only the row groups with the requested rows are read. Token ids (byte-level BPE with a vocabulary of 16,000)
are read from mtx's payload and from `datasets` in numpy format. The memory of workers is measured for mtx's payload and
for lists of int. Lance and LitData are not measured, because mtx does not depend on them.
"""

import json
import os
import statistics
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_memory import worker_peaks
from bench_turns import options, turns
from numpy.typing import NDArray

import mtx
from mtx.data.dataset import TranslationDataset
from mtx.data.encoding_stage import PairEncoder, encoded_pairs
from mtx.data.token_rows import EncodedPairs, SpecialIds
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.arrow_rows import ROWS_AT_ONCE, Rows

BATCH_SIZE = 64
NUM_BATCHES = 512  # batches in one measurement
NUM_SLOW_BATCHES = 4  # batches in one measurement of a slow reader
NUM_WORKERS = 4
NUM_PAIRS = 1_000_000
ROWS_IN_GROUP = 8192
TRAINED_ON = 50_000  # pairs on which the tokenizer is trained

Batches = NDArray[np.int64]  # [batches, 64] numbers of rows
Read = Callable[[Any], object]


def main() -> None:
    chosen = options(__doc__.split("\n")[0])
    num_pairs = chosen.pairs or NUM_PAIRS
    pairs = mtx.compose_datamodule(chosen.source).recipe.downloader
    corpus = pa.Table.from_batches(pairs.batches("train", {})).slice(0, num_pairs)
    print(f"{num_pairs:,} pairs from {corpus.num_rows:,}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    random = np.random.default_rng(0)
    order = random.permutation(num_pairs)[: BATCH_SIZE * min(NUM_BATCHES, num_pairs // BATCH_SIZE)]
    with tempfile.TemporaryDirectory() as folder:
        layer = ArrowFileLayer(location=folder)
        layer.create("texts", _repeated(corpus, num_pairs))
        layer.create("ids", iter([_repeated_ids(_encoded(corpus, Path(folder)), num_pairs)]))
        batches = order.reshape(-1, BATCH_SIZE)
        texts = _text_readers(layer.read("texts"), Path(folder))
        _race("texts", texts, batches, chosen.rounds)
        _race("token ids", _id_readers(layer.read("ids")), batches, chosen.rounds)
        _print_memory(layer.read("ids"), 1 if chosen.quick else NUM_WORKERS)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


def _repeated(corpus: pa.Table, num_pairs: int) -> pa.Table:
    """Repeat a corpus up to `num_pairs` pairs, in record batches of the size that mtx stores."""
    whole = pa.concat_tables([corpus] * -(-num_pairs // corpus.num_rows)).slice(0, num_pairs)
    return pa.Table.from_batches(whole.combine_chunks().to_batches(max_chunksize=ROWS_AT_ONCE))


def _encoded(corpus: pa.Table, folder: Path) -> EncodedPairs:
    """Encode a corpus with a tokenizer trained on the first pairs of the corpus."""
    rows = [
        {"src": src, "tgt": tgt}
        for src, tgt in zip(*(corpus[name].slice(0, TRAINED_ON).to_pylist() for name in ("src", "tgt")), strict=True)
    ]
    learnt = TranslationDataset(
        id="learnt", name="learnt", stage="filtered", split="train", languages=("src", "tgt"), data=Rows.of(rows)
    )
    tokenizer = BPETokenization(vocab_size=16_000).train(learnt).tokenizer
    special = SpecialIds(pad=0, bos=1, eos=2, unk=3)
    both = TokenizerPair("learnt", folder, True, tokenizer, tokenizer, special, special)
    return encoded_pairs(Rows(pa.Table.from_batches(PairEncoder(both, folder)(iter(corpus.to_batches()), 0, {}))))


def _repeated_ids(encoded: EncodedPairs, num_pairs: int) -> pa.RecordBatch:
    rows = np.arange(num_pairs) % len(encoded)
    columns = {}
    for name, side in (("source_ids", encoded.source), ("target_ids", encoded.target)):
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(side.lengths[rows], dtype=np.int64)])
        values = np.resize(side.ids[: side.offsets[-1]], offsets[-1])  # same order of rows as in `side`
        columns[name] = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
    return pa.record_batch(columns)


def _text_readers(rows: Rows, folder: Path) -> dict[str, Read]:
    """Return functions that read a batch of texts, by the name of the method."""
    lines, offsets = folder / "texts.jsonl", [0]
    with lines.open("wb") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            offsets.append(file.tell())
    pq.write_table(rows.table, folder / "texts.parquet", compression="zstd", row_group_size=ROWS_IN_GROUP)
    parquet = pq.ParquetFile(folder / "texts.parquet")
    listed = list(rows)
    opened = lines.open("rb")
    hub = datasets.Dataset(rows.table)
    whole = rows.table.combine_chunks()

    def seek(row: int) -> Any:
        opened.seek(offsets[row])
        return json.loads(opened.readline())

    def groups(batch: NDArray[np.int64]) -> list[Any]:
        wanted = {int(row) // ROWS_IN_GROUP for row in batch}
        read = {group: parquet.read_row_group(group) for group in wanted}
        return [read[row // ROWS_IN_GROUP].slice(row % ROWS_IN_GROUP, 1).to_pylist() for row in batch.tolist()]

    return {
        "mtx, a batch at a time": lambda batch: rows.take(batch.tolist()),
        "Arrow, take on the whole table": lambda batch: rows.table.take(batch),
        "mtx, one row after another": lambda batch: [rows[row] for row in batch.tolist()],
        "Arrow, take on one chunk in memory": lambda batch: whole.take(batch),
        "datasets, a batch at a time": lambda batch: hub[batch],
        "datasets, one row after another": lambda batch: [hub[row] for row in batch.tolist()],
        "JSON Lines, by seeking": lambda batch: [seek(row) for row in batch.tolist()],
        "a list of dicts": lambda batch: [listed[row] for row in batch.tolist()],
        "slow: Parquet, by row groups": groups,
    }


def _id_readers(rows: Rows) -> dict[str, Read]:
    """Return functions that read a batch of token ids, by the name of the method."""
    encoded = encoded_pairs(rows)
    hub = datasets.Dataset(rows.table).with_format("numpy")
    return {
        "mtx, views of the file": lambda batch: [(encoded.source[row], encoded.target[row]) for row in batch.tolist()],
        "datasets, numpy format": lambda batch: [hub[row] for row in batch.tolist()],
        "datasets, numpy format, a batch": lambda batch: hub[batch],
    }


def _race(what: str, readers: dict[str, Read], batches: Batches, rounds: int) -> None:
    def reading(name: str, read: Read) -> Callable[[], object]:
        own = batches[:NUM_SLOW_BATCHES] if name.startswith("slow") else batches
        return lambda: [read(batch) for batch in own] and None

    seconds = turns({name: reading(name, read) for name, read in readers.items()}, rounds)
    sizes = {
        name: (min(NUM_SLOW_BATCHES, len(batches)) if name.startswith("slow") else len(batches)) for name in seconds
    }
    rates = {name: [sizes[name] * BATCH_SIZE / own for own in seconds[name]] for name in seconds}
    first = next(iter(rates.values()))
    print(f"\n{what}\n{'':44}{'rows/s':>12}{'mtx is ×':>12}")
    for name, own in rates.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(first, own, strict=True))
        print(f"{name.removeprefix('slow: '):44}{statistics.median(own):12,.0f}{ratio:12.2f}")


def _print_memory(rows: Rows, num_workers: int) -> None:
    """Print the peak memory of a DataLoader with workers that reads all token ids."""
    print(f"\npeak memory in MB that {num_workers} workers and their parent add to an idle parent")
    print(f"{'':44}{'PSS':>9}{'no file':>11}")
    with suppress(FileNotFoundError):  # systems other than Linux have no /proc
        ways: dict[str, Callable[[], Any]] = {
            "mtx, memory-mapped": lambda: encoded_pairs(rows),
            "lists of int": lambda: _lists(rows),
            "workers that read nothing": _Nothing,
        }
        for name, make in ways.items():
            pss, anonymous = worker_peaks(make, num_rows=len(rows), num_workers=num_workers, batch_size=BATCH_SIZE)
            print(f"{name:44}{pss:9,.0f}{anonymous:11,.0f}", flush=True)


class _Nothing:
    """Rows without tokens, to measure the memory of the workers themselves."""

    def __init__(self) -> None:
        self.source = self.target = self

    def __getitem__(self, row: int) -> tuple[int, ...]:
        return ()


class _Lists:
    """Token ids as lists of int, as `to_pylist` returns them."""

    def __init__(self, source: list[list[int]], target: list[list[int]]) -> None:
        self.source, self.target = source, target


def _lists(rows: Rows) -> _Lists:
    return _Lists(*(rows.table[name].to_pylist() for name in ("source_ids", "target_ids")))


if __name__ == "__main__":
    main()
