"""The handlers of the log lines that a terminal or a pipe shows."""

import logging
import os
from collections.abc import Iterator
from io import StringIO
from typing import TextIO

import pytest

from mtx.progress.progress_log import ConsoleHandler


@pytest.fixture
def unread_pipe() -> Iterator[TextIO]:
    """A stream that nobody reads, as after the end of `head` in `mtx … | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        yield stream


def record_of(text: str) -> logging.LogRecord:
    return logging.LogRecord("mtx", logging.WARNING, __file__, 0, text, (), None)


def test_a_pipe_without_a_reader_drops_the_line_and_later_ones_without_a_trace(
    unread_pipe: TextIO, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = ConsoleHandler(unread_pipe)
    handler.handle(record_of("assumed: a language"))
    handler.handle(record_of("assumed: a header"))
    unread_pipe.write("the summary\n")
    unread_pipe.flush()
    assert capfd.readouterr() == ("", "")


class TextWithoutDescriptor(StringIO):
    """A stream of a program that shows what is written, and has lost its reader."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_stream_without_a_descriptor_opens_no_file() -> None:
    free = os.dup(0)
    os.close(free)
    ConsoleHandler(TextWithoutDescriptor()).handle(record_of("assumed: a language"))
    after = os.dup(0)
    os.close(after)
    assert after == free


def test_another_fault_of_a_log_line_is_reported(capfd: pytest.CaptureFixture[str], unread_pipe: TextIO) -> None:
    handler = ConsoleHandler(unread_pipe)
    record = record_of("%d pairs")
    record.args = ("many",)
    handler.handle(record)
    assert "--- Logging error ---" in capfd.readouterr().err
