"""gettext catalogues as text, `.po`, read line by line. What they hold is told in `catalogue`.

Entries that are `fuzzy` or `obsolete` (`#~`), and those `untranslated`, are counted and left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from mtx.errors import SourceError
from mtx.infra.dataset.columns import Columns, Wanted
from mtx.infra.dataset.pairs import Refusals, batches_of_rows
from mtx.infra.dataset.sources.catalogue import charset_of, columns_of, pairs_of_entry, turned
from mtx.infra.dataset.sources.files import SourceFile, blocks, lines_of
from mtx.infra.dataset.sources.reader import ReadOptions

NOTHING = "entry"
MAX_ENTRY_CHARS = 16 << 20  # of the texts of one entry, which are held in memory
EXCERPT = 60  # characters of a bad line that a message shows

NAMES = r"msgctxt|msgid_plural|msgid|msgstr(?:\[\d{1,3}\])?"
LINE = re.compile(rf'[ \t]*+(?:({NAMES})[ \t]*+)?"((?:[^"\\]++|\\.)*+)"[ \t\r\f\v]*+', re.DOTALL)
KEYWORD = re.compile(rf'({NAMES})[ \t]*+"')  # where the rest of the line is not as it should be
NONE: dict[int, None] = {1: None}
FIRST = ("msgctxt", "msgid")
SPACE = " \t\r\f\v"
ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"} | {c: c for c in "\\\"'?"}
FLAGS = ("#,", "#=")
OBSOLETE = re.compile(r"#~[ \t]*msgid[ \t]*\"")
FUZZY = re.compile(r"(?<![-\w])fuzzy(?![-\w])")


@dataclass(slots=True)
class _Entry:
    """What was read of an entry.

    Attributes:
        line: number of its first line with a text.
        texts: by keyword.
        fuzzy: marked as to be looked at.
        bad: number of the first line that does not belong there, and what it is.
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
        """Whether an empty line or a comment ends it."""
        return self.is_translated or self.bad is not None


def find(file: SourceFile, wanted: Wanted, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the target language by the header. Raises SourceError."""
    header = _header(file)
    return None if header is None else columns_of(header, wanted, file)


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Stream the pairs of a file, `limit` at most. Raises SourceError."""
    charset = charset_of(_header(file) or b"", file)
    pairs = _pairs(file, charset, refusals, keep_fuzzy=options.keep_fuzzy)
    return batches_of_rows(turned(pairs, columns), limit)


def _header(file: SourceFile) -> bytes | None:
    """Return the text of the entry with an empty msgid, where it comes first; None: there is no entry at all."""
    for entry in _entries(file, "latin-1", Refusals("skip")):  # any byte is a character of that
        if entry.texts:
            is_header = not "".join(entry.texts.get("msgid", ["?"])) and "msgctxt" not in entry.texts
            return "".join(entry.texts.get("msgstr", ())).encode("latin-1") if is_header else b""
    return None


def _pairs(file: SourceFile, charset: str, refusals: Refusals, *, keep_fuzzy: bool) -> Iterator[tuple[str, str]]:
    for entry in _entries(file, charset, refusals):
        if entry.bad is None and not (entry.is_translated and "msgid" in entry.texts):
            entry.bad = entry.line, f"an entry has msgid and msgstr, but this one only {', '.join(entry.texts)}"
        if entry.bad is not None:
            refusals.refuse("malformed_entry", f"{file.path}, line {entry.bad[0]}", entry.bad[1])
            continue
        texts = {keyword: "".join(parts) for keyword, parts in entry.texts.items()}
        if not texts["msgid"] and "msgctxt" not in texts:  # the header
            continue
        sources = [texts[key] for key in ("msgid", "msgid_plural") if key in texts]
        targets = [texts[key] for key in ("msgstr", "msgstr[0]", "msgstr[1]") if key in texts]
        if entry.fuzzy and not keep_fuzzy and any(targets):
            refusals.leave_out("fuzzy")
            continue
        yield from pairs_of_entry(sources, targets, f"{file.path}, line {entry.line}", refusals)


def _entries(file: SourceFile, charset: str, refusals: Refusals) -> Iterator[_Entry]:
    """Iterate over the entries, those that are obsolete counted and left out. Raises SourceError."""
    entry, keyword = _Entry(), ""
    for number, line in enumerate(lines_of(blocks(file), charset), 1):
        match = LINE.fullmatch(line)
        line = line if match else line.strip(SPACE)
        begun = (match or KEYWORD.match(line) or NONE)[1]
        is_break = not match and (not line or line[0] == "#")
        if (is_break and entry.is_whole) or (begun in FIRST and "msgid" in entry.texts):
            yield entry
            entry, keyword = _Entry(), ""
        if is_break:
            if OBSOLETE.match(line):
                refusals.leave_out("obsolete")
                entry = _Entry()  # the flags before it were its own
            elif line.startswith(FLAGS) and FUZZY.search(line):
                entry.fuzzy = True
            continue
        entry.line = entry.line or number
        text = _unescaped(match[2]) if match and begun not in entry.texts else None
        if begun:
            keyword = begun
            entry.texts.setdefault(keyword, [])
        if text is None or not keyword:
            shown = repr(line[:EXCERPT] + ("…" if len(line) > EXCERPT else ""))
            entry.bad = entry.bad or (number, f'this does not belong to an entry like msgid "…" msgstr "…": {shown}')
            continue
        entry.texts[keyword].append(text)
        entry.num_chars += len(text)
        if entry.num_chars > MAX_ENTRY_CHARS:
            raise SourceError(
                f"{file.path}, line {number}: an entry has more than {MAX_ENTRY_CHARS:,} characters, the most that is "
                "held in memory. Name another file with downloader.path=FILE"
            )
    if entry.texts or entry.bad:
        yield entry


def _unescaped(text: str) -> str | None:
    """Return a text with its escapes replaced, None where one is not known."""
    if "\\" not in text:
        return text
    try:
        return ESCAPE.sub(_character, text)
    except KeyError:
        return None


def _character(match: re.Match[str]) -> str:
    """Return the character of an escape. Raises KeyError for one that is not known, or a byte beyond ASCII."""
    octal, hexadecimal, letter = match.groups()
    if letter is not None:
        return ESCAPED[letter]
    code = int(octal, 8) if octal is not None else int(hexadecimal, 16)
    if code > 127:
        raise KeyError(code)
    return chr(code)
