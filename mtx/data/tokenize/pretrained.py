"""Tokenizers from elsewhere: any `tokenizer.json` of the `tokenizers` library, or a folder that transformers saved."""

import copy
import hashlib
import os
import re
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import Sequence, Split

from mtx.components.checked_options import component
from mtx.components.identity import JSON, LATER
from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.language_token_names import TargetStart
from mtx.data.tokenize.tokenization import (
    SPECIAL_TOKENS,
    Side,
    SpecialTokens,
    Tokenization,
    add_special,
    encode_texts,
    special_ids,
)
from mtx.data.tokenize.tokenizer_folder import (
    MODEL_FILES,
    TOKEN_FILES,
    TOKENIZER_FILE,
    ModelStarts,
    folder_special_tokens,
    model_starts,
    tokenizer_file,
)
from mtx.errors import ConfigError, TokenizerError
from mtx.infra.dataset.hub.model_files import is_repository_name, repository_folder

if TYPE_CHECKING:
    from mtx.progress.tracking import Phases

# The description shows quotes, because YAML reads an unquoted [PAD] as a list.
Token = Annotated[
    str, Field(min_length=1, description="a text, in quotes on a command line (\"tokenizer.pad_token='[PAD]'\")")
]


@component("tokenizer", frozen=False, eq=False)
class PretrainedTokenization(Tokenization):
    """Reads a `tokenizer.json`, and uses it without its truncation, padding and post-processor.

    A folder that transformers has saved also names its special tokens, so that none has to be set.

    The post-processor would add special tokens around each text, but mtx adds BOS and EOS when it builds batches.
    Special tokens that occur in a text are encoded as ordinary text. `t.load().at(copy).save()` writes an unchanged
    copy of the file.

    Args:
        filepath: the tokenizer file, a folder with `tokenizer.json`, or a repository of the Hugging Face Hub with such
            a file. `google-t5/t5-small` is the name of such a repository.
        joint: True: both languages share this vocabulary; False: they count as two vocabularies of one file.
        pad_token: the padding token, as written in the vocabulary; None: as the files of the folder name it, else
            `<PAD>`. One token may serve several purposes, such as
            `<pad>` also as `bos_token` if the model was trained so. It must differ from `eos_token`, because losses
            ignore padding.
        bos_token: the token with which the decoder starts; None: as the folder says, else `<BOS>`.
        eos_token: the token that ends a text; None: as the folder says, else `<EOS>`.
        unk_token: the token for unknown text; None: as the folder says, else `<UNK>`. If the vocabulary has none, such
            as a byte-level one, set any other token.
        revision: a branch, a tag or a commit of the repository; None: the newest commit, which the log names.
        target_filepath: the tokenizer of the target side, with `joint` False; None: both sides have the same file.
    """

    kind: ClassVar[str] = "tokenizer/pretrained"
    version: ClassVar[int] = 1

    is_trainable: ClassVar[bool] = False

    pad_token: Token | None = None
    bos_token: Token | None = None
    eos_token: Token | None = None
    unk_token: Token | None = None
    revision: str | None = field(default=None, metadata=LATER)
    target_filepath: str | os.PathLike[str] | None = field(default=None, metadata=LATER)

    HUB_FILES: ClassVar[tuple[str, ...]] = (TOKENIZER_FILE, *TOKEN_FILES, *MODEL_FILES)
    NEEDED_FILES: ClassVar[tuple[str, ...]] = (TOKENIZER_FILE,)  # one of them is needed

    def __post_init__(self) -> None:
        super().__post_init__()
        self._content: bytes | None = None
        self._special: SpecialTokens | None = None
        self._starts: ModelStarts | None = None
        self._downloaded: Path | None = None
        if not self.filepath:
            raise ConfigError(
                "tokenizer.filepath must be a file, but is not set. Set tokenizer.filepath=FOLDER/tokenizer.json"
            )
        self.target_filepath = None if self.target_filepath is None else os.fspath(self.target_filepath)
        if self.target_filepath is not None and self.joint:
            raise ConfigError(
                f"tokenizer.target_filepath={self.target_filepath} is a vocabulary of its own, but tokenizer.joint is "
                "true. Set tokenizer.joint=false"
            )
        if self.eos_token is not None:
            check_distinct(self.eos_token, self.pad_token)

    @property
    def special(self) -> SpecialTokens:
        """The four special tokens, as written in this vocabulary.

        Reads the files of the folder on first use. Raises TokenizerError if they cannot be read.
        """
        if self._special is None:
            path, named = self._location(), SPECIAL_TOKENS
            if path.is_dir():
                start = self._model_starts().bos
                named = folder_special_tokens(path, start, is_start_typed=self.bos_token is not None)
            special = replace(named, **self._typed_tokens)
            check_distinct(special.eos, special.pad)
            self._special = special
        return self._special

    @property
    def target_starts(self) -> tuple[TargetStart, ...]:
        """The tokens besides BOS with which the model of the target's folder begins, as its files say."""
        return self.for_side("target")._model_starts().targets

    @property
    def _typed_tokens(self) -> dict[str, str]:
        """The special tokens that the config names, by role."""
        typed = {"pad": self.pad_token, "bos": self.bos_token, "eos": self.eos_token, "unk": self.unk_token}
        return {role: token for role, token in typed.items() if token is not None}

    def at(self, filepath: str | os.PathLike[str], phases: "Phases | None" = None) -> Self:
        """Return a copy, including the tokenizer and the special tokens of its folder, with another file."""
        _ = self.special
        return super().at(filepath, phases)

    def for_side(self, side: Side) -> Self:
        """Return the tokenizer of a side: that of `target_filepath` for the target, if it is set."""
        if self.target_filepath is None:
            return self
        other = copy.copy(self)
        other.target_filepath = None
        if side == "target":
            other.filepath = self.target_filepath
            other._content = other._special = other._starts = other._downloaded = other._tokenizer = None
        return other

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
        special = self.special
        tokens: dict[str, JSON] = {
            "pad_token": special.pad,
            "bos_token": special.bos,
            "eos_token": special.eos,
            "unk_token": special.unk,
        }
        described = super().identity()
        for name in ("revision", "target_filepath"):  # the content decides
            described.pop(name, None)
        if self.target_filepath is not None:
            described["target"] = self.for_side("target").identity()
        return {**described, **tokens, "sha256": hashlib.sha256(content).hexdigest()}

    def _location(self) -> Path:
        """Return the file or folder that `filepath` names, after a download if it names a repository of the Hub."""
        name = os.fspath(self.filepath or "")
        if not is_repository_name(name):
            return Path(name)
        if self._downloaded is None:
            self._downloaded = repository_folder(name, self.revision, self.HUB_FILES, self.NEEDED_FILES)
        return self._downloaded

    def _model_starts(self) -> ModelStarts:
        if self._starts is None:
            path = self._location()
            self._starts = model_starts(path) if path.is_dir() else ModelStarts(None, ())
        return self._starts

    def _path(self) -> Path:
        path = self._location()
        return tokenizer_file(path) if path.is_dir() else path

    def _parse(self, content: bytes) -> Tokenizer:
        return spell_out(add_special(super()._parse(content), self.special), self.special)


def check_distinct(eos: str, pad: str | None) -> None:
    """Raise ConfigError if one token ends a text and pads batches."""
    if eos == pad:
        raise ConfigError(
            f"tokenizer.eos_token and tokenizer.pad_token must differ, but both are {eos!r}: losses ignore padding, so "
            "that a model would never learn to end. Choose another tokenizer.pad_token"
        )


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
