"""Read pairs from XLIFF 1.2 and 2.0: the source and target text of each `trans-unit`, or of each `segment` of a `unit`.

Texts stay unchanged, but inline codes are removed. The content of `g`, `pc` and `mrk` is kept. The content of `bpt`,
`ept`, `it`, `ph`, `x` and similar elements is left out. Proposals (`alt-trans`, `matches`) are ignored. A unit whose
target is missing or empty counts as `untranslated`. In version 1.2, a unit counts as `fuzzy` if its state is `new` or
`needs-…`, or if it has `approved="no"`. In version 2.0, a unit counts as `fuzzy` if its state is `initial`.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from mtx.infra.dataset.column_detection import Columns, RequestedColumns
from mtx.infra.dataset.pair_stream import Refusals, batches_of_rows
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.language_tags import checked_direction
from mtx.infra.dataset.sources.local_files import SourceFile
from mtx.infra.dataset.sources.xml_stream import MarkupReader, markup_pairs

UNIT_NAME = "<file> element of XLIFF"
CODES = frozenset({"bpt", "ept", "it", "ph", "x", "bx", "ex", "sub", "sc", "ec", "cp", "sm", "em"})
UNITS = ("trans-unit", "segment")  # in version 1.2 and in version 2.0
UNFINISHED = ("new", "initial", "needs-")


def find(file: SourceFile, wanted: RequestedColumns, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the languages of the first `file` element (version 2.0: of the root), in the requested direction.

    Raises SourceError.
    """
    reader = _Reader(file, wanted, refusals=None, keep_fuzzy=True)
    for _ in markup_pairs(file, reader):
        pass
    return reader.columns


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of a file, at most `limit`. Units without a translation are counted. Raises SourceError."""
    wanted = RequestedColumns(source_language=columns.languages[0], target_language=columns.languages[1])
    reader = _Reader(file, wanted, refusals, keep_fuzzy=options.keep_fuzzy)
    return batches_of_rows(markup_pairs(file, reader), limit)


class _Reader(MarkupReader):
    """Collects the pairs of each `file` element; without `refusals`, finds only the languages of the first element."""

    CODES = CODES

    def __init__(
        self, file: SourceFile, wanted: RequestedColumns, refusals: Refusals | None, *, keep_fuzzy: bool
    ) -> None:
        super().__init__()
        self.file = file
        self.wanted = wanted
        self.refusals = refusals
        self.keep_fuzzy = keep_fuzzy
        self.columns: Columns | None = None
        self.document: tuple[str | None, str | None] = (None, None)  # languages in the root element of version 2.0
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
            self.columns = checked_direction(source, target, self.wanted, str(self.file.path))
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
