"""A worker process of `ProcessPoolEngine`, as the process sees it that has started it."""

import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

# The path of this process comes first of all, so that a worker imports the same modules. Ctrl-C also reaches the
# workers, but the process that started them ends them; it blocks the signal until they ignore it.
START = """
import sys
sys.path[:] = sys.argv[3:]
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
from mtx.data.engine_worker import main
main(int(sys.argv[1]), int(sys.argv[2]))
"""


def thread_variables(num_threads: int) -> dict[str, str]:
    """Return the environment variables by which libraries of a worker use this number of threads."""
    names = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {**dict.fromkeys(names, str(num_threads)), "TOKENIZERS_PARALLELISM": str(num_threads > 1).lower()}


@dataclass
class WorkerProcess:
    """A process and the connection to it."""

    process: subprocess.Popen[bytes]
    connection: Connection
    is_ready: bool = False  # whether it has started
    has_task: bool = False  # whether it has received the current task
    item_number: int | None = None  # number of the item that the worker has; None: it is idle

    @classmethod
    def started(cls, num_threads: int) -> "WorkerProcess":
        """Start a process. Raises OSError if the operating system refuses."""
        ours, theirs = socket.socketpair()
        with theirs:
            former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            try:
                # -P: the working folder does not come before the standard library
                process = subprocess.Popen(
                    [sys.executable, "-P", "-c", START, str(theirs.fileno()), str(os.getpid()), *map(str, sys.path)],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **thread_variables(num_threads)},
                )
            except BaseException:
                ours.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, former)
        return cls(process, Connection(ours.detach()))

    def message(self) -> tuple[str, Any] | None:
        """Return the next message of a worker, after handling its log; None: the worker has ended."""
        try:
            what, content = self.connection.recv()
        except (EOFError, OSError):
            return None
        if what == "ready":
            self.is_ready = True
        elif what == "log":
            name, level, text = content
            logging.getLogger(name).log(level, "%s", text)
        return what, content

    def send_item(self, task: bytes, item: bytes) -> None:
        """Send a pickled item, and the task before the first one; do nothing if the worker has ended."""
        with suppress(OSError):
            if not self.has_task:
                self.has_task = True
                self.connection.send(("task", task))
            self.connection.send(("item", item))

    def forget_task(self) -> bool:
        """Let the worker free the memory of its task; return False if the worker has ended."""
        if self.has_task:
            self.has_task = False
            try:
                self.connection.send(("task", None))
            except OSError:
                return False
        return True


def ending(code: int) -> str:
    """Return how a process with this exit code has ended, as a text."""
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
