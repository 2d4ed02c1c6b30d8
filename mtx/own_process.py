"""Whether this process runs only the command, what it tells the child that watches it, and when it ends."""

import os
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

PARENT_CHECK_S = 0.5  # seconds between two checks that the parent process is alive
OWN_PROCESS_VARIABLE = "MTX_OWN_PROCESS"  # the id of a process that runs nothing but the command
MESSAGE_END = b"\0"  # ends each message to the child that watches a run
IMPORTED_S = time.monotonic()  # about when a command started, since `mtx.__main__` imports this module first
END, GROUP, LOG = b"end", b"group", b"log"  # the first words of these messages

_pipe: int | None = None  # to the child that watches a run: in the run itself, and in a job that it has forked


def is_own_process() -> bool:
    """Return whether this process runs nothing but the command, so that it may fork."""
    return hasattr(os, "fork") and os.environ.get(OWN_PROCESS_VARIABLE) == str(os.getpid())


def end_with(parent: int) -> None:
    """End this process at once when its parent, which has the id `parent`, has ended. Returns only by that end."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


@cache
def end_with_starting_process() -> None:
    """End this process, from a thread, when the process that started it by `multiprocessing` or loky has ended.

    A worker of a launcher would otherwise go on with its job, and with the jobs that it has already received.
    """
    import multiprocessing  # here, because the command imports this module at each start

    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return
    # A process between the two, such as the fork server, has another id, and loky gives no sentinel.
    is_direct = os.getppid() == parent.pid or parent.sentinel is None
    ends, what = (end_with, parent.pid) if is_direct else (_end_after, parent.sentinel)
    threading.Thread(target=ends, args=(what,), daemon=True).start()


def tell_watch_by(descriptor: int) -> None:
    """Note the pipe to the child that watches this run; a process that the run forks closes it."""
    global _pipe
    _pipe = descriptor
    os.register_at_fork(after_in_child=_close_in_fork)  # a pipe that a forked process holds would hide the end


def tell_watch(kind: bytes, value: bytes = b"") -> None:
    """Send `END`, `GROUP` with an id, or `LOG` with a path to the child that watches this run, if there is one."""
    if _pipe is not None:
        with suppress(OSError):
            os.write(_pipe, kind + b" " + value + MESSAGE_END)


def fork_job() -> int:
    """Fork as `os.fork` does; the forked process can tell the child that watches the run what this one can."""
    global _pipe
    kept = None if _pipe is None else os.dup(_pipe)
    pid = os.fork()
    if pid == 0:
        _pipe = kept
    elif kept is not None:
        os.close(kept)
    return pid


def keep_native_lines_in(log: Path) -> None:
    """Let lines that native code prints when it panics or aborts go to the end of the file `log` from now on."""
    tell_watch(LOG, os.fsencode(log.absolute()))


def end_with_this_process(group: int | None) -> None:
    """Let the child that watches this run end a process group, too, if a signal ends this process.

    Args:
        group: the id of the group; None: the group named before has ended.
    """
    tell_watch(GROUP, b"%d" % (group or 0))


def _close_in_fork() -> None:
    global _pipe
    if _pipe is not None:
        os.close(_pipe)
    _pipe = None


def _end_after(sentinel: int) -> None:
    """End this process at once when `sentinel`, which the starting process holds open, is closed."""
    from multiprocessing.connection import wait

    wait([sentinel])
    os._exit(1)
