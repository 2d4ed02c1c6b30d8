"""The prompts of the pairs of a split, as token ids: a template filled with columns and languages, then encoded."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.batches.batch_format import BatchFormat
from mtx.batches.causal_template import (
    CONFIG_KEY,
    DEFAULT_TEMPLATE,
    LANGUAGE_FIELDS,
    CausalTemplate,
    TemplateText,
    parsed_template,
)
from mtx.batches.prompted_pairs import PromptVariants
from mtx.data.concatenated_corpus import part_names
from mtx.data.direction_tags import set_direction
from mtx.data.language_groups import dataset_languages, part_languages
from mtx.data.preparation import Recipe, StageIds
from mtx.data.repo_read_cache import RepoSession
from mtx.data.token_rows import SpecialIds, TokenRows
from mtx.data.tokenize.tokenization import encode_texts
from mtx.data.tokenize.tokenizer_adapter import TokenizerAdapter
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.data.validation_sets import PREDICT_NAME
from mtx.errors import ConfigError, choices, override_list_text
from mtx.infra.dal.row_views import ROW_COLUMN, SOURCE_COLUMN
from mtx.infra.dataset.extra_columns import check_category
from mtx.infra.dataset.language_names import SIDES
from mtx.infra.dataset.sources.translation_directions import Direction, direction_name

log = logging.getLogger(__name__)

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class FieldValues:
    """The values of a field of the template in a split.

    Attributes:
        texts: the different values.
        of_pair: int64 [n], the value of each pair, as an index into `texts`.
    """

    texts: Sequence[str]
    of_pair: Indices


def split_prompts(
    name: str, layout: BatchFormat, tokenizers: TokenizerPair, recipe: Recipe, ids: StageIds, repo: RepoSession
) -> PromptVariants | None:
    """Return the prompts of a split, of a validation set, or of the texts to translate; None for other formats.

    Args:
        name: the split.
        layout: the format of a batch, with the template; see `mtx.batches.causal_template`.
        tokenizers: the tokenizers, with one vocabulary.
        recipe: the settings of all stages that built the data.
        ids: the ids of the stored datasets.
        repo: the repository that stores them.

    Raises:
        ConfigError: the template is not valid, a field is no column of the pairs, a language is unknown, or the
            vocabulary lacks tokens of the template.
    """
    if not layout.is_causal:
        return None
    parsed = parsed_template(layout.template or DEFAULT_TEMPLATE)
    rows = repo.get({**ids.filtered, **ids.beside_text}[name]).rows
    values: dict[str, FieldValues] = {}
    languages: Sequence[Direction] = []
    if not set(LANGUAGE_FIELDS).isdisjoint(parsed.fields):
        languages = _languages(name, recipe, ids, repo)
    for field in parsed.fields:
        if field in LANGUAGE_FIELDS:
            texts = [each[LANGUAGE_FIELDS.index(field)] for each in languages]
            is_part = name in ids.filtered and bool(part_names(recipe.downloader))
            parts = rows.column(SOURCE_COLUMN).to_numpy().astype(np.int64) if is_part else np.zeros(len(rows), np.int64)
            values[field] = FieldValues(texts, parts)
        else:
            values[field] = _column_values(name, field, rows.schema.names, rows.column)
    symbols: Sequence[str] | None = getattr(recipe.tokenizer, "symbols", None)  # a field of some subclasses
    return encoded_prompts(parsed, tokenizers.target, tokenizers.target_ids, values, symbols)


def language_prompts(
    layout: BatchFormat, tokenizer: Tokenizer, languages: Direction, directions: Sequence[Direction] = ()
) -> PromptVariants:
    """Return the prompts of texts without columns, which all have one direction.

    Args:
        layout: the format of a batch, with the template.
        tokenizer: the tokenizer of the training.
        languages: the languages of the training, which are the direction if `directions` is empty.
        directions: the directions of the training, or the chosen one.

    Raises:
        ConfigError: the template has a column of the corpus, which texts to translate lack; or it names languages, and
            there are several directions.
    """
    if len(directions) > 1 and names_languages(layout):
        raise ConfigError(
            "the checkpoint has several directions, whose prompts name other languages. Choose one: "
            f"task.direction={direction_name(directions[0])}"
        )
    parsed = parsed_template(layout.template or DEFAULT_TEMPLATE)
    if columns := [field for field in parsed.fields if field not in LANGUAGE_FIELDS]:
        raise ConfigError(
            f"{CONFIG_KEY} of the training has the column {{{columns[0]}}}, which texts to translate lack. Translate "
            f"with a checkpoint whose {CONFIG_KEY} has only {{src}}, {{tgt}}, {{eos}} and languages"
        )
    texts = dict(zip(LANGUAGE_FIELDS, directions[0] if len(directions) == 1 else languages, strict=True))
    one = np.zeros(1, dtype=np.int64)
    found = encoded_prompts(parsed, tokenizer, layout.target, {name: FieldValues([texts[name]], one) for name in texts})
    return PromptVariants(found.before, found.between)


def names_languages(layout: BatchFormat) -> bool:
    """Return whether the prompts of a format name languages, so that each direction has other prompts."""
    fields = parsed_template(layout.template or DEFAULT_TEMPLATE).fields
    return layout.is_causal and not set(LANGUAGE_FIELDS).isdisjoint(fields)


def encoded_prompts(
    template: CausalTemplate,
    tokenizer: Tokenizer,
    special: SpecialIds,
    values: Mapping[str, FieldValues],
    symbols: Sequence[str] | None = None,
) -> PromptVariants:
    """Return the token ids of a template for each different combination of the values of its fields.

    Args:
        template: the template.
        tokenizer: encodes its text.
        special: the ids of special tokens.
        values: the values of each field.
        symbols: `tokenizer.symbols`, for advice; None: the tokenizer has no such option.

    Raises:
        ConfigError: the vocabulary lacks tokens of the template, or it has no token between source and target.
    """
    encoder = _PromptEncoder(tokenizer, special)
    encoder.check_literals(template, symbols)
    bos = special.bos
    if not template.fields:
        return _checked_variants(encoder.rows(template.before, [{}]), encoder.rows(template.between, [{}]), bos)
    table = np.column_stack([values[field].of_pair for field in template.fields])
    combinations, of_pair = np.unique(table, axis=0, return_inverse=True)
    filled = [
        {field: values[field].texts[index] for field, index in zip(template.fields, each, strict=True)}
        for each in combinations.tolist()
    ]
    before, between = (encoder.rows(part, filled) for part in (template.before, template.between))
    if unknown := encoder.unknown:
        log.warning(
            "%s has values for which the vocabulary has no tokens, in %d of %d different prompts, such as %r",
            CONFIG_KEY,
            len(unknown),
            len(filled),
            unknown[0],
        )
    return _checked_variants(before, between, bos, of_pair.reshape(-1).astype(np.uint32))


def _checked_variants(
    before: Sequence[list[int]], between: Sequence[list[int]], bos: int, of_pair: NDArray[np.uint32] | None = None
) -> PromptVariants:
    """Return the variants of a prompt. Raises ConfigError if one has no token between source and target."""
    if num_empty := sum(not ids for ids in between):
        raise ConfigError(
            f"{CONFIG_KEY} has no token of the vocabulary between {{src}} and {{tgt}} in {num_empty} of {len(between)} "
            "different prompts, only white space or empty values of columns, so a model cannot know where the source "
            f"ends. Set \"{CONFIG_KEY}='{DEFAULT_TEMPLATE}'\", or add text or {{eos}} there"
        )
    return PromptVariants(TokenRows.of([[bos, *ids] for ids in before]), TokenRows.of(between), of_pair)


class _PromptEncoder:
    """Encodes the text of a template. Names of special tokens in its literal text are these tokens."""

    def __init__(self, tokenizer: Tokenizer, special: SpecialIds) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._tokens: dict[str, int] = {}
        self.unknown: list[str] = []  # encoded texts for which the vocabulary lacks tokens
        if not isinstance(self._tokenizer, TokenizerAdapter):
            added = self._tokenizer.get_added_tokens_decoder()
            self._tokens = {token.content: number for number, token in added.items() if token.special}

    def rows(self, text: TemplateText, filled: Sequence[Mapping[str, str]]) -> list[list[int]]:
        """Return the ids of a text for each of several values of its fields."""
        pieces = [text.segments(values, self._tokens, self._special.eos) for values in filled]
        texts = [segment for each in pieces for segment in each if isinstance(segment, str)]
        encoded = encode_texts(self._tokenizer, texts) if texts else []
        self.unknown += [text for text, ids in zip(texts, encoded, strict=True) if self._special.unk in ids]
        ids_of_texts = iter(encoded)
        return [
            [number for segment in each for number in ([segment] if isinstance(segment, int) else next(ids_of_texts))]
            for each in pieces
        ]

    def check_literals(self, template: CausalTemplate, symbols: Sequence[str] | None) -> None:
        """Raise ConfigError if the vocabulary lacks tokens of the literal text, apart from the values of fields."""
        literals = [literal.strip() for part in (template.before, template.between) for literal, _ in part.parts]
        for literal in filter(None, literals):
            self.rows(TemplateText(((literal, None),)), [{}])
            if self.unknown:
                raise ConfigError(
                    f"{CONFIG_KEY} has the text {literal!r}, for which the vocabulary has no tokens. "
                    + ("Choose" if symbols is None else self._symbol_advice(literal, symbols))
                    + " other text"
                )

    def _symbol_advice(self, literal: str, symbols: Sequence[str]) -> str:
        override = override_list_text("tokenizer.symbols", [*symbols, literal])
        return f"Make it a symbol of the vocabulary with {override}, or choose"


def _column_values(
    name: str, field: str, names: Sequence[str], column: Callable[[str], pa.ChunkedArray]
) -> FieldValues:
    """Return the values of a column of a split; a missing value is empty text."""
    known = [each for each in names if each not in (ROW_COLUMN, SOURCE_COLUMN, "src", "tgt")]
    if field not in names:
        raise ConfigError(
            f"{CONFIG_KEY} has the field {{{field}}}, but the {name} pairs have no such column. Choose one of "
            f"{choices(field, [*known, *LANGUAGE_FIELDS])}; downloader.columns says which columns are stored beside "
            "the texts"
        )
    values = column(field)
    check_category(CONFIG_KEY, field, values.type)
    encoded = pc.fill_null(pc.cast(values, pa.string()), "").combine_chunks().dictionary_encode()
    return FieldValues(encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64))


def _languages(name: str, recipe: Recipe, ids: StageIds, repo: RepoSession) -> list[Direction]:
    """Return the languages of each part of a split.

    Raises ConfigError if they are not known.
    """
    corpus = recipe.downloader.with_stored_parts(ids.parts)
    found = part_languages(corpus, ids.raw, repo)
    if name not in ids.filtered:
        directions = list(dict.fromkeys(found))
        if name == PREDICT_NAME and len(directions) > 1:
            raise ConfigError(
                f"{CONFIG_KEY} names languages, but datamodule.predict_from has no direction of its own. Set "
                "datamodule.directions to one direction"
            )
        found = directions[:1]
        if name != PREDICT_NAME:
            of_set = set_direction(name, dataset_languages(repo, ids.beside_raw[name]), directions)
            found = found if of_set is None else [of_set]
    if any(not set(SIDES).isdisjoint(each) for each in found):
        raise ConfigError(
            f"{CONFIG_KEY} names languages, but those of the corpus are not known. Name them with "
            "downloader.source_language and downloader.target_language"
        )
    return found
