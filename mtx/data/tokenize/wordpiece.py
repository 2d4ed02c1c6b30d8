"""WordPiece tokenization as in BERT: a frequent word is one token, another word is split into its longest known pieces.

White space is not encoded: decoding joins words with single spaces. Pieces inside a word begin with `##`.
"""

import json
from dataclasses import field
from typing import Annotated, ClassVar, Self

from pydantic import Field
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer, PreTokenizer, Sequence, Split
from tokenizers.trainers import WordPieceTrainer

from mtx.components.checked_options import Count, component
from mtx.components.identity import LATER
from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.tokenization import (
    SPECIAL_TOKENS,
    Normalization,
    Side,
    Tokenization,
    add_special,
    normalizer,
    prepare_tokenizer,
)
from mtx.data.tokenize.training_text import (
    ALPHABET_GAP,
    Coverage,
    alphabet,
    check_vocabulary_bound,
    check_vocabulary_size,
    restricted_texts,
    training_texts,
)
from mtx.data.tokenize.user_symbols import Symbols, add_symbols, check_symbols

NUM_FIXED = len(SPECIAL_TOKENS.as_list())
PREFIX = "##"
MAX_WORD_CHARS = 100  # longer words are split, because the search for pieces takes quadratic time in the word's length
# Each Han character is a word, as in BERT for Chinese; other words are split after MAX_WORD_CHARS characters.
WORDS = rf"\p{{Han}}|\P{{Han}}{{1,{MAX_WORD_CHARS}}}"


@component("tokenizer", frozen=False, eq=False)
class WordPieceTokenization(Tokenization):
    """Learns a WordPiece vocabulary.

    Text is split into words at white space, punctuation and Han characters. A word with a character outside the
    alphabet becomes <UNK>, so that text is lost, unlike with byte-level BPE. Equal texts give byte-identical tokenizer
    files.

    Args:
        filepath: the file that `save` writes and `load` reads.
        joint: True: one vocabulary for both languages; False: one vocabulary per side.
        vocab_size: number of tokens in the vocabulary, including 4 special tokens; smaller if the texts have too few
            pieces.
        min_frequency: minimum number of occurrences of two adjacent pieces for a merge.
        character_coverage: share of the text, in (0, 1], that the characters of the alphabet cover, chosen by
            frequency. Words of these characters are never unknown.
        normalization: Unicode normal form applied before tokenising, NFC or NFKC; None: no normalisation.
        max_train_pairs: maximum number of pairs for training the tokenizer, evenly spaced over the dataset.
        symbols: texts that are always one token, such as language tags, wherever they occur. Their ids follow the
            `vocab_size` learned ones.
    """

    kind: ClassVar[str] = "tokenizer/wordpiece"
    version: ClassVar[int] = 1

    MODEL: ClassVar[str | None] = "WordPiece"

    vocab_size: Annotated[int, Field(ge=NUM_FIXED + 1, description="4 special tokens and a character")] = 8000
    min_frequency: Count = 2
    character_coverage: Coverage = 0.9995
    normalization: Normalization | None = None
    max_train_pairs: Count = 1_000_000
    symbols: Symbols = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_symbols(self.symbols)

    def train(self, dataset: TranslationDataset, side: Side = "both") -> Self:
        """Learn the vocabulary from the texts of `dataset`; see `Tokenization.train`."""
        check_vocabulary_bound(self.vocab_size)
        stream = training_texts(
            dataset,
            side=side,
            max_pairs=self.max_train_pairs,
            normalization=self.normalization,
            phases=self._phases,
        )
        characters = alphabet(stream.to_count(), self.character_coverage)
        single = single_pieces(characters)
        check_vocabulary_size(self.vocab_size, NUM_FIXED, len(single), self.character_coverage)
        learner = Tokenizer(WordPiece(unk_token=SPECIAL_TOKENS.unk))
        learner.pre_tokenizer = Sequence([Split(ALPHABET_GAP, "removed"), word_splitter()])
        trainer = WordPieceTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            # The trainer numbers single-character pieces such as "##a" in hash order, which differs between runs and
            # breaks ties between merges. Passing these pieces as special tokens fixes their order.
            special_tokens=[*SPECIAL_TOKENS.as_list(), *single],
            show_progress=False,
        )
        learner.train_from_iterator(restricted_texts(stream.to_learn_from(), characters), trainer)
        ids: dict[str, int] = json.loads(learner.to_str())["model"]["vocab"]
        self._tokenizer = prepare_tokenizer(add_symbols(wordpiece_tokenizer(ids, self.normalization), self.symbols))
        return self


def wordpiece_tokenizer(ids: dict[str, int], normalization: Normalization | None) -> Tokenizer:
    """Build a WordPiece tokenizer from a vocabulary (id by piece)."""
    tokenizer = Tokenizer(
        WordPiece(
            vocab=ids,
            unk_token=SPECIAL_TOKENS.unk,
            continuing_subword_prefix=PREFIX,
            max_input_chars_per_word=MAX_WORD_CHARS,
        )
    )
    if (normal_form := normalizer(normalization)) is not None:
        tokenizer.normalizer = normal_form
    tokenizer.pre_tokenizer = word_splitter()
    tokenizer.decoder = WordPieceDecoder(prefix=PREFIX, cleanup=False)
    return add_special(tokenizer)


def word_splitter() -> PreTokenizer:
    """Return the pre-tokenizer that splits text into the words in which pieces are searched."""
    return Sequence([BertPreTokenizer(), Split(Regex(WORDS), "isolated")])


def single_pieces(characters: set[str]) -> list[str]:
    """Return the single-character pieces: each character at the start of a word, then those possible inside a word."""
    cut = word_splitter()
    first = sorted(char for char in characters if cut.pre_tokenize_str(char))
    inside = [PREFIX + char for char in first if len(cut.pre_tokenize_str("a" + char)) == 1]
    return [*first, *inside]
