"""Which columns of a source hold the two texts, and in which languages they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import pyarrow as pa

from mtx.errors import SourceError, choices

PARENT = "translation"  # the column of objects, such as {"en": …, "de": …}, that Hugging Face datasets have
KNOWN = (("src", "tgt"), ("source", "target"))
DEFAULT_LANGUAGES = ("src", "tgt")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user says about columns and languages; None: found out.

    Attributes:
        source_column: the column with the source text.
        target_column: the column with the target text.
        source_language: as the source calls it.
        target_language: as the source calls it.
        pair: name of the language pair, such as `de-en`, in the source's order; a hint.
    """

    source_column: str | None = None
    target_column: str | None = None
    source_language: str | None = None
    target_language: str | None = None
    pair: str | None = None


@dataclass(frozen=True)
class Columns:
    """Where the two texts are.

    Attributes:
        source: the column, or the key within `parent`.
        target: the column, or the key within `parent`.
        languages: source and target language.
        parent: the column of objects that holds both; None: they are columns themselves.
    """

    source: str
    target: str
    languages: tuple[str, str]
    parent: str | None = None


def find_columns(present: Mapping[str, Sequence[str]], wanted: Wanted, where: str) -> Columns:
    """Find the two texts among the columns `present`: name → keys of its objects, empty where it has none.

    In this order: the columns that `wanted` names; columns named by the two languages; `src` and `tgt`; `source` and
    `target`; the objects of `translation`. `where` opens the messages. Raises SourceError.
    """
    if wanted.source_column is not None or wanted.target_column is not None:
        return _named(present, wanted, where)
    languages = _plain_languages(wanted)
    for source, target in (languages, *KNOWN):
        if source in present and target in present:
            return Columns(source, target, languages)
    if present.get(PARENT):
        source, target = _keys(present[PARENT], wanted, where)
        return Columns(source, target, (source, target), PARENT)
    raise SourceError(
        f"{where}: no two columns of text were found; present: {_listed(present)}. Looked for src and tgt, source and "
        f"target, columns named by the languages, and objects in {PARENT!r}. Name them with "
        "downloader.source_column=NAME downloader.target_column=NAME"
    )


def schema_keys(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of the columns, each with the keys of its objects that hold texts."""
    return {
        field.name: [inner.name for inner in field.type if is_text_type(inner.type)]
        if pa.types.is_struct(field.type)
        else []
        for field in schema
    }


def pair_columns(batch: pa.RecordBatch, columns: Columns) -> tuple[pa.Array, pa.Array]:
    """Return the source and the target texts of a batch; null where their object is null."""
    if columns.parent is None:
        return batch.column(columns.source), batch.column(columns.target)
    parent = batch.column(columns.parent)
    fields = dict(zip((field.name for field in parent.type), parent.flatten(), strict=True))
    return fields[columns.source], fields[columns.target]


def is_text_type(kind: pa.DataType) -> bool:
    """Tell whether a column of that type holds texts; one of nulls alone may."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in tests)


def _named(present: Mapping[str, Sequence[str]], wanted: Wanted, where: str) -> Columns:
    for side, name in (("source", wanted.source_column), ("target", wanted.target_column)):
        if name is None or name not in present:
            said = f"downloader.{side}_column is missing" if name is None else f"there is no column {name!r}"
            raise SourceError(
                f"{where}: {said}; present: {choices(name or '', present)}. "
                f"Name one of those with downloader.{side}_column=NAME"
            )
    assert wanted.source_column is not None
    assert wanted.target_column is not None
    if wanted.source_column == wanted.target_column:
        raise SourceError(
            f"{where}: downloader.source_column and downloader.target_column are two columns, but both are "
            f"{wanted.source_column!r}; present: {_listed(present)}"
        )
    return Columns(wanted.source_column, wanted.target_column, _plain_languages(wanted))


def _keys(keys: Sequence[str], wanted: Wanted, where: str) -> tuple[str, str]:
    """Return the keys of the source and the target language among those of `translation`."""
    for side, language in (("source", wanted.source_language), ("target", wanted.target_language)):
        if language is not None and language not in keys:
            raise SourceError(
                f"{where}: {PARENT!r} has no language {language!r}; present: {choices(language, keys)}. "
                f"Name one of those with downloader.{side}_language=NAME"
            )
    said = (wanted.source_language, wanted.target_language)
    fits = [pair for pair in permutations(keys, 2) if all(a in (None, b) for a, b in zip(said, pair, strict=True))]
    hinted = [pair for pair in fits if wanted.pair is not None and wanted.pair in ("-".join(pair), "_".join(pair))]
    if hinted:
        return hinted[0]
    if not fits or (len(keys) > 2 and len(fits) > 1):
        raise SourceError(
            f"{where}: two languages are needed, but {PARENT!r} has {_listed(keys)}. "
            "Choose two with downloader.source_language=NAME downloader.target_language=NAME"
        )
    return fits[0]


def _plain_languages(wanted: Wanted) -> tuple[str, str]:
    """Return the languages where no column tells them: as given, else those of the pair's name."""
    parts = (wanted.pair or "").split("-")
    source, target = parts if len(parts) == 2 and all(parts) else DEFAULT_LANGUAGES
    if source == wanted.target_language or target == wanted.source_language:
        source, target = target, source
    return wanted.source_language or source, wanted.target_language or target


def _listed(names: Mapping[str, Sequence[str]] | Sequence[str]) -> str:
    return ", ".join(names) or "none"
