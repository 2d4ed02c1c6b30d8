"""The common parts of text (`.po`) and compiled (`.mo`) gettext catalogues: header, charset and plural forms.

An entry's `msgid` is the source text, which is English unless the config sets another language. The `msgstr` is the
target text. Contexts (`msgctxt`) are ignored. If an entry has plural forms, the singular is paired with the form for 1,
and the plural with the form that most numbers use. Other forms are left out. The header contains the rule for plural
forms; the standard library's `gettext.c2py` reads the rule without evaluating code. If the header has no rule, Babel's
rule for the language is used.
"""

import codecs
import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from gettext import c2py
from typing import NamedTuple

from babel.core import UnknownLocaleError
from babel.messages.plurals import get_plural

from mtx.errors import SourceError
from mtx.infra.dataset.column_detection import Columns, RequestedColumns
from mtx.infra.dataset.pair_stream import Refusals, is_text
from mtx.infra.dataset.sources.language_tags import checked_direction, direction, is_language_tag
from mtx.infra.dataset.sources.local_files import SourceFile

ENGLISH = "en"
CHARSET = re.compile(rb"charset=([-\w.:]{1,40})", re.ASCII)
LANGUAGE = re.compile(rb"^Language:[ \t]*([-\w@.]{1,40})[ \t]*$", re.ASCII | re.MULTILINE)
TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,3}(?:@[A-Za-z0-9]{1,16})?")  # de, de_AT, sr@latin
PLURAL_FORMS = re.compile(rb"^Plural-Forms:[^\n]*?plural[ \t]*=[ \t]*([^;\n]{1,1000})", re.ASCII | re.MULTILINE)
PLURAL_NUMBERS = range(2, 200)  # the form that most of these numbers use is the plural form
PLACEHOLDER_CHARSETS = ("charset", "utf-8")  # placeholders for the charset in templates, and UTF-8 itself
# Charsets that have the line ends of ASCII and no state across lines. Python supports other charsets without this
# property.
SUPPORTED_CHARSETS = re.compile(
    r"utf-8|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|gb2312|gbk|gb18030|big5|big5hkscs|euc_\w+|shift_jis|johab"
)


def charset_of(header: bytes, file: SourceFile) -> str:
    """Return the charset that a header names, or UTF-8 if it names none.

    Raises SourceError for an unsupported charset.
    """
    found = CHARSET.search(header)
    name = found[1].decode() if found else "utf-8"
    if name.lower() in PLACEHOLDER_CHARSETS:
        return "utf-8"
    try:
        known = codecs.lookup(name).name
    except LookupError:
        known = ""
    if not SUPPORTED_CHARSETS.fullmatch(known):
        raise SourceError(
            f"{file.path} names the charset {name!r}, which mtx does not support. Convert the file to UTF-8, for "
            "example with `msgconv --to-code=UTF-8`"
        )
    return known


class PluralForms(NamedTuple):
    """The indices of the plural forms, from 0, that are paired with the singular and with the plural."""

    singular: int = 0
    plural: int = 1


def plural_forms_of(header: bytes, language: str) -> PluralForms:
    """Return the forms for 1 and for most larger numbers, by the rule in the header or by the language's rule."""
    found = PLURAL_FORMS.search(header.replace(b"\r", b""))
    rules = [found[1].decode("latin-1").strip()] if found else []
    with contextlib.suppress(UnknownLocaleError, ValueError):
        rules.append(get_plural(language.replace("-", "_"))[1])
    for rule in rules:
        try:
            form_of = c2py(rule)
            most = Counter(form_of(number) for number in PLURAL_NUMBERS).most_common(1)[0][0]
            return PluralForms(form_of(1), most)
        except (ValueError, ArithmeticError, RecursionError):  # an invalid rule: try the next rule
            continue
    return PluralForms()


def language_of(header: bytes, file: SourceFile) -> str:
    """Return the language in the header, or in the file's or the folder's name; empty if it is unknown."""
    found = LANGUAGE.search(header.replace(b"\r", b""))
    if found and TAG.fullmatch(found[1].decode()):
        return found[1].decode()
    folder = file.path.parent
    words = re.split(r"[-_.]", file.stem)
    endings = (file.stem[-len(separated) :] for k in range(len(words)) if (separated := "_".join(words[k:])))
    names = [folder.parent.name] if folder.name == "LC_MESSAGES" else [*endings, folder.name]
    return next((name for name in names if TAG.fullmatch(name) and is_language_tag(name)), "")


def columns_of(header: bytes, wanted: RequestedColumns, file: SourceFile) -> Columns:
    """Return the columns for the direction from English to the catalogue's language. Raises SourceError.

    If the config requests another source language, that language replaces English.
    """
    language = language_of(header, file)
    columns = direction(ENGLISH, language or None, wanted)
    if columns is None and wanted.source_language is not None:  # the program's texts are not in English
        columns = direction(wanted.source_language, language or None, wanted)
    return columns or checked_direction(ENGLISH, language or None, wanted, str(file.path))


def pairs_of_entry(
    sources: Sequence[str], targets: Sequence[str], forms: PluralForms, where: str, refusals: Refusals
) -> Iterator[tuple[str, str]]:
    """Yield the pairs of an entry: the text with its translation, or singular and plural each with its form."""
    if len(sources) == 2 and len(targets) > 1:  # a language such as Japanese has only one form
        last = len(targets) - 1
        targets = [targets[min(forms.singular, last)], targets[min(forms.plural, last)]]
    for source, target in zip(sources, targets, strict=False):
        if not target:
            refusals.leave_out("untranslated")
        elif not (is_text(source) and is_text(target)):
            refusals.refuse("invalid_utf8", where, "the entry has bytes that are not valid in the header's charset")
        else:
            yield source, target


def oriented_pairs(pairs: Iterator[tuple[str, str]], columns: Columns) -> Iterator[tuple[str, str]]:
    """Swap the two texts of each pair if the config requests the direction from translations to source texts."""
    return pairs if columns.source == "source" else ((target, source) for source, target in pairs)
