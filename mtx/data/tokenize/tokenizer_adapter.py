"""`TokenizerAdapter`: a vocabulary that the `tokenizers` library does not encode, with the methods of its `Tokenizer`.

Subclasses encode with another library or algorithm. mtx calls them like a `tokenizers.Tokenizer`.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mtx.cpu_count import usable_cores


@dataclass(frozen=True)
class TextTokens:
    """The ids and the tokens of a text."""

    ids: list[int]
    tokens: list[str]


class TokenizerAdapter(ABC):
    """Base class of vocabularies that another library or algorithm encodes. Picklable; not changed after it is made.

    Attributes:
        splits_words: whether words have the same ids alone as in a text, so that texts may be cut before spaces.
        texts_per_call: number of texts that `flat_ids` encodes at once, so that its result stays in the cache.
    """

    normalizer = None
    pre_tokenizer = None
    model = None
    encode_special_tokens = True  # names of special tokens in a text are encoded as text
    splits_words: bool = False
    texts_per_call: ClassVar[int] = 1024

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = dict(ids)
        self._names = {id: name for name, id in self._ids.items()}

    @abstractmethod
    def to_str(self, pretty: bool = False) -> str:
        """Return the tokenizer as JSON, which `mtx.data.tokenize.stored_tokenizer` reads."""

    @abstractmethod
    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text. Raises TypeError if a text is no str or contains a lone surrogate."""

    @abstractmethod
    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of ids, without special tokens."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a {type(self).__name__} has no {name}")

    def flat_ids(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the number of ids of each text, int64 [n], and the concatenated ids of all texts."""
        rows = self.ids_of(texts)
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        return lengths, np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))

    def encode(self, text: str, add_special_tokens: bool = False) -> TextTokens:
        """Return the ids and tokens of a text, without special tokens."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = False) -> list[TextTokens]:
        """Return the ids and tokens of texts, without special tokens."""
        return [TextTokens(ids, [self._names[id] for id in ids]) for ids in self.ids_of(texts)]

    encode_batch_fast = encode_batch

    def decode_batch(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = True) -> list[str]:
        """Return the texts of rows of ids, without special tokens."""
        return [self.decode(ids) for ids in rows]

    def get_vocab(self, with_added_tokens: bool = True) -> dict[str, int]:
        """Return the id of each token."""
        return dict(self._ids)

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Return the number of tokens."""
        return len(self._ids)

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token, or None."""
        return self._ids.get(token)

    def id_to_token(self, id: int) -> str | None:
        """Return the token of an id, or None."""
        return self._names.get(id)

    def get_added_tokens_decoder(self) -> dict[int, Any]:
        """Return nothing, because the vocabulary says itself which tokens are special."""
        return {}


def num_threads() -> int:
    """Return the number of threads of a library: all usable cores, or 1 in a process that must not start threads."""
    return 1 if os.environ.get("TOKENIZERS_PARALLELISM") == "false" else usable_cores()
