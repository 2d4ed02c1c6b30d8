"""The file and line from which a row of local files was read, found by reading the files once more.

Raw datasets store no line numbers, which few runs need. The files are the same if the identity of the source is, which
contains their digests; then the row is counted off again.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mtx.infra.dataset.pair_stream import Reason, Refusals
from mtx.infra.dataset.sources.delimited import numbered_rows
from mtx.infra.dataset.sources.file_pieces import read_files
from mtx.infra.dataset.sources.jsonl import SPACE
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.infra.dataset.sources.local_files import SourceFile, decoded_lines
from mtx.redaction_and_escaping import one_line

LINE_NUMBER = re.compile(r", line (\d+)$")


@dataclass(frozen=True)
class RowOrigin:
    """Where a row was read.

    Attributes:
        files: path of the file, or of the source file and the target file.
        unit: what `number` counts: `line`, or `pair` for formats whose pairs are no lines.
        number: number of the line in the file, or of the pair among those that were read from the file, from 1.
    """

    files: tuple[str, ...]
    unit: str
    number: int


class _RefusedLines(Refusals):
    """Refusals that also remember the numbers of the lines."""

    lines: set[int]

    def refuse(self, reason: Reason, where: object, what: str) -> None:
        """Remember the line, and count it."""
        super().refuse(reason, where, what)
        if found := LINE_NUMBER.search(str(where)):
            self.lines.add(int(found[1]))


def row_origin(downloader: LocalDownloader, split: str, row: int) -> RowOrigin | None:
    """Return where a row of a split was read; None if the files have fewer rows.

    Args:
        downloader: the downloader with which the rows were read.
        split: the split.
        row: number of the row in the split, from 0.

    Raises SourceError if a file cannot be read.
    """
    left = row
    for part, columns in downloader.files_of(split):
        if columns is None:
            continue
        refusals = _RefusedLines(downloader.on_error)
        refusals.lines = set()
        limit = None if len(part) > 1 else left + 1
        num_rows = 0
        for batch in read_files(part, columns, downloader.read_options, refusals, limit):
            num_rows += batch.num_rows
            if num_rows > left:
                return _origin(part, left, refusals.lines, has_header=downloader.header)
        left -= num_rows
    return None


def _origin(part: tuple[SourceFile, ...], place: int, refused: set[int], *, has_header: bool) -> RowOrigin:
    names = tuple(one_line(str(file.path)) for file in part)
    numbers = _line_numbers(part, has_header=has_header)
    if numbers is None:
        return RowOrigin(names, "pair", place + 1)
    kept = (number for number in numbers if number not in refused)
    return RowOrigin(names, "line", next(number for at, number in enumerate(kept) if at == place))


def _line_numbers(part: tuple[SourceFile, ...], *, has_header: bool) -> Iterator[int] | None:
    """Yield the numbers of the lines that have a pair or are refused; None for a format whose pairs are no lines."""
    file = part[0]
    if len(part) > 1:
        return (number for number, _ in enumerate(decoded_lines(file), 1))
    if file.format in ("jsonl", "ndjson"):
        blank = SPACE.decode()
        return (number for number, line in enumerate(decoded_lines(file), 1) if line.strip(blank))
    if file.format in ("tsv", "csv"):
        rows = numbered_rows(file)
        if has_header:
            next(rows, None)
        return (number for number, _ in rows)
    return None
