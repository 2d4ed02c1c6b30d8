"""`held_out.parquet`: statistics of each held-out pair, from which a verdict gets intervals over sentences.

The file has one line for each pair, in the order of `row`: `document`, the number of its document if known; `nats` and
`target_bytes` of the last validation; the slices of the pair; whether its target was the likeliest of ten; and, for
translated pairs, the statistics of BLEU and chrF. It contains no text.
`docs/report.md` describes the columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mtx.errors import DamagedError, NewerFormatError
from mtx.evaluation.corpus_metrics import METRICS, ScoreStatistics
from mtx.infra.dal.atomic_file import atomic_file
from mtx.library_errors import library_reason
from mtx.records.record_file import REPEAT

HELD_OUT_FILE = "held_out.parquet"
HELD_OUT_VERSION = 1
VERSION_KEY, DIGEST_KEY = b"mtx.held_out_version", b"mtx.held_out_digest"
MAX_PAIRS = 5_000_000  # pairs that a reader accepts; with the columns of a metric at most 800 MB
MAX_FILE_BYTES = 2**30
MAX_DIGEST_CHARS = 200
MAX_COUNT = 2**53  # counts below are exact as float64

LIKELIHOOD = METRICS["bits_per_byte"].statistics
TYPES = {
    "row": pa.int64(),
    "document": pa.int64(),
    **{name: pa.int64() for metric in METRICS.values() for name in metric.statistics},
    "nats": pa.float64(),
    "is_first": pa.int64(),
}
SLICE_PREFIX = "slice."  # of columns with the number of a pair's slice, int64


@dataclass(frozen=True, eq=False)
class SentenceStatistics:
    """The statistics of held-out pairs for one metric.

    Attributes:
        digest: the digest of the held-out pairs, as in the report; None if the file does not say.
        rows: the rows of the pairs in their dataset, ascending, int64 [n].
        documents: the number of the document of each pair, -1 for a pair without one, int64 [n]; None if not known.
        values: the statistics, in the order of `CorpusMetric.statistics`, float64 [n, k].
    """

    digest: str | None
    rows: NDArray[np.int64]
    documents: NDArray[np.int64] | None
    values: NDArray[np.float64]


def write_likelihoods(folder: Path, likelihoods: NDArray[np.float64]) -> None:
    """Write the file with the likelihoods of held-out pairs alone, in place of a former file.

    Args:
        folder: the folder of the run.
        likelihoods: row, nats and bytes of each pair, float64 [3, n]. The numbers of equal rows are summed.

    Raises:
        StoreError: The file cannot be written.
    """
    rows, place = np.unique(likelihoods[0].astype(np.int64), return_inverse=True)
    nats, num_bytes = (np.bincount(place, weights=numbers, minlength=len(rows)) for numbers in likelihoods[1:])
    _write(folder, {"row": rows, "nats": nats, "target_bytes": num_bytes.astype(np.int64)}, None)


def complete_held_out(
    folder: Path,
    *,
    digest: str | None,
    documents: NDArray[np.int64] | None,
    scores: ScoreStatistics | None,
    columns: Mapping[str, NDArray[np.int64]] | None = None,
) -> Path | None:
    """Add what the training does not know to the file, and return its path; None without any statistics.

    Args:
        folder: the folder of the run.
        digest: the digest of the held-out pairs, as in the report.
        documents: the number of the document of each row, -1 for none; None if documents are not known.
        scores: the statistics of translated pairs; None if there are none.
        columns: further numbers of each row by name, -1 for none, int64 [n]: `slice.NAME` and `is_first`.

    Raises:
        DamagedError: The file cannot be read.
        StoreError: The file cannot be written.
    """
    found = _read(folder / HELD_OUT_FILE, ("row", *LIKELIHOOD))
    table = None if found is None else found.select(["row", *LIKELIHOOD])
    if scores is not None:
        of_scores = {**_columns("scores.bleu", scores.bleu), **_columns("scores.chrf", scores.chrf)}
        scored = pa.table({"row": scores.rows, **of_scores})
        table = scored if table is None else table.join(scored, "row", join_type="full outer")
    if table is None:
        return None
    table = table.sort_by("row")
    of_rows = {**({} if documents is None else {"document": documents}), **(columns or {})}
    for name, of_row in of_rows.items():
        numbers = of_row[table["row"].to_numpy()]
        table = table.append_column(name, pa.array(numbers, pa.int64(), mask=numbers < 0))
    return _write(folder, dict(zip(table.column_names, table.columns, strict=True)), digest)


def read_columns(folder: Path, names: tuple[str, ...] | None = None) -> pa.Table | None:
    """Return those of the named columns that the file has, all of them for None; None without a file.

    Raises:
        DamagedError: The file cannot be read, or is no table of held-out pairs.
        NewerFormatError: A newer version of mtx wrote the file.
    """
    return _read(folder / HELD_OUT_FILE, names)


def read_held_out(folder: Path, metric: str) -> SentenceStatistics | None:
    """Return the statistics of a metric; None if there is no file, or no pair has them.

    Args:
        folder: the folder of a run.
        metric: a name in `METRICS`.

    Raises:
        DamagedError: The file cannot be read, or is no table of held-out pairs.
        NewerFormatError: A newer version of mtx wrote the file.
    """
    path, names = folder / HELD_OUT_FILE, METRICS[metric].statistics
    table = _read(path, ("row", "document", *names))
    if table is None or not set(names) <= set(table.column_names):
        return None
    table = table.filter(pc.is_valid(table[names[0]]))
    if not len(table):
        return None
    if any(table[name].null_count for name in ("row", *names)):
        raise _damaged(path, "a pair has only some of its statistics")
    rows = table["row"].to_numpy()
    values = np.stack([table[name].to_numpy().astype(np.float64) for name in names], axis=1)
    if rows[0] < 0 or (np.diff(rows) <= 0).any():
        raise _damaged(path, "its rows do not ascend from 0")
    counts = values[:, [TYPES[name] == pa.int64() for name in names]]
    if counts.min() < 0 or counts.max() >= MAX_COUNT:
        raise _damaged(path, "a count is negative, or 2^53 or more")
    documents = table["document"].fill_null(-1).to_numpy() if "document" in table.column_names else None
    digest = (table.schema.metadata or {}).get(DIGEST_KEY, b"")[:MAX_DIGEST_CHARS]
    return SentenceStatistics(digest.decode("utf-8", "replace") or None, rows, documents, values)


def _columns(metric: str, statistics: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    return dict(zip(METRICS[metric].statistics, np.ascontiguousarray(statistics.T), strict=True))


def _write(folder: Path, columns: dict[str, object], digest: str | None) -> Path:
    ordered = {name: columns[name] for name in TYPES if name in columns}
    ordered |= {name: column for name, column in columns.items() if name.startswith(SLICE_PREFIX)}
    schema = pa.schema([(name, _type(name)) for name in ordered])
    metadata = {VERSION_KEY: str(HELD_OUT_VERSION).encode(), DIGEST_KEY: (digest or "").encode()}
    table = pa.table(ordered, schema=schema.with_metadata(metadata))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    path = folder / HELD_OUT_FILE
    with atomic_file(path) as file:
        file.write(sink.getvalue())
    return path


def _type(name: str) -> pa.DataType:
    return pa.int64() if name.startswith(SLICE_PREFIX) else TYPES[name]


def _read(path: Path, names: tuple[str, ...] | None) -> pa.Table | None:
    """Return those of the named columns that the file has, of the types in `TYPES`; None without a file."""
    if not path.exists():
        return None
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            raise _damaged(path, f"it is no file of at most {MAX_FILE_BYTES:,} bytes")
        with pq.ParquetFile(path) as file:
            _check_version(path, file.schema_arrow.metadata or {})
            if file.metadata.num_rows > MAX_PAIRS:
                raise _damaged(path, f"it has {file.metadata.num_rows:,} pairs, but at most {MAX_PAIRS:,} are read")
            kinds = {field.name: field.type for field in file.schema_arrow}
            known = [name for name in kinds if name in TYPES or name.startswith(SLICE_PREFIX)]
            names = tuple(known) if names is None else names
            if wrong := [name for name in names if name in kinds and kinds[name] != _type(name)]:
                raise _damaged(path, f"its column {wrong[0]} should be {_type(wrong[0])}, but is {kinds[wrong[0]]}")
            if "row" not in kinds:
                raise _damaged(path, "it has no column row")
            return file.read([name for name in names if name in kinds])
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise DamagedError(f"{path} cannot be read: {library_reason(error)}. {REPEAT}") from error


def _check_version(path: Path, metadata: dict[bytes, bytes]) -> None:
    said = metadata.get(VERSION_KEY, b"")
    if not said.isdigit() or len(said) > 9 or int(said) < 1:
        raise _damaged(path, f"its metadata has no {VERSION_KEY.decode()}")
    if int(said) > HELD_OUT_VERSION:
        raise NewerFormatError(
            f"{path} has version {int(said)}, but this mtx reads versions up to {HELD_OUT_VERSION}: a newer mtx wrote "
            "it. Read it with that version of mtx, or leave its folder out"
        )


def _damaged(path: Path, problem: str) -> DamagedError:
    return DamagedError(f"{path} is no table of held-out pairs: {problem}. {REPEAT}")
