r"""TSV and CSV.

TSV is plain: a line is a row, every tab parts two columns, and quotes are characters like any other. CSV is as in
RFC 4180: a field may stand in double quotes, and may then hold commas, line ends and quotes written twice. The first
line names the columns; without a header they are called `1`, `2`, … Lines with nothing in them are passed over.
"""

import csv
from collections.abc import Iterator
from itertools import count

import pyarrow as pa

from mtx.errors import MalformedPairError, SourceError
from mtx.infra.dataset.columns import Columns, Wanted, find_columns
from mtx.infra.dataset.pairs import Refusals, batches_of_rows, is_text
from mtx.infra.dataset.sources.files import SourceFile, decoded_lines, not_utf8
from mtx.infra.dataset.sources.reader import ReadOptions

NOTHING = "line with text"


def find(file: SourceFile, wanted: Wanted, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the columns by the first line: by its names, or the first two where it is no header. Raises SourceError."""
    first = next(_rows(file), None)
    if first is None:
        return None
    number, fields = first
    where = f"{file.path}, line {number}"
    if not options.header:
        names = _numbers(fields)
        if wanted.source_column is None and wanted.target_column is None and len(names) > 1:
            languages = find_columns({"src": (), "tgt": ()}, wanted, where).languages
            return Columns(names[0], names[1], languages)
        return find_columns(dict.fromkeys(names, ()), wanted, where)
    bad = next((name for name in fields if not is_text(name)), None)
    if bad is not None:
        raise MalformedPairError(f"{where}: {not_utf8(bad.encode(errors='surrogateescape'))}")
    try:
        columns = find_columns(dict.fromkeys(fields, ()), wanted, where)
    except SourceError as error:
        raise SourceError(
            f"{error}. The first line is taken for the names of the columns; where it is a pair of texts, say "
            "downloader.header=false"
        ) from error
    for name in (columns.source, columns.target):
        if fields.count(name) > 1:
            raise SourceError(f"{where}: {fields.count(name)} columns are called {name!r}. Give each its own name")
    return columns


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Stream the pairs of a file, `limit` at most. Raises MalformedPairError."""
    return batches_of_rows(_pairs(file, columns, refusals, header=options.header), limit)


def _pairs(file: SourceFile, columns: Columns, refusals: Refusals, *, header: bool) -> Iterator[tuple[str, str]]:
    rows = _rows(file)
    _, first = next(rows)
    names = first if header else _numbers(first)
    source, target = names.index(columns.source), names.index(columns.target)
    for number, fields in rows if header else _rows(file):
        if len(fields) != len(names):
            what = f"a line has as many columns as the first, which is {len(names)}, but this one has {len(fields)}"
            refusals.refuse("wrong_column_count", f"{file.path}, line {number}", what)
            continue
        pair = fields[source], fields[target]
        if not (is_text(pair[0]) and is_text(pair[1])):
            bad = pair[0] if is_text(pair[1]) else pair[1]
            what = not_utf8(bad.encode(errors="surrogateescape"))
            refusals.refuse("invalid_utf8", f"{file.path}, line {number}", what)
            continue
        yield pair


def _rows(file: SourceFile) -> Iterator[tuple[int, list[str]]]:
    """Iterate over the rows that hold anything, each with the number of its first line."""
    return _csv_rows(file) if file.format == "csv" else _tsv_rows(file)


def _tsv_rows(file: SourceFile) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(decoded_lines(file), 1):
        if line:
            yield number, line.split("\t")


def _csv_rows(file: SourceFile) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(decoded_lines(file, keep_ends=True), strict=True)
    for _ in count():
        number = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # whatever on_error says: where the next row starts is not known
            raise MalformedPairError(
                f"{file.path}, line {number}: this is no CSV ({error}). A field that holds quotes, commas or line ends "
                f"stands in double quotes, at most {csv.field_size_limit():,} characters; in it, a quote is written "
                "twice. Correct it, or name the file .tsv where its columns are parted by tabs"
            ) from error
        if fields:
            yield number, fields


def _numbers(fields: list[str]) -> list[str]:
    return [str(number) for number in range(1, len(fields) + 1)]
