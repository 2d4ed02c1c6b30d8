"""Benchmark: what it costs to compare stored data with their digests before anything is built from them.

The pairs of a corpus are repeated up to 500,000, with a number each. The data are prepared with the comparison and
without it, in alternating rounds. Times are CPU seconds of the process, which a loaded machine changes less than the
clock. Then each kind of check is measured alone: the SHA-256 of a payload, the offsets of a payload, and the checksums
of a checkpoint.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import torch

import mtx
from mtx.data.filter.default import DefaultFilter
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.repo_read_cache import RepoSession
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.bpe import BPETokenization
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.arrow_offsets_check import check_offsets
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA
from mtx.training.atomic_checkpoint_io import AtomicCheckpointIO
from mtx.training.checkpoint_content import damage_of

CHECKPOINT_FLOATS = 25_000_000  # 100 MB
PAIRS_IN_BATCH = 8192


@dataclass(frozen=True, kw_only=True)
class Repeated(Downloader):
    """The pairs of a corpus, repeated, with a number each."""

    pairs: tuple[tuple[str, str], ...]
    num_pairs: int

    def info(self) -> SourceInfo:
        return SourceInfo("repeated", ("en", "de"), "1", {"pairs": self.num_pairs}, ("train",))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        for start in range(0, self.num_pairs, PAIRS_IN_BATCH):
            rows = range(start, min(start + PAIRS_IN_BATCH, self.num_pairs))
            chosen = [(self.pairs[row % len(self.pairs)], row) for row in rows]
            sides = [[f"{pair[side]} {row}" for pair, row in chosen] for side in (0, 1)]
            yield pa.record_batch(sides, schema=PAIR_SCHEMA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    sample = next(iter(mtx.compose_datamodule([]).recipe.downloader.batches("train", {})))
    pairs = tuple(zip(sample["src"].to_pylist(), sample["tgt"].to_pylist(), strict=True))
    recipe = Recipe(
        Repeated(pairs=pairs, num_pairs=chosen.pairs),
        HeldOut(validation=500, test=500),
        DefaultFilter(),
        BPETokenization(vocab_size=8000),
    )
    print(f"{chosen.pairs:,} pairs, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        _compare_preparations(recipe, Path(folder), chosen.rounds)
        _measure_checks(recipe, Path(folder))
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def _compare_preparations(recipe: Recipe, folder: Path, rounds: int) -> None:
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(rounds):
        for name, context in (("with", _checked), ("without", _unchecked)):
            with context():
                seconds[name].append(_cpu_s(partial(prepare, recipe, _store(folder / f"{number}-{name}"))))
    ratio = statistics.median(a / b for a, b in zip(seconds["with"], seconds["without"], strict=True))
    for name, found in seconds.items():
        print(f"{'prepare, ' + name + ' comparison':44}{statistics.median(found):8.2f} CPU s")
    print(f"{'ratio':44}{ratio:8.3f}")


def _measure_checks(recipe: Recipe, folder: Path) -> None:
    store = _store(folder / "0-with")
    ids: StageIds = prepare(recipe, store)
    for stage in ("raw", "encoded"):
        name = getattr(ids, stage)["train"]
        rows, num_bytes = store.repo.get(name).rows, store.repo.fal.num_bytes(name)
        hashed = _best_s(partial(store.repo.fal.sha256, name))
        followed = _best_s(partial(check_offsets, rows.unchecked_table, "the bench"))
        what, rate = f"SHA-256 of {stage}, {num_bytes / 1e6:,.0f} MB", num_bytes / hashed / 1e6
        print(f"{what:44}{hashed:8.3f} CPU s {rate:8,.0f} MB/s")
        print(f"{f'offsets of {stage}, {len(rows):,} rows':44}{followed:8.3f} CPU s")
    path = folder / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"weight": torch.zeros(CHECKPOINT_FLOATS)}}, path)
    size = path.stat().st_size
    summed = _best_s(lambda: damage_of(path))
    print(f"{f'CRC-32 of a checkpoint, {size / 1e6:,.0f} MB':44}{summed:8.3f} CPU s {size / summed / 1e6:8,.0f} MB/s")


def _store(root: Path) -> Store:
    return Store(root=root, objects=SQLiteObjectLayer, files=ArrowFileLayer)


@contextmanager
def _checked() -> Iterator[None]:
    yield


@contextmanager
def _unchecked() -> Iterator[None]:
    kept = RepoSession.get_checked
    RepoSession.get_checked = RepoSession.get  # type: ignore[method-assign]
    try:
        yield
    finally:
        RepoSession.get_checked = kept  # type: ignore[method-assign]


def _cpu_s(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _best_s(work: Callable[[], object]) -> float:
    return min(_cpu_s(work) for _ in range(3))


if __name__ == "__main__":
    main()
