"""Read parallel text from the user's files, in the formats of `formats.py` or as two line-aligned text files."""

from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from functools import cached_property
from typing import ClassVar

import pyarrow as pa

from mtx.assumption_log import assume, distinct_assumptions
from mtx.components.checked_options import Count, component
from mtx.components.identity import JSON, LATER, digest, identity
from mtx.errors import ConfigError, SourceError, choices
from mtx.infra.dal.chunked_columns import regrouped_batches
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.infra.dataset.column_detection import DEFAULT_LANGUAGES, Columns, RequestedColumns
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.extra_columns import NO_COLUMNS, ExtraColumns, plain_columns, united_columns
from mtx.infra.dataset.pair_stream import OnError, Refusals
from mtx.infra.dataset.sources.aligned_languages import aligned_languages
from mtx.infra.dataset.sources.file_discovery import FoundFiles, find_files
from mtx.infra.dataset.sources.file_pieces import FilePieces, file_pieces, read_files
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.formats import READERS
from mtx.infra.dataset.sources.installed_catalogue_search import find_catalogues
from mtx.infra.dataset.sources.local_files import SourceFile, names_text
from mtx.infra.dataset.sources.path_options import FilePaths, Paths, plain_paths, split_paths
from mtx.redaction_and_escaping import one_line

Part = tuple[SourceFile, ...]  # one file with both texts, or a source file and a target file

SOURCE_KEYS = ("path", "source_path", "target_path", "package")


@component("downloader")
class LocalDownloader(Downloader):
    """Reads parallel text from local files. The texts stay unchanged and keep their order.

    The id of the dataset depends on the content of the files and not on their location. A corpus that has moved is
    therefore not read again. The files must not change while mtx reads them.

    Args:
        path: a file, optionally with `.gz` or `.zst` added: `.jsonl`, `.ndjson`, `.tsv`, `.csv`, `.parquet`, `.tmx`,
            `.xlf`, `.xliff`, `.po`, `.mo`, or an OPUS archive (`.zip`). Or a folder, a pattern such as
            `data/*.jsonl.gz`, or a list of all these. The files are read one after another. The files of a folder or a
            pattern are read in the order of their names. Or paths for each split, such as
            `{train: corpus/, validation: b.jsonl}`.
        source_path: instead of `path`: plain text with one sentence per line; a file, a pattern, a list, or paths for
            each split.
        target_path: the translations of `source_path`, line by line; as many files, in the same order.
        package: instead of `path`: an installed Python or Debian package; its gettext catalogues in `target_language`
            are read.
        source_column: the column or key with the source text. None: found among `src`/`tgt`, `source`/`target`, columns
            with the names of the languages, or objects in `translation`.
        target_column: the column or key with the target text. None: found as for `source_column`.
        columns: other columns (JSON: keys) to keep: `none`, `all`, a list of names, or a mapping of names to types. A
            type is `str`, `int`, `float`, `bool`, `timestamp`, or None for the type in the file. TSV and CSV contain
            only texts. In JSON, the first 10,000 lines decide the types. With `all`, a file that lacks a column gets
            nulls.
        source_language: name of the source language in the files; in TMX, XLIFF and catalogues, `en` also matches
            `en-US`. None: the language that TMX and XLIFF state, `en` in catalogues, the first key of `translation`,
            the ending of the file name (`corpus.en`), or `src`.
        target_language: name of the target language, found in the same way.
        header: true: the first line of TSV and CSV contains the names of the columns. false: the first line is a pair,
            the columns are called 1, 2, …, and the first two columns are the texts.
        keep_fuzzy: also read translations in catalogues and XLIFF that are marked as needing review.
        on_error: `raise` raises an error at the first row that is not a pair of texts; `skip` leaves out such rows and
            counts them by reason. Truncated files, and CSV or XML that cannot be parsed, always raise an error.
        name: name of the corpus in tables and reports. None: the name of the file without endings, of the folder, or of
            the package.
        n: take only the first n pairs of the training split. None: all pairs.
    """

    kind: ClassVar[str] = "downloader/local"
    version: ClassVar[int] = 1

    path: FilePaths | None = None
    source_path: FilePaths | None = None
    target_path: FilePaths | None = None
    package: str | None = None
    source_column: str | int | None = None
    target_column: str | int | None = None
    columns: ExtraColumns = field(default="none", metadata=LATER)
    source_language: str | None = None
    target_language: str | None = None
    header: bool = True
    keep_fuzzy: bool = False
    on_error: OnError = "raise"
    name: str | None = None
    n: Count | None = None

    def __post_init__(self) -> None:
        for key in SOURCE_KEYS[:3]:
            object.__setattr__(self, key, plain_paths(key, getattr(self, key)))
        for key in ("source_column", "target_column"):  # a number is the name of a column in a file without header
            if isinstance(value := getattr(self, key), int):
                object.__setattr__(self, key, str(value))
        object.__setattr__(self, "columns", plain_columns(self.columns))
        given = [key for key in SOURCE_KEYS if getattr(self, key) is not None]
        if given not in (["path"], ["source_path", "target_path"], ["package"]):
            raise ConfigError(
                "set either downloader.path=FILE, or both downloader.source_path=FILE and "
                "downloader.target_path=FILE, or downloader.package=NAME, and nothing else of these; set: "
                f"{', '.join(given) or 'none of them'}"
            )
        if self.package is not None and self.target_language is None:
            raise ConfigError("downloader.package needs a target language. Set downloader.target_language=NAME")
        splits = {key: split_paths(key, getattr(self, key)) for key in ("path", "source_path", "target_path")}
        if splits["source_path"].keys() != splits["target_path"].keys():
            raise ConfigError(
                "downloader.source_path and downloader.target_path must have the same splits, but have "
                f"{', '.join(splits['source_path'])} and {', '.join(splits['target_path'])}. Add the missing paths"
            )

    def info(self) -> SourceInfo:
        """Return the description of the files, from their first rows and their digests. Raises SourceError."""
        languages = self._languages
        files: dict[str, JSON] = {
            split: [{"format": file.format, "compression": file.compression, "sha256": sha256} for file, sha256 in side]
            for split, side in self._digests.items()
        }
        unused = () if self.keep_fuzzy else ("keep_fuzzy",)  # so that the ids of older datasets stay valid
        config = identity(self, exclude=(*SOURCE_KEYS, "name", *unused))
        return SourceInfo(
            name=self.name or self._own_name(),
            languages=languages,
            revision=f"sha256:{digest(files)}",
            identity={**config, "files": files, "languages": list(languages)},
            splits=tuple(self._parts),
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield one split in bounded memory, and count the rows that are left out. Raises SourceError."""
        if split not in self._parts:
            raise SourceError(f"there is no file for the split {split!r}; present: {choices(split, self._parts)}")
        refusals = Refusals(self.on_error, counts)
        yield from self.joined_pieces(split, self._read(split, refusals, self.n if split == "train" else None), counts)

    def piece_reader(self, split: str, piece_bytes: int) -> FilePieces | None:
        """Return what reads parts of the files; None for few bytes, or if only the first n pairs are read."""
        if split not in self._parts or (split == "train" and self.n is not None):
            return None
        return file_pieces(list(self.files_of(split)), piece_bytes, self.read_options, self.on_error)

    def joined_pieces(
        self, split: str, batches: Iterator[pa.RecordBatch], counts: dict[str, int]
    ) -> Iterator[pa.RecordBatch]:
        """Yield all pairs of a split. Raises SourceError if there is none, or if a file has changed."""
        num_rows = 0
        for batch in regrouped_batches(batches):
            num_rows += batch.num_rows
            yield batch
        parts = self._parts[split]
        _check_unchanged(parts)
        if not num_rows:
            refused = ", ".join(f"{reason} {number:,}" for reason, number in counts.items())
            more = f" and {len(parts) - 1:,} more" if len(parts) > 1 else ""
            raise SourceError(
                f"{parts[0][0].path}{more} has no pair of texts{f' (left out: {refused})' if refused else ''}. "
                "Set another file with downloader.path=FILE"
            )

    def check_unchanged(self) -> None:
        """Raise SourceError if a file of the training split has changed since `info` described it."""
        _check_unchanged(self._parts["train"])

    def _read(self, split: str, refusals: Refusals, limit: int | None) -> Iterator[pa.RecordBatch]:
        for part, columns in self.files_of(split):
            if columns is None:
                continue
            for batch in read_files(part, columns, self.read_options, refusals, limit):
                yield batch
                if limit is not None:
                    limit -= batch.num_rows
            if limit == 0:
                return

    def files_of(self, split: str) -> Iterator[tuple[Part, Columns | None]]:
        """Yield the files of a split in order, with the columns of their texts; None for a file without pairs."""
        return zip(self._parts[split], self._columns[split], strict=True)

    @property
    def read_options(self) -> ReadOptions:
        """The options of the formats."""
        return ReadOptions(header=self.header, keep_fuzzy=self.keep_fuzzy)

    @cached_property
    def _parts(self) -> dict[str, tuple[Part, ...]]:
        """The files of each split, or the pairs of a source file and a target file; the training split comes first."""
        if self.package is not None:
            return {"train": tuple((file,) for file in find_catalogues(self.package, str(self.target_language)))}
        if self.path is not None:
            paths = split_paths("path", self.path)
            return {split: tuple((file,) for file in _find_files(*paths[split]).files) for split in paths}
        sources, targets = (split_paths(key, getattr(self, key)) for key in ("source_path", "target_path"))
        parts: dict[str, tuple[Part, ...]] = {}
        for split in sources:
            source, target = (_find_files(*side[split], lines=True).files for side in (sources, targets))
            if len(source) != len(target):
                raise SourceError(
                    f"{sources[split][0]} and {targets[split][0]} must have the same number of files, but have "
                    f"{len(source):,} files ({names_text([file.path.name for file in source])}) and "
                    f"{len(target):,} ({names_text([file.path.name for file in target])}). Add the missing files"
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
        """The languages of the training split: those in the config, or those of the first file that states them."""
        found = next((columns for columns in self._columns["train"] if columns is not None), None)
        return DEFAULT_LANGUAGES if found is None else found.languages

    @cached_property
    def _columns(self) -> dict[str, list[Columns | None]]:
        """The text columns of each file, or None for a file without pairs.

        All files get the training split's languages.
        """
        found: dict[str, list[Columns | None]] = {}
        known = [self.source_language, self.target_language]
        with distinct_assumptions():
            for split, parts in self._parts.items():
                found[split] = [self._find_columns(part, known, alone=len(parts) == 1) for part in parts]
        languages = (known[0] or DEFAULT_LANGUAGES[0], known[1] or DEFAULT_LANGUAGES[1])
        schemas = [one.extra for columns in found.values() for one in columns if one is not None]
        extra = united_columns(schemas, str(self._parts["train"][0][0].path.parent))
        return {
            split: [one and replace(one, languages=languages, extra=extra) for one in columns]
            for split, columns in found.items()
        }

    def _find_columns(self, part: Part, known: list[str | None], *, alone: bool) -> Columns | None:
        """Return the text columns of one file, and add the languages that the file states to `known`.

        If the file contains no pair, return None with a warning, or raise SourceError if it is the split's only file
        (`alone`).
        """
        file, *others = part
        wanted = RequestedColumns(
            source_column=None if self.source_column is None else str(self.source_column),
            target_column=None if self.target_column is None else str(self.target_column),
            source_language=known[0],
            target_language=known[1],
            extra=self.columns,
        )
        if others:
            columns: Columns | None = Columns("src", "tgt", aligned_languages(file, others[0], wanted))
        else:
            reader = READERS[file.format]
            columns = reader.find(file, wanted, self.read_options, Refusals(self.on_error))
            if columns is None:
                what = f"{file.name} has no {reader.UNIT_NAME}"
                if alone:
                    raise SourceError(f"{what}. Set another file with downloader.path=FILE")
                assume(f"the file is skipped, because {what}")
                return None
        assert columns is not None
        if not columns.extra:  # raises SourceError if extra columns are requested
            columns = columns.with_extra(NO_COLUMNS, wanted, file.name)
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
        _, paths = split_paths("path", self.path or self.source_path)["train"]
        folder = expanded_path(paths) if isinstance(paths, str) else first.path
        return one_line((folder if folder.is_dir() else first.path.parent).resolve().name)


def _check_unchanged(parts: Sequence[Part]) -> None:
    for part in parts:
        for file in part:
            file.check_unchanged()


def _find_files(key: str, paths: Paths, *, lines: bool = False) -> FoundFiles:
    """Return the files that `paths` lead to, and tell the names of skipped files."""
    found = find_files(paths, key, lines=lines)
    if found.skipped_files:
        assume(
            f"of the files of {key}, {len(found.files):,} are read and {len(found.skipped_files):,} skipped: "
            f"{names_text(found.skipped_files)}"
        )
    return found
