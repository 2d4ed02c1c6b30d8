"""Read pairs from TMX, the exchange format of translation memories.

A unit (`tu`) contains a variant (`tuv`) with a text (`seg`) for each of several languages. The attribute `xml:lang` of
a variant states its language; `en` also matches `en-US`. If several variants match, the variant with the exact name is
used, or else the first. Texts stay unchanged, but inline codes are removed. The content of `bpt`, `ept`, `it`, `ph` and
`ut` is left out, and the content of `hi` is kept.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from mtx.assumption_log import assume
from mtx.errors import SourceError, choices
from mtx.infra.dataset.column_detection import Columns, RequestedColumns
from mtx.infra.dataset.language_names import OTHER, likeness
from mtx.infra.dataset.pair_stream import Refusals, batches_of_rows
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.local_files import SourceFile
from mtx.infra.dataset.sources.xml_stream import MarkupReader, markup_pairs

UNIT_NAME = "unit (tu) with texts in two languages"
CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})
MAX_LANGUAGES = 1_000  # maximum number of languages of a file that are stored, which bounds the memory


def find(file: SourceFile, wanted: RequestedColumns, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the two languages from the units, up to the first unit that has both. Raises SourceError."""
    reader = _LanguagesReader(wanted)
    for _ in markup_pairs(file, reader):
        pass
    if reader.found is not None:
        source, target = reader.found
        if reader.is_assumed:
            assume(
                f"{file.name}: {source!r} is the source and {target!r} the target, in the order of the first unit, "
                f"because the header states neither. For the other direction, set downloader.source_language={target}"
            )
        return Columns(source, target, (wanted.source_language or source, wanted.target_language or target))
    present = list(reader.present)
    if len(present) < 2:
        return None
    for side, language in (("source", wanted.source_language), ("target", wanted.target_language)):
        if language is not None and not any(likeness(name, language) for name in present):
            raise SourceError(
                f"{file.name}: there is no text in the language {language!r}; present: {choices(language, present)}. "
                f"Choose one of these languages with downloader.{side}_language=NAME"
            )
    raise _choice_error(file, reader, present)


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of a file, at most `limit`. Units without both languages are counted. Raises SourceError."""
    return batches_of_rows(markup_pairs(file, _PairsReader(file, columns, refusals)), limit)


def _choice_error(file: SourceFile, reader: "_LanguagesReader", present: list[str]) -> SourceError:
    source = next((name for name in present if reader.first and likeness(name, reader.first)), None)
    if source is None or len(present) == 2 or any(reader.wanted):
        return SourceError(
            f"{file.name}: exactly two languages are needed, but the file has {choices('', present)}. Choose two with "
            "downloader.source_language=NAME downloader.target_language=NAME"
        )
    others = [name for name in present if name != source]
    return SourceError(
        f"{file.name}: exactly two languages are needed, but the file has {choices('', present)}. By its header, "
        f"{source} is the source. Choose one of the others, for example with "
        + " or ".join(f"downloader.target_language={name}" for name in others[:5])
    )


class _LanguagesReader(MarkupReader):
    """Finds the two languages in the first unit that decides them."""

    CODES = CODES

    def __init__(self, wanted: RequestedColumns) -> None:
        super().__init__()
        self.wanted = wanted.source_language, wanted.target_language
        self.first: str | None = None  # the source language by the unit or by the header
        self.header: str | None = None
        self.is_assumed = False  # whether the order of the variants decides, because the header does not
        self.present: dict[str, None] = {}
        self.unit: dict[str, None] = {}
        self.found: tuple[str, str] | None = None

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "header":
            self.first = self.header = attributes.get("srclang")
        elif name == "tu":
            self.unit = {}
            self.first = attributes.get("srclang") or self.header
        elif name == "tuv" and (language := _language(attributes)) and len(self.present) < MAX_LANGUAGES:
            self.unit[language] = self.present[language] = None

    def end(self, name: str) -> None:
        if name == "tu" and self.found is None:
            self.found = self._language_pair()
            self.done = self.found is not None

    def _language_pair(self) -> tuple[str, str] | None:
        """Return the unit's two languages that match the request; None if one is missing or the choice is ambiguous."""
        source, target = (
            None if said is None else max(self.unit, key=lambda name: likeness(name, said), default="")
            for said in self.wanted
        )
        for language, said in zip((source, target), self.wanted, strict=True):
            if language is not None and said is not None and likeness(language, said) == OTHER:
                return None
        rest = [name for name in self.unit if name not in (source, target)]
        if source is None and target is None and len(rest) == 2:
            by_header = [name for name in rest if self.first and likeness(name, self.first)]
            self.is_assumed = len(by_header) != 1
            first = (by_header or rest)[0]
            return first, rest[1 - rest.index(first)]
        if source is None or target is None:
            if source is None and target is not None and self.first and len(rest) > 1:
                rest = [name for name in rest if likeness(name, self.first)]  # the source by the header
            if len(rest) != 1:
                return None
            source, target = source or rest[0], target or rest[0]
        return None if source == target else (source, target)


class _PairsReader(MarkupReader):
    """Collects the texts of the two languages from each unit."""

    CODES = CODES

    def __init__(self, file: SourceFile, columns: Columns, refusals: Refusals) -> None:
        super().__init__()
        self.file = file
        self.languages = columns.languages
        self.refusals = refusals
        self.likeness: dict[str, tuple[int, int]] = {}
        self.fits = (OTHER, OTHER)  # likeness of the current variant's language to the source and the target language
        self.best = [OTHER, OTHER]
        self.texts: list[str | None] = [None, None]

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "tu":
            self.best, self.texts = [OTHER, OTHER], [None, None]
        elif name == "tuv":
            self.fits = self._language_fit(_language(attributes))
        elif name == "seg" and any(self.fits):
            self.begin_text()

    def end(self, name: str) -> None:
        if name == "seg" and any(self.fits):
            self._keep_text(self.end_text())
        elif name == "tuv":
            self.fits = (OTHER, OTHER)
        elif name == "tu":
            source, target = self.texts
            if self.is_refused(self.file, self.refusals):
                pass
            elif source is None or target is None:
                self.refusals.leave_out("missing_translation")
            else:
                self.pairs.append((source, target))
            self.best, self.texts = [OTHER, OTHER], [None, None]

    def _keep_text(self, text: str) -> None:
        for side in (0, 1):
            if self.fits[side] == OTHER:
                continue
            if self.texts[side] is not None:
                self.refusals.leave_out("further_variant")
            if self.fits[side] > self.best[side]:
                self.best[side], self.texts[side] = self.fits[side], text

    def _language_fit(self, language: str) -> tuple[int, int]:
        """Return how well a language matches the source and the target language.

        Only the better match is not `OTHER`.
        """
        found = self.likeness.get(language)
        if found is None:
            source, target = (likeness(language, name) for name in self.languages)
            found = (source if source >= target else OTHER, target if target > source else OTHER)
            if len(self.likeness) < MAX_LANGUAGES:
                self.likeness[language] = found
        return found


def _language(attributes: Mapping[str, str]) -> str:
    return attributes.get("xml:lang") or attributes.get("lang") or ""
