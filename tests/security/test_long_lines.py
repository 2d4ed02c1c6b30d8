"""A line of a million characters, made to hurt: whatever looks at it takes time that grows as the line does."""

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from mtx.components.identity import digest
from mtx.data.filter.default import DefaultFilter
from mtx.data.split import normalized_texts, source_hashes
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.byte import ByteTokenization
from mtx.data.tokenize.tokenization import encode_texts
from mtx.experiment.translations import labelled_text
from mtx.infra.dal.protocols import NAME_PATTERN
from mtx.infra.dataset.column_detection import Columns
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA
from mtx.infra.dataset.sources.jsonl import parse_block
from mtx.redaction_and_escaping import redacted_text, visible_text

CHARS = 1_000_000
GROWTH_AT_MOST = 5.0  # for twice the length: 2 is linear and 4 quadratic, of work that is no noise any more
NOISE_S = 0.4  # below this nothing has exploded, and the clock tells little
SLOW = {"bpe", "byte", "redacted", "translation"}  # linear, but slow: a tenth of the line shows as much

# What makes patterns go back and try again: nearly matching, over and over.
LINES = {
    "spaces": " \t",
    "one letter": "a",
    "letters and a mark": "a\u0301",
    "nearly an address": "://a:b",
    "nearly a password": "password=secret:",
    "nearly a token": "hf_hf_",
    "nearly markup": "[[a]",
    "braces": "{{}",
    "quotes": '"\\"',
    "nearly infinite": "-NaInf",
    "controls": "\x1b[",
    "digits": "1",
    "signs": "!'s",
    "CJK": "日",
    "dots": "downloader.",
}
COLUMNS = Columns("src", "tgt", ("en", "de"))


def batch(text: str) -> pa.RecordBatch:
    return pa.record_batch([pa.array([text], pa.large_string()), pa.array(["b"], pa.large_string())], PAIR_SCHEMA)


def tokenized(kind: Any) -> Callable[[str], object]:
    return lambda text: encode_texts(kind, [text])


def trained() -> Any:
    from mtx.data.dataset import TranslationDataset

    rows = [{"src": "the cat sat on a mat " * 3, "tgt": "aaaa 1111 !!!! 日日"}] * 4
    made = TranslationDataset(name="x", stage="raw", split="train", languages=("en", "de"), data=rows)
    return BPETokenization(vocab_size=300).train(made).tokenizer


LOOKS: dict[str, Callable[[str], object]] = {
    "filter": lambda text: list(DefaultFilter(max_words=10, max_chars=None).apply([batch(text)], {})),
    "held out": lambda text: source_hashes([batch(text)]),
    "normal form": lambda text: normalized_texts(pa.array([text], pa.large_string())),
    "JSON Lines": lambda text: parse_block(b'{"src": "' + text.encode() + b'", "tgt": "b"}\n', COLUMNS),
    "no JSON": lambda text: parse_block(b"{" + text.encode() + b"}\n", COLUMNS),
    "shown": visible_text,
    "redacted": redacted_text,
    "name": NAME_PATTERN.fullmatch,
    "identity": digest,
    "byte": tokenized(ByteTokenization().tokenizer),
    "bpe": tokenized(trained()),
    "translation": lambda text: labelled_text("source", text, Console(width=80)),
}


def seconds(look: Callable[[str], object], text: str) -> float:
    started = time.perf_counter()
    look(text)
    return time.perf_counter() - started


@pytest.mark.parametrize("name", LOOKS)
def test_twice_the_line_takes_about_twice_the_time(name: str) -> None:
    for line, piece in LINES.items():
        num_chars = CHARS // 10 if name in SLOW else CHARS
        text = (piece * num_chars)[:num_chars]
        whole = seconds(LOOKS[name], text)
        if whole < NOISE_S:
            continue
        half = min(seconds(LOOKS[name], text[: num_chars // 2]) for _ in range(2))
        whole = min(whole, seconds(LOOKS[name], text))
        assert whole < GROWTH_AT_MOST * half, f"{name} on {line}: {half:.2f} s, and {whole:.2f} s for twice the length"


def test_what_grows_with_the_square_is_found() -> None:
    """The test above can fail."""

    def quadratic(text: str) -> None:
        for start in range(0, len(text), 100):
            text[start:].count("x")

    short, long = (min(seconds(quadratic, "a" * size) for _ in range(2)) for size in (40_000, 200_000))
    assert long > GROWTH_AT_MOST * short
