"""Tokens that name a language, as vocabularies write them, and the token with which a model's targets begin."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from mtx.infra.dataset.language_names import is_language_tag

# A language as vocabularies write it: eng_Latn, en_XX, __en__, <2en>, >>en<<
WRITTEN = re.compile(r"(?:__|<2|>>)?([a-z]{2,3}(?:_[A-Z][A-Za-z]{1,3})?)(?:__|>|<<)?")
ROLES = ("bos", "cls", "sot", "src")  # as codes, these are languages; __bos__ and bos name the role of a token
MIN_LANGUAGES = 2  # a vocabulary with fewer language tokens is of one language
ANY_TERRITORY = "_XX"  # ends tokens such as en_XX
DECODER_START = "decoder_start_token_id"
FORCED_START = "forced_bos_token_id"


class TargetStart(NamedTuple):
    """A token with which generation begins, as the config of a model says.

    Attributes:
        token: the token.
        key: `forced_bos_token_id` if the token follows the start of the decoder, or `decoder_start_token_id`.
    """

    token: str
    key: str


def language_of_token(name: str) -> str | None:
    """Return the language that a token names, such as `de` for `>>de<<`; None if it names none, or a role."""
    if name.strip("_") in ROLES:
        return None
    written = WRITTEN.fullmatch(name)
    code = "" if written is None else written[1].removesuffix(ANY_TERRITORY)
    return code if code and is_language_tag(code) else None


def languages_of_tokens(names: Iterable[str]) -> dict[str, str]:
    """Return the language of each token that names one, by token; empty if there are not two."""
    found = {name: code for name in names if (code := language_of_token(name)) is not None}
    return found if len(found) >= MIN_LANGUAGES else {}
