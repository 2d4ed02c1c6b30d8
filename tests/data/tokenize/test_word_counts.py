"""Words are counted by pieces, with the same counts as the pre-tokenizer gives for whole texts."""

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.trainers import BpeTrainer

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize import word_counts as counting
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.word_counts import SEPARATOR, WORDS_PER_TEXT, repeated_words, word_counts

LONG_RUNS = r"[\p{L}\p{M}]{100}|\p{N}{100}|[^\s\p{L}\p{M}\p{N}]{100}|\s{100}"
SPLITTER = Steps([Split(Regex(LONG_RUNS), "isolated"), ByteLevel(add_prefix_space=False, use_regex=True)])
PARTS = [
    *("a", "Z", "word", "don't", "we'll", "'s", "'", "’", "7", "2024", "½", "٣", ".", "...", "?!", "_", "<EOS>", "Ġ"),
    *(" ", " ", " ", "  ", "\t", "\n", "\r\n", "\0", "\x1c", "\x7f", "\x85", "\xa0", "\u2028", "\u3000", "\u200b"),
    *("ä", "a\u0308", "\u0308", "ß", "日本語", "עברית", "हिन्दी", "👩‍👩‍👧", "🇩🇪", "▁", "\ufeff", "ﬁ"),
    *("x" * 99, "x" * 100, "é" * 201, "1" * 150, "-" * 130, " " * 100, "\t " * 60, "'" * 101),
]


def expected(texts: Sequence[str]) -> dict[str, int]:
    counts = Counter(word for text in texts for word, _ in SPLITTER.pre_tokenize_str(text))
    return {word: count for word, count in counts.items() if len(word) > 1}


def counted(batches: Sequence[list[str]]) -> dict[str, int]:
    table = word_counts(iter(batches))
    return dict(zip(table["text"].to_pylist(), table["count"].to_pylist(), strict=True))


def random_texts(seed: int, number: int) -> list[str]:
    rng = Random(seed)
    return ["".join(rng.choices(PARTS, k=rng.randint(0, 12))) for _ in range(number)]


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_those_of_whole_texts(seed: int) -> None:
    texts = random_texts(seed, 400)
    assert counted([texts[:7], [], texts[7:]]) == expected(texts)


def test_counts_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = random_texts(50, 300)
    monkeypatch.setattr(counting, "BLOCK_BYTES", 64)
    monkeypatch.setattr(counting, "MAX_HELD_ROWS", 100)
    assert counted([texts]) == expected(texts)


def test_words_are_repeated_as_often_as_they_occur() -> None:
    texts = ["a word", " again" * (3 * WORDS_PER_TEXT + 1), "don't go"]
    batches = [*repeated_words(word_counts(iter([texts])))]
    found = [word for batch in batches for text in batch for word in text.split(SEPARATOR) if word]
    assert Counter(found) == expected(texts)
    assert max(text.count(SEPARATOR) for batch in batches for text in batch) == WORDS_PER_TEXT


@pytest.mark.parametrize("normalization", [None, "NFC", "NFKC"])
def test_vocabulary_is_that_of_the_library(normalization: str | None) -> None:
    texts = [text for text in random_texts(90, 600) if text]
    rows = [{"src": text, "tgt": f"{text} und noch ein Text"} for text in texts]
    dataset = TranslationDataset(name="odd", stage="raw", split="train", languages=("en", "de"), data=rows)
    ours = BPETokenization(vocab_size=700, normalization=normalization).train(dataset).tokenizer  # type: ignore[arg-type]
    library = Tokenizer(BPE())
    if ours.normalizer is not None:
        library.normalizer = ours.normalizer
    library.pre_tokenizer = SPLITTER
    trainer = BpeTrainer(
        vocab_size=700,
        min_frequency=2,
        special_tokens=["<PAD>", "<BOS>", "<EOS>", "<UNK>"],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator([text for row in rows for text in row.values()], trainer)
    assert ours.model.__getstate__() == library.model.__getstate__()
