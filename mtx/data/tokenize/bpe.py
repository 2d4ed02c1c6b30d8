"""Byte-level byte pair encoding (BPE), which encodes any text, and whose decoding restores it exactly.

Text is split into words as in GPT-2: runs of letters, of digits or of other characters, each with the space before it.
Merges of frequent pairs are learned within words. They start from the 256 bytes, so that no text is unknown (Sennrich
et al. 2016, Radford et al. 2019). Languages without spaces are split only at punctuation. Their longer words take some
more seconds of training, but need no rules for a language.
"""

from dataclasses import field
from typing import Annotated, ClassVar, Self

from pydantic import Field
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from mtx.components.checked_options import Count, Probability, component
from mtx.components.identity import LATER
from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.bpe_dropout import MergeSampler
from mtx.data.tokenize.tokenization import (
    SPECIAL_TOKENS,
    Normalization,
    Side,
    Tokenization,
    normalizer,
    prepare_tokenizer,
)
from mtx.data.tokenize.training_text import check_vocabulary_bound, training_texts
from mtx.data.tokenize.user_symbols import Symbols, add_symbols, check_symbols, texts_between_symbols
from mtx.data.tokenize.word_counts import repeated_words, word_counts, word_splitter
from mtx.data.tokenize.word_index import WordIndex

NUM_BYTES = 256
MIN_VOCAB_SIZE = NUM_BYTES + len(SPECIAL_TOKENS.as_list())


@component("tokenizer", frozen=False, eq=False)
class BPETokenization(Tokenization):
    """Learns a byte-level BPE vocabulary.

    Decoding restores every text exactly, or its normal form if `normalization` is set. Equal texts give byte-identical
    tokenizer files.

    Args:
        filepath: the file that `save` writes and `load` reads.
        joint: True: one vocabulary for both languages; False: one vocabulary per side.
        vocab_size: number of tokens in the vocabulary, including 256 bytes and 4 special tokens; smaller if the texts
            have too few pairs to merge.
        min_frequency: minimum number of occurrences of a pair of tokens for a merge.
        normalization: Unicode normal form applied before tokenising, NFC or NFKC; None: no normalisation.
        max_train_pairs: maximum number of pairs for training the tokenizer, evenly spaced over the dataset.
        symbols: texts that are always one token, such as language tags, wherever they occur. Their ids follow the
            `vocab_size` learned ones.
        dropout: probability, in [0, 1], that a merge is dropped when training texts are encoded, drawn again in each
            epoch (BPE-dropout); 0: no dropout. Does not change the vocabulary.

    Example:
        >>> from mtx.data.dataset import TranslationDataset
        >>> rows = [{"src": "the cat sat", "tgt": "die Katze saß"}, {"src": "the hat", "tgt": "der Hut"}]
        >>> dataset = TranslationDataset(name="cats", stage="raw", split="train", languages=("en", "de"), data=rows)
        >>> tokenizer = BPETokenization(vocab_size=300).train(dataset).tokenizer
        >>> tokenizer.decode(tokenizer.encode("the 猫 sat").ids)
        'the 猫 sat'
    """

    kind: ClassVar[str] = "tokenizer/bpe"
    version: ClassVar[int] = 1

    MODEL: ClassVar[str | None] = "BPE"
    SAMPLING: ClassVar[tuple[str, ...]] = ("dropout",)

    vocab_size: Annotated[int, Field(ge=MIN_VOCAB_SIZE, description="256 bytes and 4 special tokens")] = 8000
    min_frequency: Count = 2
    normalization: Normalization | None = None
    max_train_pairs: Count = 1_000_000
    symbols: Symbols = field(default=(), metadata=LATER)
    dropout: Probability = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_symbols(self.symbols)

    def train(self, dataset: TranslationDataset, side: Side = "both") -> Self:
        """Learn the merges from the texts of `dataset`; see `Tokenization.train`."""
        check_vocabulary_bound(self.vocab_size)
        stream = training_texts(
            dataset,
            side=side,
            max_pairs=self.max_train_pairs,
            normalization=self.normalization,
            phases=self._phases,
        )
        counts = word_counts(texts_between_symbols(stream.to_learn_from(), self.symbols))
        trainer = BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=SPECIAL_TOKENS.as_list(),
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer = byte_level(BPE(), use_regex=True)
        cut_words, tokenizer.pre_tokenizer = tokenizer.pre_tokenizer, word_splitter()
        tokenizer.train_from_iterator(repeated_words(counts), trainer)
        tokenizer.pre_tokenizer = cut_words
        if (normal_form := normalizer(self.normalization)) is not None:  # for encoding
            tokenizer.normalizer = normal_form
        self._tokenizer = prepare_tokenizer(add_symbols(tokenizer, self.symbols))
        return self

    @property
    def is_sampled(self) -> bool:
        """Whether training texts are encoded with BPE-dropout."""
        return self.dropout > 0

    def sampler(self, tokenizer: Tokenizer, words: WordIndex) -> MergeSampler:
        """Return a sampler that encodes `words` with BPE-dropout."""
        return MergeSampler(tokenizer, words, dropout=self.dropout)


def byte_level(model: BPE, *, use_regex: bool) -> Tokenizer:
    """Return a byte-level tokenizer with this model; `use_regex` splits text into words as GPT-2 does."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.decoder = ByteLevelDecoder()
    return tokenizer
