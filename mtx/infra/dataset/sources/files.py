"""Local files: finding, opening and decompressing them, their digest, and cutting them into lines."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa

from mtx.errors import SourceError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
BLOCK_BYTES = 4 << 20  # read together: large enough to parse fast, small beside any corpus
MAX_LINE_BYTES = 64 << 20  # a line is held in memory; an archive of a few kB can hold one of any length
BOM = b"\xef\xbb\xbf"  # byte order mark of UTF-8
MAX_RATIO = 200  # text is packed to a tenth; only what repeats without end, to a two-hundredth
UNCHECKED_BYTES = 1 << 30  # less than that does no harm, whatever it was packed to
SHOWN = 5  # names that a message lists
MAGIC = {b"\x1f\x8b": "gzip (.gz)", b"\x28\xb5\x2f\xfd": "zstd (.zst)", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True)
class SourceFile:
    """A file that is there.

    Attributes:
        path: where it is.
        format: the name of its format, such as `jsonl`; `lines` for plain text.
        compression: `gzip`, `zstd` or None.
        stem: its name without the endings that mtx reads.
        stamp: size in bytes and time of the last change in ns, by which a change is noticed.
    """

    path: Path
    format: str
    compression: str | None
    stem: str
    stamp: tuple[int, int]

    def sha256(self) -> str:
        """Return the digest of its bytes as they are on disk, in hex."""
        with _named_errors(self), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def check_unchanged(self) -> None:
        """Raise SourceError where it was written to since it was found."""
        if stamp_of(self.path) != self.stamp:
            raise SourceError(f"{self.path} was changed while it was read. Run again once it is written")


@contextmanager
def open_bytes(file: SourceFile) -> Iterator[pa.NativeFile]:
    """Open a file for reading, decompressed. OSErrors within become SourceErrors."""
    with _named_errors(file), pa.input_stream(str(file.path), compression=file.compression) as stream:
        yield stream


@contextmanager
def plain_path(file: SourceFile) -> Iterator[Path]:
    """Return a path to the decompressed bytes, for readers that jump about; a temporary file where need be."""
    if file.compression is None:
        yield file.path
        return
    with tempfile.NamedTemporaryFile(prefix="mtx-", suffix=f".{file.format}") as copy:
        with open_bytes(file) as stream:
            while chunk := stream.read(BLOCK_BYTES):
                copy.write(chunk)
                if is_bomb(copy.tell(), file.stamp[0]):
                    raise SourceError(
                        f"{file.path} grows to more than {MAX_RATIO} times its size when it is unpacked: that is no "
                        "text. Name another file with downloader.path=FILE"
                    )
        copy.flush()
        yield Path(copy.name)


def blocks(file: SourceFile) -> Iterator[tuple[int, bytes]]:
    r"""Cut a file into blocks of whole lines: the number of the first line, from 1, and the bytes.

    Lines end with `\n`, the file's last one maybe not. A byte order mark at the file's start is dropped. Raises
    SourceError for lines longer than `MAX_LINE_BYTES`, and for files whose lines end with `\r` alone.
    """
    with open_bytes(file) as stream:
        yield from numbered_blocks(stream, str(file.path))


def numbered_blocks(stream: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Cut a stream into blocks as `blocks` does; `name` is that of the file, for messages."""
    number = 1
    for block in _whole_lines(stream, name):
        if number == 1:
            block = block.removeprefix(BOM)
            if b"\n" not in block and b"\r" in block:
                raise SourceError(
                    f"{name} has no line end (\\n), but carriage returns (\\r), with which lines ended on very old "
                    "computers. Turn them into line ends, as `tr '\\r' '\\n' <old >new` does"
                )
        if block:
            yield number, block
        number += block.count(b"\n")


def decoded_lines(file: SourceFile, *, keep_ends: bool = False) -> Iterator[str]:
    r"""Iterate over the lines, which end with `\n` or `\r\n` and nothing else.

    Bytes that are no UTF-8 come as lone surrogates, as `errors="surrogateescape"` makes them. `keep_ends` leaves the
    end on each line.
    """
    return lines_of(blocks(file), keep_ends=keep_ends)


def lines_of(blocks: Iterable[tuple[int, bytes]], charset: str = "utf-8", *, keep_ends: bool = False) -> Iterator[str]:
    """Iterate over the lines of blocks as `decoded_lines` does; `charset` writes line ends as ASCII does."""
    for _, block in blocks:
        text = block.decode(charset, errors="surrogateescape")
        lines = text.split("\n") if keep_ends else text.replace("\r\n", "\n").split("\n")
        last = lines.pop()  # empty after a line end
        yield from (line + "\n" for line in lines) if keep_ends else lines
        if last:
            yield last


def is_bomb(num_bytes: int, packed_bytes: int) -> bool:
    """Tell whether so much was packed into so little that it is made to fill a disk."""
    return num_bytes > UNCHECKED_BYTES and num_bytes > MAX_RATIO * packed_bytes


def not_utf8(text: bytes) -> str:
    """Say where bytes that are no UTF-8 stop being so, and what they may be."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        kinds = [f"; the file looks like {kind}" for magic, kind in MAGIC.items() if text.startswith(magic)]
        return f"this is no UTF-8 from byte {error.start + 1} of the line on ({text[error.start]:#04x}){''.join(kinds)}"
    raise AssertionError("the text is UTF-8")


def listed(names: Sequence[str]) -> str:
    """List the first names, and the number of the others."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _whole_lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """Read blocks that end with a line's end; a line longer than a block makes its block longer."""
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
                f"{name} has a line longer than {MAX_LINE_BYTES >> 20} MB, the most that is held in memory. Cut it "
                "into lines, or look whether it is text at all"
            )
    yield b"".join(parts)


@contextmanager
def _named_errors(file: SourceFile) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if file.compression and error.errno is None:  # what the decompressor says; errors of the disk have a number
            raise SourceError(
                f"{file.path} is no whole {file.compression} file: {error}. It was cut short or damaged: copy or "
                "download it again"
            ) from error
        raise SourceError(f"{file.path} cannot be read: {error.strerror or error}") from error


def stamp_of(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and the time of its last change in ns. Raises SourceError."""
    try:
        status = path.stat()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns
