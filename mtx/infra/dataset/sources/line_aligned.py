"""Read line-aligned text: two files, in which line n of one file is the translation of line n of the other file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import pyarrow as pa

from mtx.errors import SourceError
from mtx.infra.dataset.pair_stream import Refusals, batches_of_rows, is_text
from mtx.infra.dataset.sources.local_files import SourceFile, decoded_lines, utf8_problem


@dataclass(frozen=True)
class AlignedSide:
    """One side of a line-aligned corpus.

    Attributes:
        name: name of the file in error messages.
        lines: function that opens the file and yields its lines, like `decoded_lines`.
        lines_before: number of lines before the first one that it yields.
    """

    name: str
    lines: Callable[[], Iterator[str]]
    lines_before: int = 0


def read_aligned(
    source: SourceFile, target: SourceFile, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of two line-aligned files, at most `limit` pairs.

    Raises SourceError if a file cannot be read, or if the files have different numbers of lines.
    """
    advice = "Set two files that belong together with downloader.source_path=FILE downloader.target_path=FILE"
    sides = [AlignedSide(file.name, partial(decoded_lines, file), file.lines_before) for file in (source, target)]
    return read_sides(sides[0], sides[1], advice, refusals, limit)


def read_sides(
    source: AlignedSide, target: AlignedSide, advice: str, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of two line-aligned sides, at most `limit` pairs. An empty line is an empty text.

    Raises SourceError if the sides have different numbers of lines. The message ends with `advice`.
    """
    if limit is not None and _num_lines(source) != _num_lines(target):  # without a limit, `_pairs` detects it
        raise _length_error(source, target, advice)
    return batches_of_rows(_pairs(source, target, advice, refusals), limit)


def _pairs(source: AlignedSide, target: AlignedSide, advice: str, refusals: Refusals) -> Iterator[tuple[str, str]]:
    for number, (source_text, target_text) in enumerate(  # no variable keeps the files open after an error
        zip_longest(source.lines(), target.lines()), source.lines_before + 1
    ):
        if source_text is None or target_text is None:
            raise _length_error(source, target, advice)
        for side, text in ((source, source_text), (target, target_text)):
            if not is_text(text):
                what = utf8_problem(text.encode(errors="surrogateescape"))
                refusals.refuse("invalid_utf8", f"{side.name}, line {number}", what)
                break
        else:
            yield source_text, target_text


def _num_lines(side: AlignedSide) -> int:
    return sum(1 for _ in side.lines())


def _length_error(source: AlignedSide, target: AlignedSide, advice: str) -> SourceError:
    return SourceError(
        f"line-aligned files must have the same number of lines, but {source.name} has {_num_lines(source):,} and "
        f"{target.name} has {_num_lines(target):,}. {advice}"
    )
