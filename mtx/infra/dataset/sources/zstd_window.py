"""Decompress zstd files with long windows (`zstd --long`), which pyarrow refuses: it takes windows of up to 128 MB.

The package zstandard decompresses them, if it is installed. The format is that of RFC 8878.
"""

import io
from typing import IO, Any

from typing_extensions import override

from mtx.errors import SourceError

MAGIC = b"\x28\xb5\x2f\xfd"
MIN_HEADER_BYTES = 6  # magic number, descriptor, and window size
HEADER_BYTES = 18  # maximum length of a frame's header with the magic number
PYARROW_WINDOW_BYTES = (1 << 27) + 1
MAX_WINDOW_BYTES = 1 << 31  # of `--long=31`, the most that `zstd` itself takes
INPUT_BYTES = 4 << 10  # a byte of zstd gives at most 32 kB, so that one step gives at most 128 MB
TOO_LONG = "requires too much memory"  # in the message of pyarrow, for a later frame of the file


def window_bytes(head: bytes) -> int:
    """Return the size of the window that a file's first frame asks for, in bytes; 0 if `head` is no header of one."""
    if not head.startswith(MAGIC) or len(head) < MIN_HEADER_BYTES:
        return 0
    descriptor = head[4]
    if not descriptor >> 5 & 1:
        exponent, mantissa = head[5] >> 3, head[5] & 7
        return (1 << 10 + exponent) * (8 + mantissa) // 8
    start = 5 + (0, 1, 2, 4)[descriptor & 3]  # a frame without a window size: the window is the whole content
    num_bytes = (1, 2, 4, 8)[descriptor >> 6]
    return int.from_bytes(head[start : start + num_bytes], "little")


def long_window_reader(stream: IO[bytes], name: str, num_bytes: int) -> IO[bytes]:
    """Return a stream of the decompressed bytes. Raises SourceError if the window of `num_bytes` is too long."""
    try:
        import zstandard
    except ImportError as error:
        raise window_error(
            name, num_bytes, "the package zstandard is not installed (`pip install zstandard`)"
        ) from error
    if num_bytes > MAX_WINDOW_BYTES:
        raise window_error(name, num_bytes, f"mtx takes at most {MAX_WINDOW_BYTES >> 20:,} MB")
    return io.BufferedReader(_LongWindowReader(stream, zstandard))


def window_error(name: str, num_bytes: int | None, why: str) -> SourceError:
    """Return the error for a window that is too long to be decompressed here."""
    size = "more than 128 MB" if num_bytes is None else f"{num_bytes >> 20:,} MB"
    return SourceError(
        f"{name} was compressed with a window of {size} (zstd --long), but {why}. Decompress the file with "
        "`zstd -d --long=31 FILE`"
    )


class _LongWindowReader(io.RawIOBase):
    """Decompresses the frames of a stream, one after another. Raises OSError if the stream ends inside a frame."""

    def __init__(self, stream: IO[bytes], zstandard: Any) -> None:
        self._stream = stream
        self._zstandard = zstandard
        self._frame: Any = None
        self._rest = b""  # input behind the end of a frame
        self._output = memoryview(b"")

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        while not self._output:
            data = self._rest or self._stream.read(INPUT_BYTES)
            self._rest = b""
            if not data:
                if self._frame is not None:
                    raise OSError("it ends inside a frame")
                return 0
            if self._frame is None:
                self._frame = self._zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
            try:
                self._output = memoryview(self._frame.decompress(data))
            except self._zstandard.ZstdError as error:
                raise OSError("its compressed data is damaged") from error
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        num_bytes = min(len(buffer), len(self._output))
        buffer[:num_bytes] = self._output[:num_bytes]
        self._output = self._output[num_bytes:]
        return num_bytes
