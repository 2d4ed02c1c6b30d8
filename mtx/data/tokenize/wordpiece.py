"""WordPiece, as BERT made it known: whole words where they are frequent, else their longest known beginnings.

White space is not encoded: decoding joins words with single spaces, and pieces inside a word carry `##`.
"""

import json
from dataclasses import dataclass
from typing import ClassVar, Self

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer, PreTokenizer, Sequence, Split
from tokenizers.trainers import WordPieceTrainer

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.base import (
    SPECIAL_TOKENS,
    Normalization,
    Side,
    Tokenization,
    add_special,
    at_least,
    check_normalization,
    normalizer,
    ready,
    require,
)
from mtx.data.tokenize.corpus import GAP, alphabet, check_coverage, check_room, restricted, texts

NUM_FIXED = len(SPECIAL_TOKENS.as_list())
PREFIX = "##"
MAX_WORD_CHARS = 100  # longer runs are cut: the search for pieces takes quadratic time in a word
# Han characters each by themselves, as BERT treats Chinese; of what is left, at most so many characters.
WORDS = rf"\p{{Han}}|\P{{Han}}{{1,{MAX_WORD_CHARS}}}"


@dataclass(kw_only=True, eq=False)
class WordPieceTokenization(Tokenization):
    """Learns a WordPiece vocabulary.

    Words end at white space and around punctuation and Han characters. A word with a character outside the alphabet
    becomes <UNK> as a whole: this loses text, unlike byte-level BPE. The same texts give the same file, byte for
    byte.

    Args:
        filepath: where `save` writes and `load` reads.
        joint: one vocabulary for both languages; False: one a side.
        vocab_size: tokens in the vocabulary, 4 special tokens included; fewer where the texts have no more pieces.
        min_frequency: join only pieces that occur together at least this often.
        character_coverage: share of the text, in (0, 1], whose characters are in the alphabet, the most frequent
            first. Words of these characters are never unknown.
        normalization: Unicode normal form applied before tokenising: None keeps the text as it is, or NFC, NFKC.
        max_train_pairs: learn from at most this many pairs, taken evenly over the dataset.
    """

    MODEL: ClassVar[str | None] = "WordPiece"

    vocab_size: int = 8000
    min_frequency: int = 2
    character_coverage: float = 0.9995
    normalization: Normalization | None = None
    max_train_pairs: int = 1_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            at_least("vocab_size", self.vocab_size, NUM_FIXED + 1, "4 special tokens and a character"),
            at_least("min_frequency", self.min_frequency, 1),
            at_least("max_train_pairs", self.max_train_pairs, 1),
            check_coverage(self.character_coverage),
            check_normalization(self.normalization),
        )

    def train(self, dataset: TranslationDataset, side: Side = "both") -> Self:
        """Learn the pieces from the texts of `dataset`; see `Tokenization.train`."""
        stream = texts(dataset, side=side, max_pairs=self.max_train_pairs, normalization=self.normalization)
        characters = alphabet(stream(), self.character_coverage)
        single = single_pieces(characters)
        check_room(self.vocab_size, NUM_FIXED, len(single), self.character_coverage)
        learner = Tokenizer(WordPiece(unk_token=SPECIAL_TOKENS.unk))
        learner.pre_tokenizer = Sequence([Split(GAP, "removed"), words()])
        trainer = WordPieceTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            # The trainer would number pieces such as "##a" in the order of a hash table, which is another in every
            # run and decides ties between merges; those it knows as special come first, in this order.
            special_tokens=[*SPECIAL_TOKENS.as_list(), *single],
            show_progress=False,
        )
        learner.train_from_iterator(restricted(stream(), characters), trainer)
        ids: dict[str, int] = json.loads(learner.to_str())["model"]["vocab"]
        self._tokenizer = ready(wordpiece_tokenizer(ids, self.normalization))
        return self


def wordpiece_tokenizer(ids: dict[str, int], normalization: Normalization | None) -> Tokenizer:
    """Build the tokenizer of a vocabulary, the ids by piece."""
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
    tokenizer.pre_tokenizer = words()
    tokenizer.decoder = WordPieceDecoder(prefix=PREFIX, cleanup=False)
    return add_special(tokenizer)


def words() -> PreTokenizer:
    """Cut text into the words that pieces are looked for in."""
    return Sequence([BertPreTokenizer(), Split(Regex(WORDS), "isolated")])


def single_pieces(characters: set[str]) -> list[str]:
    """Return a piece for each character at the beginning of a word, then for each that can stand inside one."""
    cut = words()
    first = sorted(char for char in characters if cut.pre_tokenize_str(char))
    inside = [PREFIX + char for char in first if len(cut.pre_tokenize_str("a" + char)) == 1]
    return [*first, *inside]
