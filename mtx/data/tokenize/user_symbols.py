"""User-defined symbols of trained vocabularies: texts such as `>>de<<` that are always one token.

The `tokenizers` library finds them before all other steps, so that no merge crosses them and they are never split.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field
from tokenizers import AddedToken, Tokenizer

from mtx.data.tokenize.tokenization import SPECIAL_TOKENS
from mtx.errors import ConfigError

Symbols = Annotated[tuple[str, ...], Field(strict=False, description="different texts, such as ['>>de<<', '>>fr<<']")]


def check_symbols(symbols: Sequence[str]) -> None:
    """Raise ConfigError if a symbol is empty, not encodable, given twice, or the name of a special token."""
    for number, symbol in enumerate(symbols):
        is_text = (
            isinstance(symbol, str) and bool(symbol.strip()) and not any("\ud800" <= c <= "\udfff" for c in symbol)
        )
        if not is_text or symbol in symbols[:number] or symbol in SPECIAL_TOKENS.as_list():
            raise ConfigError(
                "tokenizer.symbols has different texts, none of them empty or a special token, but has "
                f"{symbol!r}. Set \"tokenizer.symbols=['>>de<<', '>>fr<<']\""
            )


def add_symbols(tokenizer: Tokenizer, symbols: Sequence[str]) -> Tokenizer:
    """Add symbols to a trained tokenizer, with the ids after its last; return the same object."""
    tokenizer.add_tokens([AddedToken(symbol, special=False, normalized=False) for symbol in symbols])
    return tokenizer


def symbol_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the ids of the symbols of a tokenizer."""
    added = json.loads(tokenizer.to_str())["added_tokens"]
    return {token["content"]: token["id"] for token in added if not token["special"]}


def texts_between_symbols(batches: Iterator[list[str]], symbols: Sequence[str]) -> Iterator[list[str]]:
    """Stream the parts of texts around symbols, for trainers, which do not look for symbols."""
    if not symbols:
        yield from batches
        return
    pattern = re.compile("|".join(re.escape(symbol) for symbol in sorted(symbols, key=len, reverse=True)))
    for batch in batches:
        yield [part for text in batch for part in pattern.split(text) if part]
