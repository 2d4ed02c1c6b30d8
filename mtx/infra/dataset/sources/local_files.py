"""Open and decompress local files, compute their digests, and divide them into lines."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from mtx.assumption_log import assume
from mtx.errors import SourceError
from mtx.infra.dataset.sources.zstd_window import (
    HEADER_BYTES,
    PYARROW_WINDOW_BYTES,
    TOO_LONG,
    long_window_reader,
    window_bytes,
    window_error,
)
from mtx.library_errors import library_reason
from mtx.redaction_and_escaping import one_line

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
BLOCK_BYTES = 4 << 20  # bytes per read: enough for fast parsing, and little memory
MAX_LINE_BYTES = 64 << 20  # a line must fit into memory; a compressed file of a few kB can contain a line of any length
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8
MAX_RATIO = 200  # maximum compression ratio. Text has a ratio of about 10; only endless repetition exceeds 200
UNCHECKED_BYTES = 1 << 30  # up to this decompressed size, the compression ratio is not checked
LINE_END_ADVICE = r"because other lines end with \n. Convert the file with `perl -pe 's/\r\n?/\n/g' OLD > NEW`"
SYSTEM_NAMES = ("__macosx", "thumbs.db", "desktop.ini")
MAX_LISTED = 5  # number of names listed in a message
MAGIC_NUMBERS = {
    b"\x1f\x8b": "gzip (.gz)",
    b"\x28\xb5\x2f\xfd": "zstd (.zst)",
}
WIDE_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
# Which of four bytes in turn are zero in most texts of an encoding, since most characters are below U+0100.
ZERO_SHARE = 0.7
ZERO_BYTES = {(0, 1, 2): "UTF-32BE", (1, 2, 3): "UTF-32LE", (0, 2): "UTF-16BE", (1, 3): "UTF-16LE"}


@dataclass(frozen=True)
class FilePart:
    """A part of a file: bytes from one line to another, or row groups of a Parquet file.

    Attributes:
        first: the first byte or row group.
        end: the end, exclusive.
        lines_before: number of lines before the part; None: they are counted if a message needs it.
    """

    first: int
    end: int
    lines_before: int | None = None

    @property
    def size(self) -> int:
        """Number of bytes or row groups."""
        return self.end - self.first


@dataclass(frozen=True)
class SourceFile:
    """An existing local file, and what its name states about its format.

    Attributes:
        path: path of the file.
        format: name of the file's format, such as `jsonl`; `lines` for plain text.
        compression: `gzip`, `zstd`, or None for an uncompressed file.
        stem: name of the file without the endings of format and compression.
        stamp: size in bytes and time of the last change in ns, for detecting changes during reading.
        part: the part of the file to read; None: the whole file.
        shown: the path for messages; None: `path`.
    """

    path: Path
    format: str
    compression: str | None
    stem: str
    stamp: tuple[int, int]
    part: FilePart | None = None
    shown: str | None = None

    @property
    def name(self) -> str:
        """The path for messages, on one line whatever characters the name has."""
        return one_line(str(self.path)) if self.shown is None else self.shown

    @property
    def lines_before(self) -> int:
        """The number of lines before the part to read. The file may be read to count them."""
        if self.part is None or not self.part.first:
            return 0
        if self.part.lines_before is not None:
            return self.part.lines_before
        before = replace(self, part=FilePart(0, self.part.first))
        with open_bytes(before) as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(BLOCK_BYTES), b""))

    def sha256(self) -> str:
        """Return the SHA-256 of the file's bytes on disk, in hex."""
        with _convert_errors(self), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def check_unchanged(self) -> None:
        """Raise SourceError if the file has changed since mtx found it."""
        if stamp_of(self.path) != self.stamp:
            raise SourceError(f"{self.name} was changed while mtx read the file. Run again when the file is complete")


def arrow_file(path: Path) -> pa.NativeFile:
    """Open a file for pyarrow, whatever bytes its name has; by a `str`, pyarrow finds only names in UTF-8."""
    return pa.OSFile(os.fsencode(path))


def is_hidden(parts: Sequence[str]) -> bool:
    """Return whether a path in a folder or archive is hidden, or was added by an operating system.

    Such are names that start with a dot (`.DS_Store`, `._lamps.de` on a Mac), `__MACOSX`, and the names that Windows
    adds.
    """
    return any(part.startswith(".") or part.casefold() in SYSTEM_NAMES for part in parts)


def is_hidden_member(name: str) -> bool:
    """Return whether an archive's member is hidden; a name with `..` is not, so that it is refused and not ignored."""
    return is_hidden([part for part in re.split(r"[/\\]", name) if part not in (".", "..")])


@contextmanager
def open_bytes(file: SourceFile) -> Iterator[IO[bytes]]:
    """Open a file for reading its decompressed bytes. OSErrors inside the context become SourceErrors."""
    with _convert_errors(file), arrow_file(file.path) as opened:
        window = window_bytes(opened.read(HEADER_BYTES)) if file.compression == "zstd" else 0
        opened.seek(0)
        if file.part is not None:
            opened.seek(file.part.first)
            yield cast(IO[bytes], _BoundedStream(opened, file.part.size))
        elif file.compression is None:
            yield opened
        elif window > PYARROW_WINDOW_BYTES:
            yield long_window_reader(opened, file.name, window)
        else:
            with pa.CompressedInputStream(opened, file.compression) as stream:
                yield stream


class _BoundedStream:
    """The next bytes of a stream, up to a number of bytes."""

    def __init__(self, stream: IO[bytes], num_bytes: int) -> None:
        self._stream = stream
        self._left = num_bytes

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; none at the end."""
        found = self._stream.read(min(size, self._left))
        self._left -= len(found)
        return found


@contextmanager
def plain_path(file: SourceFile) -> Iterator[Path]:
    """Yield a path to the decompressed bytes, for readers that need random access.

    A compressed file is decompressed into a temporary file. Raises SourceError if its compression ratio is suspicious.
    """
    if file.compression is None:
        yield file.path
        return
    with tempfile.NamedTemporaryFile(prefix="mtx-", suffix=f".{file.format}") as copy:
        with open_bytes(file) as stream:
            while chunk := stream.read(BLOCK_BYTES):
                copy.write(chunk)
                if is_bomb(copy.tell(), file.stamp[0]):
                    raise SourceError(
                        f"decompressing {file.name} gives more than {MAX_RATIO} times its size, so the content cannot "
                        "be text. Set another file with downloader.path=FILE"
                    )
        copy.flush()
        yield Path(copy.name)


def line_blocks(file: SourceFile) -> Iterator[tuple[int, bytes]]:
    r"""Yield a file in blocks of whole lines: the number of the block's first line, counted from 1, and the bytes.

    Lines end with `\n`; the last line may have no end. A byte order mark at the start of the file is removed. Raises
    SourceError for lines longer than `MAX_LINE_BYTES`, for files whose lines end with only `\r`, and for UTF-16.
    """
    with open_bytes(file) as stream:
        yield from numbered_blocks(stream, file.name, is_start=file.part is None or not file.part.first)


def numbered_blocks(stream: IO[bytes], name: str, *, is_start: bool = True) -> Iterator[tuple[int, bytes]]:
    """Yield a stream in blocks, like `line_blocks`. `name` is the name of the file in error messages."""
    number, is_told = 1, False
    for block in _whole_lines(stream, name):
        if is_start and number == 1:
            block = block.removeprefix(BYTE_ORDER_MARK)
            if (encoding := _wide_encoding(block[:1000])) is not None:
                raise SourceError(
                    f"{name} is in {encoding}, but mtx reads UTF-8. Convert the file with "
                    f"`iconv -f {encoding} -t UTF-8 OLD > NEW`"
                )
            if b"\n" not in block and b"\r" in block:
                raise SourceError(
                    f"{name} has carriage returns (\\r) instead of line ends (\\n). Convert the file with "
                    "`tr '\\r' '\\n' <old >new`"
                )
        if not is_told and b"\r" in block and block.count(b"\r") > block.count(b"\r\n"):
            is_told = True
            assume(f"{name} has carriage returns (\\r) that are text, {LINE_END_ADVICE}, if they end lines")
        if block:
            yield number, block
        number += block.count(b"\n")


def decoded_lines(file: SourceFile, *, keep_ends: bool = False) -> Iterator[str]:
    r"""Yield the lines of a file as text. Only `\n` and `\r\n` end a line.

    Bytes that are not valid UTF-8 become lone surrogates, as with `errors="surrogateescape"`. With `keep_ends`, each
    line keeps its line end.
    """
    return lines_of(line_blocks(file), keep_ends=keep_ends)


def lines_of(blocks: Iterable[tuple[int, bytes]], charset: str = "utf-8", *, keep_ends: bool = False) -> Iterator[str]:
    """Yield the lines of blocks as text, like `decoded_lines`. `charset` must encode line ends like ASCII."""
    for _, block in blocks:
        text = block.decode(charset, errors="surrogateescape")
        lines = text.split("\n") if keep_ends else text.replace("\r\n", "\n").split("\n")
        last = lines.pop()  # empty if the block ends with a line end
        yield from (line + "\n" for line in lines) if keep_ends else lines
        if last:
            yield last


def is_bomb(num_bytes: int, packed_bytes: int) -> bool:
    """Return whether the compression ratio is so high that the file is probably a decompression bomb."""
    return num_bytes > UNCHECKED_BYTES and num_bytes > MAX_RATIO * packed_bytes


def utf8_problem(text: bytes) -> str:
    """Return a description of the first byte in `text` that is not valid UTF-8, and of the probable file format."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        kinds = [f"; the file looks like {kind}" for magic, kind in MAGIC_NUMBERS.items() if text.startswith(magic)]
        return (
            f"byte {error.start + 1} of the line ({text[error.start]:#04x}) is not valid UTF-8{''.join(kinds)}. If the "
            "whole file has another encoding, convert it with `iconv -f ENCODING -t UTF-8 OLD > NEW`, for example from "
            "ISO-8859-1"
        )
    raise AssertionError("the text is UTF-8")


def _wide_encoding(start: bytes) -> str | None:
    """Return the name of UTF-16 or UTF-32 if the first bytes of a file are in it, by its mark or its zero bytes."""
    if (marked := next((name for mark, name in WIDE_MARKS.items() if start.startswith(mark)), None)) is not None:
        return marked
    turns = [start[offset::4] for offset in range(4)]
    if len(start) < 8:
        return None
    return ZERO_BYTES.get(tuple(n for n, some in enumerate(turns) if some.count(0) > ZERO_SHARE * len(some)))


def names_text(names: Sequence[str]) -> str:
    """Return a list of the first five names as text, and the number of further names."""
    more = f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _whole_lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """Yield blocks that end at the end of a line. A line longer than a block makes its block longer."""
    parts: list[bytes] = []
    held = 0
    while chunk := stream.read(BLOCK_BYTES):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*parts, chunk[:end]])
            parts, held = [], 0
        parts.append(chunk[end:])
        held += len(chunk) - end
        if held > MAX_LINE_BYTES:
            raise SourceError(
                f"{name} has a line longer than {MAX_LINE_BYTES >> 20} MB, which is the maximum. Split the line, or "
                "check whether the file is text"
            )
    yield b"".join(parts)


@contextmanager
def _convert_errors(file: SourceFile) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if file.compression and error.errno is None:  # an error of the decompressor; disk errors have an errno
            if TOO_LONG in str(error):
                raise window_error(file.name, None, "its first frame has a shorter one") from error
            raise SourceError(
                f"{file.name} is not a complete {file.compression} file: {library_reason(error)}. The file is "
                "truncated or damaged: copy or download the file again"
            ) from error
        raise SourceError(f"{file.name} cannot be read: {library_reason(error)}") from error


def stamp_of(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and the time of its last change in ns. Raises SourceError if it cannot be read."""
    try:
        status = path.stat()
    except OSError as error:
        raise SourceError(f"{one_line(str(path))} cannot be read: {library_reason(error)}") from error
    return status.st_size, status.st_mtime_ns
