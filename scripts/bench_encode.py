"""Benchmark: speed of mtx's encode stage, with reading and writing, compared with a bare call of `tokenizers`.

The tokenizer is byte-level BPE with a vocabulary of 16,000. mtx reads the memory-mapped filtered dataset and writes an
encoded dataset. The bare call gets a list of all sources, then a list of all targets, and its result is discarded.
"""

import tempfile
from pathlib import Path

import pyarrow as pa
from bench_turns import options, print_rates, turns
from tokenizers import Tokenizer

import mtx
from mtx.data.encoding_stage import PairEncoder, encoded_pairs
from mtx.data.token_rows import EncodedPairs
from mtx.data.tokenize.tokenization import encode_texts, prepare_tokenizer
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.infra.dal.arrow import ArrowFileLayer

CACHED_WORDS = 1_000_000  # size of the word cache; the default of tokenizers is 10,000
COMPARED = 10_000  # number of pairs whose ids are compared with the ids of the bare call


def main() -> None:
    chosen = options(__doc__.split("\n")[0])
    dm = mtx.compose_datamodule(
        [
            *chosen.source,
            "filter=none",
            f"tokenizer.vocab_size={1000 if chosen.quick else 16_000}",
            "datamodule.validation=null",
            "datamodule.test=null",
        ]
    )
    dm.prepare_data()
    assert dm.ids is not None
    pairs, tokenizers = dm.storage.repo.get(dm.ids.filtered["train"]).rows.table, dm.tokenizers
    texts = [pairs[name].to_pylist() for name in ("src", "tgt")]
    default, cached, listing = (prepare_tokenizer(Tokenizer.from_str(tokenizers.source.to_str())) for _ in range(3))
    contestants = {
        "mtx: read, encode, write": lambda: encoded(pairs, tokenizers),
        "bare encode_batch_fast": lambda: bare(default, texts),
        "bare call, ids converted to lists": lambda: [encode_texts(listing, side) for side in texts],
    }
    if hasattr(cached.model, "_resize_cache"):  # not in the public API of tokenizers
        cached.model._resize_cache(CACHED_WORDS)
        contestants[f"bare, {CACHED_WORDS:,} words cached"] = lambda: bare(cached, texts)
    check(pairs.slice(0, COMPARED), tokenizers)
    seconds = turns(contestants, chosen.rounds)
    print_rates(seconds, pairs.num_rows)


def encoded(pairs: pa.Table, tokenizers: TokenizerPair) -> EncodedPairs:
    """Encode the pairs as the pipeline does, to a file that is memory-mapped for reading."""
    with tempfile.TemporaryDirectory() as folder:
        layer, batches = ArrowFileLayer(location=folder), iter(pairs.to_batches())
        layer.create("encoded", PairEncoder(tokenizers, Path(folder))(batches, 0, {}))
        return encoded_pairs(layer.read("encoded"))


def bare(tokenizer: Tokenizer, texts: list[list[str]]) -> None:
    for side in texts:
        tokenizer.encode_batch_fast(side, add_special_tokens=False)


def check(pairs: pa.Table, tokenizers: TokenizerPair) -> None:
    """Assert that mtx's ids are equal to the ids that the library returns for each text."""
    made = encoded(pairs, tokenizers)
    for rows, tokenizer, name in (
        (made.source, tokenizers.source, "src"),
        (made.target, tokenizers.target, "tgt"),
    ):
        expected = encode_texts(tokenizer, pairs[name].to_pylist())
        assert [rows[row].tolist() for row in range(len(rows))] == expected, f"ids of {name} differ"
    print(f"mtx and the bare call return the same ids for the first {pairs.num_rows:,} pairs")


if __name__ == "__main__":
    main()
