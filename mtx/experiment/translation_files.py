r"""Lines to translate, and the file of their translations, which appears when it is complete.

A translation that was interrupted resumes. Only `\n` and `\r\n` end a line, so each line of the input has one line, or
one group of lines, in the output.
"""

import gzip
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self, cast

from mtx.components.identity import JSON, digest
from mtx.errors import ConfigError, InUseError, MalformedPairError, SourceError, StoreError, override_text
from mtx.infra.dal.atomic_file import atomic_file, rename_durably
from mtx.infra.dal.locks import path_lock
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.infra.dataset.pair_stream import is_text
from mtx.infra.dataset.sources.file_discovery import find_text
from mtx.infra.dataset.sources.local_files import (
    BYTE_ORDER_MARK,
    MAX_LINE_BYTES,
    SourceFile,
    decoded_lines,
    line_blocks,
    utf8_problem,
)
from mtx.library_errors import library_reason
from mtx.progress.literal_console import PlainConsole

if TYPE_CHECKING:
    from mtx.training.checkpoint_translator import ScoredText

MAX_BLOCK_CHARACTERS = 8 << 20  # of a block of lines, which is in memory
STANDARD = "-"  # standard input or output


class InputLines:
    """The lines of a text file, or of standard input.

    Args:
        path: the file; `-` is standard input.

    Raises:
        SourceError: the file does not exist, or is a pipe or a device, which cannot be read twice.
    """

    def __init__(self, path: str) -> None:
        place = expanded_path(path)
        if path != STANDARD and place.exists() and not (place.is_file() or place.is_dir()):
            raise SourceError(
                f"input must be a file, but {place} is a pipe or a device. Set input=-, and redirect: mtx … < {place}"
            )
        self._file: SourceFile | None = None if path == STANDARD else find_text(path, "input")
        self.name = "standard input" if self._file is None else self._file.name

    def identity(self) -> list[JSON] | None:
        """Return path, size and time of the file, by which a resumed translation knows it; None for standard input."""
        return None if self._file is None else [str(self._file.path.resolve()), *self._file.stamp]

    def count(self) -> int | None:
        """Return the number of lines; None for standard input."""
        if self._file is None:
            return None
        number = last = 0
        for first, block in line_blocks(self._file):
            number, last = first - 1 + block.count(b"\n"), block[-1]
        return number + (last not in (0, 10))

    def blocks(self, size: int, *, skip: int = 0) -> Iterator[tuple[int, list[str]]]:
        """Yield the lines from line `skip` on in blocks of at most `size`, with the number of the first line from 0.

        A block ends after `MAX_BLOCK_CHARACTERS`, too. A terminal gives one line at a time. Raises SourceError at a
        line that is not UTF-8.
        """
        if self._file is None and sys.stdin is None:  # as Python says that it is closed
            raise SourceError("standard input is closed. Set a file with input=FILE")
        if self._file is None and sys.stdin.isatty():
            size = 1
        texts: list[str] = []
        number = num_characters = 0
        for number, text in enumerate(_typed_lines() if self._file is None else decoded_lines(self._file), 1):
            if not is_text(text):
                what = utf8_problem(text.encode(errors="surrogateescape"))
                raise MalformedPairError(
                    f"{self.name}, line {number}: {what}. Each line gets a translation, so none is left out. Convert "
                    "the file to UTF-8, or set another with input=FILE"
                )
            if number > skip:
                texts.append(text)
                num_characters += len(text)
            if len(texts) == size or num_characters >= MAX_BLOCK_CHARACTERS:
                yield number - len(texts), texts
                texts, num_characters = [], 0
        if texts:
            yield number - len(texts), texts
        if self._file is not None:
            self._file.check_unchanged()
        if not number:
            raise SourceError(f"{self.name} has no lines to translate. Set another file with input=FILE")


def _typed_lines() -> Iterator[str]:
    stream, is_first = sys.stdin.buffer, True
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise SourceError(
                f"standard input has a line longer than {MAX_LINE_BYTES >> 20} MB, which is the maximum. Split the line"
            )
        line = line.removeprefix(BYTE_ORDER_MARK) if is_first else line
        is_first = False
        yield line.removesuffix(b"\n").removesuffix(b"\r").decode(errors="surrogateescape")


class TranslationOutput:
    """Context manager that writes translations to a file, or to standard output.

    The lines are written to a hidden file beside the output, which becomes the output at the end. If the process is
    stopped, a later process with the same settings continues that file.

    Args:
        path: the output; `-` is standard output. A name that ends in `.gz` is compressed.
        settings: what decides the translations; None: nothing is resumed.
        is_table: whether a line has the number of its input line, the score and the text, separated by tabs.
        overwrite: whether to replace an output that exists.

    Attributes:
        num_lines: number of input lines that are translated.

    Raises:
        ConfigError: the output exists, or its folder does not.
        InUseError: another process writes this output.
    """

    def __init__(self, path: str, *, settings: Sequence[JSON] | None, is_table: bool, overwrite: bool) -> None:
        self.num_lines = 0
        self._is_table = is_table
        self._is_resumable = settings is not None
        self._path = None if path == STANDARD else expanded_path(path).resolve()  # a link stays a link
        self._replaces = overwrite
        self._stack = ExitStack()
        self._file: IO[bytes] | None = None
        if self._path is not None:
            self._check(self._path)
            name = uuid.uuid4().hex if settings is None else digest([list(settings), is_table])
            self._partial = self._path.with_name(f".{self._path.name}.{name[:12]}.partial")
        elif sys.stdout is None:  # as Python says that it is closed
            raise ConfigError("standard output is closed. Set a file for the translations: output=FILE")

    def __enter__(self) -> Self:
        if self._path is not None:
            lock = self._path.with_name(f".{self._path.name}.lock")
            with _output_errors(self._path):
                self._stack.enter_context(path_lock(lock, wait=False))
            self._stack.callback(lock.unlink, missing_ok=True)  # before its release: filelock then tries a new file
            try:
                self._check(self._path)  # another process may have written it since
                with _output_errors(self._path):
                    self._file = self._partial.open("a+b")
                    self._stack.callback(self._file.close)
                    self.num_lines = _complete_lines(self._file, is_table=self._is_table)
            except BaseException:
                self._stack.close()
                raise
        return self

    def write(self, first: int, found: Sequence[Sequence["ScoredText"]]) -> None:
        """Append the translations of lines, of which `first` is the number of the first."""
        lines = []
        for number, translations in enumerate(found, first):
            if self._is_table:
                lines += [
                    f"{number}\t{each.score:.4f}\t{single_line(each.text, keep_tabs=False)}\n" for each in translations
                ]
            else:
                lines.append(single_line(translations[0].text) + "\n")
        data = "".join(lines).encode(errors="replace")
        if self._path is None:
            _write_standard_output(data)
        else:
            assert self._file is not None
            with _output_errors(self._path):
                self._file.write(data)
                self._file.flush()
        self.num_lines = first + len(found)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if self._path is None:
                return
            if kind is None:
                self._complete(self._path)
            elif self.num_lines and self._is_resumable and not isinstance(error, SourceError):
                told = f"{self.num_lines} translated lines are kept. The same command resumes with the next line."
                PlainConsole(stderr=True).print(told, highlight=False)
            else:  # a mended input is another one, for which the lines are not used
                with suppress(OSError):
                    self._partial.unlink(missing_ok=True)

    def _check(self, path: Path) -> None:
        """Raise ConfigError if the output is no file, exists, or is in no folder."""
        if path.is_dir():
            raise ConfigError(f"output must be a file, but {path} is a folder. Set output={path}/FILE")
        if path.exists() and not path.is_file():
            raise ConfigError(
                f"output must be a file, but {path} is a device or a pipe. Set output=-, and redirect: mtx … > {path}"
            )
        if path.exists() and not self._replaces:
            raise ConfigError(
                f"the output {path} exists, and is not replaced. Set {override_text('output', str(path) + '.new')}, or "
                "replace it with task.overwrite=true"
            )
        if not path.parent.is_dir():
            raise ConfigError(
                f"the folder of the output, {path.parent}, does not exist. Create it, or set another with output=FILE"
            )

    def _complete(self, path: Path) -> None:
        """Let the complete lines become the output."""
        assert self._file is not None
        with _output_errors(path):
            os.fsync(self._file.fileno())
            if path.suffix == ".gz":
                self._file.seek(0)
                with (
                    atomic_file(path, replace=self._replaces, is_hashed=False) as target,
                    gzip.GzipFile(fileobj=cast(IO[bytes], target), mode="wb", mtime=0, filename="") as packed,
                ):
                    shutil.copyfileobj(self._file, packed)
                self._partial.unlink()
            else:
                rename_durably(self._partial, path, replace=self._replaces)


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    """Turn each error of the disk, of the store's functions, too, into one that names the key of the output."""
    try:
        yield
    except InUseError:
        raise
    except FileExistsError as error:
        raise ConfigError(
            f"another process has written {path} in the meantime, which is not replaced. Set another file with "
            "output=FILE, or replace it with task.overwrite=true"
        ) from error
    except (OSError, StoreError) as error:
        cause = error.__cause__ or error
        raise StoreError(
            f"{path} cannot be written: {library_reason(cause)}. Free disk space, get write permission, or set another "
            "file with output=FILE"
        ) from error


def _write_standard_output(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the rest of the data would raise it again when Python flushes at the exit
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _complete_lines(file: IO[bytes], *, is_table: bool) -> int:
    """Cut a file after its last complete input line, and return the number of complete input lines.

    The translations of a line in a table may be incomplete, so those of the last line are cut, too.
    """
    file.seek(0)
    num_lines = end = offset = 0
    last = b""
    for line in file:
        if not line.endswith(b"\n"):
            break
        number = line.partition(b"\t")[0]
        if is_table and number != last:
            num_lines, end, last = int(number), offset, number
        offset += len(line)
        if not is_table:
            num_lines, end = num_lines + 1, offset
    file.truncate(end)
    file.seek(0, os.SEEK_END)
    return num_lines


def single_line(text: str, *, keep_tabs: bool = True) -> str:
    """Return a text with spaces in place of line ends, and of tabs unless `keep_tabs` is set."""
    text = text.replace("\r", " ").replace("\n", " ")
    return text if keep_tabs else text.replace("\t", " ")
