"""Compare names of languages in translation files: `en` also matches `en-US`, and `de-AT` also matches `de`."""

from contextlib import suppress

from babel.core import Locale, parse_locale

from mtx.errors import SourceError
from mtx.infra.dataset.column_detection import DEFAULT_LANGUAGES, Columns, RequestedColumns

EXACT, CLOSE, OTHER = 2, 1, 0


def likeness(present: str, wanted: str) -> int:
    """Compare two language names, ignoring case and the difference between `-` and `_`.

    Returns `EXACT` for equal names. Returns `CLOSE` if one name has a script, territory or variant that the other
    leaves open. Otherwise returns `OTHER`.
    """
    one, other = parts_of_tag(present), parts_of_tag(wanted)
    if one == other:
        return EXACT
    is_open = all(a == b or not a or not b for a, b in zip(one[1:], other[1:], strict=True))
    return CLOSE if one[0] and one[0] == other[0] and is_open else OTHER


def parts_of_tag(name: str) -> tuple[str, ...]:
    """Return language, territory, script, variant and modifier of a tag, parsed by Babel. Missing parts are empty.

    A name that is not a valid tag counts as a language with this name.
    """
    tag = name.strip().replace("-", "_")
    parts: tuple[str | None, ...] = (tag.lower(),)
    with suppress(ValueError):
        parts = parse_locale(tag)
    return tuple(part or "" for part in (*parts, *(None,) * (5 - len(parts))))


def is_language_tag(name: str) -> bool:
    """Return whether a name starts with a language code that the Unicode CLDR knows.

    Examples: `de`, `sr@latin` and `pt-BR` do; `app` does not.
    """
    return parts_of_tag(name)[0] in Locale("en").languages


def checked_direction(source: str | None, target: str | None, wanted: RequestedColumns, where: str) -> Columns:
    """Return the result of `direction`. Raises SourceError if the file's languages differ from the requested ones."""
    columns = direction(source, target, wanted)
    if columns is None:
        raise SourceError(
            f"{where}: the languages of the file are {source or 'unknown'} and {target or 'unknown'}, but requested "
            f"are {wanted.source_language or 'any'} and {wanted.target_language or 'any'}. Set the file's languages "
            "with downloader.source_language=NAME downloader.target_language=NAME, or set other files with "
            "downloader.path=PATH"
        )
    return columns


def direction(source: str | None, target: str | None, wanted: RequestedColumns) -> Columns | None:
    """Return the columns of the source and target text in a file with one language pair, in the requested direction.

    Args:
        source: the file's source language; None: the file does not state it.
        target: the file's target language; None: the file does not state it.
        wanted: the requested languages.

    Returns:
        The columns `source` and `target`, possibly swapped; None if the requested languages are others.
    """
    said = wanted.source_language, wanted.target_language
    for columns, present in ((("source", "target"), (source, target)), (("target", "source"), (target, source))):
        if all(a is None or b is None or likeness(a, b) for a, b in zip(present, said, strict=True)):
            languages = [a or b or c for a, b, c in zip(said, present, DEFAULT_LANGUAGES, strict=True)]
            return Columns(*columns, (languages[0], languages[1]))
    return None
