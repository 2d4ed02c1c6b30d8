"""What both forms of gettext catalogues share, text (`.po`) and compiled (`.mo`): header, charset, and plural forms.

An entry's `msgid` is the source text, in English unless the config says otherwise, and its `msgstr` the target text. Of
plural forms, the first goes with the singular, the second with the plural, and further ones are left out. Contexts are
passed over. How a language chooses among its plural forms is an expression in the header; it is never evaluated.
"""

import codecs
import re
from collections.abc import Iterator, Sequence

from mtx.errors import SourceError
from mtx.infra.dataset.columns import Columns, Wanted
from mtx.infra.dataset.pairs import Refusals, is_text
from mtx.infra.dataset.sources.files import SourceFile
from mtx.infra.dataset.sources.languages import direction, oriented

ENGLISH = "en"
CHARSET = re.compile(rb"charset=([-\w.:]{1,40})", re.ASCII)
LANGUAGE = re.compile(rb"^Language:[ \t]*([-\w@.]{1,40})[ \t]*$", re.ASCII | re.MULTILINE)
CODE = re.compile(r"[A-Za-z]{2,3}(?:[-_@.][A-Za-z0-9]{1,16}){0,3}")  # de, de_AT, sr@latin
UNTOLD = ("charset", "utf-8")  # what templates say instead of a charset
# Those that end lines as ASCII does and carry nothing over from one line to the next. Python has others that do.
CHARSETS = re.compile(
    r"utf-8|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|gb2312|gbk|gb18030|big5|big5hkscs|euc_\w+|shift_jis|johab"
)


def charset_of(header: bytes, file: SourceFile) -> str:
    """Return the charset that a header names, UTF-8 where it names none. Raises SourceError for unknown ones."""
    found = CHARSET.search(header)
    name = found[1].decode() if found else "utf-8"
    if name.lower() in UNTOLD:
        return "utf-8"
    try:
        known = codecs.lookup(name).name
    except LookupError:
        known = ""
    if not CHARSETS.fullmatch(known):
        raise SourceError(
            f"{file.path} says that it is written in the charset {name!r}, which is not read. Turn it into UTF-8, as "
            "`msgconv --to-code=UTF-8` does"
        )
    return known


def columns_of(header: bytes, wanted: Wanted, file: SourceFile) -> Columns:
    """Return the direction: English to the language that the header names, or else the path. Raises SourceError."""
    found = LANGUAGE.search(header.replace(b"\r", b""))
    language = found[1].decode() if found else ""
    if not CODE.fullmatch(language):
        folder = file.path.parent
        names = [folder.parent.name] if folder.name == "LC_MESSAGES" else []
        language = next((name for name in [*names, file.stem] if CODE.fullmatch(name)), "")
    columns = direction(ENGLISH, language or None, wanted)
    if columns is None and wanted.source_language is not None:  # of a program that was not written in English
        columns = direction(wanted.source_language, language or None, wanted)
    return columns or oriented(ENGLISH, language or None, wanted, str(file.path))


def pairs_of_entry(
    sources: Sequence[str], targets: Sequence[str], where: str, refusals: Refusals
) -> Iterator[tuple[str, str]]:
    """Pair the texts of an entry: the singular with the first form, the plural with the second where there is one."""
    for source, target in zip(sources, targets, strict=False):  # Japanese has one form, Polish three
        if not target:
            refusals.leave_out("untranslated")
        elif not (is_text(source) and is_text(target)):
            refusals.refuse("invalid_utf8", where, "this has bytes that do not fit the charset that the header names")
        else:
            yield source, target


def turned(pairs: Iterator[tuple[str, str]], columns: Columns) -> Iterator[tuple[str, str]]:
    """Turn the pairs round where the catalogue is read from its translations to its sources."""
    return pairs if columns.source == "source" else ((target, source) for source, target in pairs)
