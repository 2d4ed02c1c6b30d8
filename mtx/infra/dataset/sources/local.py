"""Parallel text in files of one's own, in the formats of `formats`, or as two files of line-aligned text."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from mtx.errors import ConfigError, SourceError, choices
from mtx.identity import JSON, digest, identity
from mtx.infra.dataset.columns import DEFAULT_LANGUAGES, Columns, Wanted, find_columns
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pairs import OnError, Refusals, regrouped
from mtx.infra.dataset.sources.aligned import read_aligned
from mtx.infra.dataset.sources.files import SourceFile, listed
from mtx.infra.dataset.sources.find import Found, find_files
from mtx.infra.dataset.sources.formats import READERS
from mtx.infra.dataset.sources.packages import find_catalogues
from mtx.infra.dataset.sources.paths import FilePaths, Paths, plain_paths, splits_of
from mtx.infra.dataset.sources.reader import ReadOptions

log = logging.getLogger(__name__)

Part = tuple[SourceFile, ...]  # one file, or source and target

WAYS = ("path", "source_path", "target_path", "package")
MAX_LANGUAGE_CHARS = 8  # of a file's ending that may be a language: en, deu, zh_Hant


@dataclass(frozen=True, kw_only=True)
class LocalDownloader(Downloader):
    """Reads local files as they are: texts are never changed, and their order is kept.

    The files' content names the dataset, not where they lie: a corpus that moved is not read again. They must not
    change while they are read.

    Args:
        path: a file, also with `.gz` or `.zst` behind: `.jsonl`, `.ndjson`, `.tsv`, `.csv`, `.parquet`, `.tmx`, `.xlf`,
            `.xliff`, `.po`, `.mo`, or an OPUS archive (`.zip`). A folder, a pattern such as `data/*.jsonl.gz`, or a
            list of all these: they are read one after the other, those of a folder or a pattern by name. Or one of that
            for each split, such as `{train: corpus/, validation: b.jsonl}`.
        source_path: instead of `path`: plain text, a sentence a line; likewise a file, a pattern, a list, or one for
            each split.
        target_path: its translation, line by line; as many files, in the same order.
        package: instead of `path`: an installed package, of this Python or the system's (Debian's), whose gettext
            catalogues in `target_language` are read.
        source_column: the column or key with the source text. None: found among `src`/`tgt`, `source`/`target`, columns
            named by the languages, or objects in `translation`.
        target_column: the same for the target text.
        source_language: as the files call it; in TMX, XLIFF and catalogues, `en` stands for `en-US`, too. None: what
            TMX and XLIFF say, `en` in catalogues, the first key of `translation`, the ending of the file's name
            (`corpus.en`), or `src`.
        target_language: the same for the target.
        header: the first line of TSV and CSV names the columns; false: it is a pair, and the first two columns are
            taken (columns are then called 1, 2, …).
        keep_fuzzy: take translations of catalogues and XLIFF that are marked as still to be looked at.
        on_error: `raise` stops at the first row that is no pair of texts; `skip` leaves such rows out and counts them
            by reason. Files cut short and CSV or XML that cannot be parsed always stop.
        name: what to call the corpus. None: the name of the file without endings, the folder or the package.
        n: take the first n pairs of the training split. None: all.
    """

    path: FilePaths | None = None
    source_path: FilePaths | None = None
    target_path: FilePaths | None = None
    package: str | None = None
    source_column: str | int | None = None
    target_column: str | int | None = None
    source_language: str | None = None
    target_language: str | None = None
    header: bool = True
    keep_fuzzy: bool = False
    on_error: OnError = "raise"
    name: str | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        for key in WAYS[:3]:
            object.__setattr__(self, key, plain_paths(key, getattr(self, key)))
        for key in ("source_column", "target_column"):  # a number names a column of a file without header
            if isinstance(value := getattr(self, key), int):
                object.__setattr__(self, key, str(value))
        if self.n is not None and self.n < 1:
            raise ConfigError(f"downloader.n is a number of pairs, at least 1, or null for all, but is {self.n}")
        Refusals(self.on_error)
        given = [key for key in WAYS if getattr(self, key) is not None]
        if given not in (["path"], ["source_path", "target_path"], ["package"]):
            raise ConfigError(
                "local files are given by downloader.path=FILE alone, or by downloader.source_path=FILE and "
                "downloader.target_path=FILE together, or by downloader.package=NAME alone; given: "
                f"{', '.join(given) or 'none of them'}"
            )
        if self.package is not None and self.target_language is None:
            raise ConfigError(
                "downloader.package has catalogues in many languages. Choose one with downloader.target_language=NAME"
            )
        splits = {key: splits_of(key, getattr(self, key)) for key in ("path", "source_path", "target_path")}
        if splits["source_path"].keys() != splits["target_path"].keys():
            raise ConfigError(
                "downloader.source_path and downloader.target_path name the same splits, but have "
                f"{', '.join(splits['source_path'])} and {', '.join(splits['target_path'])}"
            )

    def info(self) -> SourceInfo:
        """Look at the files: the columns of their first rows, and their digests. Raises SourceError."""
        languages = self._languages
        files: dict[str, JSON] = {
            split: [{"format": file.format, "compression": file.compression, "sha256": sha256} for file, sha256 in side]
            for split, side in self._digests.items()
        }
        unused = () if self.keep_fuzzy else ("keep_fuzzy",)  # so that ids do not change with an option not used
        config = identity(self, exclude=(*WAYS, "name", *unused))
        return SourceInfo(
            name=self.name or self._own_name(),
            languages=languages,
            revision=f"sha256:{digest(files)}",
            identity={**config, "files": files, "languages": list(languages)},
            splits=tuple(self._parts),
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream one split, in bounded memory, and count rows that are left out. Raises SourceError."""
        if split not in self._parts:
            raise SourceError(f"there is no file for the split {split!r}; there are: {choices(split, self._parts)}")
        refusals = Refusals(self.on_error, counts)
        num_rows = 0
        for batch in regrouped(self._read(split, refusals, self.n if split == "train" else None)):
            num_rows += batch.num_rows
            yield batch
        parts = self._parts[split]
        for part in parts:
            for file in part:
                file.check_unchanged()
        if not num_rows:
            refused = ", ".join(f"{reason} {number:,}" for reason, number in counts.items())
            more = f" and {len(parts) - 1:,} more" if len(parts) > 1 else ""
            raise SourceError(
                f"{parts[0][0].path}{more} has no pair of texts{f' (left out: {refused})' if refused else ''}. "
                "Name another file with downloader.path=FILE"
            )

    def _read(self, split: str, refusals: Refusals, limit: int | None) -> Iterator[pa.RecordBatch]:
        for part, columns in zip(self._parts[split], self._columns[split], strict=True):
            if columns is None:
                continue
            file, *others = part
            if others:
                batches = read_aligned(file, others[0], refusals, limit)
            else:
                batches = READERS[file.format].read(file, columns, self._options, refusals, limit)
            for batch in batches:
                yield batch
                if limit is not None:
                    limit -= batch.num_rows
            if limit == 0:
                return

    @property
    def _options(self) -> ReadOptions:
        return ReadOptions(header=self.header, keep_fuzzy=self.keep_fuzzy)

    @cached_property
    def _parts(self) -> dict[str, tuple[Part, ...]]:
        """The files of each split, one by one, or source with target; training first."""
        if self.package is not None:
            return {"train": tuple((file,) for file in find_catalogues(self.package, str(self.target_language)))}
        if self.path is not None:
            paths = splits_of("path", self.path)
            return {split: tuple((file,) for file in _found(*paths[split]).files) for split in paths}
        sources, targets = (splits_of(key, getattr(self, key)) for key in ("source_path", "target_path"))
        parts: dict[str, tuple[Part, ...]] = {}
        for split in sources:
            source, target = (_found(*side[split], lines=True).files for side in (sources, targets))
            if len(source) != len(target):
                raise SourceError(
                    f"each file of {sources[split][0]} has its translation in one of {targets[split][0]}, but there "
                    f"are {len(source):,} files ({listed([file.path.name for file in source])}) and {len(target):,} "
                    f"({listed([file.path.name for file in target])})"
                )
            parts[split] = tuple(zip(source, target, strict=True))
        return parts

    @cached_property
    def _digests(self) -> dict[str, list[tuple[SourceFile, str]]]:
        return {
            split: [(file, file.sha256()) for part in parts for file in part] for split, parts in self._parts.items()
        }

    @cached_property
    def _languages(self) -> tuple[str, str]:
        """The languages of the training split: as the config says, or the first file that does."""
        found = next((columns for columns in self._columns["train"] if columns is not None), None)
        return DEFAULT_LANGUAGES if found is None else found.languages

    @cached_property
    def _columns(self) -> dict[str, list[Columns | None]]:
        """Where the texts are in each file; None: nowhere. All have the languages of the training split."""
        found: dict[str, list[Columns | None]] = {}
        known = [self.source_language, self.target_language]
        for split, parts in self._parts.items():
            found[split] = [self._find_columns(part, known, alone=len(parts) == 1) for part in parts]
        languages = tuple(a or b for a, b in zip(known, DEFAULT_LANGUAGES, strict=True))
        return {
            split: [c and Columns(c.source, c.target, (languages[0], languages[1]), c.parent) for c in columns]
            for split, columns in found.items()
        }

    def _find_columns(self, part: Part, known: list[str | None], *, alone: bool) -> Columns | None:
        """Find the texts in one file; what it tells about languages goes to `known`. Raises SourceError."""
        file, *others = part
        wanted = Wanted(
            source_column=None if self.source_column is None else str(self.source_column),
            target_column=None if self.target_column is None else str(self.target_column),
            source_language=known[0],
            target_language=known[1],
            pair=_pair_by_name(file, others[0]) if others else None,
        )
        if others:
            columns: Columns | None = find_columns({"src": (), "tgt": ()}, wanted, str(file.path))
        else:
            reader = READERS[file.format]
            columns = reader.find(file, wanted, self._options, Refusals(self.on_error))
            if columns is None:
                what = f"{file.path} has no {reader.NOTHING}"
                if alone:
                    raise SourceError(f"{what}. Name another file with downloader.path=FILE")
                log.warning("%s: it is passed over", what)
                return None
        assert columns is not None
        for side, (language, default) in enumerate(zip(columns.languages, DEFAULT_LANGUAGES, strict=True)):
            if known[side] is None and language != default:
                known[side] = language
        return columns

    def _own_name(self) -> str:
        """Return the name of the file without endings, of the folder, or of the package."""
        first = self._parts["train"][0][0]
        if self.package is not None:
            return self.package
        if len(self._parts["train"]) == 1:
            return first.stem
        _, paths = splits_of("path", self.path or self.source_path)["train"]
        folder = Path(paths).expanduser() if isinstance(paths, str) else first.path
        return (folder if folder.is_dir() else first.path.parent).resolve().name


def _found(key: str, paths: Paths, *, lines: bool = False) -> Found:
    """Find files, and tell which were passed over."""
    found = find_files(paths, key, lines=lines)
    if found.passed_over:
        log.warning(
            "%s: %s files are read and %s passed over: %s",
            key,
            f"{len(found.files):,}",
            f"{len(found.passed_over):,}",
            listed(found.passed_over),
        )
    return found


def _pair_by_name(source: SourceFile, target: SourceFile) -> str | None:
    """Return `en-de` for files such as `corpus.en` and `corpus.de.gz`."""
    names = [file.path.name.removesuffix(file.path.suffix if file.compression else "") for file in (source, target)]
    (stem, _, language), (other_stem, _, other) = (name.rpartition(".") for name in names)
    fits = stem and stem == other_stem and language != other and "-" not in language + other
    return f"{language}-{other}" if fits and max(len(language), len(other)) <= MAX_LANGUAGE_CHARS else None
