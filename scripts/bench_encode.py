"""How fast mtx encodes text, reading it and writing the ids included, beside the bare call of the `tokenizers` library.

Byte-level BPE of 16,000. mtx reads the filtered dataset, which is memory-mapped, and writes an encoded dataset; the
bare call gets a list of all sources, then one of all targets, and what it returns is thrown away.
"""

import tempfile
from pathlib import Path

import pyarrow as pa
from bench_turns import options, print_rates, turns
from tokenizers import Tokenizer

import mtx
from mtx.data.encode import encode_pairs, encoded_pairs
from mtx.data.tokenize.base import encode_texts, ready
from mtx.data.tokenize.pair import TokenizerPair
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dataset.collate import EncodedPairs

CACHED_WORDS = 1_000_000  # the library's default is 10,000
COMPARED = 10_000  # pairs whose ids must be those of the bare call


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
    default, cached, listing = (ready(Tokenizer.from_str(tokenizers.source.to_str())) for _ in range(3))
    contestants = {
        "mtx: read, encode, write": lambda: encoded(pairs, tokenizers),
        "bare encode_batch_fast": lambda: bare(default, texts),
        "and the ids taken from what it returns": lambda: [encode_texts(listing, side) for side in texts],
    }
    if hasattr(cached.model, "_resize_cache"):  # no public part of the library
        cached.model._resize_cache(CACHED_WORDS)
        contestants[f"bare, {CACHED_WORDS:,} words cached"] = lambda: bare(cached, texts)
    check(pairs.slice(0, COMPARED), tokenizers)
    seconds = turns(contestants, chosen.rounds)
    print_rates(seconds, pairs.num_rows)


def encoded(pairs: pa.Table, tokenizers: TokenizerPair) -> EncodedPairs:
    """Encode as the pipeline does, to a file that is mapped when it is read."""
    with tempfile.TemporaryDirectory() as folder:
        layer = ArrowFileLayer(location=folder)
        layer.create("encoded", encode_pairs(pairs, tokenizers, scratch=Path(folder), counts={}))
        return encoded_pairs(layer.read("encoded"))


def bare(tokenizer: Tokenizer, texts: list[list[str]]) -> None:
    for side in texts:
        tokenizer.encode_batch_fast(side, add_special_tokens=False)


def check(pairs: pa.Table, tokenizers: TokenizerPair) -> None:
    """Stop where mtx's ids are not those that the library gives for each text."""
    made = encoded(pairs, tokenizers)
    for rows, tokenizer, name in (
        (made.source, tokenizers.source, "src"),
        (made.target, tokenizers.target, "tgt"),
    ):
        expected = encode_texts(tokenizer, pairs[name].to_pylist())
        assert [rows[row].tolist() for row in range(len(rows))] == expected, f"ids of {name} differ"
    print(f"the ids of the first {pairs.num_rows:,} pairs are those of the bare call")


if __name__ == "__main__":
    main()
