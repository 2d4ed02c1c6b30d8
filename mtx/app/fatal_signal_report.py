"""Tell the user when a signal has ended a run, such as an abort in native code or a lack of memory.

Python cannot catch such an end. A small child, forked before torch is imported, therefore waits for the end of the
process, and prints one line if nothing announced it. The process itself keeps its id, its signals and its exit code.
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

EXIT_CODE_FIELD = 49  # of /proc/PID/stat, counted after the name in parentheses
SHOWN_RANK = ("LOCAL_RANK", "RANK")  # variables of a process that Lightning or torchrun has started


def watch_process() -> None:
    """Start the child that waits for the end of this process, once, if this process runs nothing but the command."""
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

    def announce() -> None:
        if os.getpid() == pid:  # not in a process that this one has forked
            with suppress(OSError):
                os.write(announces, b".")

    atexit.register(announce)


def ended_by(number: int | None) -> str:
    """Return the line about a run that the signal `number` ended; None: the signal is unknown."""
    rank = next((f"rank {os.environ[name]}: " for name in SHOWN_RANK if os.environ.get(name)), "")
    how = signal.Signals(number).name if number else "a signal"
    why = ". " if number in (signal.SIGTERM, signal.SIGHUP) else f", often for lack of memory. {MEMORY_ADVICE}. "
    return (
        f"mtx: {rank}the run was ended by {how}{why}The store is intact, and the next run reuses all finished stages; "
        "task=fit resumes with ckpt=last"
    )


def _wait(pid: int, ends: int) -> NoReturn:
    """Wait in the child for the end of process `pid`, and print a line if it did not announce its end."""
    code = 0
    try:
        os.environ[OWN_PROCESS_VARIABLE] = ""
        os.setsid()  # Ctrl-C in the terminal is for the run
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(0)
        os.close(1)  # a reader of the run's output sees its end
        if not os.read(ends, 1):
            os.write(2, f"{ended_by(_signal_of(pid))}\n".encode())
    except BaseException:  # nothing of the parent may run in the child
        code = 1
    finally:
        os._exit(code)


def _signal_of(pid: int) -> int | None:
    """Return the signal that ended a process, as long as its parent has not asked for it; None if it is not known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
        number = int(fields[EXIT_CODE_FIELD]) & 0x7F if fields[0] == "Z" else 0
        return number if number in set(signal.Signals) else None
    except (OSError, ValueError, IndexError):
        return None
