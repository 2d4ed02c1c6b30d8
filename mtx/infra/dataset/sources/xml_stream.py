"""Parse XML as a stream, with protection against malicious files. The readers of TMX and XLIFF use this module.

A file may refer to a document type (`<!DOCTYPE tmx SYSTEM "tmx14.dtd">`), which is never fetched. A document type with
declarations, such as entities, is refused before any entity is expanded. Entities other than XML's five predefined
entities, and characters that XML does not allow, are refused with the unit that has them (`xml_text.py`). Limits on the
length of a text, the depth, the number of different names, and the size of a tag or comment bound the memory. Supported
are all encodings that Python knows, as the file states.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn
from xml.parsers import expat

from mtx.errors import SourceError
from mtx.infra.dataset.pair_stream import Refusals
from mtx.infra.dataset.sources.local_files import SourceFile, open_bytes
from mtx.infra.dataset.sources.xml_decoding import STAND_IN, suitable_chunks, without_stand_ins
from mtx.library_errors import library_reason

MAX_PENDING_BYTES = 4 << 20  # maximum size of a tag or comment, which the parser scans again with each chunk
MAX_DEPTH = 200  # maximum depth of nested elements; normal files need ten
MAX_NAMES = 5_000  # maximum number of different names, which the parser keeps in memory; the formats need about fifty
MAX_TEXT_CHARS = 16 << 20  # maximum length of one text

Pair = tuple[str, str]


class MarkupReader(ABC):
    """Base class of readers that handle the starts and ends of elements, and collect complete pairs in `pairs`.

    Names are given without their namespace prefix. While a text is collected, the elements in `CODES` are left out:
    `start` and `end` are not called for them.

    Attributes:
        path: names of the open elements, the outermost first.
        pairs: the pairs found so far; `markup_pairs` empties the list.
        done: set to True to stop reading before the end of the file.
        line_number: function that returns the number of the current line; `markup_pairs` sets it.
        unsuitable: line and description of the first thing in a collected text that XML does not allow.
    """

    CODES: frozenset[str]

    def __init__(self) -> None:
        self.path: list[str] = []
        self.pairs: list[Pair] = []
        self.done = False
        self.line_number: Callable[[], int] = lambda: 0
        self.unsuitable: tuple[int, str] | None = None
        self._cdata = 0  # number of collected pieces before the open CDATA section
        self._text: list[str] | None = None
        self._num_chars = 0
        self._code = 0  # depth of the open inline code; 0: none is open
        self._names: set[str] = set()

    @abstractmethod
    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Handle the start of an element, whose name is the last item of `path`."""

    @abstractmethod
    def end(self, name: str) -> None:
        """Handle the end of an element, whose name is still the last item of `path`."""

    def begin_text(self) -> None:
        """Start the collection of a text."""
        self._text, self._num_chars = [], 0

    def end_text(self) -> str:
        """Return the collected text unchanged, and end the collection."""
        text, self._text = "".join(self._text or ()), None
        if STAND_IN in text:
            text, what = without_stand_ins(text)
            if what is not None and self.unsuitable is None:
                self.unsuitable = self.line_number(), what
        return text

    def is_refused(self, file: SourceFile, refusals: Refusals) -> bool:
        """Return whether a text of the unit that ends is not allowed by XML, and count the unit or raise an error."""
        found, self.unsuitable = self.unsuitable, None
        if found is not None:
            refusals.refuse("illegal_xml", f"{file.name}, line {found[0]}", f"a text has {found[1]}")
        return found is not None

    def on_start(self, name: str, attributes: dict[str, str]) -> None:
        """Handle the start of an element, as callback of the parser."""
        if ":" in name:
            name = name.rpartition(":")[2]
        self.path.append(name)
        if name not in self._names or (attributes and not self._names.issuperset(attributes)):
            self._names.update((name, *attributes))
            if len(self._names) > MAX_NAMES:
                raise _HostileError(f"it has more than {MAX_NAMES:,} different names of elements and attributes")
        if len(self.path) > MAX_DEPTH:
            raise _HostileError(f"its elements are nested more than {MAX_DEPTH} deep")
        if self._text is None:
            self.start(name, attributes)
        elif not self._code:
            if name in self.CODES:
                self._code = len(self.path)
            else:
                self.start(name, attributes)

    def on_end(self, _: str) -> None:
        """Handle the end of the innermost open element, as callback of the parser."""
        if not self._code:
            self.end(self.path[-1])
        elif len(self.path) == self._code:
            self._code = 0
        self.path.pop()

    def on_text(self, text: str) -> None:
        """Handle a part of a text, as callback of the parser."""
        if self._text is not None and not self._code:
            self._text.append(text)
            self._num_chars += len(text)
            if self._num_chars > MAX_TEXT_CHARS:
                raise _HostileError(f"it has a text of more than {MAX_TEXT_CHARS:,} characters")

    def on_cdata_start(self) -> None:
        """Handle the start of a CDATA section, as callback of the parser."""
        self._cdata = len(self._text or ())

    def on_cdata_end(self) -> None:
        """Handle the end of a CDATA section, in which `&` is an ordinary character."""
        if self._text is not None:
            self._text[self._cdata :] = ["".join(self._text[self._cdata :]).replace(f"{STAND_IN}@", "&")]


class _HostileError(Exception):
    """The file exceeds a limit of this module or uses a forbidden XML feature."""


def markup_pairs(file: SourceFile, reader: MarkupReader) -> Iterator[Pair]:
    """Yield the pairs that `reader` finds, in memory bounded by the limits of this module. Raises SourceError."""
    parser = expat.ParserCreate("utf-8", intern=None)  # whatever encoding the file states
    parser.buffer_text = True
    parser.StartElementHandler = reader.on_start
    parser.EndElementHandler = reader.on_end
    parser.CharacterDataHandler = reader.on_text
    parser.StartCdataSectionHandler = reader.on_cdata_start
    parser.EndCdataSectionHandler = reader.on_cdata_end
    reader.line_number = lambda: parser.CurrentLineNumber
    parser.StartDoctypeDeclHandler = _refuse_declarations
    parser.EntityDeclHandler = _refuse_entity
    num_bytes = parsed = 0
    with open_bytes(file) as stream:
        chunks = suitable_chunks(stream, file)
        while not reader.done:
            chunk = next(chunks, None)
            num_bytes += len(chunk or b"")
            try:
                parser.Parse(chunk or b"", chunk is None)
                parsed = max(parsed, parser.CurrentByteIndex)  # -1 if the chunk is part of one tag
                if num_bytes - parsed > MAX_PENDING_BYTES:
                    raise _HostileError(f"it has a tag or a comment of more than {MAX_PENDING_BYTES >> 20} MB")
            except _HostileError as error:
                raise SourceError(
                    f"{file.name}, line {parser.CurrentLineNumber}: mtx refuses to read the file, because {error}. "
                    "Correct the file, or set another file with downloader.path=FILE"
                ) from error
            except (expat.ExpatError, ValueError) as error:
                raise SourceError(
                    f"{file.name}, line {parser.ErrorLineNumber}: the file is not valid XML "
                    f"({library_reason(error)}). The file is "
                    "truncated, damaged, or of another format: copy or download the file again"
                ) from error
            yield from reader.pairs
            reader.pairs.clear()
            if chunk is None:
                return


def _refuse_declarations(_: str, __: str | None, ___: str | None, has_declarations: bool) -> None:
    if has_declarations:
        raise _HostileError("its DOCTYPE contains declarations, such as entities, which can expand without limit")


def _refuse_entity(name: str, *_: object) -> NoReturn:
    raise _HostileError(f"it declares the entity {name!r}")
