"""What a checkpoint contains besides weights in order to translate: tokenizers, normaliser, batch format, languages.

`TranslationDataModule` adds these values to the checkpoints of a training. They are plain values, so that another
machine can translate without the store and without the corpus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tokenizers import Tokenizer

from mtx import __version__
from mtx.batches.batch_format import BatchFormat, LanguageTokenPosition, MaxTokens
from mtx.batches.schema import FormatName
from mtx.components.identity import JSON, identity
from mtx.data.direction_tags import part_normaliser
from mtx.data.normalise import Normaliser, untagged_message
from mtx.data.token_rows import SpecialIds
from mtx.data.tokenize.language_tokens import LeadingIds
from mtx.data.tokenize.stored_tokenizer import tokenizer_from_str
from mtx.data.tokenize.tokenization import encode_texts, prepare_tokenizer, vocabulary_size
from mtx.data.tokenize.tokenizer_json_problem import tokenizer_json_problem
from mtx.errors import ConfigError, MtxError
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA
from mtx.infra.dataset.sources.translation_directions import (
    Direction,
    direction_name,
    matching_direction,
    parsed_directions,
)
from mtx.training.checkpoint_content import invalid_values, unfit_values_advice
from mtx.training.stored_normaliser import check_prefix, stored_normaliser

if TYPE_CHECKING:
    from mtx.data.tokenize.tokenizer_artifact import TokenizerPair

STATE_KEY = "translation"  # the key of these values in the state of the data module
FORMAT = 2  # the newest; increase this if a reader of this version could not use the values
SUFFIX_FORMAT = 2  # of values with `language_token_position=suffix`, which earlier versions would ignore

Id = Annotated[int, Field(ge=0)]
Ids = Annotated[list[Id], Field(min_length=4, max_length=4)]


Languages = Annotated[list[str], Field(min_length=2, max_length=2)]


class StoredState(BaseModel):
    """The values as a checkpoint contains them. A checkpoint may come from anyone, so all types are checked."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    format: Literal[1, 2]
    mtx: str
    source_tokenizer: str
    target_tokenizer: str | None
    source_ids: Ids
    target_ids: Ids
    normalise: dict[str, Any]
    names: FormatName
    template: str | None = None
    source_eos: bool
    max_source_tokens: MaxTokens | None
    max_target_tokens: MaxTokens | None
    languages: Languages
    eval_max_bytes: Annotated[int, Field(ge=1)] | None = None
    directions: list[Languages] = []
    language_token_ids: list[Annotated[list[Id], Field(min_length=2, max_length=2)]] = []
    language_token_position: LanguageTokenPosition = "prefix"


@dataclass(frozen=True)
class TranslationState:
    """What a model needs to translate texts.

    Attributes:
        source: tokenizer of the source side.
        target: tokenizer of the target side; the same object for a joint vocabulary.
        normalise: changes texts as the texts of the training were changed.
        batch_format: format of a batch, with special ids and maximal lengths.
        languages: codes of the source and the target language, such as `en` and `de`.
        corpus: identity of the training data: source, held-out pairs, filter, tokenizer and sampler.
        eval_max_bytes: held-out pairs with more UTF-8 bytes on a side were not used; None: no limit.
        directions: those of `datamodule.directions`, or of a mixture with language tokens; empty if there is only one.
        language_token_ids: the ids of the language tokens of each direction; one entry without directions, and empty
            without language tokens.
    """

    source: Tokenizer
    target: Tokenizer
    normalise: Normaliser
    batch_format: BatchFormat
    languages: tuple[str, str]
    corpus: Mapping[str, Any]
    eval_max_bytes: int | None = None
    directions: tuple[Direction, ...] = ()
    language_token_ids: tuple[LeadingIds, ...] = ()

    @property
    def leading_ids(self) -> LeadingIds | None:
        """The ids of the language tokens before each source and target; None without them.

        Raises ConfigError if there are several directions, and none is chosen.
        """
        if len(self.language_token_ids) > 1:
            raise ConfigError(
                "the checkpoint has several directions, whose texts begin with other language tokens. Choose one: "
                f"task.direction={direction_name(self.directions[0])}"
            )
        return next(iter(self.language_token_ids), None)

    def in_direction(self, name: str) -> "TranslationState":
        """Return the state for one direction, such as `en-de`: with its languages, and the prefix of its sources.

        Raises ConfigError if the training had no such direction.
        """
        asked = parsed_directions([name])[0]
        if (found := matching_direction(asked, self.directions)) is None:
            known = ", ".join(map(direction_name, self.directions))
            raise ConfigError(
                f"task.direction={name} is no direction of the checkpoint, which has {known}. Set one of these"
                if known
                else f"task.direction={name} needs a checkpoint that was trained with datamodule.directions, but this "
                f"one translates {' to '.join(self.languages)}. Set task.direction=null"
            )
        normalise = part_normaliser(self.normalise, "", {"": found})
        ids = self.language_token_ids and (self.language_token_ids[self.directions.index(found)],)
        return replace(self, normalise=normalise, languages=found, directions=(found,), language_token_ids=ids)

    def normalised(self, texts: Sequence[str], side: str) -> list[str]:
        """Return the texts of a side as the normaliser of the training changes them."""
        pairs = pa.record_batch([_text_column(texts)] * 2, schema=PAIR_SCHEMA)
        found: list[str] = self.normalise.apply(pairs).column("src" if side == "source" else "tgt").to_pylist()
        return found

    def encoded(self, texts: Sequence[str], side: str) -> list[list[int]]:
        """Return the token ids of normalised texts of a side, with the language token alone of all special ids.

        An empty source has no ids. Raises ConfigError as `leading_ids`.
        """
        rows = encode_texts(self.source if side == "source" else self.target, texts)
        if (leading := self.leading_ids) is None:
            return rows
        first = leading.source if side == "source" else leading.target
        return [[first, *ids] if ids or side == "target" else [] for ids in rows]

    def untagged_message(self, texts: Sequence[str]) -> str | None:
        """Return a warning if sources lack one of the prefixes of the training; None if there is nothing to warn of."""
        how = f"Set task.direction={direction_name(self.directions[0])}" if self.directions else None
        return untagged_message(texts, self.normalise.part_prefixes, how)


def _text_column(texts: Sequence[str]) -> pa.LargeStringArray:
    """Return texts as an Arrow array; `pa.array` would import pandas, which takes a third of a second."""
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(each) for each in encoded], out=offsets[1:])
    return pa.LargeStringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def stored_state(
    pair: "TokenizerPair",
    normalise: Normaliser,
    batch_format: BatchFormat,
    languages: tuple[str, str],
    eval_max_bytes: int | None,
    directions: Sequence[Direction] = (),
    language_token_ids: Sequence[LeadingIds] = (),
) -> dict[str, JSON]:
    """Return the values that a checkpoint stores, as plain values."""
    return {
        "format": SUFFIX_FORMAT if batch_format.has_language_suffix else 1,
        "mtx": __version__,
        "source_tokenizer": pair.source.to_str(),
        "target_tokenizer": None if pair.joint else pair.target.to_str(),
        "source_ids": list(batch_format.source),
        "target_ids": list(batch_format.target),
        "normalise": identity(normalise),
        "names": batch_format.names,
        **({"template": batch_format.template} if batch_format.template is not None else {}),
        "source_eos": batch_format.source_eos,
        "max_source_tokens": batch_format.max_source_tokens,
        "max_target_tokens": batch_format.max_target_tokens,
        "languages": list(languages),
        "eval_max_bytes": eval_max_bytes,
        "directions": [list(each) for each in directions],
        "language_token_ids": [list(each) for each in language_token_ids],
        "language_token_position": batch_format.language_token_position,
    }


def version_of(checkpoint: Mapping[str, Any]) -> object:
    """Return the version of mtx that a checkpoint says has written it, which may be any value; None: it says none."""
    stored = [value.get(STATE_KEY) for value in checkpoint.values() if isinstance(value, Mapping)]
    return next((each.get("mtx") for each in stored if isinstance(each, Mapping)), None)


def translation_state(
    checkpoint: Mapping[str, Any], path: object, normalise: Normaliser | None = None
) -> TranslationState:
    """Return what a checkpoint contains in order to translate, after a check of all values.

    Args:
        checkpoint: the content of the file.
        path: the file, for messages.
        normalise: how texts are changed; None: as the checkpoint says.

    Raises:
        ConfigError: the values are missing, invalid, or of a newer mtx, or the normaliser is a user's own.
    """
    modules = [value for value in checkpoint.values() if isinstance(value, Mapping) and STATE_KEY in value]
    if len(modules) != 1 or not isinstance(modules[0][STATE_KEY], Mapping):
        raise ConfigError(
            f"ckpt={path} contains no tokenizers. A checkpoint can translate if mtx {__version__} or later wrote it in "
            "a training with mtx's data module. Train again: mtx task=fit"
        )
    values = modules[0][STATE_KEY]
    stored_format = values.get("format")
    if isinstance(stored_format, int) and stored_format > FORMAT:
        raise ConfigError(
            f"ckpt={path} is of a newer version, whose checkpoints mtx {__version__} cannot read. "
            f"{unfit_values_advice(values.get('mtx'), 'Use a clone of a newer version')}"
        )
    try:
        stored = StoredState.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError(invalid_values(path, reason, values.get("mtx"))) from None
    source = _tokenizer(stored.source_tokenizer, stored.source_ids, path)
    target = source
    if stored.target_tokenizer is not None:
        target = _tokenizer(stored.target_tokenizer, stored.target_ids, path)
    _check_language_tokens(stored, source, target, path)
    check_prefix(normalise, stored.normalise, path)
    corpus = modules[0].get("data", {})
    return TranslationState(
        source=source,
        target=target,
        normalise=normalise or stored_normaliser(stored.normalise, path),
        batch_format=BatchFormat(
            source=SpecialIds(*stored.source_ids),
            target=SpecialIds(*stored.target_ids),
            source_eos=stored.source_eos,
            max_source_tokens=stored.max_source_tokens,
            max_target_tokens=stored.max_target_tokens,
            names=stored.names,
            template=stored.template,
            forced_target_tokens=int(bool(stored.language_token_ids) and stored.language_token_position == "prefix"),
            language_token_position=stored.language_token_position,
        ),
        languages=(stored.languages[0], stored.languages[1]),
        corpus=corpus if isinstance(corpus, Mapping) else {},
        eval_max_bytes=stored.eval_max_bytes,
        directions=tuple((source, target) for source, target in stored.directions),
        language_token_ids=tuple(LeadingIds(*each) for each in stored.language_token_ids),
    )


def _tokenizer(content: str, ids: list[int], path: object) -> Tokenizer:
    try:
        tokenizer = tokenizer_from_str(content)
        size = vocabulary_size(tokenizer)
    except MtxError as error:
        raise ConfigError(f"ckpt={path}: {error}") from error
    except Exception as error:  # the library raises plain Exception
        raise ConfigError(
            invalid_values(path, f"a tokenizer is damaged ({tokenizer_json_problem(content, error)})")
        ) from error
    if max(ids) >= size:
        raise ConfigError(invalid_values(path, f"the special ids {ids} exceed a vocabulary of {size} tokens"))
    return prepare_tokenizer(tokenizer)


def _check_language_tokens(stored: StoredState, source: Tokenizer, target: Tokenizer, path: object) -> None:
    """Raise ConfigError unless each direction has the ids of its language tokens, which are in the vocabularies."""
    ids = stored.language_token_ids
    if ids and len(ids) != max(len(stored.directions), 1):
        raise ConfigError(invalid_values(path, "language_token_ids has another number of directions"))
    sizes = vocabulary_size(source), vocabulary_size(target)
    if any(number >= size for each in ids for number, size in zip(each, sizes, strict=True)):
        raise ConfigError(invalid_values(path, f"language_token_ids {ids} exceed vocabularies of {sizes} tokens"))
