"""Pieces of local files, which tasks read in any order and in any process.

An uncompressed file of JSON Lines or plain text is cut at ends of lines, and a Parquet file between row groups. Other
files are pieces as a whole: a compressed file cannot be read from its middle, and a record of CSV or XML may have
several lines. Small files make one piece together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mtx.errors import SourceError
from mtx.infra.dataset.column_detection import Columns
from mtx.infra.dataset.pair_stream import OnError, Refusals
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.formats import READERS
from mtx.infra.dataset.sources.line_aligned import read_aligned
from mtx.infra.dataset.sources.local_files import BLOCK_BYTES, MAX_LINE_BYTES, FilePart, SourceFile, arrow_file

PACKED_BYTES = 4  # a compressed byte is about so many bytes of text

Files: TypeAlias = tuple[SourceFile, ...]  # one file with both texts, or a source file and a target file
Sized: TypeAlias = tuple[Files, Columns, int]  # files or parts of them, the columns of the texts, and about the bytes


@dataclass(frozen=True)
class FilePieces:
    """Reads the pieces of a split. A pickle is refused on a machine that does not have the files.

    Attributes:
        pieces: the files, or parts of them, of each piece, with the columns of their texts.
        ranges: where each piece begins and ends, in bytes of all files together; the pieces are found again by it.
        options: the options of the formats.
        on_error: what happens to rows that are no pairs.
    """

    pieces: tuple[tuple[tuple[Files, Columns], ...], ...]
    ranges: tuple[tuple[int, int], ...]
    options: ReadOptions
    on_error: OnError

    def read(self, first: int, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield the pairs of the piece that begins at `first`, and count the rows that are left out, by reason.

        Raises SourceError if the piece cannot be read, or has changed since `LocalDownloader.info` described it.
        """
        refusals = Refusals(self.on_error, counts)
        (piece,) = (piece for piece, (start, _) in zip(self.pieces, self.ranges, strict=True) if start == first)
        for files, columns in piece:
            try:
                yield from read_files(files, columns, self.options, refusals, None)
            finally:  # also in place of an error, which a changed file explains
                for file in files:
                    file.check_unchanged()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for piece in (self.pieces[0], self.pieces[-1]):
            for files, _ in (piece[0], piece[-1]):
                for file in files:
                    file.check_unchanged()


def read_files(
    files: Files, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of a file with both texts, or of a source file and a target file, at most `limit` pairs."""
    file, *others = files
    if others:
        return read_aligned(file, others[0], refusals, limit)
    return READERS[file.format].read(file, columns, options, refusals, limit)


def file_pieces(
    parts: Sequence[tuple[Files, Columns | None]], piece_bytes: int, options: ReadOptions, on_error: OnError
) -> FilePieces | None:
    """Return the pieces of files, each of about `piece_bytes` of text; None if there is only one piece.

    Args:
        parts: the files of a split in order, with the columns of their texts; None for a file without pairs.
        piece_bytes: the size; a piece is larger if a file cannot be cut, or if a line is longer.
        options: the options of the formats.
        on_error: what happens to rows that are no pairs.
    """
    pieces: list[list[Sized]] = [[]]
    for files, columns in parts:
        if columns is None:
            continue
        for part, size in _cut(files, piece_bytes):
            if pieces[-1] and sum(each[2] for each in pieces[-1]) + size > piece_bytes:
                pieces.append([])
            pieces[-1].append((part, columns, size))
    if len(pieces) < 2:
        return None
    ends = [0, *accumulate(sum(size for *_, size in piece) for piece in pieces)]
    found = tuple(tuple((_absolute(files), columns) for files, columns, _ in piece) for piece in pieces)
    return FilePieces(found, tuple(pairwise(ends)), options, on_error)


def _absolute(files: Files) -> Files:
    """Return files whose paths hold in other processes; messages have the names as they were given."""
    return tuple(replace(file, path=file.path.absolute(), shown=file.name) for file in files)


def _cut(files: Files, piece_bytes: int) -> Iterator[tuple[Files, int]]:
    """Yield the parts of a file, or of a source file and a target file, with about the bytes of text in each."""
    sizes = [file.stamp[0] * (1 if file.compression is None else PACKED_BYTES) for file in files]
    file, *others = files
    is_plain = all(each.compression is None for each in files)
    if is_plain and sum(sizes) > piece_bytes:
        if file.format == "parquet":
            yield from _row_groups(file, piece_bytes)
            return
        if others and (cuts := _aligned_cuts(file, others[0], piece_bytes)) is not None:
            for one, other in cuts:
                yield (replace(file, part=one), replace(others[0], part=other)), one.size + other.size
            return
        if file.format == "jsonl" and not others:
            ends = [0, *_line_ends(file, piece_bytes), file.stamp[0]]
            for first, end in pairwise(ends):
                yield (replace(file, part=FilePart(first, end)),), end - first
            return
    yield files, max(1, sum(sizes))


def _row_groups(file: SourceFile, piece_bytes: int) -> Iterator[tuple[Files, int]]:
    try:
        with arrow_file(file.path) as opened, pq.ParquetFile(opened) as parquet:
            sizes = [parquet.metadata.row_group(number).total_byte_size for number in range(parquet.num_row_groups)]
    except (pa.ArrowException, OSError):  # reading the whole file says what is wrong
        sizes = []
    first = 0
    for number in range(len(sizes)):
        size = max(1, sum(sizes[first : number + 1]))
        if size >= piece_bytes or number == len(sizes) - 1:
            yield (replace(file, part=FilePart(first, number + 1)),), size
            first = number + 1
    if not sizes:
        yield (file,), file.stamp[0]


def _line_ends(file: SourceFile, piece_bytes: int) -> Iterator[int]:
    """Yield places right behind ends of lines, at least `piece_bytes` from one to the next, but not the file's end."""
    size, place = file.stamp[0], piece_bytes
    with _opened(file) as opened:
        while place < size:
            opened.seek(place)
            searched = 0
            while chunk := opened.read(1 << 16):
                if (found := chunk.find(b"\n")) >= 0:
                    place += searched + found + 1
                    break
                searched += len(chunk)
                if searched > MAX_LINE_BYTES:  # reading refuses the line
                    return
            else:
                return
            if place < size:
                yield place
            place += piece_bytes


def _aligned_cuts(source: SourceFile, target: SourceFile, piece_bytes: int) -> list[tuple[FilePart, FilePart]] | None:
    """Return parts of both files with the same lines, found by counting ends of lines; None if the numbers differ."""
    found = _Places(source, every_bytes=piece_bytes // 2)
    of_target = _Places(target, at=found.numbers)
    if found.num_lines != of_target.num_lines or found.numbers != of_target.numbers:
        return None
    starts = [0, *found.numbers]
    sides = [
        [FilePart(first, end, before) for before, (first, end) in zip(starts, pairwise(edges), strict=True)]
        for edges in ([0, *found.places, source.stamp[0]], [0, *of_target.places, target.stamp[0]])
    ]
    return list(zip(*sides, strict=True))


class _Places:
    """Places right behind ends of lines in a file, but not at its end, and the number of lines before each.

    Args:
        file: the file, which is read once.
        every_bytes: the least distance of places, if no numbers are given.
        at: ascending numbers of lines whose places are wanted; None: places at a distance.
    """

    def __init__(self, file: SourceFile, *, every_bytes: int = 0, at: Sequence[int] | None = None) -> None:
        self.places: list[int] = []
        self.numbers: list[int] = []
        self.num_lines = start = 0
        last = b"\n"
        with _opened(file) as opened:
            while block := opened.read(BLOCK_BYTES):
                ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + start
                chosen = self._distant(ends, every_bytes) if at is None else self._numbered(ends, at)
                self.places += (ends[chosen] + 1).tolist()
                self.numbers += [self.num_lines + place + 1 for place in chosen]
                start, self.num_lines, last = start + len(block), self.num_lines + len(ends), block[-1:]
        if self.places and self.places[-1] == start:
            del self.places[-1], self.numbers[-1]
        self.num_lines += last != b"\n"

    def _distant(self, ends: NDArray[np.int64], every_bytes: int) -> list[int]:
        chosen = []
        due = (self.places[-1] if self.places else 0) + every_bytes
        while (place := int(np.searchsorted(ends, due))) < len(ends):
            chosen.append(place)
            due = int(ends[place]) + 1 + every_bytes
        return chosen

    def _numbered(self, ends: NDArray[np.int64], at: Sequence[int]) -> list[int]:
        return [number - self.num_lines - 1 for number in at if 0 <= number - self.num_lines - 1 < len(ends)]


def _opened(file: SourceFile) -> pa.NativeFile:
    try:
        return arrow_file(Path(file.path))
    except OSError as error:
        raise SourceError(f"{file.name} cannot be read. Check that the file is there") from error
