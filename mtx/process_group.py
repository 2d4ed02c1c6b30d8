"""Interrupt or end a group of processes, such as the jobs of a sweep that a launcher has started."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

SECONDS_TO_END = 3.0  # between the signal that asks the processes to end, and the one that ends them
SECONDS_BETWEEN_LOOKS = 0.05
PROCESSES = Path("/proc")  # of Linux
# In the command lines of processes that only wait for a job. Each would print a stack trace if it was interrupted.
WAITING = (b"submitit.local._local", b"submitit/local/_local.py")


def interrupt_group(group: int) -> None:
    """Send SIGINT to the processes of a group, but not to those that only wait for a job and end with it."""
    waiting = [pid for pid in _processes_of(group) if _is_waiting(pid)]
    with suppress(ProcessLookupError, PermissionError):
        if not waiting:
            os.killpg(group, signal.SIGINT)
            return
    for pid in _processes_of(group):
        if pid not in waiting:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGINT)


def _processes_of(group: int) -> list[int]:
    """Return the processes of a group; empty on systems that do not list them in `/proc`."""
    found = []
    for entry in PROCESSES.glob("[0-9]*"):
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(int(entry.name)) == group:
                found.append(int(entry.name))
    return found


def _is_waiting(pid: int) -> bool:
    with suppress(OSError):
        return any(name in (PROCESSES / str(pid) / "cmdline").read_bytes() for name in WAITING)
    return False


def end_group(group: int) -> None:
    """Ask the processes of a group to end, and end those that have not after some seconds; 0 is no group."""
    if not group:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        until = time.monotonic() + SECONDS_TO_END
        while time.monotonic() < until:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            os.killpg(group, 0)  # raises ProcessLookupError once all have ended
        os.killpg(group, signal.SIGKILL)
