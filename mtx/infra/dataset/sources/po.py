"""Read gettext catalogues in text form, `.po`, line by line.

`gettext_headers_and_pairs.py` documents how entries become pairs.
Entries that are `fuzzy`, `obsolete` (`#~`) or `untranslated` are counted and left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from mtx.errors import SourceError
from mtx.infra.dataset.column_detection import Columns, RequestedColumns
from mtx.infra.dataset.pair_stream import Refusals, batches_of_rows
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.gettext_headers_and_pairs import (
    PluralForms,
    charset_of,
    columns_of,
    forms_of,
    oriented_pairs,
    pairs_of_entry,
)
from mtx.infra.dataset.sources.local_files import SourceFile, line_blocks, lines_of

UNIT_NAME = "entry"
MAX_ENTRY_CHARS = 16 << 20  # maximum total length of the texts of one entry, which must fit into memory
EXCERPT_CHARS = 60  # number of characters of an invalid line in an error message

NAMES = r"msgctxt|msgid_plural|msgid|msgstr(?:\[\d{1,3}\])?"
LINE = re.compile(rf'[ \t]*+(?:({NAMES})[ \t]*+)?"((?:[^"\\]++|\\.)*+)"[ \t\r\f\v]*+', re.DOTALL)
KEYWORD = re.compile(rf'({NAMES})[ \t]*+"')  # matches a line whose rest is not valid
NO_LINE: dict[int, None] = {1: None}
ENTRY_STARTS = ("msgctxt", "msgid")
SPACE = " \t\r\f\v"
ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"} | {c: c for c in "\\\"'?"}
FLAGS = ("#,", "#=")
OBSOLETE = re.compile(r"#~[ \t]*msgid[ \t]*\"")
FUZZY = re.compile(r"(?<![-\w])fuzzy(?![-\w])")


@dataclass(slots=True)
class _Entry:
    """The parts of an entry that were read so far.

    Attributes:
        line: number of the entry's first line with a text.
        texts: parts of the texts, by keyword.
        fuzzy: whether the entry is marked as needing review.
        bad: number of the first line that is not valid in an entry, and a description of the line.
        num_chars: total length of the texts.
    """

    line: int = 0
    texts: dict[str, list[str]] = field(default_factory=dict)
    fuzzy: bool = False
    bad: tuple[int, str] | None = None
    num_chars: int = 0

    @property
    def is_translated(self) -> bool:
        return "msgstr" in self.texts or "msgstr[0]" in self.texts

    @property
    def is_whole(self) -> bool:
        """Whether an empty line or a comment ends the entry."""
        return self.is_translated or self.bad is not None


def find(file: SourceFile, wanted: RequestedColumns, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the target language in the header. Raises SourceError if the file has other languages."""
    header = _header(file)
    return None if header is None else columns_of(header, wanted, file)


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of a file as record batches, at most `limit` pairs. Raises SourceError."""
    header = _header(file) or b""
    rules = forms_of(header, file, columns)
    pairs = _pairs(file, charset_of(header, file), rules, refusals, keep_fuzzy=options.keep_fuzzy)
    return batches_of_rows(oriented_pairs(pairs, columns), limit)


def _header(file: SourceFile) -> bytes | None:
    """Return the text of a first entry with an empty msgid, or empty bytes; None if the file has no entries."""
    for entry in _entries(file, "latin-1", Refusals("skip")):  # in latin-1, every byte is a character
        if entry.texts:
            is_header = not "".join(entry.texts.get("msgid", ["?"])) and "msgctxt" not in entry.texts
            return "".join(entry.texts.get("msgstr", ())).encode("latin-1") if is_header else b""
    return None


def _pairs(
    file: SourceFile, charset: str, rules: list[PluralForms], refusals: Refusals, *, keep_fuzzy: bool
) -> Iterator[tuple[str, str]]:
    for entry in _entries(file, charset, refusals):
        if entry.bad is None and not (entry.is_translated and "msgid" in entry.texts):
            entry.bad = entry.line, f"an entry needs msgid and msgstr, but this one has only {', '.join(entry.texts)}"
        if entry.bad is not None:
            refusals.refuse("malformed_entry", f"{file.name}, line {entry.bad[0]}", entry.bad[1])
            continue
        texts = {keyword: "".join(parts) for keyword, parts in entry.texts.items()}
        if not texts["msgid"] and "msgctxt" not in texts:  # the header
            continue
        sources = [texts[key] for key in ("msgid", "msgid_plural") if key in texts]
        plural = {int(key[7:-1]): text for key, text in texts.items() if key.startswith("msgstr[")}
        targets = [texts["msgstr"]] if "msgstr" in texts else [plural.get(k, "") for k in range(max(plural) + 1)]
        if entry.fuzzy and not keep_fuzzy and any(targets):
            refusals.leave_out("fuzzy")
            continue
        yield from pairs_of_entry(sources, targets, rules, f"{file.name}, line {entry.line}", refusals)


def _entries(file: SourceFile, charset: str, refusals: Refusals) -> Iterator[_Entry]:
    """Yield the entries of a file. Obsolete entries are counted and left out. Raises SourceError for a huge entry."""
    entry, keyword = _Entry(), ""
    for number, line in enumerate(lines_of(line_blocks(file), charset), 1):
        match = LINE.fullmatch(line)
        line = line if match else line.strip(SPACE)
        begun = (match or KEYWORD.match(line) or NO_LINE)[1]
        is_break = not match and (not line or line[0] == "#")
        if (is_break and entry.is_whole) or (begun in ENTRY_STARTS and "msgid" in entry.texts):
            yield entry
            entry, keyword = _Entry(), ""
        if is_break:
            if OBSOLETE.match(line):
                refusals.leave_out("obsolete")
                entry = _Entry()  # the flags belonged to the obsolete entry
            elif line.startswith(FLAGS) and FUZZY.search(line):
                entry.fuzzy = True
            continue
        entry.line = entry.line or number
        text = _unescaped_text(match[2]) if match and begun not in entry.texts else None
        if begun:
            keyword = begun
            entry.texts.setdefault(keyword, [])
        if text is None or not keyword:
            shown = repr(line[:EXCERPT_CHARS] + ("…" if len(line) > EXCERPT_CHARS else ""))
            entry.bad = entry.bad or (number, f'the line is not valid in an entry like msgid "…" msgstr "…": {shown}')
            continue
        entry.texts[keyword].append(text)
        entry.num_chars += len(text)
        if entry.num_chars > MAX_ENTRY_CHARS:
            raise SourceError(
                f"{file.name}, line {number}: an entry has more than {MAX_ENTRY_CHARS:,} characters, which is the "
                "maximum. Set another file with downloader.path=FILE"
            )
    if entry.texts or entry.bad:
        yield entry


def _unescaped_text(text: str) -> str | None:
    """Return the text with its escape sequences replaced, or None if the text contains an unknown escape sequence."""
    if "\\" not in text:
        return text
    try:
        return ESCAPE.sub(_escaped_character, text)
    except KeyError:
        return None


def _escaped_character(match: re.Match[str]) -> str:
    """Return the character of an escape sequence. Raises KeyError for unknown sequences and for bytes beyond ASCII."""
    octal, hexadecimal, letter = match.groups()
    if letter is not None:
        return ESCAPED[letter]
    code = int(octal, 8) if octal is not None else int(hexadecimal, 16)
    if code > 127:
        raise KeyError(code)
    return chr(code)
