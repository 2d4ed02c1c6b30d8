"""Languages as translators' files name them: `en` stands for `en-US`, too, and `de-AT` for `de`."""

from mtx.errors import SourceError
from mtx.infra.dataset.columns import DEFAULT_LANGUAGES, Columns, Wanted

EXACT, CLOSE, OTHER = 2, 1, 0


def likeness(present: str, wanted: str) -> int:
    """Compare two names of languages, whatever their case and whether they are written with `-` or `_`.

    Returns `EXACT`, `CLOSE` where one is the other with a country or a script behind it, or `OTHER`.
    """
    one, other = (name.strip().lower().replace("_", "-").replace("@", "-") for name in (present, wanted))
    if one == other:
        return EXACT
    return CLOSE if one and other and (one.startswith(f"{other}-") or other.startswith(f"{one}-")) else OTHER


def oriented(source: str | None, target: str | None, wanted: Wanted, where: str) -> Columns:
    """Return what `direction` does. Raises SourceError where the wanted languages are others."""
    columns = direction(source, target, wanted)
    if columns is None:
        raise SourceError(
            f"{where}: its languages are {source or 'unknown'} and {target or 'unknown'}, but "
            f"{wanted.source_language or 'any'} and {wanted.target_language or 'any'} are wanted. Choose those of the "
            "file with downloader.source_language=NAME downloader.target_language=NAME, or name other files with "
            "downloader.path=PATH"
        )
    return columns


def direction(source: str | None, target: str | None, wanted: Wanted) -> Columns | None:
    """Find the direction in a file that holds one pair of languages: the columns `source` and `target`, or the reverse.

    `source` and `target` are what the file calls its languages; None: it does not say. None is returned where the
    wanted ones are others.
    """
    said = wanted.source_language, wanted.target_language
    for columns, present in ((("source", "target"), (source, target)), (("target", "source"), (target, source))):
        if all(a is None or b is None or likeness(a, b) for a, b in zip(present, said, strict=True)):
            languages = [a or b or c for a, b, c in zip(said, present, DEFAULT_LANGUAGES, strict=True)]
            return Columns(*columns, (languages[0], languages[1]))
    return None
