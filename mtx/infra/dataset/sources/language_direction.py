"""The direction of a file with one language pair: which text is the source, for the languages that a user requests."""

from collections.abc import Sequence

from mtx.errors import SourceError
from mtx.infra.dataset.column_detection import DEFAULT_LANGUAGES, Columns, RequestedColumns
from mtx.infra.dataset.language_names import likeness


def checked_direction(source: str | None, target: str | None, wanted: RequestedColumns, where: str) -> Columns:
    """Return the result of `direction`. Raises SourceError if the file's languages differ from the requested ones."""
    columns = direction(source, target, wanted)
    if columns is None:
        raise other_languages_error([(source, target)], wanted, where)
    return columns


def other_languages_error(
    present: Sequence[tuple[str | None, str | None]], wanted: RequestedColumns, where: str
) -> SourceError:
    """Return the error for a file whose pairs of languages, `present`, are not the requested pair."""
    pairs = dict.fromkeys(f"{source or 'unknown'} and {target or 'unknown'}" for source, target in present)
    return SourceError(
        f"{where}: the languages of the file are {', or '.join(pairs)}, but requested are "
        f"{wanted.source_language or 'any'} and {wanted.target_language or 'any'}. Set the file's languages with "
        "downloader.source_language=NAME downloader.target_language=NAME, or set other files with downloader.path=PATH"
    )


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
