"""A worker process of `ProcessPoolEngine`: it receives a task, runs it for each item, and sends the results."""

import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

PARENT_CHECK_S = 0.5  # seconds between two checks that the parent process is alive


def main() -> None:
    """Serve the process that started this one, until it closes the connection or ends. Reads `sys.argv`."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    task: Callable[[Any], Any] | None = None
    with Connection(descriptor) as connection:
        while True:
            try:
                what, content = connection.recv()
            except (EOFError, OSError):
                return
            if what == "path":
                sys.path[:] = content
            elif what == "task":
                task = pickle.loads(content)
            elif task is not None:
                connection.send(_outcome(task, content))


def _outcome(task: Callable[[Any], Any], item: bytes) -> tuple[bool, Any]:
    """Return whether the task succeeded, and its result or its error."""
    try:
        return True, task(pickle.loads(item))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # some errors have arguments that they do not keep
            return False, RuntimeError(f"{type(error).__name__}: {error}")
        return False, error


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)
