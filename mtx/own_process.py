"""Whether this process runs nothing but the command `mtx`, so that it may fork, and the child that watches it then."""

import os
from contextlib import suppress
from pathlib import Path

OWN_PROCESS_VARIABLE = "MTX_OWN_PROCESS"  # the id of a process that runs nothing but the command


def is_own_process() -> bool:
    """Return whether this process runs nothing but the command, so that it may fork."""
    return hasattr(os, "fork") and os.environ.get(OWN_PROCESS_VARIABLE) == str(os.getpid())


MESSAGE_END = b"\0"  # ends each message to the child that watches a run
_descriptors: list[int] = []  # the pipe to that child, also in a process that the run has forked


def keep_native_lines_by(descriptor: int) -> None:
    """Note the pipe to the child that receives the lines of native code."""
    _descriptors[:] = [descriptor]


def keep_native_lines_in(log: Path) -> None:
    """Let lines that native code prints when it panics or aborts go to the end of the file `log` from now on."""
    with suppress(OSError):
        for descriptor in _descriptors:
            os.write(descriptor, os.fsencode(log.absolute()) + MESSAGE_END)
