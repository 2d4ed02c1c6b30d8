"""Byte tokenization: one token per byte of UTF-8, without training and without unknown text, but with long sequences.

A baseline for other vocabularies, and a vocabulary for texts of all languages (Xue et al. 2022, ByT5).
"""

from typing import ClassVar, Self

from tokenizers import Tokenizer
from tokenizers.models import BPE

from mtx.components.checked_options import component
from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.bpe import NUM_BYTES, byte_level
from mtx.data.tokenize.tokenization import SPECIAL_TOKENS, Side, Tokenization, add_special, prepare_tokenizer
from mtx.errors import TokenizerError


@component("tokenizer", frozen=False, eq=False)
class ByteTokenization(Tokenization):
    """The fixed vocabulary of 4 special tokens and 256 bytes; the token id of a byte is its value + 4.

    Decoding restores every text exactly. The property `tokenizer` works without `train` and `load`. With a `filepath`,
    `load` checks that the file contains this vocabulary.

    Example:
        >>> ByteTokenization().tokenizer.encode("Aé").ids  # UTF-8: 65, 195, 169
        [69, 199, 173]
    """

    kind: ClassVar[str] = "tokenizer/byte"
    version: ClassVar[int] = 1

    MODEL: ClassVar[str | None] = "BPE"  # one without merges
    is_trainable: ClassVar[bool] = False

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, built at the first access."""
        if self._tokenizer is None:
            self._tokenizer = byte_tokenizer()
        return self._tokenizer

    def train(self, dataset: TranslationDataset | None = None, side: Side = "both") -> Self:
        """Return self without using the dataset, because this vocabulary is not trained."""
        return self

    def load(self) -> Self:
        """Read the tokenizer from `filepath`, if set. Raises TokenizerError if the file contains another vocabulary."""
        return self if self.filepath is None else super().load()

    def _parse(self, content: bytes) -> Tokenizer:
        tokenizer = super()._parse(content)
        if tokenizer.get_vocab() != byte_tokenizer().get_vocab():
            raise TokenizerError(
                f"{self.filepath} holds another vocabulary than ByteTokenization's 256 bytes and 4 special tokens: "
                f"it has {tokenizer.get_vocab_size()} tokens. Correct tokenizer.filepath, or read it with tokenizer=bpe"
            )
        return tokenizer


def byte_tokenizer() -> Tokenizer:
    """Build the byte tokenizer."""
    tokens = [*SPECIAL_TOKENS.as_list(), *byte_chars()]
    model = BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=[])
    return prepare_tokenizer(add_special(byte_level(model, use_regex=False)))


def byte_chars() -> list[str]:
    """Return the character that represents each byte in byte-level vocabularies, as in GPT-2.

    Printable bytes of Latin-1 are represented by themselves, and the others by the code points from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(NUM_BYTES, 2 * NUM_BYTES))
    return [chr(byte if byte in printable else next(others)) for byte in range(NUM_BYTES)]
