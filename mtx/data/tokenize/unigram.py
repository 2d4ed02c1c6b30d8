"""The unigram language model, as SentencePiece made it known: pieces of text by probability, not by merges.

Starts from all frequent substrings and drops those that the text misses least (Kudo 2018). Learning takes some ten
times as long as BPE's: about a minute for a million characters of different words, which is soon reached in
languages written without spaces.
"""

import json
from dataclasses import dataclass
from typing import ClassVar, Self

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteFallback, Fuse, Strip
from tokenizers.decoders import Sequence as DecoderSequence
from tokenizers.models import Unigram
from tokenizers.normalizers import Normalizer, Prepend
from tokenizers.normalizers import Sequence as NormalizerSequence
from tokenizers.pre_tokenizers import PreTokenizer, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizerSequence
from tokenizers.trainers import UnigramTrainer

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
    within,
)
from mtx.data.tokenize.corpus import GAP, alphabet, check_coverage, check_room, restricted, texts
from mtx.data.tokenize.lattice import LatticeSampler
from mtx.data.tokenize.words import Words

NUM_FIXED = 256 + len(SPECIAL_TOKENS.as_list())  # bytes for characters outside the alphabet, and special tokens
# Runs of letters, of digits, of other signs, each with the space before it, or of spaces; 64 at most, since the
# trainer's sums over longer ones get slow, then inexact. No piece can look like a special token: "<" and "EOS" are
# always apart.
WORDS = r" ?[\p{L}\p{M}]{1,64}| ?\p{N}{1,64}| ?[^ \p{L}\p{M}\p{N}]{1,64}| {1,64}(?= [^ ])| {1,64}"
MAX_ALPHA = 1000  # where already a probability of 0.99 beside one of 1 is as good as none
SCORE_DECIMALS = 4  # of a log-probability; sums in the trainer differ by 1e-11 between runs
SAME_SCORE = 1e-9  # scores as near as this are one and the same
PENALTY_STEP = 1e-4  # by which the trainer tells characters apart that it found no probability for


@dataclass(kw_only=True, eq=False)
class UnigramTokenization(Tokenization):
    """Learns a unigram vocabulary with a byte fallback.

    Decoding what was encoded gives any text back exactly, or its normal form where there is a `normalization`:
    spaces belong to the pieces, a character outside the alphabet is spelled in bytes, and <UNK> never occurs. The
    same texts give the same file, byte for byte.

    Args:
        filepath: where `save` writes and `load` reads.
        joint: one vocabulary for both languages; False: one a side.
        vocab_size: tokens in the vocabulary, 256 bytes and 4 special tokens included; fewer where the texts have
            no more pieces worth keeping.
        character_coverage: share of the text, in (0, 1], whose characters get a piece of their own, the most
            frequent first; the others are spelled in bytes.
        shrinking_factor: share of the pieces, in (0, 1), that each round of learning keeps. Higher is slower, and
            chooses more carefully.
        normalization: Unicode normal form applied before tokenising: None keeps the text as it is, or NFC, NFKC.
        max_train_pairs: learn from at most this many pairs, taken evenly over the dataset.
        alpha: training texts are encoded anew in each epoch, each segmentation by its probability to this power
            (subword regularisation): 0: all alike, large: nearly always the best; None: always the best, at no cost.
            No part of the vocabulary.
    """

    MODEL: ClassVar[str | None] = "Unigram"
    SAMPLING: ClassVar[tuple[str, ...]] = ("alpha",)

    vocab_size: int = 8000
    character_coverage: float = 0.9995
    shrinking_factor: float = 0.5
    normalization: Normalization | None = None
    max_train_pairs: int = 20_000
    alpha: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        shrinks = 0 < self.shrinking_factor < 1
        require(
            at_least(
                "vocab_size", self.vocab_size, NUM_FIXED + 2, "256 bytes, 4 special tokens, the space, a character"
            ),
            at_least("max_train_pairs", self.max_train_pairs, 1),
            check_coverage(self.character_coverage),
            None
            if shrinks
            else f"tokenizer.shrinking_factor must lie between 0 and 1, but is {self.shrinking_factor!r}",
            check_normalization(self.normalization),
            None if self.alpha is None else within("alpha", self.alpha, 0, MAX_ALPHA, "or null"),
        )

    def train(self, dataset: TranslationDataset, side: Side = "both") -> Self:
        """Learn the pieces from the texts of `dataset`; see `Tokenization.train`."""
        stream = texts(dataset, side=side, max_pairs=self.max_train_pairs, normalization=self.normalization)
        required = {" ", *alphabet(stream(), self.character_coverage)}
        check_room(self.vocab_size, NUM_FIXED, len(required), self.character_coverage)
        learner = Tokenizer(Unigram())
        learner.normalizer = Prepend(" ")
        learner.pre_tokenizer = PreTokenizerSequence([Split(GAP, "removed"), words()])
        trainer = UnigramTrainer(
            vocab_size=self.vocab_size - NUM_FIXED + 1,  # the trainer counts its own unknown token
            shrinking_factor=self.shrinking_factor,
            unk_token=SPECIAL_TOKENS.unk,
            show_progress=False,
        )
        learner.train_from_iterator(restricted(stream(), required), trainer)
        pieces = canonical(_learned(learner), required, self.vocab_size - NUM_FIXED)
        self._tokenizer = ready(unigram_tokenizer(pieces, self.normalization))
        return self

    @property
    def samples(self) -> bool:
        """Whether there is an `alpha`."""
        return self.alpha is not None

    def sampler(self, tokenizer: Tokenizer, words: Words) -> LatticeSampler:
        """Return what encodes `words` with sampled segmentations."""
        return LatticeSampler(tokenizer, words, alpha=float(self.alpha or 0))


def unigram_tokenizer(pieces: list[tuple[str, float]], normalization: Normalization | None) -> Tokenizer:
    """Build the tokenizer of `pieces` and their log-probabilities; special tokens and bytes come before them."""
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
    tokenizer.pre_tokenizer = words()
    tokenizer.decoder = DecoderSequence([ByteFallback(), Fuse(), Strip(" ", 1, 0)])
    return add_special(tokenizer)


def words() -> PreTokenizer:
    """Cut text into what pieces never cross; every character ends up in a word."""
    return Split(Regex(WORDS), "isolated")


def canonical(pieces: dict[str, float], required: set[str], room: int) -> list[tuple[str, float]]:
    """Bring what was learned into the one order and precision that every run arrives at.

    The trainer sums up in the order of a hash table, which is another in every run, so that its log-probabilities
    differ by about 1e-11; and it gives characters that it found no probability for the lowest one plus a
    step for each, in that order. Here those get the lowest one alike, all are rounded, and sorted.

    Args:
        pieces: log-probability by piece.
        required: characters that must be among the pieces.
        room: keep at most this many pieces.

    Returns:
        Pieces and log-probabilities, most probable first, ties by code points.
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


def _learned(learner: Tokenizer) -> dict[str, float]:
    pieces: dict[str, float] = dict(json.loads(learner.to_str())["model"]["vocab"])
    del pieces[SPECIAL_TOKENS.unk]
    return pieces
