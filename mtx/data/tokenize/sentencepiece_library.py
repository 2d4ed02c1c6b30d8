"""A tokenizer that encodes with the library `sentencepiece`, with the methods of `tokenizers.Tokenizer` that mtx calls.

A conversion to `tokenizers` would change ids. The library sums log-probabilities in single precision over a whole text,
so equally probable segmentations of `000` depend on the text before. `tokenizers` also normalises combining marks in
another way. A conversion would also be slower.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any

from mtx.data.tokenize.sentencepiece_file import SentencePieceFile, read_sentencepiece
from mtx.data.tokenize.tokenizer_adapter import TokenizerAdapter, num_threads
from mtx.errors import TokenizerError
from mtx.library_errors import library_reason

FORMAT_KEY = "mtx_sentencepiece"  # the first key of the JSON; no tokenizer.json has it
FORMAT = 1
INSTALL = 'pip install "mtx[sentencepiece]"'


class SentencePieceTokenizer(TokenizerAdapter):
    """Encodes texts as the library does. Picklable; not changed after it is made.

    Args:
        model: the content of a `.model` file.
        added: tokens that the model lacks, such as a padding token; their ids follow those of the model.
        path: the file, for messages.

    Raises TokenizerError if the content is no model, or if the library is not installed.
    """

    def __init__(self, model: bytes, added: Sequence[str] = (), path: object = "the tokenizer") -> None:
        self.content = model
        self.added = tuple(added)
        self.file: SentencePieceFile = read_sentencepiece(model, path)
        super().__init__({name: id for id, name in enumerate([p.text for p in self.file.pieces] + list(self.added))})
        self.splits_words = self.file.splits_words
        self.processor = sentencepiece_processor(model, path)

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

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text. Raises TypeError if a text is no str or contains a lone surrogate."""
        found: list[list[int]] = self.processor.encode(list(texts), num_threads=num_threads())
        return found

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of ids, without control symbols."""
        size = len(self.file.pieces)
        text: str = self.processor.decode([id for id in map(int, ids) if id < size])
        return text


def sentencepiece_processor(model: bytes, path: object) -> Any:
    """Return the library's object for a model. Raises TokenizerError if it is none, or without the library."""
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
