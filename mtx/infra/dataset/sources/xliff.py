"""XLIFF 1.2 and 2.0: the source and the target text of each `trans-unit`, or of each `segment` of a `unit`.

Text is taken unchanged, without inline codes: what `g`, `pc` and `mrk` mark is kept; what stands in `bpt`, `ept`, `it`,
`ph`, `x` and the like is left out. Proposals beside a unit (`alt-trans`, `matches`) are no part of it. Where a target
is missing or empty, the unit counts as `untranslated`. As `fuzzy` count a state `new` or `needs-…` and `approved="no"`
(1.2), and a state `initial` (2.0).
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from mtx.infra.dataset.columns import Columns, Wanted
from mtx.infra.dataset.pairs import Refusals, batches_of_rows
from mtx.infra.dataset.sources.files import SourceFile
from mtx.infra.dataset.sources.languages import oriented
from mtx.infra.dataset.sources.markup import MarkupReader, pairs_of_markup
from mtx.infra.dataset.sources.reader import ReadOptions

NOTHING = "<file> element of XLIFF"
CODES = frozenset({"bpt", "ept", "it", "ph", "x", "bx", "ex", "sub", "sc", "ec", "cp", "sm", "em"})
UNITS = ("trans-unit", "segment")  # of 1.2, of 2.0
UNFINISHED = ("new", "initial", "needs-")


def find(file: SourceFile, wanted: Wanted, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the languages and their direction by the first `file` in the document. Raises SourceError."""
    reader = _Reader(file, wanted, refusals=None, keep_fuzzy=True)
    for _ in pairs_of_markup(file, reader):
        pass
    return reader.columns


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Stream the pairs of a file, `limit` at most; units without a translation are counted. Raises SourceError."""
    wanted = Wanted(source_language=columns.languages[0], target_language=columns.languages[1])
    reader = _Reader(file, wanted, refusals, keep_fuzzy=options.keep_fuzzy)
    return batches_of_rows(pairs_of_markup(file, reader), limit)


class _Reader(MarkupReader):
    """Takes the pairs out of each `file` of a document; without `refusals`, only the languages of the first."""

    CODES = CODES

    def __init__(self, file: SourceFile, wanted: Wanted, refusals: Refusals | None, *, keep_fuzzy: bool) -> None:
        super().__init__()
        self.file = file
        self.wanted = wanted
        self.refusals = refusals
        self.keep_fuzzy = keep_fuzzy
        self.columns: Columns | None = None
        self.document: tuple[str | None, str | None] = (None, None)  # languages by version 2.0
        self.fuzzy = False
        self.texts: dict[str, str] = {}

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if self.done:
            return
        if name == "xliff":
            self.document = attributes.get("srcLang"), attributes.get("trgLang")
        elif name == "file":
            source = attributes.get("source-language") or self.document[0]
            target = attributes.get("target-language") or self.document[1]
            self.columns = oriented(source, target, self.wanted, str(self.file.path))
            self.done = self.refusals is None
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
        elif name in UNITS and self.refusals is not None and self.columns is not None:
            if not self.texts.get("target"):
                self.refusals.leave_out("untranslated")
            elif self.fuzzy and not self.keep_fuzzy:
                self.refusals.leave_out("fuzzy")
            else:
                texts = {"source": "", **self.texts}
                self.pairs.append((texts[self.columns.source], texts[self.columns.target]))

    def _is_side(self, name: str) -> bool:
        return name in ("source", "target") and len(self.path) > 1 and self.path[-2] in UNITS


def _is_unfinished(attributes: Mapping[str, str]) -> bool:
    return attributes.get("state", "").startswith(UNFINISHED)
