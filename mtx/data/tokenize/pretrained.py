"""Tokenizers from elsewhere: any `tokenizer.json` of the `tokenizers` library, such as that of a model on the Hub."""

import hashlib
import re
from typing import Annotated, ClassVar, Self

from pydantic import Field
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import Sequence, Split

from mtx.components.checked_options import component
from mtx.components.identity import JSON
from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.tokenization import (
    Side,
    SpecialTokens,
    Tokenization,
    add_special,
    encode_texts,
    special_ids,
)
from mtx.errors import ConfigError, TokenizerError

# The description shows quotes, because YAML reads an unquoted [PAD] as a list.
Token = Annotated[
    str, Field(min_length=1, description="a text, in quotes on a command line (\"tokenizer.pad_token='[PAD]'\")")
]


@component("tokenizer", frozen=False, eq=False)
class PretrainedTokenization(Tokenization):
    """Reads a `tokenizer.json`, and uses it without its truncation, padding and post-processor.

    The post-processor would add special tokens around each text, but mtx adds BOS and EOS when it builds batches.
    Special tokens that occur in a text are encoded as ordinary text. `t.load().at(copy).save()` writes an unchanged
    copy of the file.

    Args:
        filepath: the tokenizer file.
        joint: True: both languages share this vocabulary; False: they count as two vocabularies of one file.
        pad_token: the padding token, as written in the vocabulary. One token may serve several purposes, such as
            `<pad>` also as `bos_token` if the model was trained so. It must differ from `eos_token`, because losses
            ignore padding.
        bos_token: the token with which the decoder starts.
        eos_token: the token that ends a text.
        unk_token: the token for unknown text; any other token if the vocabulary has none, such as a byte-level one.
    """

    kind: ClassVar[str] = "tokenizer/pretrained"
    version: ClassVar[int] = 1

    is_trainable: ClassVar[bool] = False

    pad_token: Token = "<PAD>"
    bos_token: Token = "<BOS>"
    eos_token: Token = "<EOS>"
    unk_token: Token = "<UNK>"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._content: bytes | None = None
        if not self.filepath:
            raise ConfigError(
                "tokenizer.filepath must be a file, but is not set. Set tokenizer.filepath=FOLDER/tokenizer.json"
            )
        if self.eos_token == self.pad_token:
            raise ConfigError(
                f"tokenizer.eos_token and tokenizer.pad_token must differ, but both are {self.eos_token!r}: losses "
                "ignore padding, so that a model would never learn to end. Choose another tokenizer.pad_token"
            )

    @property
    def special(self) -> SpecialTokens:
        """The four special tokens, as written in this vocabulary."""
        return SpecialTokens(pad=self.pad_token, bos=self.bos_token, eos=self.eos_token, unk=self.unk_token)

    def train(self, dataset: TranslationDataset, side: Side = "both") -> Self:
        """Raise TokenizerError, because a pretrained vocabulary is not trained."""
        raise TokenizerError(
            f"the pretrained tokenizer {self.filepath} is not trained: call .load(), "
            "or choose tokenizer=bpe to learn one"
        )

    def load(self) -> Self:
        """Read the tokenizer from `filepath`. Raises TokenizerError if it is no tokenizer or lacks special tokens."""
        content = self._read()
        self._tokenizer = self._parse(content)
        self._content = content
        return self

    def save(self) -> Self:
        """Write an unchanged copy of the loaded file. Raises TokenizerError before `load`, or StoreError."""
        if self._content is None:
            raise TokenizerError(f"this {type(self).__name__} has no tokenizer yet: call .load() first")
        return self._write(self._content)

    def identity(self) -> dict[str, JSON]:
        """Return what determines the vocabulary: the SHA-256 of the file, and the names of the special tokens.

        Reads the file, unless it is loaded. Raises TokenizerError if the file is missing.
        """
        content = self._read() if self._content is None else self._content
        return {**super().identity(), "sha256": hashlib.sha256(content).hexdigest()}

    def _parse(self, content: bytes) -> Tokenizer:
        return spell_out(add_special(super()._parse(content), self.special), self.special)


def spell_out(tokenizer: Tokenizer, special: SpecialTokens) -> Tokenizer:
    """Change the tokenizer so that special tokens in a text are encoded as ordinary text; return the same object.

    Unigram vocabularies contain special tokens as ordinary pieces, which the library finds in texts even if
    `encode_special_tokens` is set. A pre-tokenizer therefore splits such a token after its first character.
    """
    names = [token for token in dict.fromkeys(special.as_list()) if len(token) > 1]
    control = set(special_ids(tokenizer, special))
    if any(control.intersection(ids) for ids in encode_texts(tokenizer, names)):
        first_chars = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in names)
        cut = Split(Regex(first_chars), "isolated")
        before = tokenizer.pre_tokenizer
        tokenizer.pre_tokenizer = cut if before is None else Sequence([before, cut])
    return tokenizer
