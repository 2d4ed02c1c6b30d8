"""A vocabulary from elsewhere: any `tokenizer.json` of the `tokenizers` library, as models on the Hub have."""

import hashlib
import re
from dataclasses import dataclass
from typing import ClassVar, Self

from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import Sequence, Split

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.base import Side, SpecialTokens, Tokenization, add_special, encode_texts, require, special_ids
from mtx.errors import TokenizerError
from mtx.identity import JSON


@dataclass(kw_only=True, eq=False)
class PretrainedTokenization(Tokenization):
    """Reads a `tokenizer.json`, and lets only its vocabulary act.

    Truncation and padding set in the file are switched off, and its post-processor, which would add special tokens
    around a text, is not asked: batches place BOS and EOS. Special tokens are spelled out where they stand in a text.
    `save` writes the file as it was: `t.load().at(copy).save()`.

    Args:
        filepath: the file.
        joint: whether one file serves both languages.
        pad_token: the token for padding, as the vocabulary writes it. One token may serve several purposes, such as
            `<pad>` for `bos_token` too, where a model was trained to start with it; but never for `eos_token`, since
            losses leave padding out.
        bos_token: the token that the decoder starts with.
        eos_token: the token that ends a text.
        unk_token: the token for what is unknown; any other where the vocabulary starts from bytes and has none.
    """

    needs_training: ClassVar[bool] = False

    pad_token: str = "<PAD>"
    bos_token: str = "<BOS>"
    eos_token: str = "<EOS>"
    unk_token: str = "<UNK>"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._content: bytes | None = None
        tokens = {f"tokenizer.{role}_token": token for role, token in vars(self.special).items()}
        require(
            None
            if self.filepath
            else "tokenizer.filepath must name the file, as FOLDER/tokenizer.json, but is not set",
            *(
                f"{key} must be text, in quotes as \"{key}='[PAD]'\", but is {token!r}"
                for key, token in tokens.items()
                if not isinstance(token, str) or not token
            ),
            None
            if self.eos_token != self.pad_token
            else f"tokenizer.eos_token and tokenizer.pad_token must differ, but both are {self.eos_token!r}: losses "
            "leave padding out, so that a model would never learn to end. Choose another tokenizer.pad_token",
        )

    @property
    def special(self) -> SpecialTokens:
        """The special tokens, as this vocabulary writes them."""
        return SpecialTokens(pad=self.pad_token, bos=self.bos_token, eos=self.eos_token, unk=self.unk_token)

    def train(self, dataset: TranslationDataset, side: Side = "both") -> Self:
        """Raise TokenizerError: this vocabulary stays as it is."""
        raise TokenizerError(
            f"the pretrained tokenizer {self.filepath} is not trained: call .load(), "
            "or choose tokenizer=bpe to learn one"
        )

    def load(self) -> Self:
        """Read the tokenizer from `filepath`. Raises TokenizerError where that holds none, or lacks special tokens."""
        content = self._read()
        self._tokenizer = self._parse(content)
        self._content = content
        return self

    def save(self) -> Self:
        """Write what was loaded, as it was. Raises TokenizerError before `load`, or StoreError from the disk."""
        if self._content is None:
            raise TokenizerError(f"this {type(self).__name__} has no tokenizer yet: call .load() first")
        return self._write(self._content)

    def identity(self) -> dict[str, JSON]:
        """Describe what decides the vocabulary: the SHA-256 of the file, and the names of the special tokens.

        Reads the file, unless it was loaded. Raises TokenizerError where there is none.
        """
        content = self._read() if self._content is None else self._content
        return {**super().identity(), "sha256": hashlib.sha256(content).hexdigest()}

    def _parse(self, content: bytes) -> Tokenizer:
        return spell_out(add_special(super()._parse(content), self.special), self.special)


def spell_out(tokenizer: Tokenizer, special: SpecialTokens) -> Tokenizer:
    """Keep special tokens that stand in a text from becoming control ids; returns the same object.

    Unigram vocabularies hold special tokens as pieces like any other, which the library finds in a text even where it
    was told to spell special tokens out (`ready`). Those words are cut after their first character, so that the
    piece is never seen whole.
    """
    names = [token for token in dict.fromkeys(special.as_list()) if len(token) > 1]
    control = set(special_ids(tokenizer, special))
    if any(control.intersection(ids) for ids in encode_texts(tokenizer, names)):
        first_chars = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in names)
        cut = Split(Regex(first_chars), "isolated")
        before = tokenizer.pre_tokenizer
        tokenizer.pre_tokenizer = cut if before is None else Sequence([before, cut])
    return tokenizer
