"""Benchmark: mtx encodes with vocabularies from elsewhere; ids and speed are compared with the libraries.

The vocabularies are trained on the corpus: SentencePiece models (unigram and BPE), and folders of transformers with a
byte-level BPE, a WordPiece, and the unigram model converted as for T5. mtx encodes both sides as the encoded stage
does, and writes a file. All ids are compared with those of `sentencepiece` or `AutoTokenizer`. The rates are
those of one call of the library for all texts, which discards its result.
"""

import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from bench_encode import encoded
from bench_turns import options

import mtx
from mtx.cpu_count import usable_cores
from mtx.data.tokenize.pretrained import PretrainedTokenization
from mtx.data.tokenize.sentencepiece import SentencePieceTokenization
from mtx.data.tokenize.tokenization import prepare_tokenizer
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair, load_pair

VOCABULARY = 16_000
KINDS = ("sentencepiece_unigram", "sentencepiece_bpe", "bpe_folder", "wordpiece_folder", "t5_folder")
TRAINED_ON = 60_000  # sentences of which SentencePiece learns
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
Contestant = tuple[TokenizerPair, Callable[[list[str]], Any], Callable[[list[str]], list[list[int]]]]


def main() -> None:
    chosen_kinds = [name.removeprefix("--only=") for name in sys.argv if name.startswith("--only=")]
    sys.argv = [name for name in sys.argv if not name.startswith("--only=")]
    chosen = options(__doc__.split("\n")[0] + " --only=KIND measures one kind.")
    size = 600 if chosen.quick else VOCABULARY
    dm = mtx.compose_datamodule(chosen.source)
    pairs = pa.Table.from_batches(dm.recipe.downloader.batches("train", {})).select(["src", "tgt"])
    pairs = pairs.cast(pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])).combine_chunks()
    texts = pairs["src"].to_pylist() + pairs["tgt"].to_pylist()
    print(f"{'':24}{'sentences':>10}{'equal ids':>11}{'mtx s':>8}{'library s':>11}{'rate of mtx':>13}{'CPU':>7}")
    with tempfile.TemporaryDirectory(prefix="mtx-bench-") as folder:
        for kind in chosen_kinds or KINDS:
            made = (of_sentencepiece if kind.startswith("sentencepiece") else of_transformers)(
                kind, texts, Path(folder), size
            )
            measure(kind, pairs, texts, made, chosen.rounds)


def measure(kind: str, pairs: pa.Table, texts: list[str], made: Contestant, rounds: int) -> None:
    tokenizers, run, ids_of = made
    found = encoded(pairs, tokenizers)
    expected, num_equal = ids_of(texts), 0
    for row, ids in enumerate(expected):
        side, at = (found.source, row) if row < len(pairs) else (found.target, row - len(pairs))
        num_equal += side[at].tolist() == ids
    del expected
    seconds: dict[str, list[tuple[float, float]]] = {"mtx": [], "library": []}
    for _ in range(rounds):
        for name, call in (("mtx", lambda: encoded(pairs, tokenizers)), ("library", lambda: run(texts))):
            started, cpu = time.perf_counter(), time.process_time()
            call()
            seconds[name].append((time.perf_counter() - started, time.process_time() - cpu))
    wall, cpu_ratio = (
        statistics.median(theirs[i] / ours[i] for ours, theirs in zip(*seconds.values(), strict=True)) for i in (0, 1)
    )
    ours, theirs = (statistics.median(wall for wall, _ in each) for each in seconds.values())
    print(
        f"{kind:24}{len(texts):10,}{num_equal:11,}{ours:8.2f}{theirs:11.2f}{wall:13.2f}{cpu_ratio:7.2f}"
        f"   load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    assert num_equal == len(texts), f"{len(texts) - num_equal:,} sentences have other ids"


def of_sentencepiece(kind: str, texts: list[str], folder: Path, size: int) -> Contestant:
    import sentencepiece

    path = trained_sentencepiece(kind, texts, folder, size)
    library: Any = sentencepiece.SentencePieceProcessor(model_file=str(path))
    config = SentencePieceTokenization(filepath=path, pad_token="<pad>")
    config.load().at(folder / "tokenizer.json").save()
    encode = partial(library.encode, num_threads=usable_cores())
    return load_pair(config, folder), encode, encode


def trained_sentencepiece(kind: str, texts: list[str], folder: Path, size: int) -> Path:
    import sentencepiece

    path = folder / f"{kind}.model"
    if path.exists():  # another kind has trained it
        return path
    made, lines = io.BytesIO(), [text for text in texts[:: max(1, len(texts) // TRAINED_ON)] if "\0" not in text]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=made,
        model_type=kind.removeprefix("sentencepiece_"),
        vocab_size=size,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=0.9995,
        user_defined_symbols=[">>de<<"],
        minloglevel=2,
    )
    path.write_bytes(made.getvalue())
    return path


def of_transformers(kind: str, texts: list[str], folder: Path, size: int) -> Contestant:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    made = converted_t5(texts, folder, size) if kind == "t5_folder" else trained_library(kind, texts, size)
    saved = folder / kind
    with contextlib.redirect_stdout(io.StringIO()):
        PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL).save_pretrained(str(saved))
    auto = AutoTokenizer.from_pretrained(str(saved))
    config = PretrainedTokenization(filepath=saved)
    config.load().at(folder / "tokenizer.json").save()
    bare = prepare_tokenizer(Tokenizer.from_file(str(saved / "tokenizer.json")))

    def ids_of(batch: list[str]) -> list[list[int]]:
        ids: list[list[int]] = auto(batch, add_special_tokens=False)["input_ids"]
        return ids

    return load_pair(config, folder), lambda batch: bare.encode_batch_fast(batch, add_special_tokens=False), ids_of


def converted_t5(texts: list[str], folder: Path, size: int) -> Any:
    """Return the SentencePiece unigram model as the `tokenizers` library has it, with T5's steps."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    from mtx.data.tokenize.sentencepiece_file import read_sentencepiece

    content = trained_sentencepiece("sentencepiece_unigram", texts, folder, size).read_bytes()
    pieces = read_sentencepiece(content, "model").pieces
    vocabulary = [(piece.text, piece.score) for piece in pieces] + [("<pad>", 0.0)]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(r"  ", " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    return made


def trained_library(kind: str, texts: list[str], size: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    special = list(SPECIAL.values())
    if kind == "bpe_folder":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer: Any = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    else:
        made = Tokenizer(models.WordPiece(unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    made.train_from_iterator(texts, trainer)
    return made


if __name__ == "__main__":
    main()
