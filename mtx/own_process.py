"""Whether this process runs nothing but the command, so that it may fork, and when it ends with its parent."""

import os
import threading
import time
from functools import cache

PARENT_CHECK_S = 0.5  # seconds between two checks that the parent process is alive
OWN_PROCESS_VARIABLE = "MTX_OWN_PROCESS"  # the id of a process that runs nothing but the command


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


def _end_after(sentinel: int) -> None:
    """End this process at once when `sentinel`, which the starting process holds open, is closed."""
    from multiprocessing.connection import wait

    wait([sentinel])
    os._exit(1)
