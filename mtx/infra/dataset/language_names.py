"""Recognise and compare names of languages: tags such as `en`, `eng` and `en-US`, and English names such as `German`.

Babel parses the tags and knows the languages of the Unicode CLDR.
"""

import re
from contextlib import suppress
from functools import cache

from babel.core import Locale, get_global, parse_locale

EXACT, CLOSE, OTHER = 2, 1, 0
TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}(?:@[A-Za-z0-9]{1,16})?")  # de, de_AT, sr@latin
SIDES = ("src", "tgt")  # names of columns and files, although src is also a code of Sardinian
AMBIGUOUS = ("id",)  # Indonesian, but as a name of a column nearly always an identifier


def likeness(present: str, wanted: str) -> int:
    """Compare two language names, ignoring case and the difference between `-` and `_`, and between `en` and `eng`.

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

    A name that is not a valid tag counts as a language with this name. Former and three-letter codes become the usual
    code: `iw` becomes `he`, and `deu` becomes `de`.
    """
    tag = name.strip().replace("-", "_")
    parts: tuple[str | None, ...] = (tag.lower(),)
    with suppress(ValueError):
        parts = parse_locale(tag)
    language = str(get_global("language_aliases").get(str(parts[0]), parts[0]))
    return (language, *(part or "" for part in (*parts[1:], *(None,) * (5 - len(parts)))))


def is_language_tag(name: str) -> bool:
    """Return whether a name starts with a language code that the Unicode CLDR knows.

    Examples: `de`, `sr@latin` and `pt-BR` do; `app` does not.
    """
    return parts_of_tag(name)[0] in _english_names()


def language_of_name(name: str) -> str | None:
    """Return the language that the name of a column or file means: a tag as it is, the tag of an English name, or None.

    Examples: `en` and `pt_BR` stay, `German` becomes `de`, and `text`, `en_score` and `en.text` are no languages.
    """
    name = name.strip()
    if name.casefold() in SIDES:
        return None
    if TAG.fullmatch(name):
        language, territory, script, variant, _ = parts_of_tag(name)
        known = Locale("en")
        is_known = (not territory or territory in known.territories) and (not script or script in known.scripts)
        return name if language in _english_names() and is_known and not variant else None
    return _codes().get(name.casefold())


def is_certain(name: str) -> bool:
    """Return whether a name that means a language hardly ever means another thing in a table.

    Two-letter codes and English names are certain. `id` and three-letter codes such as `min` and `new` are not.
    """
    bare = re.split("[-_@]", name.strip())[0].lower()
    return len(bare) != 3 and bare not in AMBIGUOUS


@cache
def _english_names() -> dict[str, str]:
    return dict(Locale("en").languages)


@cache
def _codes() -> dict[str, str]:
    return {english.casefold(): code for code, english in reversed(_english_names().items())}
