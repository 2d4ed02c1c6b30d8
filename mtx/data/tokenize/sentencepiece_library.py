"""A tokenizer that encodes with the library `sentencepiece`, with the methods of `tokenizers.Tokenizer` that mtx calls.

A conversion to `tokenizers` would change ids: the library sums log-probabilities in single precision over a whole text,
so that equally probable segmentations of `000` depend on the text before, and `tokenizers` normalises combining marks
otherwise. It would also be slower.
"""

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mtx.cpu_count import usable_cores
from mtx.data.tokenize.sentencepiece_file import SentencePieceFile, read_sentencepiece
from mtx.errors import TokenizerError
from mtx.library_errors import library_reason

FORMAT_KEY = "mtx_sentencepiece"  # the first key of the JSON; no tokenizer.json has it
FORMAT = 1
INSTALL = 'pip install "mtx[sentencepiece]"'


@dataclass(frozen=True)
class TextTokens:
    """The ids and the pieces of a text."""

    ids: list[int]
    tokens: list[str]


class SentencePieceTokenizer:
    """Encodes texts as the library does. Picklable; not changed after it is made.

    Args:
        model: the content of a `.model` file.
        added: tokens that the model lacks, such as a padding token; their ids follow those of the model.
        path: the file, for messages.

    Raises TokenizerError if the content is no model, or if the library is not installed.
    """

    normalizer = None
    pre_tokenizer = None
    model = None
    encode_special_tokens = True  # names of control symbols in a text are encoded as text

    def __init__(self, model: bytes, added: Sequence[str] = (), path: object = "the tokenizer") -> None:
        self.content = model
        self.added = tuple(added)
        self.file: SentencePieceFile = read_sentencepiece(model, path)
        self._names = [piece.text for piece in self.file.pieces] + list(self.added)
        self._ids = {name: id for id, name in enumerate(self._names)}
        self._processor = _processor(model, path)

    @classmethod
    def from_str(cls, content: str, path: object = "the tokenizer") -> "SentencePieceTokenizer":
        """Return the tokenizer that `to_str` wrote. Raises TokenizerError."""
        try:
            values = json.loads(content)
            if values[FORMAT_KEY] != FORMAT or not all(isinstance(name, str) for name in values["added"]):
                raise ValueError(f"its format is {str(values[FORMAT_KEY])[:20]}")
            model, added = base64.b64decode(values["model"], validate=True), [*values["added"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise TokenizerError(f"{path} is damaged: {library_reason(error)}. Correct tokenizer.filepath") from None
        return cls(model, added, path)

    def to_str(self, pretty: bool = False) -> str:
        """Return the model and the added tokens as JSON."""
        model = base64.b64encode(self.content).decode()
        return json.dumps({FORMAT_KEY: FORMAT, "added": list(self.added), "model": model})

    def __reduce__(self) -> tuple[Any, ...]:
        return SentencePieceTokenizer, (self.content, self.added)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a SentencePiece model has no {name}")

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text. Raises TypeError if a text is no str or contains a lone surrogate."""
        found: list[list[int]] = self._processor.encode(list(texts), num_threads=_num_threads())
        return found

    def encode(self, text: str, add_special_tokens: bool = False) -> TextTokens:
        """Return the ids and pieces of a text, without special tokens."""
        (ids,) = self.ids_of([text])
        return TextTokens(ids, [self._names[id] for id in ids])

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = False) -> list[TextTokens]:
        """Return the ids and pieces of texts, without special tokens."""
        return [TextTokens(ids, [self._names[id] for id in ids]) for ids in self.ids_of(texts)]

    encode_batch_fast = encode_batch

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of ids, without control symbols."""
        size = len(self.file.pieces)
        text: str = self._processor.decode([id for id in map(int, ids) if id < size])
        return text

    def decode_batch(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = True) -> list[str]:
        """Return the texts of rows of ids, without control symbols."""
        return [self.decode(ids) for ids in rows]

    def get_vocab(self, with_added_tokens: bool = True) -> dict[str, int]:
        """Return the id of each piece."""
        return dict(self._ids)

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Return the number of pieces."""
        return len(self._names)

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a piece, or None."""
        return self._ids.get(token)

    def id_to_token(self, id: int) -> str | None:
        """Return the piece of an id, or None."""
        return self._names[id] if 0 <= id < len(self._names) else None

    def get_added_tokens_decoder(self) -> dict[int, Any]:
        """Return nothing, because a model says itself which tokens are special."""
        return {}

    def no_truncation(self) -> None:
        """Do nothing: texts are never truncated."""

    def no_padding(self) -> None:
        """Do nothing: ids are never padded."""


def _num_threads() -> int:
    return 1 if os.environ.get("TOKENIZERS_PARALLELISM") == "false" else usable_cores()


def _processor(model: bytes, path: object) -> Any:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise TokenizerError(
            f"{path} is a SentencePiece model, which needs the library `sentencepiece`. Install it: {INSTALL}"
        ) from None
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except (RuntimeError, OSError) as error:
        raise TokenizerError(
            f"{path} is no SentencePiece model that the library reads: "
            f"{library_reason(error, library='sentencepiece')}. Set "
            "tokenizer.filepath to the .model file that sentencepiece wrote"
        ) from None
    return processor
