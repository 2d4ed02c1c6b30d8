"""`results.csv` and `results.parquet`: one row for each job, one column for each setting and metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from pydantic import Field, ValidationError

from mtx.errors import DamagedError, NewerFormatError
from mtx.infra.dal.atomic_file import atomic_file
from mtx.library_errors import library_reason
from mtx.records.cohorts import cohorts
from mtx.records.record_file import Number, Record, problems
from mtx.records.report_metrics import Value
from mtx.records.result_types import JobRecord, RecordState, Results
from mtx.records.verdict_lines import arm_verdict

CSV_FILE = "results.csv"
PARQUET_FILE = "results.parquet"
RESULTS_VERSION = 1
VERSION_KEY = b"mtx.results_version"  # in the metadata of the Parquet file; a CSV file has no place for it
PREFIXES = {
    "choices": "choice.",
    "settings": "",
    "objectives": "objective.",
    "metrics": "metric.",
    "verdict": "verdict.",
}


class ResultRow(Record):
    """A job as a row of the result tables.

    Attributes:
        job: The name of the job, unique in the table.
        folder, state, reused, started, ended, seconds, error, config_hash: The fields of the same names in `JobRecord`.
        choices: The option of each config group, in columns `choice.GROUP`.
        settings: The config values, in columns with the names of their keys.
        objectives, metrics: Numbers, in columns `objective.NAME` and `metric.NAME`.
        verdict: The verdict on the job's arm, in columns `verdict.NAME`: `arm` is the name of the arm. `result` is
            `winner`, `tied` (may be the best), `worse` (told apart from the best), `open` (no interval), `diverged` or
            null. `difference` is the difference to the best arm. `low` and `high` are the ends of its interval over
            seeds. `text_low` and `text_high` are the ends of its interval over held-out sentences.
    """

    job: str
    folder: str
    state: RecordState
    reused: bool
    started: str | None = None
    ended: str | None = None
    seconds: Number | None = None
    error: str | None = None
    config_hash: str | None = None
    choices: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Value] = Field(default_factory=dict)
    objectives: dict[str, Number] = Field(default_factory=dict)
    metrics: dict[str, Number] = Field(default_factory=dict)
    verdict: dict[str, Value] = Field(default_factory=dict)


FIXED = tuple(name for name in ResultRow.model_fields if name not in PREFIXES)


def row_of(job: JobRecord, verdict: Mapping[str, Value] | None = None) -> ResultRow:
    """Return a job as a row, with the verdict on its arm."""
    return ResultRow(
        job=job.name,
        folder=str(job.folder),
        state=job.state,
        reused=job.reused,
        started=job.started,
        ended=job.ended,
        seconds=job.seconds,
        error=job.error,
        config_hash=job.config_hash,
        choices=dict(job.choices),
        settings=dict(job.config),
        objectives=dict(job.objectives),
        metrics=dict(job.metrics),
        verdict=dict(verdict or {}),
    )


def result_rows(results: Results) -> tuple[ResultRow, ...]:
    """Return one row per job, with the verdict on its arm among the jobs that it may be compared with."""
    verdicts = {
        job.folder: arm_verdict(cohort.results, arm)
        for cohort in cohorts(results)
        for arm, group in cohort.results.arms.items()
        for job in group.jobs
    }
    return tuple(row_of(job, verdicts.get(job.folder)) for job in results.jobs)


def tidy(results: Results) -> pa.Table:
    """Return a table with one row for each job, and the columns that `ResultRow` describes.

    A column has one type: integer, number, truth value or text. Values of several types become texts. A value that a
    job does not have is null.
    """
    rows = result_rows(results)
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in FIXED}
    for field, prefix in PREFIXES.items():
        for key in dict.fromkeys(key for row in rows for key in getattr(row, field)):
            columns.setdefault(f"{prefix}{key}", [getattr(row, field).get(key) for row in rows])
    table = pa.table({name: _column(values) for name, values in columns.items()})
    return table.replace_schema_metadata({VERSION_KEY: str(RESULTS_VERSION).encode()})


def write_results(results: Results, folder: Path) -> tuple[Path, Path]:
    """Write `results.csv` and `results.parquet` into `folder` atomically, and return their paths.

    Raises:
        StoreError: A file cannot be written.
    """
    table = tidy(results)
    csv, parquet = folder / CSV_FILE, folder / PARQUET_FILE
    for path, write in ((csv, pyarrow.csv.write_csv), (parquet, pyarrow.parquet.write_table)):
        sink = pa.BufferOutputStream()
        write(table, sink)
        with atomic_file(path) as file:
            file.write(sink.getvalue())
    return csv, parquet


def read_tidy(path: Path) -> tuple[ResultRow, ...]:
    """Return the rows of a table that `write_results` wrote; types in a CSV file are inferred from the text.

    Raises:
        DamagedError: The file cannot be read, or is no result table.
        NewerFormatError: A newer version of mtx wrote the file.
    """
    try:
        if path.suffix == ".csv":
            options = pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys({*FIXED} - {"reused", "seconds"}, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,  # write_csv quotes every text, but not a null
            )
            table = pyarrow.csv.read_csv(path, convert_options=options)
        else:
            table = pyarrow.parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(
            f"{path} cannot be read: {library_reason(error)}. Write it again with mtx task=compare"
        ) from error
    version = int((table.schema.metadata or {}).get(VERSION_KEY, b"1"))
    if version > RESULTS_VERSION:
        raise NewerFormatError(
            f"{path} has version {version}, but this mtx reads versions up to {RESULTS_VERSION}: a newer mtx wrote it. "
            "Read it with that version of mtx, or write it again with mtx task=compare"
        )
    try:
        return tuple(_row(values) for values in table.to_pylist())
    except ValidationError as error:
        raise DamagedError(
            f"{path} is no table of results: {problems(error)}. Write it again with mtx task=compare"
        ) from error


def _row(values: Mapping[str, Any]) -> ResultRow:
    fields: dict[str, Any] = {name: values[name] for name in FIXED if values.get(name) is not None}
    prefixes = {prefix: field for field, prefix in PREFIXES.items() if prefix}
    for key, value in values.items():
        if key in FIXED or value is None:
            continue
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
        fields.setdefault(prefixes.get(prefix, "settings"), {})[key.removeprefix(prefix)] = value
    return ResultRow(**fields)


def _column(values: Sequence[Any]) -> pa.Array:
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
