"""Compiled gettext catalogues, `.mo`. What they hold is told in `catalogue`.

Two tables give the place and the length of each text. They are checked as a whole before any text is read: none may
reach beyond the file, and together they may not be longer than it, as tables could name the same long text a million
times.
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
from mtx.infra.dataset.columns import Columns, Wanted
from mtx.infra.dataset.pairs import Refusals, batches_of_rows
from mtx.infra.dataset.sources.catalogue import charset_of, columns_of, pairs_of_entry, turned
from mtx.infra.dataset.sources.files import SourceFile, plain_path
from mtx.infra.dataset.sources.reader import ReadOptions

NOTHING = "entry"
MAGICS = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}  # the order of the bytes in numbers
HEAD_BYTES = 20  # magic number, version, number of entries, places of the two tables
CONTEXT_END = b"\x04"
NEXT_FORM = b"\x00"


@dataclass(frozen=True)
class _Catalogue:
    """A file that was checked.

    Attributes:
        data: its bytes.
        sources: int64 [N, 2], length and place of each source text.
        targets: int64 [N, 2], the same of each target text.
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
        """Return the target text of the empty source text."""
        empty = np.flatnonzero(self.sources[:, 0] == 0)
        return self.entry(int(empty[0]))[1] if len(empty) else b""


def find(file: SourceFile, wanted: Wanted, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the target language by the header. Raises SourceError."""
    with _opened(file) as catalogue:
        return columns_of(catalogue.header(), wanted, file) if len(catalogue) else None


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Stream the pairs of a file, `limit` at most. Raises SourceError."""
    return batches_of_rows(turned(_pairs(file, refusals), columns), limit)


def _pairs(file: SourceFile, refusals: Refusals) -> Iterator[tuple[str, str]]:
    with _opened(file) as catalogue:
        charset = charset_of(catalogue.header(), file)
        for number in range(len(catalogue)):
            where = f"{file.path}, entry {number + 1}"
            source, target = catalogue.entry(number)
            if not source:  # the header
                continue
            sources = source.split(CONTEXT_END, 1)[-1].split(NEXT_FORM)
            targets = target.split(NEXT_FORM)
            if len(sources) > 2 or (len(sources) == 1 and len(targets) > 1):
                what = f"an entry has a text, or a singular and a plural, but this one has {len(sources)}"
                refusals.refuse("malformed_entry", where, f"{what} with {len(targets)} translations")
                continue
            texts = [[text.decode(charset, "surrogateescape") for text in side] for side in (sources, targets)]
            yield from pairs_of_entry(texts[0], texts[1], where, refusals)


@contextmanager
def _opened(file: SourceFile) -> Iterator[_Catalogue]:
    with plain_path(file) as path:
        try:
            with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield _checked(file, data)
        except (OSError, ValueError) as error:  # a mapping of nothing is a ValueError
            raise SourceError(f"{file.path} cannot be read: {error}") from error


def _checked(file: SourceFile, data: mmap.mmap) -> _Catalogue:
    head = data[:HEAD_BYTES]
    order = MAGICS.get(head[:4])
    if order is None or len(head) < HEAD_BYTES:
        raise _broken(file, "it does not start as one")
    version, num_entries, *places = struct.unpack(f"{order}4I", head[4:])
    if version >> 16 > 1:
        raise _broken(file, f"it is of version {version >> 16}, and known are 0 and 1")
    if any(place + 8 * num_entries > len(data) for place in places):
        raise _broken(file, f"its tables of {num_entries:,} texts reach beyond its end")
    tables = [
        np.frombuffer(data[place : place + 8 * num_entries], f"{order}u4").astype(np.int64).reshape(-1, 2)
        for place in places
    ]
    if any((table.sum(axis=1) > len(data)).any() for table in tables):
        raise _broken(file, "a text reaches beyond its end")
    if sum(int(table[:, 0].sum()) for table in tables) > len(data):
        raise _broken(file, "its texts are longer than itself, as they lie over one another")
    return _Catalogue(data, tables[0], tables[1])


def _broken(file: SourceFile, what: str) -> SourceError:
    return SourceError(
        f"{file.path} is no whole catalogue of gettext (.mo): {what}. It was cut short or damaged, or is of another "
        "format: copy or make it again"
    )
