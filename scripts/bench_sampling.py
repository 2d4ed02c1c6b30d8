"""Benchmark: time to encode an epoch with subword sampling, compared with `tokenizers` without sampling.

Both encode both sides of the first pairs of a corpus, on the same cores, in turn. `tokenizers` gets Python strings in
memory, and its result is discarded. mtx writes the sampled token ids to a file and memory-maps it, as in training.
"""

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mtx
from mtx.data.sampled_encoding import SampledPairs, sampled_pairs
from mtx.data.stage_runner import StageRunner
from mtx.data.tokenize.bpe_dropout import MergeSampler
from mtx.data.tokenize.tokenization import Tokenization
from mtx.data.tokenize.unigram_sampling import LatticeSampler
from mtx.data.tokenize.word_index import COLUMNS, get_or_build_words, load_words

CORPUS = Path(__file__).resolve().parents[2] / "shared/data/corpus.en-de.jsonl.gz"
AT_ONCE = 8192  # texts in one call of tokenizers


def main() -> None:
    options = _options()
    path = options.corpus or (CORPUS if CORPUS.exists() and not options.sample else None)
    if path is None:
        print("NOT THE CORPUS OF THE PUBLISHED TABLE: the corpus is missing, or --sample was given.")
    source = ["downloader=sample"] if path is None else ["downloader=local", f"downloader.path={path}"]
    print(f"{'':32}{'pairs/s':>10}{'× library':>10}{'tokens':>12}")
    with tempfile.TemporaryDirectory() as root:
        for config in (["tokenizer=bpe", "tokenizer.dropout=0.1"], ["tokenizer=unigram", "tokenizer.alpha=0.1"]):
            compare([*source, *config, f"storage.root={root}"], options)
    print("load:", " ".join(f"{load:.1f}" for load in os.getloadavg()), "cores:", os.cpu_count())


def compare(overrides: list[str], options: argparse.Namespace) -> None:
    """Print the pairs per second for one tokenizer: medians over rounds in which all encoders take turns."""
    size = [f"downloader.n={options.pairs}", f"tokenizer.vocab_size={options.vocab_size}"]
    dm = mtx.compose_datamodule(
        [*overrides, *size, "filter=none", "datamodule.validation=null", "datamodule.test=null"]
    )
    dm.prepare_data()
    assert dm.ids is not None
    assert dm.ids.words is not None
    store, filtered, config = dm.storage, dm.ids.filtered["train"], dm.recipe.tokenizer
    table, tokenizers = store.repo.get(filtered).rows.table, dm.tokenizers
    sides = [(tokenizers.source, table["src"].to_pylist()), (tokenizers.target, table["tgt"].to_pylist())]
    made, opening_s = timed(lambda: sampled_pairs(store, dm.ids.words, tokenizers, config))  # type: ignore[union-attr, arg-type]
    sampling = ", ".join(f"{key}={value}" for key, value in config.sampling().items())
    ways: dict[str, Callable[[int], Any]] = {
        "the library, best segmentation": lambda _: library(sides),
        f"mtx, {sampling}": lambda number: made.epoch(seed=0, epoch=number),
    }
    if not options.no_fallback:
        plain = by_numpy(dm, config)
        ways["mtx, the same without numba"] = lambda number: plain.epoch(seed=0, epoch=number)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    num_tokens: dict[str, int] = {}
    for number in range(options.rounds):
        for name, encode in ways.items():
            ids, took = timed(lambda encode=encode, number=number: encode(number))
            seconds[name].append(took)
            num_tokens[name] = ids if isinstance(ids, int) else len(ids.source.ids) + len(ids.target.ids)
    first = next(iter(seconds.values()))
    for name, times in seconds.items():
        ratio = statistics.median(one / other for one, other in zip(first, times, strict=True))
        rate = len(table) / statistics.median(times)
        print(f"{name:32}{rate:>10,.0f}{ratio:>10.2f}{num_tokens[name]:>12,}")
    elsewhere = copy.copy(store)  # a store without the words artifact, so that it is built again
    elsewhere.root = Path(tempfile.mkdtemp(dir=store.root))
    _, cutting_s = timed(lambda: get_or_build_words(StageRunner(elsewhere), filtered, tokenizers))
    print(f"  splitting the corpus into words, once: {cutting_s:.1f} s; opening them, per process: {opening_s:.1f} s")


def library(sides: list[tuple[Any, list[str]]]) -> int:
    """Encode all texts with `tokenizers`, and return the number of tokens."""
    return sum(
        len(encoding.ids)
        for tokenizer, texts in sides
        for start in range(0, len(texts), AT_ONCE)
        for encoding in tokenizer.encode_batch_fast(texts[start : start + AT_ONCE], add_special_tokens=False)
    )


def by_numpy(dm: mtx.TranslationDataModule, config: Tokenization) -> SampledPairs:
    """Return an encoder of the same pairs that uses numpy instead of numba."""
    assert dm.ids is not None
    assert dm.ids.words is not None
    words, options = load_words(dm.storage, dm.ids.words), config.sampling()
    kind: Any = MergeSampler if "dropout" in options else LatticeSampler
    tokenizers = {"source": dm.tokenizers.source, "target": dm.tokenizers.target}
    source, target = (kind(tokenizers[side], words[side], compiled=False, **options) for side in COLUMNS)
    return SampledPairs(source, target, len(words["source"]), scratch=dm.storage.scratch())


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    made = call()
    return made, time.perf_counter() - started


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="path of a JSON Lines file with the keys src and tgt")
    parser.add_argument("--sample", action="store_true", help="use the sample corpus that is installed with mtx")
    parser.add_argument("--pairs", type=int, default=200_000, help="number of pairs, from the start of the corpus")
    parser.add_argument("--vocab-size", type=int, default=16_000, help="vocabulary size of both tokenizers")
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements of each encoder")
    parser.add_argument("--no-fallback", action="store_true", help="do not measure mtx without numba, which is slow")
    return parser.parse_args()


if __name__ == "__main__":
    main()
