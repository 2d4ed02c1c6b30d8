"""Reading XML as it streams by, and keeping out what XML is attacked with; TMX and XLIFF build on it.

A file may name a document type (`<!DOCTYPE tmx SYSTEM "tmx14.dtd">`), which is never fetched. One that declares
anything, above all entities, is refused before the first is expanded; so are entities that are not XML's own five.
Memory is bounded by limits on a text, on depth, on different names, and on a single tag or comment. Encodings are
those that the file names: UTF-8, UTF-16, and those of one byte a character.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import NoReturn
from xml.parsers import expat

from mtx.errors import SourceError
from mtx.infra.dataset.sources.files import SourceFile, open_bytes

CHUNK_BYTES = 256 << 10  # parsed together
MAX_PENDING_BYTES = 4 << 20  # of a tag or a comment that does not end: it is looked at anew with each chunk
MAX_DEPTH = 200  # of elements in one another; text in paragraphs needs ten
MAX_NAMES = 5_000  # of elements and attributes, which the parser keeps to the end; the formats have some fifty
MAX_TEXT_CHARS = 16 << 20  # of one text

Pair = tuple[str, str]


class MarkupReader(ABC):
    """Takes elements as they start and end, and gathers the pairs that are whole in `pairs`.

    Names come without the prefix of a namespace. While a text is gathered, all that stands in the elements `CODES` is
    left out, and `start` and `end` are not called for it.

    Attributes:
        path: names of the elements that are open, the outermost first.
        pairs: what is found; taken out by `pairs_of_markup`.
        done: set to end reading before the file does.
    """

    CODES: frozenset[str]

    def __init__(self) -> None:
        self.path: list[str] = []
        self.pairs: list[Pair] = []
        self.done = False
        self._text: list[str] | None = None
        self._num_chars = 0
        self._code = 0  # depth of the code that is open; 0: none
        self._names: set[str] = set()

    @abstractmethod
    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Take the start of an element, the last of `path`."""

    @abstractmethod
    def end(self, name: str) -> None:
        """Take the end of an element, the last of `path` still."""

    def begin_text(self) -> None:
        """Gather text from here on."""
        self._text, self._num_chars = [], 0

    def end_text(self) -> str:
        """Return what was gathered, unchanged."""
        text, self._text = "".join(self._text or ()), None
        return text

    def on_start(self, name: str, attributes: dict[str, str]) -> None:
        """Take what the parser says; so do `on_end` and `on_text`."""
        if ":" in name:
            name = name.rpartition(":")[2]
        self.path.append(name)
        if name not in self._names or (attributes and not self._names.issuperset(attributes)):
            self._names.update((name, *attributes))
            if len(self._names) > MAX_NAMES:
                raise _HostileError(f"it has more than {MAX_NAMES:,} names of elements and attributes")
        if len(self.path) > MAX_DEPTH:
            raise _HostileError(f"its elements stand in one another more than {MAX_DEPTH} deep")
        if self._text is None:
            self.start(name, attributes)
        elif not self._code:
            if name in self.CODES:
                self._code = len(self.path)
            else:
                self.start(name, attributes)

    def on_end(self, _: str) -> None:
        """Take the end of the last of `path`."""
        if not self._code:
            self.end(self.path[-1])
        elif len(self.path) == self._code:
            self._code = 0
        self.path.pop()

    def on_text(self, text: str) -> None:
        """Take some of a text."""
        if self._text is not None and not self._code:
            self._text.append(text)
            self._num_chars += len(text)
            if self._num_chars > MAX_TEXT_CHARS:
                raise _HostileError(f"it has a text of more than {MAX_TEXT_CHARS:,} characters")


class _HostileError(Exception):
    """The file does what no honest one does."""


def pairs_of_markup(file: SourceFile, reader: MarkupReader) -> Iterator[Pair]:
    """Stream what `reader` finds, in memory bounded by the limits above. Raises SourceError."""
    parser = expat.ParserCreate(intern=None)
    parser.buffer_text = True
    parser.StartElementHandler = reader.on_start
    parser.EndElementHandler = reader.on_end
    parser.CharacterDataHandler = reader.on_text
    parser.StartDoctypeDeclHandler = _refuse_declarations
    parser.EntityDeclHandler = _refuse_entity
    parser.SkippedEntityHandler = _refuse_unknown
    num_bytes = parsed = 0
    with open_bytes(file) as stream:
        while not reader.done:
            chunk = stream.read(CHUNK_BYTES)
            num_bytes += len(chunk)
            try:
                parser.Parse(chunk, not chunk)
                parsed = max(parsed, parser.CurrentByteIndex)  # -1 where the whole chunk belongs to a tag that is open
                if num_bytes - parsed > MAX_PENDING_BYTES:
                    raise _HostileError(f"it has a tag or a comment of more than {MAX_PENDING_BYTES >> 20} MB")
            except _HostileError as error:
                raise SourceError(
                    f"{file.path}, line {parser.CurrentLineNumber}: the file is not read, since {error}. Remove that, "
                    "or name another file with downloader.path=FILE"
                ) from error
            except (expat.ExpatError, LookupError, ValueError) as error:  # also for encodings that are not known
                raise SourceError(
                    f"{file.path}, line {parser.ErrorLineNumber}: this is no whole XML ({error}). It was cut short or "
                    "damaged, or is of another format: copy or download it again"
                ) from error
            yield from reader.pairs
            reader.pairs.clear()
            if not chunk:
                return


def _refuse_declarations(_: str, __: str | None, ___: str | None, has_declarations: bool) -> None:
    if has_declarations:
        raise _HostileError("its DOCTYPE declares something, such as entities, which can grow beyond all bounds")


def _refuse_entity(name: str, *_: object) -> NoReturn:
    raise _HostileError(f"it declares the entity {name!r}")


def _refuse_unknown(name: str, is_parameter: bool) -> NoReturn:
    raise _HostileError(
        f"it uses the entity {name!r}, which only a DOCTYPE elsewhere declares, and that is not fetched"
    )
