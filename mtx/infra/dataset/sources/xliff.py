"""Read pairs from XLIFF 1.2 and 2.0: the source and target text of each `trans-unit`, or of each `segment` of a `unit`.

Texts stay unchanged, but inline codes are removed. The content of `g`, `pc` and `mrk` is kept. The content of `bpt`,
`ept`, `it`, `ph`, `x` and similar elements is left out. Proposals (`alt-trans`, `matches`) are ignored. A unit whose
target is missing or empty counts as `untranslated`. In version 1.2, a unit counts as `fuzzy` if its state is `new` or
`needs-…`, or if it has `approved="no"`. In version 2.0, a unit counts as `fuzzy` if its state is `initial`.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from mtx.errors import SourceError
from mtx.infra.dataset.column_detection import Columns, RequestedColumns
from mtx.infra.dataset.pair_stream import Refusals, batches_of_rows
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.language_direction import direction, other_languages_error
from mtx.infra.dataset.sources.local_files import SourceFile
from mtx.infra.dataset.sources.xml_stream import MarkupReader, markup_pairs

UNIT_NAME = "<file> element of XLIFF"
CODES = frozenset({"bpt", "ept", "it", "ph", "x", "bx", "ex", "sub", "sc", "ec", "cp", "sm", "em"})
UNITS = ("trans-unit", "segment")  # in version 1.2 and in version 2.0
MAX_PAIRS = 1_000  # maximum number of `file` elements whose languages are compared, which bounds the memory
MAX_HINTS = 3  # number of pairs of languages in an error message
Languages = tuple[str | None, str | None]  # source and target; None: the file does not state it
UNFINISHED = ("new", "initial", "needs-")


def find(file: SourceFile, wanted: RequestedColumns, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the languages of the `file` elements (version 2.0: of the root), in the requested direction.

    Raises SourceError if no element has the requested languages, or if the elements leave a choice.
    """
    reader = _LanguagesReader(wanted)
    for _ in markup_pairs(file, reader):
        pass
    fits = list(reader.fits.values())
    if not fits:
        if not reader.others:
            return None
        raise other_languages_error(reader.others, wanted, file.name)
    known = RequestedColumns(source_language=fits[0].languages[0], target_language=fits[0].languages[1])
    if any(direction(*languages, known) is None for languages in reader.fits):
        pairs = [columns.languages for columns in fits]
        hints = [f"downloader.source_language={a} downloader.target_language={b}" for a, b in pairs[:MAX_HINTS]]
        raise SourceError(
            f"{file.name}: exactly two languages are needed, but parts of the file have others: "
            f"{', '.join(f'{a} to {b}' for a, b in pairs)}. Choose one pair, for example with {' or '.join(hints)}"
        )
    return fits[0]


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of a file, at most `limit`. Units without a translation are counted. Raises SourceError."""
    wanted = RequestedColumns(source_language=columns.languages[0], target_language=columns.languages[1])
    reader = _Reader(file, wanted, refusals, keep_fuzzy=options.keep_fuzzy)
    return batches_of_rows(markup_pairs(file, reader), limit)


class _LanguagesReader(MarkupReader):
    """Collects the languages of the `file` elements; if both are requested, up to the first that has them.

    Attributes:
        fits: for each pair of languages that may be meant, the columns in the requested direction.
        others: the pairs of languages that are not requested.
    """

    CODES = CODES

    def __init__(self, wanted: RequestedColumns) -> None:
        super().__init__()
        self.wanted = wanted
        self.document: Languages = (None, None)
        self.fits: dict[Languages, Columns] = {}
        self.others: list[Languages] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "xliff":
            self.document = attributes.get("srcLang"), attributes.get("trgLang")
        elif name == "file" and len(self.fits) + len(self.others) < MAX_PAIRS:
            languages = _languages(attributes, self.document)
            columns = direction(*languages, self.wanted)
            if columns is None:
                self.others.append(languages)
            else:
                self.fits.setdefault(languages, columns)
                self.done = None not in (self.wanted.source_language, self.wanted.target_language)

    def end(self, name: str) -> None:
        pass


class _Reader(MarkupReader):
    """Collects the pairs of each `file` element that has the wanted languages."""

    CODES = CODES

    def __init__(self, file: SourceFile, wanted: RequestedColumns, refusals: Refusals, *, keep_fuzzy: bool) -> None:
        super().__init__()
        self.file = file
        self.wanted = wanted
        self.refusals = refusals
        self.keep_fuzzy = keep_fuzzy
        self.columns: Columns | None = None
        self.document: Languages = (None, None)
        self.fuzzy = False
        self.texts: dict[str, str] = {}

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "xliff":
            self.document = attributes.get("srcLang"), attributes.get("trgLang")
        elif name == "file":
            self.columns = direction(*_languages(attributes, self.document), self.wanted)
        elif name in UNITS:
            self.texts = {}
            self.fuzzy = attributes.get("approved") == "no" or _is_unfinished(attributes)
        elif self._is_side(name):
            self.texts.pop(name, None)
            self.fuzzy = self.fuzzy or (name == "target" and _is_unfinished(attributes))
            self.begin_text()

    def end(self, name: str) -> None:
        if self._is_side(name):
            self.texts[name] = self.end_text()
        elif name in UNITS and "file" in self.path:
            if self.columns is None:
                self.unsuitable = None
                self.refusals.leave_out("other_language")
            elif self.is_refused(self.file, self.refusals):
                pass
            elif not self.texts.get("target"):
                self.refusals.leave_out("untranslated")
            elif self.fuzzy and not self.keep_fuzzy:
                self.refusals.leave_out("fuzzy")
            else:
                texts = {"source": "", **self.texts}
                self.pairs.append((texts[self.columns.source], texts[self.columns.target]))

    def _is_side(self, name: str) -> bool:
        return name in ("source", "target") and len(self.path) > 1 and self.path[-2] in UNITS


def _languages(attributes: Mapping[str, str], document: Languages) -> Languages:
    """Return the languages of a `file` element, which in version 2.0 are those of the root element."""
    return attributes.get("source-language") or document[0], attributes.get("target-language") or document[1]


def _is_unfinished(attributes: Mapping[str, str]) -> bool:
    return attributes.get("state", "").startswith(UNFINISHED)
