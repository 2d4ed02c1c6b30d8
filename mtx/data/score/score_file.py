"""Files of scores that other tools have written: Parquet, CSV and TSV tables, or plain numbers, one per line."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mtx.components.identity import ID_DIGITS
from mtx.errors import ConfigError, DataError, choices
from mtx.infra.dal.row_views import ROW_COLUMN
from mtx.library_errors import library_reason

KEY = "score.given"
DELIMITERS = {".csv": ",", ".tsv": "\t"}
COMPRESSED = {".gz", ".bz2", ".zst", ".lz4"}  # what Arrow recognises by the end of a name
NUMBER = "number"  # the column of a file of plain numbers

Floats = NDArray[np.float64]


def format_suffix(path: Path) -> str:
    """Return the suffix that decides how a file is read, such as `.tsv` for `scores.tsv.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in {*DELIMITERS, ".parquet"} else ""


def content_digest(path: Path, key: str = f"{KEY}.path") -> str:
    """Return a digest of the content of the file that a key of the config names. Raises ConfigError if unreadable."""
    return _content_digest(path, _stamp(path, key))


@dataclass(frozen=True)
class ScoreFile:
    """The scores in a file.

    Attributes:
        path: the file.
        rows: the row number of each line, ascending, int64 [lines]; None: line k belongs to pair k.
        values: the scores by column, float64 [lines], in the order of `rows`.
    """

    path: Path
    rows: NDArray[np.int64] | None
    values: Mapping[str, Floats]

    @classmethod
    def read(cls, path: Path, columns: Sequence[str]) -> "ScoreFile":
        """Read the named columns of a file; an unchanged file is read once.

        Args:
            path: the file.
            columns: the columns to read; empty: the only column beside `row`.

        Raises:
            ConfigError: a column does not exist.
            DataError: the file cannot be read, or values are no numbers.
        """
        return _read(path, tuple(columns), _stamp(path))

    @property
    def num_lines(self) -> int:
        """The number of lines."""
        return len(next(iter(self.values.values())))

    def check(self, num_pairs: int, *, is_partial: bool) -> None:
        """Check that the file has a score for each pair of a corpus, and no others.

        Args:
            num_pairs: number of raw pairs of the corpus.
            is_partial: whether pairs may be missing in a file with the column `row`.

        Raises:
            DataError: the file has too few or too many lines, or unknown or repeated rows.
        """
        if self.rows is None:
            if self.num_lines != num_pairs:
                raise DataError(
                    f"{self.path} must have one score for each of the {num_pairs} raw pairs of the corpus, but has "
                    f"{self.num_lines}. Score all pairs, or add the column {ROW_COLUMN} with the number of each pair, "
                    "from 0"
                )
            return
        unknown = self.rows[(self.rows < 0) | (self.rows >= num_pairs)]
        if len(unknown):
            raise DataError(
                f"{self.path} names {_rows(len(unknown))} that the corpus does not have, such as {unknown[0]}. It has "
                f"{num_pairs} pairs, with the rows from 0"
            )
        repeated = self.rows[1:][self.rows[1:] == self.rows[:-1]]
        if len(repeated):
            raise DataError(
                f"{self.path} must name each row once, but names {_rows(len(np.unique(repeated)))} several times, such "
                f"as {repeated[0]}"
            )
        if self.num_lines < num_pairs and not is_partial:
            missing = np.setdiff1d(np.arange(num_pairs), self.rows)
            raise DataError(
                f"{self.path} has scores for {self.num_lines} of the {num_pairs} raw pairs of the corpus, and none for "
                f"{len(missing)}, such as row {missing[0]}. Score all pairs, or give the others no score with "
                f"{KEY}.partial=true"
            )

    def take(self, rows: NDArray[np.int64]) -> list[Floats]:
        """Return the scores of the pairs with the given numbers, by column: float64 [n], NaN without a line."""
        places = rows if self.rows is None else np.searchsorted(self.rows, rows)
        within = np.minimum(places, max(self.num_lines - 1, 0))
        is_known = places < self.num_lines
        if self.rows is not None and self.num_lines:
            is_known &= self.rows[within] == rows
        return [
            np.where(is_known, of[within], np.nan) if len(of) else np.full(len(rows), np.nan)
            for of in self.values.values()
        ]


def numbers(column: pa.ChunkedArray | pa.Array, named: str) -> Floats:
    """Return a numeric column as float64 [n], NaN for null. Raises DataError if it is not numeric."""
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DataError(f"a score is a number, but {named} is of type {kind}, such as {_example(column)}")
    found: Floats = column.cast(pa.float64()).fill_null(float("nan")).to_numpy()
    return found


def _example(column: pa.ChunkedArray | pa.Array) -> str:
    """Return the first value that is no number, for a message."""
    for number, value in enumerate(column.slice(0, 100_000).to_pylist()):
        try:
            float(value)
        except (TypeError, ValueError):
            return f"{str(value)[:40]!r} in line {number + 1} of the values"
    return repr(column[0].as_py()) if len(column) else "none"


def _stamp(path: Path, key: str = f"{KEY}.path") -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise ConfigError(f"{key}={path} cannot be read: {library_reason(error)}. Set {key}=FILE") from error
    if not path.is_file():
        raise ConfigError(f"{key}={path} must be a file, but is a folder. Set {key}=FILE")
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=8)
def _content_digest(path: Path, stamp: tuple[int, int]) -> str:
    del stamp  # part of the key, so that a changed file is read again
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:ID_DIGITS]


@lru_cache(maxsize=2)
def _read(path: Path, columns: Sequence[str], stamp: tuple[int, int]) -> ScoreFile:
    del stamp
    table = _table(path)
    available = [name for name in table.column_names if name != ROW_COLUMN]
    names = columns or available
    if unknown := [name for name in names if name not in available]:
        raise ConfigError(
            f"{path} has no column {unknown[0]}. Its columns: {choices(unknown[0], available)}. Set {KEY}.column=COLUMN"
        )
    if not columns and len(names) != 1:
        raise ConfigError(
            f"{path} must have one column beside {ROW_COLUMN}, but has {len(names)}: {', '.join(names) or 'none'}. "
            f"Name those to read, such as '{KEY}.column=[{','.join(names[:2])}]'"
        )
    values = {name: numbers(table[name], f"the column {name} of {path}") for name in names}
    if ROW_COLUMN not in table.column_names:
        return ScoreFile(path, None, values)
    column = table[ROW_COLUMN]
    if len(column) and (not pa.types.is_integer(column.type) or column.null_count):
        raise DataError(
            f"the column {ROW_COLUMN} of {path} must be whole numbers, but is of type {column.type} and has "
            f"{column.null_count} empty values"
        )
    rows = column.cast(pa.int64()).to_numpy()
    order = np.argsort(rows, kind="stable")
    return ScoreFile(path, rows[order], {name: of[order] for name, of in values.items()})


def _table(path: Path) -> pa.Table:
    suffix = format_suffix(path)
    try:
        if suffix == ".parquet":
            return pq.read_table(path)
        plain = pa_csv.ReadOptions(column_names=[NUMBER])
        return pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions() if suffix in DELIMITERS else plain,
            # Plain numbers are the only column, so no line is split.
            parse_options=pa_csv.ParseOptions(delimiter=DELIMITERS.get(suffix, "\t"), ignore_empty_lines=False),
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a file of scores: {library_reason(error)}") from error


def _rows(number: int) -> str:
    return f"{number} row{'s' * (number != 1)}"
