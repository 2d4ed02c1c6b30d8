"""Byte-level byte pair encoding (BPE): any text goes in, and comes back as it was.

Text is cut into words as GPT-2 cuts it: runs of letters, of digits, of other signs, each with the space before it.
Merges of frequent pairs, learned within words, start from the 256 bytes, so that nothing is unknown (Sennrich et al.
2016, Radford et al. 2019). Languages written without spaces are cut at their punctuation only; that costs seconds in
training, since the library keeps the words it may merge in a queue, and needs no rules for any language.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.base import (
    SPECIAL_TOKENS,
    Normalization,
    Side,
    Tokenization,
    at_least,
    check_normalization,
    normalizer,
    ready,
    require,
    within,
)
from mtx.data.tokenize.corpus import texts
from mtx.data.tokenize.dropout import MergeSampler
from mtx.data.tokenize.words import Words

NUM_BYTES = 256
# Cut in training only: the trainer's time is quadratic in the length of a word, and half a minute at 100,000.
LONG_RUNS = r"[\p{L}\p{M}]{100}|\p{N}{100}|[^\s\p{L}\p{M}\p{N}]{100}|\s{100}"
MIN_VOCAB_SIZE = NUM_BYTES + len(SPECIAL_TOKENS.as_list())


@dataclass(kw_only=True, eq=False)
class BPETokenization(Tokenization):
    """Learns byte-level BPE.

    Decoding what was encoded gives any text back exactly, or its normal form where there is a `normalization`.
    The same texts give the same file, byte for byte.

    Args:
        filepath: where `save` writes and `load` reads.
        joint: one vocabulary for both languages; False: one a side.
        vocab_size: tokens in the vocabulary, the 256 bytes and 4 special tokens included; fewer where the texts
            have no more pairs to merge.
        min_frequency: merge only pairs that occur at least this often.
        normalization: Unicode normal form applied before tokenising: None keeps the text as it is, or NFC, NFKC.
        max_train_pairs: learn from at most this many pairs, taken evenly over the dataset.
        dropout: probability, in [0, 1], that a merge is left out when training texts are encoded, anew in each epoch
            (BPE-dropout); 0: never. No part of the vocabulary.

    Example:
        >>> from mtx.data.dataset import TranslationDataset
        >>> rows = [{"src": "the cat sat", "tgt": "die Katze saß"}, {"src": "the hat", "tgt": "der Hut"}]
        >>> dataset = TranslationDataset(name="cats", stage="raw", split="train", languages=("en", "de"), data=rows)
        >>> tokenizer = BPETokenization(vocab_size=300).train(dataset).tokenizer
        >>> tokenizer.decode(tokenizer.encode("the 猫 sat").ids)
        'the 猫 sat'
    """

    MODEL: ClassVar[str | None] = "BPE"
    SAMPLING: ClassVar[tuple[str, ...]] = ("dropout",)

    vocab_size: int = 8000
    min_frequency: int = 2
    normalization: Normalization | None = None
    max_train_pairs: int = 1_000_000
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            at_least("vocab_size", self.vocab_size, MIN_VOCAB_SIZE, "256 bytes and 4 special tokens"),
            at_least("min_frequency", self.min_frequency, 1),
            at_least("max_train_pairs", self.max_train_pairs, 1),
            check_normalization(self.normalization),
            within("dropout", self.dropout, 0, 1),
        )

    def train(self, dataset: TranslationDataset, side: Side = "both") -> Self:
        """Learn the merges from the texts of `dataset`; see `Tokenization.train`."""
        stream = texts(dataset, side=side, max_pairs=self.max_train_pairs)
        tokenizer = byte_level(BPE(), use_regex=True)
        if (normal_form := normalizer(self.normalization)) is not None:
            tokenizer.normalizer = normal_form
        cut_words = tokenizer.pre_tokenizer
        tokenizer.pre_tokenizer = Sequence([Split(Regex(LONG_RUNS), "isolated"), cut_words])
        trainer = BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=SPECIAL_TOKENS.as_list(),
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(stream(), trainer)
        tokenizer.pre_tokenizer = cut_words
        self._tokenizer = ready(tokenizer)
        return self

    @property
    def samples(self) -> bool:
        """Whether there is dropout."""
        return self.dropout > 0

    def sampler(self, tokenizer: Tokenizer, words: Words) -> MergeSampler:
        """Return what encodes `words` with dropout."""
        return MergeSampler(tokenizer, words, dropout=self.dropout)


def byte_level(model: BPE, *, use_regex: bool) -> Tokenizer:
    """Return a tokenizer from text to bytes and back around `model`; `use_regex` cuts words, as GPT-2 does."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.decoder = ByteLevelDecoder()
    return tokenizer
