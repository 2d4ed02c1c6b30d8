"""Parallel text in files of one's own: JSON Lines, TSV, CSV, Parquet, or two files of line-aligned text."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from mtx.errors import ConfigError, SourceError, choices
from mtx.identity import JSON, digest, identity
from mtx.infra.dataset.columns import Columns, Wanted, find_columns
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pairs import OnError, Refusals, batches_of_rows, regrouped
from mtx.infra.dataset.sources.aligned import check_lengths, read_aligned
from mtx.infra.dataset.sources.delimited import delimited_columns, read_delimited
from mtx.infra.dataset.sources.files import SourceFile, find_file
from mtx.infra.dataset.sources.jsonl import jsonl_columns, read_jsonl
from mtx.infra.dataset.sources.parquet import parquet_columns, read_parquet

FilePath = str | os.PathLike[str]
FilePaths = FilePath | Mapping[str, FilePath]

SPLITS = ("train", "validation", "test")
MAX_LANGUAGE_CHARS = 8  # of a file's ending that may be a language: en, deu, zh_Hant


@dataclass(frozen=True, kw_only=True)
class LocalDownloader(Downloader):
    """Reads local files as they are: texts are never changed, and their order is kept.

    The files' content names the dataset, not where they lie: a corpus that moved is not read again. They must not
    change while they are read.

    Args:
        path: a `.jsonl`, `.ndjson`, `.tsv`, `.csv` or `.parquet` file, also with `.gz` or `.zst` behind; or one for
            each split, such as `{train: a.jsonl, validation: b.jsonl}`.
        source_path: instead of `path`: plain text, a sentence a line; likewise one or one for each split.
        target_path: its translation, line by line.
        source_column: the column or key with the source text. None: found among `src`/`tgt`, `source`/`target`, columns
            named by the languages, or objects in `translation`.
        target_column: the same for the target text.
        source_language: as the files call it. None: the first key of `translation`, the ending of the file's name
            (`corpus.en`), or `src`.
        target_language: the same for the target.
        header: the first line of TSV and CSV names the columns; false: it is a pair, and the first two columns are
            taken (columns are then called 1, 2, …).
        on_error: `raise` stops at the first row that is no pair of texts; `skip` leaves such rows out and counts them
            by reason. Files cut short and CSV that cannot be parsed always stop.
        name: what to call the corpus. None: the file's name without endings.
        n: take the first n pairs of the training split. None: all.
    """

    path: FilePaths | None = None
    source_path: FilePaths | None = None
    target_path: FilePaths | None = None
    source_column: str | int | None = None
    target_column: str | int | None = None
    source_language: str | None = None
    target_language: str | None = None
    header: bool = True
    on_error: OnError = "raise"
    name: str | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        for key in ("path", "source_path", "target_path"):
            object.__setattr__(self, key, _plain(key, getattr(self, key)))
        for key in ("source_column", "target_column"):  # a number names a column of a file without header
            if isinstance(value := getattr(self, key), int):
                object.__setattr__(self, key, str(value))
        if self.n is not None and self.n < 1:
            raise ConfigError(f"downloader.n is a number of pairs, at least 1, or null for all, but is {self.n}")
        Refusals(self.on_error)
        pairs = self.source_path is not None, self.target_path is not None
        if (self.path is not None) == any(pairs) or any(pairs) != all(pairs):
            given = [key for key in ("path", "source_path", "target_path") if getattr(self, key) is not None]
            raise ConfigError(
                "local files are given by downloader.path=FILE alone, or by downloader.source_path=FILE and "
                f"downloader.target_path=FILE together; given: {', '.join(given) or 'none of them'}"
            )
        splits = {key: _splits(key, getattr(self, key)) for key in ("path", "source_path", "target_path")}
        if splits["source_path"].keys() != splits["target_path"].keys():
            raise ConfigError(
                "downloader.source_path and downloader.target_path name the same splits, but have "
                f"{', '.join(splits['source_path'])} and {', '.join(splits['target_path'])}"
            )

    def info(self) -> SourceInfo:
        """Look at the files: the columns of their first rows, and their digests. Raises SourceError."""
        columns = self._columns
        files: dict[str, JSON] = {
            split: [{"format": file.format, "compression": file.compression, "sha256": sha256} for file, sha256 in side]
            for split, side in self._digests.items()
        }
        config = identity(self, exclude=("path", "source_path", "target_path", "name"))
        return SourceInfo(
            name=self.name or self._files["train"][0].stem,
            languages=columns["train"].languages,
            revision=f"sha256:{digest(files)}",
            identity={**config, "files": files, "languages": list(columns["train"].languages)},
            splits=tuple(self._files),
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream one split, in bounded memory, and count rows that are left out. Raises SourceError."""
        if split not in self._files:
            raise SourceError(f"there is no file for the split {split!r}; there are: {choices(split, self._files)}")
        files, refusals = self._files[split], Refusals(self.on_error, counts)
        num_rows = 0
        for batch in regrouped(self._read(split, refusals, self.n if split == "train" else None)):
            num_rows += batch.num_rows
            yield batch
        for file in files:
            file.check_unchanged()
        if not num_rows:
            refused = ", ".join(f"{reason} {number:,}" for reason, number in counts.items())
            raise SourceError(
                f"{files[0].path} has no pair of texts{f' (left out: {refused})' if refused else ''}. "
                "Name another file with downloader.path=FILE"
            )

    def _read(self, split: str, refusals: Refusals, limit: int | None) -> Iterator[pa.RecordBatch]:
        file, *others = self._files[split]
        if file.format == "lines":
            if limit is not None:
                check_lengths(file, others[0])
            return batches_of_rows(read_aligned(file, others[0], refusals), limit)
        columns = self._columns[split]
        if file.format == "jsonl":
            return read_jsonl(file, columns, refusals, limit)
        if file.format == "parquet":
            return read_parquet(file, columns, refusals, limit)
        return batches_of_rows(read_delimited(file, columns, refusals, header=self.header), limit)

    @cached_property
    def _files(self) -> dict[str, tuple[SourceFile, ...]]:
        """The files of each split: one, or source and target; training first."""
        if self.path is not None:
            return {split: (find_file(path, key),) for split, (key, path) in _splits("path", self.path).items()}
        source, target = (_splits(key, getattr(self, key)) for key in ("source_path", "target_path"))
        return {
            split: tuple(find_file(side[split][1], side[split][0], lines=True) for side in (source, target))
            for split in source
        }

    @cached_property
    def _digests(self) -> dict[str, list[tuple[SourceFile, str]]]:
        return {split: [(file, file.sha256()) for file in files] for split, files in self._files.items()}

    @cached_property
    def _columns(self) -> dict[str, Columns]:
        """Where the texts are in each split; the languages are those of the training split."""
        found: dict[str, Columns] = {}
        for split, (file, *others) in self._files.items():
            source, target = found["train"].languages if found else (self.source_language, self.target_language)
            wanted = Wanted(
                source_column=None if self.source_column is None else str(self.source_column),
                target_column=None if self.target_column is None else str(self.target_column),
                source_language=source,
                target_language=target,
                pair=_pair_by_name(file, others[0]) if others else None,
            )
            found[split] = self._find_columns(file, wanted)
        return found

    def _find_columns(self, file: SourceFile, wanted: Wanted) -> Columns:
        if file.format == "lines":
            return find_columns({"src": (), "tgt": ()}, wanted, str(file.path))
        if file.format == "jsonl":
            return jsonl_columns(file, wanted, Refusals(self.on_error))
        if file.format == "parquet":
            return parquet_columns(file, wanted)
        return delimited_columns(file, wanted, header=self.header)


def _plain(key: str, paths: FilePaths | None) -> str | dict[str, str] | None:
    """Return paths as str. Raises ConfigError where they are something else."""
    if isinstance(paths, Mapping):
        return {str(split): str(_plain(f"{key}.{split}", path)) for split, path in paths.items()}
    if paths is None or isinstance(paths, (str, os.PathLike)):
        return None if paths is None else os.fspath(paths)
    raise ConfigError(f"downloader.{key} is the path of a file, or one for each split, but is {paths!r}")


def _splits(key: str, paths: FilePaths | None) -> dict[str, tuple[str, FilePath]]:
    """Return each split's config key and path, training first. Raises ConfigError."""
    if paths is None:
        return {}
    if not isinstance(paths, Mapping):
        return {"train": (f"downloader.{key}", paths)}
    unknown = [split for split in paths if split not in SPLITS]
    if unknown or "train" not in paths:
        said = f"has {unknown[0]!r}" if unknown else "has no train"
        raise ConfigError(
            f"downloader.{key} names a file, or one for each of {', '.join(SPLITS)}, with train; but it {said}"
        )
    return {split: (f"downloader.{key}.{split}", paths[split]) for split in SPLITS if split in paths}


def _pair_by_name(source: SourceFile, target: SourceFile) -> str | None:
    """Return `en-de` for files such as `corpus.en` and `corpus.de.gz`."""
    names = [file.path.name.removesuffix(file.path.suffix if file.compression else "") for file in (source, target)]
    (stem, _, language), (other_stem, _, other) = (name.rpartition(".") for name in names)
    fits = stem and stem == other_stem and language != other and "-" not in language + other
    return f"{language}-{other}" if fits and max(len(language), len(other)) <= MAX_LANGUAGE_CHARS else None
