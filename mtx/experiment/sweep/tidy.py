"""Results as tidy tables: one row a job, one column a setting or a metric, for pandas, polars and spreadsheets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from mtx.experiment.sweep.results import JobRecord, Results
from mtx.infra.dal.base import atomic_file

CSV_FILE = "results.csv"
PARQUET_FILE = "results.parquet"


def tidy(results: Results) -> pa.Table:
    """Return one row a job.

    Columns: `job`, `folder`, `state`, `reused`, `started`, `ended`, `seconds`, `error`, `config_hash`; `choice.GROUP`
    for the option of each group; settings under their own keys, as `sampler.max_tokens`; `objective.NAME` and
    `metric.NAME` for numbers of the report. A column holds integers, numbers, truth values or texts; what a job does
    not have is null; values of several kinds become texts.
    """
    jobs = results.jobs
    columns: dict[str, list[Any]] = {
        "job": [job.name for job in jobs],
        "folder": [str(job.folder) for job in jobs],
        "state": [job.state for job in jobs],
        "reused": [job.reused for job in jobs],
        "started": [job.started for job in jobs],
        "ended": [job.ended for job in jobs],
        "seconds": [job.seconds for job in jobs],
        "error": [job.error for job in jobs],
        "config_hash": [job.config_hash for job in jobs],
    }
    for prefix, field in (("choice.", "choices"), ("", "config"), ("objective.", "objectives"), ("metric.", "metrics")):
        for key in _keys(jobs, field):
            columns.setdefault(f"{prefix}{key}", [getattr(job, field).get(key) for job in jobs])
    return pa.table({name: _column(values) for name, values in columns.items()})


def write_tidy(results: Results, folder: Path) -> tuple[Path, Path]:
    """Write `results.csv` and `results.parquet` into `folder`, each whole or not at all, and return their paths.

    Raises StoreError where the disk refuses.
    """
    table = tidy(results)
    csv, parquet = folder / CSV_FILE, folder / PARQUET_FILE
    for path, write in ((csv, pyarrow.csv.write_csv), (parquet, pyarrow.parquet.write_table)):
        sink = pa.BufferOutputStream()
        write(table, sink)
        with atomic_file(path) as file:
            file.write(sink.getvalue())
    return csv, parquet


def _keys(jobs: Sequence[JobRecord], field: str) -> list[str]:
    """Return all keys that jobs have in a field, in the order in which they come."""
    return list(dict.fromkeys(key for job in jobs for key in getattr(job, field)))


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {str}:
        return pa.array([None if value is None else _encodable(value) for value in values], pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else _encodable(str(value)) for value in values], pa.string())


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
