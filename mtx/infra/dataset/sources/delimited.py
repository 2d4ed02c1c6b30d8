r"""Read pairs from TSV and CSV files.

In TSV, each line is a row, each tab separates two columns, and quotes have no special meaning. CSV follows RFC 4180: a
field in double quotes can contain commas, line ends, and quotes written twice. The first line contains the names of the
columns. Files without a header have the column names `1`, `2`, … Empty lines are skipped.
"""

import csv
import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pyarrow as pa

from mtx.assumption_log import assume
from mtx.errors import MalformedPairError, SourceError
from mtx.infra.dataset.column_detection import (
    Columns,
    RequestedColumns,
    are_column_names,
    check_unique,
    find_columns,
)
from mtx.infra.dataset.extra_columns import parsers_of, type_name
from mtx.infra.dataset.pair_stream import Refusals, batches_of_rows, is_text
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.local_files import (
    LINE_END_ADVICE,
    MAX_LINE_BYTES,
    SourceFile,
    decoded_lines,
    utf8_problem,
)

UNIT_NAME = "line with text"
SEPARATORS = {"semicolons": ";", "tabs (rename the file to .tsv)": "\t", "vertical bars": "|"}
INNER_CR = re.compile(r"\r(?!\n|$)")
CR_STAND_IN = "\udc0d"  # no decoded byte has this code: `surrogateescape` uses U+DC80 to U+DCFF
MAX_FIELD_CHARS = MAX_LINE_BYTES  # a field in quotes may have several lines; the limit of a field is that of a line


def find(file: SourceFile, wanted: RequestedColumns, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the text columns from the first line. Raises SourceError if the columns are missing.

    With a header, the names in the first line decide. Without a header, the first two columns are the texts, unless the
    config sets other columns.
    """
    first = next(numbered_rows(file), None)
    if first is None:
        return None
    number, fields = first
    where = f"{file.name}, line {number}"
    if not options.header:
        names = _column_numbers(fields)
        if wanted.source_column is None and wanted.target_column is None and len(names) > 1:
            languages = find_columns({"src": (), "tgt": ()}, wanted, where).languages
            columns = Columns(names[0], names[1], languages)
            if len(names) > 2:
                assume(
                    f"{where}: the first two of {len(names)} columns are source and target. For others, set "
                    "downloader.source_column=NUMBER downloader.target_column=NUMBER"
                )
        else:
            columns = find_columns(dict.fromkeys(names, ()), wanted, where)
        if are_column_names(fields):
            assume(
                f"{where}: {fields[0]!r} and {fields[1]!r} are a pair of texts, because downloader.header=false, "
                "though they look like names of columns. If they are names, set downloader.header=true"
            )
        return columns.with_extra(_schema(names), wanted, where)
    bad = next((name for name in fields if not is_text(name)), None)
    if bad is not None:
        raise MalformedPairError(f"{where}: {utf8_problem(bad.encode(errors='surrogateescape'))}")
    try:
        columns = find_columns(dict.fromkeys(fields, ()), wanted, where)
    except SourceError as error:
        separators = [name for name, character in SEPARATORS.items() if character in fields[0] and len(fields) == 1]
        hint = f" The columns seem to be separated by {separators[0]}, not by commas as in CSV." if separators else ""
        raise SourceError(
            f"{error}. mtx reads column names from the first line; if the first line is a pair of texts, set "
            f"downloader.header=false.{hint}"
        ) from error
    check_unique(fields, columns, wanted, where)
    if wanted.source_column is None:
        assume(
            f"the first line of {file.format.upper()} files has the names of the columns, such as {columns.source!r} "
            f"and {columns.target!r}. If it is a pair of texts, set downloader.header=false"
        )
    return columns.with_extra(_schema(fields), wanted, where)


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of a file as record batches, at most `limit` pairs.

    Raises MalformedPairError for an invalid row.
    """
    return batches_of_rows(_pairs(file, columns, refusals, header=options.header), limit, columns.schema)


def _pairs(file: SourceFile, columns: Columns, refusals: Refusals, *, header: bool) -> Iterator[tuple[Any, ...]]:
    rows = numbered_rows(file)
    _, first = next(rows)
    names = first if header else _column_numbers(first)
    source, target = names.index(columns.source), names.index(columns.target)
    extra = [(name, names.index(name) if name in names else None, parse) for name, parse in parsers_of(columns.extra)]
    for number, fields in rows if header else numbered_rows(file):
        if len(fields) != len(names):
            what = f"each line must have {len(names)} columns, like the first line, but this line has {len(fields)}"
            if any("\r" in field for field in fields):
                what += rf" and carriage returns (\r), which end no line, {LINE_END_ADVICE}"
            refusals.refuse("wrong_column_count", f"{file.name}, line {number}", what)
            continue
        pair = fields[source], fields[target]
        if not (is_text(pair[0]) and is_text(pair[1])):
            bad = pair[0] if is_text(pair[1]) else pair[1]
            what = utf8_problem(bad.encode(errors="surrogateescape"))
            refusals.refuse("invalid_utf8", f"{file.name}, line {number}", what)
            continue
        values = []
        for name, place, parse in extra:
            text = "" if place is None else fields[place]
            try:
                values.append(_value(text, parse) if place is not None else None)
            except ValueError:
                what = f"the column {name!r} has {text!r}, which is not a {type_name(columns.extra.field(name).type)}"
                refusals.refuse("wrong_type", f"{file.name}, line {number}", what)
                break
        else:
            yield *pair, *values


def _value(text: str, parse: Callable[[str], Any]) -> Any:
    """Return the value of a table cell. An empty cell is an empty text in text columns, and null in other columns.

    Raises ValueError if the text is not of the column's type.
    """
    if parse is str and not is_text(text):
        raise ValueError(text)
    return text if parse is str else parse(text) if text else None


def _schema(names: list[str]) -> pa.Schema:
    """Return a schema with the columns `names`, all of type text, because table cells contain text."""
    return pa.schema([(name, pa.large_string()) for name in dict.fromkeys(names)])


def numbered_rows(file: SourceFile) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with the number of its first line."""
    return _csv_rows(file) if file.format == "csv" else _tsv_rows(file)


def _tsv_rows(file: SourceFile) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(decoded_lines(file), 1):
        if line:
            yield number, line.split("\t")


def _csv_rows(file: SourceFile) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(MAX_FIELD_CHARS)  # a setting of the whole process; the module's own limit is 131,072
    # `csv` refuses a carriage return in a field without quotes, so a stand-in takes its place.
    lines = decoded_lines(file, keep_ends=True)
    reader = csv.reader((INNER_CR.sub(CR_STAND_IN, line) if "\r" in line else line for line in lines), strict=True)
    for _ in count():
        number = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # also with on_error=skip: the start of the next row is unknown
            raise MalformedPairError(
                f"{file.name}, line {number}: the line is not valid CSV: {_csv_problem(error)}. A field with quotes, "
                "commas or line ends must be in double quotes, and a quote in it is written twice. Correct the line, "
                "or rename the file to .tsv if tabs separate its columns"
            ) from error
        if fields:
            yield number, [field.replace(CR_STAND_IN, "\r") if CR_STAND_IN in field else field for field in fields]


def _csv_problem(error: csv.Error) -> str:
    """Return what is wrong with a line of CSV, in words of this module instead of those of `csv`."""
    said = str(error)
    if "expected after" in said:
        return "text follows the quote that ends a field"
    if "unexpected end" in said:
        return "a field begins with a quote that is never closed"
    if "field limit" in said:
        return f"a field has more than {MAX_FIELD_CHARS:,} characters; perhaps a quote is never closed"
    return "its quotes, commas or line ends are not those of CSV"


def _column_numbers(fields: list[str]) -> list[str]:
    return [str(number) for number in range(1, len(fields) + 1)]
