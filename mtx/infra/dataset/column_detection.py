"""Find the two columns of a source that contain the source and the target text, and find their languages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import pyarrow as pa

from mtx.assumption_log import assume
from mtx.errors import SourceError, choices, override_text
from mtx.infra.dataset.extra_columns import NO_COLUMNS, ExtraColumns, is_wanted, kept_columns
from mtx.infra.dataset.language_names import is_certain, language_of_name, likeness

PARENT_COLUMN = "translation"  # Hugging Face datasets use this column of objects such as {"en": …, "de": …}
KNOWN_COLUMNS = (("src", "tgt"), ("source", "target"))
DEFAULT_LANGUAGES = ("src", "tgt")


@dataclass(frozen=True, kw_only=True)
class RequestedColumns:
    """The columns and languages that the user's config requests. None means that mtx detects the value.

    Attributes:
        source_column: name of the column with the source text.
        target_column: name of the column with the target text.
        source_language: name of the source language, as the data call it.
        target_language: name of the target language, as the data call it.
        pair: name of the language pair, such as `de-en`, in the data's order. It decides only if nothing else does.
        extra: the other columns to keep in addition to the two texts.
    """

    source_column: str | None = None
    target_column: str | None = None
    source_language: str | None = None
    target_language: str | None = None
    pair: str | None = None
    extra: ExtraColumns = "none"


@dataclass(frozen=True)
class Columns:
    """The columns in which the two texts of a pair are stored.

    Attributes:
        source: column of the source text, or its key in the objects of `parent`.
        target: column of the target text, or its key in the objects of `parent`.
        languages: names of the source and the target language.
        parent: column of objects that contain both texts; None: each text has its own column.
        extra: the other columns to keep, with the types in which they are stored.
    """

    source: str
    target: str
    languages: tuple[str, str]
    parent: str | None = None
    extra: pa.Schema = NO_COLUMNS

    @property
    def schema(self) -> pa.Schema:
        """The schema of the pairs that a source yields: `src`, `tgt`, and the extra columns."""
        return pa.schema([("src", pa.large_string()), ("tgt", pa.large_string()), *self.extra])

    def with_extra(self, present: pa.Schema, wanted: RequestedColumns, where: str) -> "Columns":
        """Return a copy in which `extra` has the requested columns of the source.

        Args:
            present: all columns of the source, with their types.
            wanted: the user's request.
            where: name of the file or dataset, which starts each error message.

        Raises SourceError if a requested column is missing or has a type that cannot be stored.
        """
        texts = (self.source, self.target) if self.parent is None else (self.parent,)
        beside = pa.schema([field for field in present if field.name not in texts])
        return replace(self, extra=kept_columns(beside, wanted.extra, where))


def find_columns(present: Mapping[str, Sequence[str]], wanted: RequestedColumns, where: str) -> Columns:
    """Find the two text columns of a source.

    The first rule that applies decides. The rules are the columns that `wanted` names, then two columns named like the
    two languages, then `src` and `tgt`. `source` and `target` follow, and then two keys of the objects in
    `translation`. Last are the only two columns whose names are languages, such as `en` and `French`, in the source's
    order.

    Args:
        present: for each column, the keys of its objects; an empty sequence if the column contains no objects.
        wanted: the user's request.
        where: name of the file or dataset, which starts each error message.

    Raises SourceError if no rule applies, or if a requested column or language is missing.
    """
    if wanted.source_column is not None or wanted.target_column is not None:
        return _requested_columns(present, wanted, where)
    languages = _plain_languages(wanted)
    for source, target in (languages, *KNOWN_COLUMNS):
        if source in present and target in present:
            return Columns(source, target, languages)
    if present.get(PARENT_COLUMN):
        source, target = _language_keys(present[PARENT_COLUMN], wanted, where)
        return Columns(source, target, (source, target), PARENT_COLUMN)
    if (found := _columns_named_by_language(present, wanted, where)) is not None:
        return found
    raise SourceError(
        f"{where}: no two text columns were found; present: {_names_text(present)}. mtx looks for src and tgt, source "
        f"and target, columns with the names of the languages, and objects in {PARENT_COLUMN!r}. Set the columns with "
        f"{_column_overrides(present)}"
    )


def check_unique(names: Sequence[str], columns: Columns, wanted: RequestedColumns, where: str) -> None:
    """Raise SourceError if a column that is read has the same name as another column of the table.

    Args:
        names: names of all columns in the table, in order.
        columns: the columns of the two texts.
        wanted: the user's request, which names the extra columns.
        where: name of the file, which starts the error message.
    """
    texts = (columns.source, columns.target) if columns.parent is None else (columns.parent,)
    for name in (*texts, *(name for name in names if is_wanted(wanted.extra, name))):
        if names.count(name) > 1:
            raise SourceError(
                f"{where}: {names.count(name)} columns are called {name!r}, so it is unknown which one is meant. Give "
                "each column its own name in the file"
            )


def are_column_names(fields: Sequence[str]) -> bool:
    """Return whether the first two fields of a table's first line are probably names of columns, not texts.

    That is so for names that mtx looks for and for different languages, in capitals or not.
    """
    names = [name.strip().casefold() for name in fields[:2]]
    known = {name for pair in KNOWN_COLUMNS for name in pair}
    return len(set(names)) == 2 and all(name in known or language_of_name(name) is not None for name in names)


def schema_keys(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of the columns. Each name maps to those keys of the column's objects that contain text."""
    return {
        field.name: [inner.name for inner in field.type if is_text_type(inner.type)]
        if pa.types.is_struct(field.type)
        else []
        for field in schema
    }


def pair_columns(batch: pa.RecordBatch, columns: Columns) -> tuple[pa.Array, pa.Array]:
    """Return the source texts and the target texts of a batch. A text is null if its object in `parent` is null."""
    if columns.parent is None:
        return batch.column(columns.source), batch.column(columns.target)
    parent = batch.column(columns.parent)
    fields = dict(zip((field.name for field in parent.type), parent.flatten(), strict=True))
    return fields[columns.source], fields[columns.target]


def is_text_type(kind: pa.DataType) -> bool:
    """Return whether a column of the type `kind` can contain text. A column of only nulls counts as text."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in tests)


def _requested_columns(present: Mapping[str, Sequence[str]], wanted: RequestedColumns, where: str) -> Columns:
    for side, name in (("source", wanted.source_column), ("target", wanted.target_column)):
        if name is None or name not in present:
            said = f"downloader.{side}_column is not set" if name is None else f"there is no column {name!r}"
            raise SourceError(
                f"{where}: {said}; present: {choices(name or '', present)}. "
                f"Choose one of these columns with downloader.{side}_column=NAME"
            )
    assert wanted.source_column is not None
    assert wanted.target_column is not None
    if wanted.source_column == wanted.target_column:
        raise SourceError(
            f"{where}: downloader.source_column and downloader.target_column must differ, but both are "
            f"{wanted.source_column!r}; present: {_names_text(present)}. Change one of the two"
        )
    return Columns(wanted.source_column, wanted.target_column, _plain_languages(wanted))


def _language_keys(keys: Sequence[str], wanted: RequestedColumns, where: str) -> tuple[str, str]:
    """Return the keys of the source and the target language among the keys of the objects in `translation`."""
    for side, language in (("source", wanted.source_language), ("target", wanted.target_language)):
        if language is not None and language not in keys:
            raise SourceError(
                f"{where}: {PARENT_COLUMN!r} has no language {language!r}; present: {choices(language, keys)}. "
                f"Choose one of these languages with downloader.{side}_language=NAME"
            )
    if len(set(keys)) < len(keys):
        raise SourceError(
            f"{where}: {PARENT_COLUMN!r} has a language more than once: {_names_text(keys)}. Give each its own name"
        )
    said = (wanted.source_language, wanted.target_language)
    fits = [pair for pair in permutations(keys, 2) if all(a in (None, b) for a, b in zip(said, pair, strict=True))]
    hinted = [pair for pair in fits if wanted.pair is not None and wanted.pair in ("-".join(pair), "_".join(pair))]
    if hinted:
        return hinted[0]
    if not fits or (len(keys) > 2 and len(fits) > 1):
        raise SourceError(
            f"{where}: exactly two languages are needed, but {PARENT_COLUMN!r} has {_names_text(keys)}. "
            "Choose two with downloader.source_language=NAME downloader.target_language=NAME"
        )
    if len(fits) > 1:
        source, target = fits[0]
        assume(
            f"{where}: {source!r} is the source and {target!r} the target, in the order of {PARENT_COLUMN!r}. For the "
            f"other direction, set {override_text('downloader.source_language', target)}"
        )
    return fits[0]


def _columns_named_by_language(
    present: Mapping[str, Sequence[str]], wanted: RequestedColumns, where: str
) -> Columns | None:
    """Return the two columns whose names are languages; None if there are fewer. Raises SourceError for more."""
    tags = {name: tag for name, keys in present.items() if not keys and (tag := language_of_name(name))}
    certain = {name: tag for name, tag in tags.items() if is_certain(name)}
    if len(certain) >= 2:
        tags = certain
    elif len(tags) != len(present):
        return None
    said = (wanted.source_language, wanted.target_language)
    fits = [
        pair
        for pair in permutations(tags, 2)
        if all(language is None or likeness(tags[name], language) for name, language in zip(pair, said, strict=True))
    ]
    if len(tags) < 2 or not fits:
        return None
    if len(tags) > 2 and len(fits) > 1:
        pairs = " or ".join(
            f"{override_text('downloader.source_column', source)} {override_text('downloader.target_column', target)}"
            for source, target in list(combinations(tags, 2))[:3]
        )
        raise SourceError(
            f"{where}: exactly two columns of text are needed, but {len(tags)} are named by languages: "
            f"{_names_text(list(tags))}. Choose two, for example with {pairs}"
        )
    source, target = fits[0]
    if said == (None, None):
        assume(
            f"{where}: the columns {source!r} and {target!r} are source and target, in the order of the columns. For "
            f"the other direction, set {override_text('downloader.source_column', target)} "
            f"{override_text('downloader.target_column', source)}"
        )
    return Columns(source, target, (said[0] or tags[source], said[1] or tags[target]))


def _column_overrides(present: Mapping[str, Sequence[str]]) -> str:
    """Return the overrides that set the two columns: those of a table with two columns, or else placeholders."""
    names = list(present) if len(present) == 2 and not any(present.values()) else ["NAME", "NAME"]
    sides = zip(("source", "target"), names, strict=True)
    return " ".join(override_text(f"downloader.{side}_column", name) for side, name in sides)


def _plain_languages(wanted: RequestedColumns) -> tuple[str, str]:
    """Return the languages if no column names them: the requested languages, or those in the name of the pair."""
    parts = (wanted.pair or "").split("-")
    source, target = parts if len(parts) == 2 and all(parts) else DEFAULT_LANGUAGES
    if source == wanted.target_language or target == wanted.source_language:
        source, target = target, source
    return wanted.source_language or source, wanted.target_language or target


def _names_text(names: Mapping[str, Sequence[str]] | Sequence[str]) -> str:
    return ", ".join(names) or "none"
