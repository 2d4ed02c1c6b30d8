"""A tokenizer that segments texts with BPE codes or a SentencePiece model, and looks up each token in a vocabulary.

fairseq and Marian work so: a first program writes subwords with spaces between them, and a second one numbers them.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.data.tokenize.bpe_codes import SEPARATOR, BPECodes
from mtx.data.tokenize.sentencepiece_file import SentencePieceFile, read_sentencepiece
from mtx.data.tokenize.sentencepiece_library import sentencepiece_processor
from mtx.data.tokenize.tokenizer_adapter import TokenizerAdapter, num_threads
from mtx.errors import TokenizerError
from mtx.library_errors import library_reason

VOCABULARY_KEY = "mtx_vocabulary"  # the first key of the JSON; no tokenizer.json has it
VOCABULARY_PREFIX = f'{{"{VOCABULARY_KEY}"'
FORMAT = 1
MAX_CACHED_WORDS = 1 << 18  # about 60 MB with words of a language, and at most about 300 MB
MAX_CACHED_CHARACTERS = 64  # of a word; longer ones are rare, and few of them would take much memory
LANGUAGE_CODE = re.compile(r">>.*?<<", re.DOTALL)  # at the start of a source; MarianTokenizer takes any text inside
OTHER_SPACE = re.compile(r"[^\S ]")


@dataclass(frozen=True)
class LookupTables:
    """What a `VocabularyTokenizer` is made of.

    Attributes:
        words: the id of each token that texts can contain.
        special: the id of each special token, which no text contains.
        unk: the special token of tokens that are not in `words`.
        splits_at_any_space: whether all white space separates tokens, or only the ASCII space.
        codes: the merges that split words; None: a text has the tokens themselves, or there is a model.
        model: the content of the SentencePiece model that splits texts; None: there is none.
    """

    words: Mapping[str, int]
    special: Mapping[str, int]
    unk: str
    splits_at_any_space: bool
    codes: BPECodes | None = None
    model: bytes | None = None


class VocabularyTokenizer(TokenizerAdapter):
    """Encodes texts as a program that splits words and another one that numbers them. Picklable; does not change.

    Args:
        tables: the vocabulary, and what splits texts.
        path: the file, for messages.

    Raises TokenizerError if the SentencePiece model is none, or if its library is not installed.
    """

    def __init__(self, tables: LookupTables, path: object = "the tokenizer") -> None:
        super().__init__({**tables.words, **tables.special})
        self.tables = tables
        self._unk = tables.special[tables.unk]
        self._of_word = lru_cache(MAX_CACHED_WORDS)(self._word_ids)
        self.splits_words = True
        if tables.model is not None:
            file: SentencePieceFile = read_sentencepiece(tables.model, path)
            self.splits_words = file.splits_words
            self._processor = sentencepiece_processor(tables.model, path)
            self._of_piece = np.array([self._id(piece.text) for piece in file.pieces], dtype=np.int64)

    @classmethod
    def from_str(cls, content: str, path: object = "the tokenizer") -> "VocabularyTokenizer":
        """Return the tokenizer that `to_str` wrote. Raises TokenizerError."""
        try:
            values = json.loads(content)
            if values[VOCABULARY_KEY] != FORMAT:
                raise ValueError(f"its format is {str(values[VOCABULARY_KEY])[:20]}")
            merges, model = values["merges"], values["model"]
            tables = LookupTables(
                _checked_ids(values["words"]),
                _checked_ids(values["special"]),
                values["unk"],
                values["splits_at_any_space"] is True,
                None if merges is None else BPECodes(_checked_merges(merges), values["marks_last_character"] is True),
                None if model is None else base64.b64decode(model, validate=True),
            )
            if tables.unk not in tables.special:
                raise ValueError("it has no unknown token")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TokenizerError(f"{path} is damaged: {library_reason(error)}. Correct tokenizer.filepath") from None
        return cls(tables, path)

    def to_str(self, pretty: bool = False) -> str:
        """Return the vocabulary in the order of ids, and what splits texts, as JSON."""
        tables, codes = self.tables, self.tables.codes
        values = {
            VOCABULARY_KEY: FORMAT,
            "words": _by_id(tables.words),
            "special": _by_id(tables.special),
            "unk": tables.unk,
            "splits_at_any_space": tables.splits_at_any_space,
            "merges": None if codes is None else codes.merges,
            "marks_last_character": codes is not None and codes.marks_last_character,
            "model": None if tables.model is None else base64.b64encode(tables.model).decode(),
        }
        return json.dumps(values)

    def __reduce__(self) -> tuple[Any, ...]:
        return VocabularyTokenizer, (self.tables,)

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text. Raises TypeError if a text is no str or contains a lone surrogate."""
        if self.tables.model is not None:
            return [row.tolist() for row in self._piece_rows(texts)]
        for text in texts:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise TypeError(f"a text cannot be encoded as UTF-8: {library_reason(error)}") from None
        return [list(chain.from_iterable(map(self._word, filter(None, text.split(" "))))) for text in texts]

    def flat_ids(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the number of ids of each text, int64 [n], and the concatenated ids of all texts, int64."""
        if self.tables.model is None:
            return super().flat_ids(texts)
        rows = self._piece_rows(texts)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        return lengths, np.concatenate([np.empty(0, dtype=np.int64), *rows])

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of ids, without special tokens."""
        tokens = [self._names[id] for id in map(int, ids) if id in self._names]
        tokens = [token for token in tokens if token not in self.tables.special]
        if self.tables.model is not None:
            text: str = self._processor.decode(tokens)
            return text
        return f"{' '.join(tokens)} ".replace(f"{SEPARATOR} ", "").rstrip(" ")

    def _id(self, token: str) -> int:
        return self.tables.words.get(token, self._unk)

    def _word(self, word: str) -> tuple[int, ...]:
        return self._of_word(word) if len(word) <= MAX_CACHED_CHARACTERS else self._word_ids(word)

    def _word_ids(self, word: str) -> tuple[int, ...]:
        tokens: Sequence[str] = (word,) if self.tables.codes is None else self.tables.codes.segment(word)
        return tuple(map(self._id, self._split(tokens)))

    def _split(self, tokens: Sequence[str]) -> Sequence[str]:
        return " ".join(tokens).split() if self.tables.splits_at_any_space else tokens

    def _piece_rows(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Return the ids of each text that the SentencePiece model splits.

        A piece that the model does not know is text, which the vocabulary may contain.
        """
        codes = [self._language_code(text) for text in texts]
        rests = [text[len(code) :] for text, code in zip(texts, codes, strict=True)]
        found = self._processor.encode(rests, num_threads=num_threads(), return_type="numpy")
        unknown = self._processor.unk_id()
        rows = []
        for code, rest, pieces in zip(codes, rests, found, strict=True):
            ids = self._of_piece[pieces]
            is_split = self.tables.splits_at_any_space and OTHER_SPACE.search(rest) is not None
            if is_split or unknown in pieces:
                spelled = self._split(self._processor.encode(rest, out_type=str))
                ids = np.fromiter(map(self._id, spelled), dtype=np.int64, count=len(spelled))
            rows.append(np.concatenate([[self._id(code)], ids]) if code else ids)
        return rows

    def _language_code(self, text: str) -> str:
        """Return the language code at the start of a text, which is one token; in fairseq only if it is known."""
        found = LANGUAGE_CODE.match(text) if text.startswith(">>") else None
        is_code = found and (found[0] in self.tables.words or not self.tables.splits_at_any_space)
        return found[0] if found and is_code else ""


def _by_id(ids: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(ids.items(), key=lambda entry: entry[1]))


def _checked_ids(values: Any) -> dict[str, int]:
    if not all(isinstance(id, int) and id >= 0 for id in values.values()):
        raise ValueError("an id is no number")
    return dict(values)


def _checked_merges(values: Any) -> list[list[str]]:
    if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(s, str) for s in pair) for pair in values):
        raise ValueError("a merge is no pair of symbols")
    return list(values)
