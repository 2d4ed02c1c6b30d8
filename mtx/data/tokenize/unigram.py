"""The unigram language model, as in SentencePiece, which chooses pieces of text by their probability.

Training starts from all frequent substrings, and removes those that matter least for the probability of the text (Kudo
2018). It takes about ten times as long as BPE: about a minute for a million characters of distinct words, which
languages without spaces reach soon.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, ClassVar, Self

from pydantic import Field
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteFallback, Fuse, Replace, Strip
from tokenizers.decoders import Sequence as DecoderSequence
from tokenizers.models import Unigram
from tokenizers.normalizers import Normalizer, Prepend
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import PreTokenizer, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizerSequence
from tokenizers.trainers import UnigramTrainer

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
from mtx.data.tokenize.unigram_sampling import LatticeSampler
from mtx.data.tokenize.user_symbols import Symbols, add_symbols, check_symbols, texts_between_symbols
from mtx.data.tokenize.word_index import WordIndex
from mtx.errors import ConfigError

NUM_FIXED = 256 + len(SPECIAL_TOKENS.as_list())  # byte tokens for characters outside the alphabet, and special tokens
# A word is a run of letters, of digits or of other characters, each with the space before it, or a run of spaces. Words
# have at most 64 characters, because longer ones make the trainer slow and its sums inexact. No piece can equal a
# special token, because "<" and "EOS" are always separate words.
WORDS = r" ?[\p{L}\p{M}]{1,64}| ?\p{N}{1,64}| ?[^ \p{L}\p{M}\p{N}]{1,64}| {1,64}(?= [^ ])| {1,64}"
LEAST = "256 bytes, 4 special tokens, the space, a character"  # the minimum content of a vocabulary
MAX_ALPHA = 1000  # at this power, a probability ratio of 0.99 is already negligible
SCORE_DECIMALS = 4  # decimals of a log-probability; the trainer's sums differ by 1e-11 between runs
SAME_SCORE = 1e-9  # scores that differ by less are treated as equal
PENALTY_STEP = 1e-4  # the trainer subtracts multiples of this step from the scores of characters without a probability


@component("tokenizer", frozen=False, eq=False)
class UnigramTokenization(Tokenization):
    """Learns a unigram vocabulary with byte fallback.

    Decoding restores every text exactly, or its normal form if `normalization` is set. Spaces are part of pieces,
    characters outside the alphabet are spelled in bytes, and <UNK> never occurs. Equal texts give byte-identical
    tokenizer files.

    Args:
        filepath: the file that `save` writes and `load` reads.
        joint: True: one vocabulary for both languages; False: one vocabulary per side.
        vocab_size: number of tokens in the vocabulary, including 256 bytes and 4 special tokens; smaller if the texts
            have too few useful pieces.
        character_coverage: share of the text, in (0, 1], that the characters with a piece of their own cover. They are
            chosen by frequency; other characters are spelled in bytes.
        shrinking_factor: share of the pieces, in (0, 1), that each round of training keeps. A higher value trains
            longer and selects more carefully.
        normalization: Unicode normal form applied before tokenising, NFC or NFKC; None: no normalisation.
        max_train_pairs: maximum number of pairs for training the tokenizer, evenly spaced over the dataset.
        symbols: texts that are always one token, such as language tags, wherever they occur. Their ids follow the
            learned ones.
        alpha: power of the probabilities from which segmentations of training texts are sampled, again in each epoch
            (subword regularisation). 0: all segmentations are equally likely; large: nearly always the best; None:
            always the best, without sampling. Does not change the vocabulary.
    """

    kind: ClassVar[str] = "tokenizer/unigram"
    version: ClassVar[int] = 1

    MODEL: ClassVar[str | None] = "Unigram"
    SAMPLING: ClassVar[tuple[str, ...]] = ("alpha",)

    vocab_size: Annotated[int, Field(ge=NUM_FIXED + 2, description=LEAST)] = 8000
    character_coverage: Coverage = 0.9995
    shrinking_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    normalization: Normalization | None = None
    max_train_pairs: Count = 20_000
    symbols: Symbols = field(default=(), metadata=LATER)
    alpha: Annotated[float, Field(ge=0, le=MAX_ALPHA)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_symbols(self.symbols)
        if wrong := [symbol for symbol in self.symbols if symbol[0] == " "]:
            raise ConfigError(
                f"tokenizer.symbols has {wrong[0]!r}, but a symbol of tokenizer=unigram begins with no space, which "
                "decoding would remove. Remove the space"
            )

    def train(self, dataset: TranslationDataset, side: Side = "both") -> Self:
        """Learn the pieces from the texts of `dataset`; see `Tokenization.train`."""
        check_vocabulary_bound(self.vocab_size)
        stream = training_texts(
            dataset,
            side=side,
            max_pairs=self.max_train_pairs,
            normalization=self.normalization,
            phases=self._phases,
        )
        counted = texts_between_symbols(stream.to_count(), self.symbols)
        required = {" ", *alphabet(counted, self.character_coverage)}
        check_vocabulary_size(self.vocab_size, NUM_FIXED, len(required), self.character_coverage)
        learner = Tokenizer(Unigram())
        learner.normalizer = Prepend(" ")
        learner.pre_tokenizer = PreTokenizerSequence([Split(ALPHABET_GAP, "removed"), word_splitter()])
        trainer = UnigramTrainer(
            vocab_size=self.vocab_size - NUM_FIXED + 1,  # the trainer includes its own unknown token in this number
            shrinking_factor=self.shrinking_factor,
            unk_token=SPECIAL_TOKENS.unk,
            show_progress=False,
        )
        learned_from = texts_between_symbols(stream.to_learn_from(), self.symbols)
        learner.train_from_iterator(restricted_texts(learned_from, required), trainer)
        pieces = canonical_pieces(_learned_pieces(learner), required, self.vocab_size - NUM_FIXED)
        self._tokenizer = prepare_tokenizer(unigram_tokenizer(pieces, self.normalization, self.symbols))
        return self

    @property
    def is_sampled(self) -> bool:
        """Whether segmentations of training texts are sampled (`alpha` is set)."""
        return self.alpha is not None

    def sampler(self, tokenizer: Tokenizer, words: WordIndex) -> LatticeSampler:
        """Return a sampler that encodes `words` with sampled segmentations."""
        return LatticeSampler(tokenizer, words, alpha=float(self.alpha or 0))


def unigram_tokenizer(
    pieces: list[tuple[str, float]], normalization: Normalization | None, symbols: Sequence[str] = ()
) -> Tokenizer:
    """Build a tokenizer from pieces and their log-probabilities.

    Special tokens and bytes have the lowest ids, and symbols the highest. The library also puts a space before the text
    that follows a symbol, which decoding removes again.
    """
    special = SPECIAL_TOKENS.as_list()
    fixed = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(
        Unigram(
            vocab=[*((token, 0.0) for token in fixed), *pieces],
            unk_id=special.index(SPECIAL_TOKENS.unk),
            byte_fallback=True,
        )
    )
    normal_form = normalizer(normalization)
    steps: list[Normalizer] = [] if normal_form is None else [normal_form]
    tokenizer.normalizer = NormalizerSequence([*steps, Prepend(" ")])
    tokenizer.pre_tokenizer = word_splitter()
    after_symbols = [Replace(Regex(f"(?<={'|'.join(map(re.escape, symbols))}) "), "")] if symbols else []
    tokenizer.decoder = DecoderSequence([ByteFallback(), Fuse(), Strip(" ", 1, 0), *after_symbols])
    return add_symbols(add_special(tokenizer), symbols)


def word_splitter() -> PreTokenizer:
    """Return the pre-tokenizer that splits text into words, which pieces never cross; no character is removed."""
    return Split(Regex(WORDS), "isolated")


def canonical_pieces(pieces: dict[str, float], required: set[str], room: int) -> list[tuple[str, float]]:
    """Return the trained pieces in a canonical order and precision, equal for all runs.

    The trainer sums in the order of a hash table, which differs between runs, so that its log-probabilities differ by
    about 1e-11. It also gives each character without a probability the lowest one plus a multiple of a step, in the
    same random order. Here, all such characters get the lowest log-probability, and all values are rounded and sorted.

    Args:
        pieces: log-probability by piece.
        required: characters that must be pieces.
        room: maximum number of pieces.

    Returns:
        Pieces and log-probabilities, the most probable first, ties in the order of code points.
    """
    scores = dict(pieces)
    lowest = min(scores.values())
    step = 0
    while arbitrary := [c for c in required if abs(pieces[c] - lowest - step * PENALTY_STEP) < SAME_SCORE]:
        scores.update(dict.fromkeys(arbitrary, lowest))
        step += 1
    ranked = sorted((-round(score, SCORE_DECIMALS), piece) for piece, score in scores.items())
    spare = room - len(required)
    kept = required.union([piece for _, piece in ranked if piece not in required][:spare])
    return [(piece, -score) for score, piece in ranked if piece in kept]


def _learned_pieces(learner: Tokenizer) -> dict[str, float]:
    pieces: dict[str, float] = dict(json.loads(learner.to_str())["model"]["vocab"])
    del pieces[SPECIAL_TOKENS.unk]
    return pieces
