"""Reads a tokenizer from the text of its file, which a store, an imported dataset or a checkpoint contains."""

from typing import cast

from tokenizers import Tokenizer

from mtx.data.tokenize.sentencepiece_library import FORMAT_KEY, SentencePieceTokenizer
from mtx.data.tokenize.vocabulary_lookup import VOCABULARY_PREFIX, VocabularyTokenizer
from mtx.exhausted_resources import panics_as_errors


def tokenizer_from_str(content: str) -> Tokenizer:
    """Return the tokenizer that a file contains.

    Raises TokenizerError for a damaged SentencePiece model or vocabulary, and otherwise what the `tokenizers` library
    raises. A panic of that library is a RuntimeError.
    """
    if content.startswith(f'{{"{FORMAT_KEY}"'):
        return cast(Tokenizer, SentencePieceTokenizer.from_str(content))
    if content.startswith(VOCABULARY_PREFIX):
        return cast(Tokenizer, VocabularyTokenizer.from_str(content))
    with panics_as_errors():
        return Tokenizer.from_str(content)
