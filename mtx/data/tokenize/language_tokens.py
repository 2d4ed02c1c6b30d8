"""Language tokens of multilingual models: the first token of each source and target names the language of the text.

mBART-50 and NLLB learn from `[en_XX] source </s>` and `[de_DE] target </s>`. Generation is forced to begin with the
token of the wanted language (Tang et al. 2020, "Multilingual Translation with Extensible Multilingual Pretraining and
Finetuning"; NLLB Team 2022, "No Language Left Behind"). The tokens are ids of the vocabulary, and no text. For the
first mBART, `mtx.batches.language_token_suffix` moves the tokens when batches are built.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from tokenizers import Tokenizer

from mtx.data.token_rows import SpecialIds
from mtx.data.tokenize.language_token_names import (
    DECODER_START,
    FORCED_START,
    TargetStart,
    language_of_token,
    languages_of_tokens,
)
from mtx.data.tokenize.sentencepiece_file import CONTROL
from mtx.data.tokenize.sentencepiece_library import SentencePieceTokenizer
from mtx.data.tokenize.tokenizer_adapter import TokenizerAdapter
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.errors import ConfigError, choices
from mtx.infra.dataset.language_names import SIDES, likeness

CONFIG_KEY = "datamodule.language_tokens"
POSITION_KEY = "datamodule.language_token_position"
LanguageTokens = Annotated[
    Literal["auto"] | Mapping[str, str],
    Field(description="auto, or a token for each language, such as {en: eng_Latn, de: deu_Latn}"),
]
TEXT_TAG = ">>"  # begins a tag that is text before the source, as in models of OPUS-MT
USER_DEFINED = 4  # the type of such a piece in a SentencePiece model


class LeadingIds(NamedTuple):
    """The ids of the language tokens before the source and the target text."""

    source: int
    target: int


def languages_of(tokenizer: Tokenizer) -> dict[str, str]:
    """Return the language of each added token or user-defined symbol that names one, by token.

    The result is empty if there are not two. Ordinary pieces do not count, because short words may look like codes.
    """
    if isinstance(tokenizer, SentencePieceTokenizer):
        names = [piece.text for piece in tokenizer.file.pieces if piece.type in (CONTROL, USER_DEFINED)]
    elif isinstance(tokenizer, TokenizerAdapter):
        names = [token for token in tokenizer.get_vocab() if token.startswith(TEXT_TAG)]
    else:
        names = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    return languages_of_tokens(names)


def leading_ids(given: str | Mapping[str, str], languages: tuple[str, str], tokenizers: TokenizerPair) -> LeadingIds:
    """Return the ids of the language tokens of a direction.

    Args:
        given: the token of each language, or `auto` for the tokens that the vocabulary itself has.
        languages: codes of the source and the target language.
        tokenizers: the tokenizers of both sides.

    Raises:
        ConfigError: a language has no token, or several, or a special token.
    """
    return LeadingIds(
        _id_of(given, languages[0], tokenizers.source, tokenizers.source_ids),
        _id_of(given, languages[1], tokenizers.target, tokenizers.target_ids),
    )


def check_unsampled(*, is_sampled: bool) -> None:
    """Raise ConfigError if a tokenizer samples segmentations, whose ids have no language tokens."""
    if is_sampled:
        raise ConfigError(
            f"{CONFIG_KEY} needs the same ids in every epoch, but the tokenizer samples segmentations. Set "
            "tokenizer.dropout=0, or tokenizer.alpha=null"
        )


def check_position(position: str, given: LanguageTokens | None) -> None:
    """Raise ConfigError if language tokens have another position than the usual one, but there are none."""
    if position != "prefix" and given is None:
        raise ConfigError(
            f"{POSITION_KEY}={position} moves language tokens, but {CONFIG_KEY} is null. Set {CONFIG_KEY}=auto, or "
            f"{POSITION_KEY}=prefix"
        )


def _id_of(given: str | Mapping[str, str], language: str, tokenizer: Tokenizer, special: SpecialIds) -> int:
    if language in SIDES:
        raise ConfigError(
            f"{CONFIG_KEY} needs the languages of the corpus, but they are not known. Name them with "
            "downloader.source_language and downloader.target_language"
        )
    known = languages_of(tokenizer)
    if isinstance(given, Mapping):
        tokens = [token for of, token in given.items() if likeness(of, language)]
        what = f"{CONFIG_KEY} has"
    else:
        known = {token: of for token, of in known.items() if not token.startswith(TEXT_TAG)}
        tokens = [token for token, of in known.items() if likeness(of, language)]
        what = "the vocabulary has"
    if len(tokens) != 1:
        several = f"{len(tokens)}: {', '.join(tokens)}" if tokens else "none"
        near = choices(language, list(known)) if known else "none"
        raise ConfigError(
            f"{CONFIG_KEY} needs one token for each language, but for {language!r} {what} {several}. Its "
            f"language tokens: {near}. Name the token of every language: "
            f"\"+{CONFIG_KEY}.{language}='{tokens[0] if tokens else 'TOKEN'}'\""
        )
    found = tokenizer.token_to_id(tokens[0])
    if found is None:
        near = f": {choices(tokens[0], list(known))}" if known else ""
        raise ConfigError(
            f"{CONFIG_KEY} has the token {tokens[0]!r} for {language!r}, which is not in the vocabulary. Choose one "
            f"of its tokens{near}"
        )
    if found in special:
        raise ConfigError(
            f"{CONFIG_KEY} has the token {tokens[0]!r} for {language!r}, which is the token for padding, the begin, "
            "the end, or unknown text. Choose a token of its own"
        )
    return int(found)


def untagged_warning(tokenizers: TokenizerPair) -> str | None:
    """Return a warning for texts without tags and language tokens, if a vocabulary has language tokens; else None."""
    known = languages_of(tokenizers.target)
    if not known:
        return None
    shown = ", ".join(list(known)[:3])
    return (
        f"the vocabulary has {len(known)} language tokens, such as {shown}, but neither sources nor targets get one, "
        f"so a model does not know the language. Set {CONFIG_KEY}=auto, or a tag with normalise.source_prefix"
    )


def target_start_warning(
    start: TargetStart, given: LanguageTokens | None, position: str, targets: Sequence[str]
) -> str | None:
    """Return a warning if targets do not begin as the config of the tokenizer's model says; else None.

    Args:
        start: the token with which the model begins.
        given: `datamodule.language_tokens`.
        position: `datamodule.language_token_position`.
        targets: codes of the target languages.
    """
    language = language_of_token(start.token)
    fitting = "suffix" if start.key == DECODER_START else "prefix"
    told = f"{start.key} in the config of the tokenizer's model begins translations with {start.token}, but"
    if language is None:
        return f"{told} targets do not begin with it. Set model.config.{start.key} = None in your model"
    if given is None:
        also = f" and {POSITION_KEY}=suffix" if fitting == "suffix" else ""
        return f"{told} targets do not begin with it. Set {CONFIG_KEY}=auto{also}"
    if position != fitting:
        other = f", or model.config.{FORCED_START} = None in your model" if fitting == "prefix" else ""
        return f"{told} {POSITION_KEY}={position} writes it elsewhere. Set {POSITION_KEY}={fitting}{other}"
    if not any(likeness(language, each) for each in targets):
        return (
            f"{told} the target language is {', '.join(targets)}. Set model.config.{start.key} of your model to the id "
            "of its token"
        )
    return None
