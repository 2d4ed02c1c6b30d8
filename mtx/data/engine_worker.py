"""A worker process of `ProcessPoolEngine`: it receives a task, runs it for each item, and sends the results.

It sends pairs of a kind and a content. `ready`: it has started. `result` and `error`: the outcome of a task, pickled,
for an error with the text of its traceback. `unsendable`: a text that says what could not be pickled or unpickled.
`log`: a warning of a task.
"""

import gc
import logging
import os
import pickle
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from mtx.library_errors import library_reason
from mtx.own_process import end_with


def main(descriptor: int, parent: int) -> None:
    """Serve the process that started this one, until it closes the connection or ends."""
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    with suppress(OSError):
        os.dup2(2, 1)  # standard output belongs to the command's own results
    with Connection(descriptor) as connection:
        forwarder = LogForwarder(connection)
        logging.getLogger().addHandler(forwarder)
        with suppress(EOFError, OSError):
            forwarder.send(("ready", None))
            _serve(connection, forwarder)


class LogForwarder(logging.Handler):
    """Sends warnings to the process that started this one, between other messages."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection

    def send(self, message: tuple[str, Any]) -> None:
        """Send a message; threads of a task may log at the same time."""
        self.acquire()
        try:
            self._connection.send(message)
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Send the logger's name, the level and the text of a record."""
        with suppress(OSError):
            self.send(("log", (record.name, record.levelno, self.format(record))))


def _serve(connection: Connection, forwarder: LogForwarder) -> None:
    task: bytes | Callable[[Any], Any] | None = None
    while True:
        what, content = connection.recv()
        if what == "task":
            task = content  # None at the end of a stage, whose data need not stay in memory
            if task is None:
                from mtx.data.freed_memory import return_freed_memory  # imports Arrow, as tasks do

                gc.collect()
                return_freed_memory()
        else:
            if isinstance(task, bytes):
                try:
                    task = pickle.loads(task)
                except Exception as error:
                    forwarder.send(("unsendable", library_reason(error)))
                    continue
            assert callable(task)
            forwarder.send(outcome(task, content))


def outcome(task: Callable[[Any], Any], item: bytes) -> tuple[str, Any]:
    """Return the message about the result or the error of a task."""
    try:
        value = pickle.loads(item)
    except Exception as error:
        return "unsendable", library_reason(error)
    try:
        result = task(value)
    except Exception as error:
        return "error", (_pickled_error(error), traceback.format_exc())
    try:
        return "result", pickle.dumps(result)
    except Exception as error:
        return "unsendable", library_reason(error)


def _pickled_error(error: Exception) -> bytes:
    try:
        payload = pickle.dumps(error)
        pickle.loads(payload)
    except Exception:  # some errors have arguments that they do not keep
        return pickle.dumps(RuntimeError(_text(error)))
    return payload


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
