"""A token a byte of UTF-8: nothing to learn, nothing unknown, the longest sequences there are.

The baseline that every vocabulary should beat, and a vocabulary for languages and texts of any kind (Xue et al. 2022,
ByT5).
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from tokenizers import Tokenizer
from tokenizers.models import BPE

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.base import SPECIAL_TOKENS, Side, Tokenization, add_special, ready
from mtx.data.tokenize.bpe import NUM_BYTES, byte_level
from mtx.errors import TokenizerError


@dataclass(kw_only=True, eq=False)
class ByteTokenization(Tokenization):
    """The fixed vocabulary of 4 special tokens and 256 bytes; the id of a byte is its value + 4.

    Decoding what was encoded gives any text back exactly. `tokenizer` is there from the start; `load` without a
    `filepath` is allowed, and with one checks that the file holds this vocabulary.

    Example:
        >>> ByteTokenization().tokenizer.encode("Aé").ids  # UTF-8: 65, 195, 169
        [69, 199, 173]
    """

    MODEL: ClassVar[str | None] = "BPE"  # one without merges
    needs_training: ClassVar[bool] = False

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        if self._tokenizer is None:
            self._tokenizer = byte_tokenizer()
        return self._tokenizer

    def train(self, dataset: TranslationDataset | None = None, side: Side = "both") -> Self:
        """Return itself: there is nothing to learn, and no dataset is looked at."""
        return self

    def load(self) -> Self:
        """Read the tokenizer from `filepath` where there is one. Raises TokenizerError where that holds another."""
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
    """Build the tokenizer of bytes."""
    tokens = [*SPECIAL_TOKENS.as_list(), *byte_chars()]
    model = BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=[])
    return ready(add_special(byte_level(model, use_regex=False)))


def byte_chars() -> list[str]:
    """Return the character that stands for each byte in byte-level vocabularies, as GPT-2 assigned them.

    Printable bytes of Latin-1 stand for themselves, the others for the code points from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(NUM_BYTES, 2 * NUM_BYTES))
    return [chr(byte if byte in printable else next(others)) for byte in range(NUM_BYTES)]
