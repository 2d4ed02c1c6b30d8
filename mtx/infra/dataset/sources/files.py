"""Local files: finding, opening and decompressing them, their digest, and cutting them into lines."""

import difflib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa

from mtx.errors import SourceError

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".tsv": "tsv", ".csv": "csv", ".parquet": "parquet"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
BLOCK_BYTES = 4 << 20  # read together: large enough to parse fast, small beside any corpus
BOM = b"\xef\xbb\xbf"  # byte order mark of UTF-8
MAGIC = {b"\x1f\x8b": "gzip (.gz)", b"\x28\xb5\x2f\xfd": "zstd (.zst)", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True)
class SourceFile:
    """A file that is there.

    Attributes:
        path: where it is.
        format: `jsonl`, `tsv`, `csv`, `parquet` or `lines`.
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
        if _stamp(self.path) != self.stamp:
            raise SourceError(f"{self.path} was changed while it was read. Run again once it is written")


def find_file(path: str | os.PathLike[str], key: str, *, lines: bool = False) -> SourceFile:
    """Look at the file that the config key `key` names; `~` stands for the home folder.

    `lines`: plain text under any name, instead of a format told by the name's ending. Raises SourceError.
    """
    found = Path(path).expanduser()
    if found.is_dir():
        raise SourceError(f"{found} is a folder, but a file is needed. Name a file in it with {key}=FILE")
    if not found.exists():
        raise SourceError(f"there is no file {found}. {_near(found)} Name another with {key}=FILE")
    compression = COMPRESSIONS.get(found.suffix.lower())
    inner = found.with_suffix("") if compression else found
    if lines:
        form = "lines"
    elif (form := FORMATS.get(inner.suffix.lower(), "")) == "":
        raise SourceError(
            f"{found} has an ending that is not known. Known are {', '.join(FORMATS)}, each also with "
            f"{' or '.join(COMPRESSIONS)} behind it. Give {key} another name, or for two files of plain text, line by "
            "line, downloader.source_path=FILE downloader.target_path=FILE"
        )
    stamp = _stamp(found)
    if stamp[0] == 0:
        raise SourceError(f"{found} is empty: 0 bytes. Name another file with {key}=FILE")
    return SourceFile(path=found, format=form, compression=compression, stem=inner.stem, stamp=stamp)


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
            shutil.copyfileobj(stream, copy, BLOCK_BYTES)
        copy.flush()
        yield Path(copy.name)


def blocks(file: SourceFile) -> Iterator[tuple[int, bytes]]:
    r"""Cut a file into blocks of whole lines: the number of the first line, from 1, and the bytes.

    Lines end with `\n`, the file's last one maybe not. A byte order mark at the file's start is dropped.
    """
    with open_bytes(file) as stream:
        number = 1
        for block in _whole_lines(stream):
            block = block.removeprefix(BOM) if number == 1 else block
            if block:
                yield number, block
            number += block.count(b"\n")


def decoded_lines(file: SourceFile, *, keep_ends: bool = False) -> Iterator[str]:
    r"""Iterate over the lines, which end with `\n` or `\r\n` and nothing else.

    Bytes that are no UTF-8 come as lone surrogates, as `errors="surrogateescape"` makes them. `keep_ends` leaves the
    end on each line.
    """
    for _, block in blocks(file):
        text = block.decode(errors="surrogateescape")
        lines = text.split("\n") if keep_ends else text.replace("\r\n", "\n").split("\n")
        last = lines.pop()  # empty after a line end
        yield from (line + "\n" for line in lines) if keep_ends else lines
        if last:
            yield last


def not_utf8(text: bytes) -> str:
    """Say where bytes that are no UTF-8 stop being so, and what they may be."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        kinds = [f"; the file looks like {kind}" for magic, kind in MAGIC.items() if text.startswith(magic)]
        return f"this is no UTF-8 from byte {error.start + 1} of the line on ({text[error.start]:#04x}){''.join(kinds)}"
    raise AssertionError("the text is UTF-8")


def _whole_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Read blocks that end with a line's end; a line longer than a block makes its block longer."""
    parts: list[bytes] = []
    while chunk := stream.read(BLOCK_BYTES):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*parts, chunk[:end]])
            parts = []
        parts.append(chunk[end:])
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


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns


def _near(path: Path) -> str:
    """Say what is in the folder of a missing file, the closest names first."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"Its folder {folder} is missing, too."
    names = sorted(entry.name for entry in folder.iterdir())
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if close:
        return f"Close to it in {folder}: {', '.join(close)}."
    return f"{folder} has no file with a name like it."
