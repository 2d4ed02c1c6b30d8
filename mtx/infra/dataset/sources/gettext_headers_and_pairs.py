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
from babel.messages.plurals import PLURALS, get_plural

from mtx.assumption_log import assume
from mtx.errors import SourceError
from mtx.infra.dataset.column_detection import Columns, RequestedColumns
from mtx.infra.dataset.language_names import TAG, is_language_tag, parts_of_tag
from mtx.infra.dataset.pair_stream import Refusals, is_text
from mtx.infra.dataset.sources.language_direction import checked_direction, direction
from mtx.infra.dataset.sources.local_files import SourceFile

ENGLISH = "en"
CHARSET = re.compile(rb"charset=([-\w.:]{1,40})", re.ASCII)
LANGUAGE = re.compile(rb"^Language:[ \t]*([-\w@.]{1,40})[ \t]*$", re.ASCII | re.MULTILINE)
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
            f"{file.name} names the charset {name!r}, which mtx does not support. Convert the file to UTF-8, for "
            "example with `msgconv --to-code=UTF-8`"
        )
    return known


class PluralForms(NamedTuple):
    """The plural forms, by index from 0, that a rule pairs with the singular and with the plural.

    Attributes:
        singular: the form for 1.
        plural: the form for most larger numbers.
        num_forms: number of forms that the rule knows.
        of_language: whether the rule is the language's own, and not one that a header states.
    """

    singular: int
    plural: int
    num_forms: int
    of_language: bool


def plural_forms_of(header: bytes, language: str) -> list[PluralForms]:
    """Return the forms by the rule in the header and by the language's rule, as far as these exist and are valid."""
    found = PLURAL_FORMS.search(header.replace(b"\r", b""))
    rules = [(found[1].decode("latin-1").strip(), False)] if found else []
    if parts_of_tag(language)[0] in PLURALS:  # for other languages, Babel gives the rule of English
        with contextlib.suppress(UnknownLocaleError, ValueError):
            rules.append((get_plural(language.replace("-", "_"))[1], True))
    forms = []
    for rule, of_language in rules:
        with contextlib.suppress(ValueError, ArithmeticError, RecursionError):  # an invalid rule
            form_of = c2py(rule)
            counts = Counter(form_of(number) for number in PLURAL_NUMBERS)
            num_forms = max(form_of(0), form_of(1), *counts) + 1
            forms.append(PluralForms(form_of(1), counts.most_common(1)[0][0], num_forms, of_language))
    return forms


def forms_of_entry(targets: Sequence[str], rules: Sequence[PluralForms]) -> list[str]:
    """Return the forms of an entry that belong to the singular and to the plural.

    The first rule that knows as many forms as the entry has decides, or else the language's rule. Without such a rule,
    the plural gets the last form, because with three forms or more, form 1 is for two or for few.
    """
    last = len(targets) - 1
    fits = [rule for rule in rules if rule.num_forms > last] + [rule for rule in rules if rule.of_language]
    singular, plural = (fits[0].singular, fits[0].plural) if fits else (0, last)
    return [targets[min(singular, last)], targets[min(plural, last)]]


def language_of(header: bytes, file: SourceFile) -> str:
    """Return the language in the header, or in the file's or the folder's name; empty if it is unknown."""
    if stated := header_language(header):
        return stated
    folder = file.path.parent
    words = re.split(r"[-_.]", file.stem)
    endings = (file.stem[-len(separated) :] for k in range(len(words)) if (separated := "_".join(words[k:])))
    names = [folder.parent.name] if folder.name == "LC_MESSAGES" else [*endings, folder.name]
    return next((name for name in names if TAG.fullmatch(name) and is_language_tag(name)), "")


def header_language(header: bytes) -> str:
    """Return the language that a header states; empty if it states none, or no valid tag."""
    found = LANGUAGE.search(header.replace(b"\r", b""))
    return found[1].decode() if found and TAG.fullmatch(found[1].decode()) else ""


def forms_of(header: bytes, file: SourceFile, columns: Columns) -> list[PluralForms]:
    """Return the rules of plural forms by the header and by the file's language, or by the config's language."""
    catalogue = columns.languages[columns.source == "source"]
    return plural_forms_of(header, language_of(header, file) or catalogue)


def columns_of(header: bytes, wanted: RequestedColumns, file: SourceFile) -> Columns:
    """Return the columns for the direction from English to the catalogue's language. Raises SourceError.

    If the config requests another source language, that language replaces English.
    """
    language = language_of(header, file)
    columns = direction(ENGLISH, language or None, wanted)
    if columns is None and wanted.source_language is not None:  # the program's texts are not in English
        columns = direction(wanted.source_language, language or None, wanted)
    columns = columns or checked_direction(ENGLISH, language or None, wanted, file.name)
    if not language and wanted.target_language is None:
        raise SourceError(
            f"{file.name} states no language: neither its header (Language: de) nor its name or folder does. Set the "
            "language of its translations with downloader.target_language=NAME"
        )
    if wanted.source_language is None:
        assume(
            f"the texts that gettext catalogues translate are in {ENGLISH!r}, because catalogues do not state it. For "
            "another language, set downloader.source_language=NAME"
        )
    if language and not header_language(header) and wanted.target_language is None:
        assume(
            f"{file.name} is in {language!r}, by its name or folder, because its header states no language. For "
            "another language, set downloader.target_language=NAME"
        )
    return columns


def pairs_of_entry(
    sources: Sequence[str], targets: Sequence[str], rules: Sequence[PluralForms], where: str, refusals: Refusals
) -> Iterator[tuple[str, str]]:
    """Yield the pairs of an entry: the text with its translation, or singular and plural each with its form."""
    if len(sources) == 2 and len(targets) > 1:  # a language such as Japanese has only one form
        targets = forms_of_entry(targets, rules)
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
