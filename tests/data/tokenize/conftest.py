"""A small corpus of made-up words in three scripts, and the four kinds of tokenizer on it."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conf_options import options, target
from tokenizers import Tokenizer

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.subword_sampling import offsets_of
from mtx.data.tokenize.tokenization import Tokenization
from mtx.data.tokenize.word_index import WordIndex, cut_words

SYLLABLES = ("ka", "lo", "mi", "ren", "tu", "sho", "ba", "el", "dri", "un", "ä", "ß")
KANA_AND_KANJI = "のにをはがとし神光天地人日水見言行大小上下中山川火木金土心手目口"


def pairs_of_text(num_pairs: int) -> list[dict[str, str]]:
    """Write `num_pairs` pairs: words with spaces, and text without; some characters occur once only."""
    rng = random.Random(0)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(80)]
    return [
        {
            "src": " ".join(rng.choices(words, k=rng.randint(2, 9))).capitalize() + ".",
            "tgt": "".join(rng.choices(KANA_AND_KANJI, k=rng.randint(4, 30)))
            + (f"、{chr(0x4E00 + i)}。" if i % 4 == 0 else "。"),
        }
        for i in range(num_pairs)
    ]


def dataset_of(rows: Any) -> TranslationDataset:
    """Hold rows as a filtered training split."""
    return TranslationDataset(name="made-up", stage="filtered", split="train", languages=("xx", "ja"), data=rows)


@pytest.fixture(scope="session")
def dataset() -> TranslationDataset:
    return dataset_of(pairs_of_text(200))


@pytest.fixture(scope="session")
def make_dataset() -> Callable[[Any], TranslationDataset]:
    return dataset_of


@pytest.fixture(scope="session")
def trained(dataset: TranslationDataset) -> dict[str, Tokenization]:
    """One tokenizer of each kind that is made here. Not to be changed by tests."""
    kinds = {
        name: target("tokenizer", name)
        for name in options("tokenizer")
        if name not in ("pretrained", "sentencepiece", "vocabulary_file")
    }
    return {name: kind(vocab_size=500).train(dataset) if kind.is_trainable else kind() for name, kind in kinds.items()}


@pytest.fixture(scope="session")
def as_words() -> Callable[[Tokenizer, list[str]], WordIndex]:
    """Cut texts into the words of a tokenizer, one row a text."""

    def cut(tokenizer: Tokenizer, texts: list[str]) -> WordIndex:
        distinct, stream = cut_words(tokenizer, lambda: iter([texts]))
        rows = [row for some in stream for row in some]
        numbers = np.array([number for row in rows for number in row], dtype=np.uint32)
        return WordIndex(distinct, numbers, offsets_of([len(row) for row in rows]))

    return cut


@pytest.fixture(scope="session")
def nasty() -> list[str]:
    """Texts that trip up what handles text."""
    one = ["", " ", "  a  ", "e\u0301", "العربية", "日本語。縞", "👩‍👩‍👧", "a\x00b", "x\u2028y", "\u200f", "w" * 3000]
    return [*one, "<EOS>", "<0x41>", "<PAD> <UNK>", "\n\t\r\n", "Katze saß", "½ﬁⅷ", "\U0010ffff", "é" * 200]
