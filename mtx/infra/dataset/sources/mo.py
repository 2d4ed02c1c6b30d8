"""Read compiled gettext catalogues, `.mo`. `gettext_headers_and_pairs.py` documents how entries become pairs.

Two tables contain the position and the length of each text. Both tables are checked completely before any text is read.
No text may extend beyond the end of the file. The total length of the texts must not exceed the file size. A malicious
table could otherwise list the same long text a million times.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mtx.errors import SourceError
from mtx.infra.dataset.column_detection import Columns, RequestedColumns
from mtx.infra.dataset.pair_stream import Refusals, batches_of_rows
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.gettext_headers_and_pairs import (
    charset_of,
    columns_of,
    forms_of,
    oriented_pairs,
    pairs_of_entry,
)
from mtx.infra.dataset.sources.local_files import SourceFile, plain_path
from mtx.library_errors import library_reason

UNIT_NAME = "entry"
MAGICS = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}  # magic number: byte order of the file
HEAD_BYTES = 20  # magic number, version, number of entries, positions of the two tables
CONTEXT_END = b"\x04"
NEXT_FORM = b"\x00"


@dataclass(frozen=True)
class _Catalogue:
    """A catalogue whose tables have been checked.

    Attributes:
        data: bytes of the file.
        sources: length and position of each source text, int64 [N, 2].
        targets: length and position of each target text, int64 [N, 2].
    """

    data: mmap.mmap
    sources: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sources)

    def entry(self, number: int) -> tuple[bytes, bytes]:
        (source_length, source), (target_length, target) = self.sources[number], self.targets[number]
        return self.data[source : source + source_length], self.data[target : target + target_length]

    def header(self) -> bytes:
        """Return the header, which is the target text of the empty source text."""
        empty = np.flatnonzero(self.sources[:, 0] == 0)
        return self.entry(int(empty[0]))[1] if len(empty) else b""


def find(file: SourceFile, wanted: RequestedColumns, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the target language in the header. Raises SourceError if the file is damaged or has other languages."""
    with _open_catalogue(file) as catalogue:
        return columns_of(catalogue.header(), wanted, file) if len(catalogue) else None


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of a file as record batches, at most `limit` pairs. Raises SourceError."""
    return batches_of_rows(oriented_pairs(_pairs(file, columns, refusals), columns), limit)


def _pairs(file: SourceFile, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, str]]:
    with _open_catalogue(file) as catalogue:
        header = catalogue.header()
        charset, forms = charset_of(header, file), forms_of(header, file, columns)
        for number in range(len(catalogue)):
            where = f"{file.name}, entry {number + 1}"
            source, target = catalogue.entry(number)
            if not source:  # the header
                continue
            sources = source.split(CONTEXT_END, 1)[-1].split(NEXT_FORM)
            targets = target.split(NEXT_FORM)
            if len(sources) > 2 or (len(sources) == 1 and len(targets) > 1):
                what = f"an entry must have one text, or a singular and a plural, but this entry has {len(sources)}"
                refusals.refuse("malformed_entry", where, f"{what} with {len(targets)} translations")
                continue
            texts = [[text.decode(charset, "surrogateescape") for text in side] for side in (sources, targets)]
            yield from pairs_of_entry(texts[0], texts[1], forms, where, refusals)


@contextmanager
def _open_catalogue(file: SourceFile) -> Iterator[_Catalogue]:
    with plain_path(file) as path:
        try:
            with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield _parsed_catalogue(file, data)
        except (OSError, ValueError) as error:  # mapping an empty file raises ValueError
            raise SourceError(f"{file.name} cannot be read: {library_reason(error)}") from error


def _parsed_catalogue(file: SourceFile, data: mmap.mmap) -> _Catalogue:
    head = data[:HEAD_BYTES]
    order = MAGICS.get(head[:4])
    if order is None or len(head) < HEAD_BYTES:
        raise _damage_error(file, "its first bytes are wrong")
    version, num_entries, *places = struct.unpack(f"{order}4I", head[4:])
    if version >> 16 > 1:
        raise _damage_error(file, f"it has version {version >> 16}, but mtx reads only versions 0 and 1")
    if any(place + 8 * num_entries > len(data) for place in places):
        raise _damage_error(file, f"its tables of {num_entries:,} texts extend beyond its end")
    tables = [
        np.frombuffer(data[place : place + 8 * num_entries], f"{order}u4").astype(np.int64).reshape(-1, 2)
        for place in places
    ]
    if any((table.sum(axis=1) > len(data)).any() for table in tables):
        raise _damage_error(file, "a text extends beyond its end")
    if sum(int(table[:, 0].sum()) for table in tables) > len(data):
        raise _damage_error(file, "its texts overlap, and are longer than the file")
    return _Catalogue(data, tables[0], tables[1])


def _damage_error(file: SourceFile, what: str) -> SourceError:
    return SourceError(
        f"{file.name} is not a valid gettext catalogue (.mo): {what}. The file is truncated, damaged, or of another "
        "format: copy the file again, or compile the catalogue again"
    )
