"""Vocabularies of fairseq and Marian: a file with the id of each token, and BPE codes or a SentencePiece model."""

import copy
import os
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar, Self

from mtx.components.checked_options import component
from mtx.components.identity import JSON, LATER
from mtx.data.tokenize.bpe_codes import read_codes
from mtx.data.tokenize.pretrained import PretrainedTokenization, check_distinct
from mtx.data.tokenize.tokenization import COMMON_SPECIAL_TOKENS, Side, SpecialTokens, vocabulary_size
from mtx.data.tokenize.vocabulary_formats import Vocabulary, read_vocabulary
from mtx.data.tokenize.vocabulary_lookup import VOCABULARY_PREFIX, LookupTables, VocabularyTokenizer
from mtx.errors import ConfigError, TokenizerError
from mtx.library_errors import library_reason

VOCABULARY_NAMES = ("vocab.json", "vocab.yml", "dict.txt")
SIDE_MODELS = {"source": "source.spm", "target": "target.spm"}
CODES_NAMES = ("sentencepiece.bpe.model", "sentence.bpe.model", "bpecodes")
TARGET_VOCABULARY = "target_vocab.json"  # of models of Marian with a vocabulary for each side


@component("tokenizer", frozen=False, eq=False)
class VocabularyFileTokenization(PretrainedTokenization):
    """Reads a vocabulary of fairseq or Marian, and gives exactly the ids of fairseq, Marian and subword-nmt.

    The names of special tokens that occur in a text are unknown tokens. Texts are not split into words as Moses does.

    Args:
        filepath: the `dict.txt` of fairseq; the `vocab.yml`, `vocab.json` or list of tokens of Marian; a folder with
            one; or the name of a repository of the Hugging Face Hub, such as that of an OPUS-MT model.
        codes: what splits words: the codes of subword-nmt or fastBPE, or a SentencePiece model; None: as the folder
            has, and beside a file nothing, so that the words of a text are the tokens.
        joint: True: both languages share this vocabulary; False: they count as two vocabularies of one file.
        pad_token: the padding token; None: as the file says. Vocabularies of Marian may have none: give a new name,
            which gets the id after the last.
        bos_token: the token with which the decoder starts; None: that of fairseq, else the padding token, as in Marian.
        eos_token: the token that ends a text; None: as the file says.
        unk_token: the token for unknown text; None: as the file says.
        revision: a branch, a tag or a commit of the repository; None: the newest commit, which the log names.
        target_filepath: the vocabulary of the target side, with `joint` False; None: both sides have the same file.
        target_codes: what splits words of the target side, with `joint` False; None: as `codes`.
    """

    kind: ClassVar[str] = "tokenizer/vocabulary_file"
    version: ClassVar[int] = 2

    codes: str | os.PathLike[str] | None = field(default=None, metadata=LATER)
    target_codes: str | os.PathLike[str] | None = field(default=None, metadata=LATER)

    HUB_FILES: ClassVar[tuple[str, ...]] = (*VOCABULARY_NAMES, TARGET_VOCABULARY, *SIDE_MODELS.values(), *CODES_NAMES)
    NEEDED_FILES: ClassVar[tuple[str, ...]] = VOCABULARY_NAMES

    def __post_init__(self) -> None:
        super().__post_init__()
        self._side: Side = "both"
        self.codes = None if self.codes is None else os.fspath(self.codes)
        self.target_codes = None if self.target_codes is None else os.fspath(self.target_codes)
        if self.target_codes is not None and self.joint:
            raise ConfigError(
                f"tokenizer.target_codes={self.target_codes} splits words of one side, but tokenizer.joint is true. "
                "Set tokenizer.joint=false"
            )

    @property
    def special(self) -> SpecialTokens:
        """The four special tokens. Reads the file on first use. Raises TokenizerError if one is missing."""
        if self._special is None:
            self._special = self._named(read_vocabulary(self._read(), self._path()))
        return self._special

    def load(self) -> Self:
        """Read vocabulary and codes. Raises TokenizerError if a file is none, or if a special token is missing."""
        content = self._read()
        tokenizer: Any = self._tokenizer_of(content)
        vocabulary_size(tokenizer)
        self._tokenizer = tokenizer
        self._content = tokenizer.to_str().encode()
        return self

    def identity(self) -> dict[str, JSON]:
        """Return what determines the vocabulary: the SHA-256 of tokens and merges, and the special tokens."""
        if self._content is None:
            self.load()  # its content has one form for all formats
        described = super().identity()
        for name in ("codes", "target_codes"):  # the content decides
            described.pop(name, None)
        target = self.for_side("target") if self.target_codes is not None or self._is_sided else None
        if target is not None:
            described["target"] = target.identity()
        return described

    def for_side(self, side: Side) -> Self:
        """Return the tokenizer of a side; `target_filepath` and `target_codes` are the files of the target."""
        other = super().for_side(side)
        if side == "both" or self.joint:
            return other
        if other is self:
            other = copy.copy(self)
            other._content = other._tokenizer = None
        if side == "target" and self.target_codes is not None:
            other.codes = self.target_codes
        other.target_codes, other._side = None, side
        return other

    @property
    def _is_sided(self) -> bool:
        """Whether the folder has a SentencePiece model for each side, and no side is chosen yet."""
        path = self._location()
        is_open = self._side == "both" and self.codes is None and not self.joint and self.target_filepath is None
        return is_open and path.is_dir() and (path / SIDE_MODELS["target"]).is_file()

    def _path(self) -> Path:
        path = self._location()
        return _vocabulary_of(path) if path.is_dir() else path

    def _tokenizer_of(self, content: bytes) -> VocabularyTokenizer:
        if content.startswith(VOCABULARY_PREFIX.encode()):
            return VocabularyTokenizer.from_str(content.decode(), self.filepath)
        path, special = self._path(), self.special
        vocabulary = read_vocabulary(content, path)
        known = {**vocabulary.words, **vocabulary.special}
        names = dict.fromkeys((*vocabulary.roles.values(), *special.as_list()))
        new = iter(range(max(known.values()) + 1, max(known.values()) + 2 + len(names)))
        ids = {name: known[name] if name in known else next(new) for name in names}
        words = {token: id for token, id in vocabulary.words.items() if id not in ids.values()}
        tables = LookupTables(words, ids, special.unk, vocabulary.splits_at_any_space, **self._segmentation())
        return VocabularyTokenizer(tables, self.filepath)

    def _segmentation(self) -> dict[str, Any]:
        path = self._codes_path()
        if path is None:
            return {}
        try:
            content = path.read_bytes()
        except OSError as error:
            raise TokenizerError(
                f"tokenizer.codes={path} cannot be read: {library_reason(error)}. Correct tokenizer.codes"
            ) from None
        if path.suffix in (".model", ".spm"):
            return {"model": content}
        return {"codes": read_codes(content, path)}

    def _codes_path(self) -> Path | None:
        if self.codes is not None:
            return Path(self.codes)
        folder = self._location()
        if not folder.is_dir():
            return None
        side = "target" if self._side == "target" else "source"
        names = [name for name in (SIDE_MODELS[side], *CODES_NAMES) if (folder / name).is_file()]
        if names and names[0] in SIDE_MODELS.values() and self.joint:
            source, target = (folder / name for name in SIDE_MODELS.values())
            if target.is_file() and source.read_bytes() != target.read_bytes():
                raise ConfigError(
                    f"the folder {folder} has a SentencePiece model for each side, but tokenizer.joint is true. Set "
                    "tokenizer.joint=false"
                )
        if not names:
            raise TokenizerError(
                f"the folder {folder} has none of {SIDE_MODELS[side]}, {', '.join(CODES_NAMES)}, so nothing splits "
                f"words. Set tokenizer.codes, or tokenizer.filepath={self._path()} if the words of a text are tokens"
            )
        return folder / names[0]

    def _named(self, vocabulary: Vocabulary) -> SpecialTokens:
        given = self._typed_tokens
        named = {**vocabulary.roles, **given}
        known = {**vocabulary.words, **vocabulary.special}
        missing = next((role for role, token in given.items() if role != "pad" and token not in known), None)
        if missing is not None:
            others = [token for token in COMMON_SPECIAL_TOKENS if token in known]
            raise TokenizerError(
                f"tokenizer.{missing}_token={given[missing]!r} is not in {self.filepath}, which has "
                f"{', '.join(others) or 'no usual special token'}. Correct tokenizer.{missing}_token"
            )
        if "pad" not in named:
            raise TokenizerError(
                f"{self.filepath} has no pad token, which batches need. Set \"tokenizer.pad_token='<pad>'\", which "
                "gets the id after the last"
            )
        named.setdefault("bos", named["pad"])
        check_distinct(named["eos"], named["pad"])
        return SpecialTokens(**named)


def _vocabulary_of(folder: Path) -> Path:
    names = sorted(entry.name for entry in folder.iterdir())
    found = [name for name in VOCABULARY_NAMES if name in names]
    if not found:
        raise TokenizerError(
            f"the folder {folder} has no {', '.join(VOCABULARY_NAMES[:-1])} or {VOCABULARY_NAMES[-1]}, only "
            f"{', '.join(names[:8]) or 'no files'}. Set tokenizer.filepath to the vocabulary file"
        )
    if TARGET_VOCABULARY in names:
        of_source, of_target = (folder / name for name in SIDE_MODELS.values())
        raise TokenizerError(
            f"the folder {folder} has a vocabulary for each side. Set tokenizer.joint=false "
            f"tokenizer.filepath={folder / found[0]} tokenizer.codes={of_source} "
            f"tokenizer.target_filepath={folder / TARGET_VOCABULARY} tokenizer.target_codes={of_target}"
        )
    return folder / found[0]
