"""Tell the user when a signal has ended a run, such as an abort in native code or a lack of memory.

Python cannot catch such an end. A small child, forked before torch is imported, therefore waits for the end of the
process, and prints one line if nothing announced it. The process itself keeps its id, its signals and its exit code.
The child also ends the jobs of a sweep whose process has ended: nothing else would stop the workers of a launcher.
"""

import atexit
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from mtx.exhausted_resources import MEMORY_ADVICE
from mtx.own_process import OWN_PROCESS_VARIABLE, is_own_process
from mtx.process_group import end_group

EXIT_CODE_FIELD = 49  # of /proc/PID/stat, counted after the name in parentheses
SHOWN_RANK = ("LOCAL_RANK", "RANK")  # variables of a process that Lightning or torchrun has started
ANNOUNCED_END = b"end"

_announces: int | None = None  # the pipe to the child that waits, in the process that it waits for


def watch_process() -> None:
    """Start the child that waits for the end of this process, once, if this process runs nothing but the command."""
    global _announces
    if not is_own_process() or sys.platform == "win32":
        return
    ends, announces = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.getpid()
    try:
        child = os.fork()
    except OSError:  # no memory or process is left: the run itself says so
        os.close(ends)
        os.close(announces)
        return
    if child == 0:
        os.close(announces)
        _wait(pid, ends)
    os.close(ends)
    _announces = announces
    os.register_at_fork(after_in_child=_close_in_fork)  # a pipe that a forked process holds would hide the end
    atexit.register(_announce, ANNOUNCED_END)


def end_with_this_process(group: int | None) -> None:
    """Let the child that waits for this process end a process group, too, if a signal ends this process.

    Args:
        group: the id of the group; None: the group named before has ended.
    """
    _announce(b"%d" % (group or 0))


def ended_by(number: int | None) -> str:
    """Return the line about a run that the signal `number` ended; None: the signal is unknown."""
    rank = next((f"rank {os.environ[name]}: " for name in SHOWN_RANK if os.environ.get(name)), "")
    how = signal.Signals(number).name if number else "a signal"
    cause = ", often for lack of memory" if number else " of another process, or for lack of memory"
    why = ". " if number in (signal.SIGTERM, signal.SIGHUP) else f"{cause}. {MEMORY_ADVICE}. "
    return (
        f"mtx: {rank}the run was ended by {how}{why}The store is intact, and the next run reuses all finished stages; "
        "task=fit resumes with ckpt=last"
    )


def _announce(what: bytes) -> None:
    if _announces is not None:
        with suppress(OSError):
            os.write(_announces, what + b"\n")


def _close_in_fork() -> None:
    global _announces
    if _announces is not None:
        os.close(_announces)
    _announces = None


def _wait(pid: int, ends: int) -> NoReturn:
    """Wait in the child for the end of process `pid`. If it was not announced, print a line, and end its jobs."""
    code = 0
    try:
        os.environ[OWN_PROCESS_VARIABLE] = ""
        os.setsid()  # Ctrl-C in the terminal is for the run
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(0)
        os.close(1)  # a reader of the run's output sees its end
        with os.fdopen(ends, "rb") as pipe:
            told = pipe.read().split()
        if ANNOUNCED_END not in told:
            os.write(2, f"{ended_by(_signal_of(pid))}\n".encode())
            end_group(int(told[-1]) if told else 0)
    except BaseException:  # nothing of the parent may run in the child
        code = 1
    finally:
        os._exit(code)


def _signal_of(pid: int) -> int | None:
    """Return the signal that ended a process, as long as its parent has not asked for it; None if it is not known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
        number = int(fields[EXIT_CODE_FIELD]) & 0x7F  # the system sets it before it closes the pipe
        return number if number in set(signal.Signals) else None
    except (OSError, ValueError, IndexError):
        return None
