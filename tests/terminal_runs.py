"""Run a command in a pseudo-terminal of a given width, and collect the lines that it shows."""

import fcntl
import os
import pty
import re
import signal
import struct
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(
    command: Sequence[str], *, columns: int, folder: Path, watch: Callable[[int, str], None] | None = None
) -> tuple[int, list[str], str]:
    """Run a command in a new pseudo-terminal.

    Args:
        command: The program and its arguments.
        columns: The width of the terminal in characters.
        folder: The working folder of the command.
        watch: Called after each output with the process id and the whole output so far.

    Returns:
        The exit code; all lines ever shown, including those of progress bars, without equal neighbours; and the raw
        output with control sequences.
    """
    process, terminal = pty.fork()
    if not process:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore SIGINT
        os.chdir(folder)
        os.environ.update(TERM="xterm-256color", OMP_NUM_THREADS="1")
        os.environ.pop("COLUMNS", None)
        # with the environment given: readline, which pytest imports, sets COLUMNS behind Python's back
        os.execvpe(command[0], list(command), os.environ)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    written = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # on Linux, the command has closed its end of the terminal
            break
        if not data:
            break
        written += data
        if watch is not None:
            watch(process, written.decode(errors="replace"))
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    text = written.decode()
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", CONTROL.sub("", text)) if line.strip()]
    return os.waitstatus_to_exitcode(status), [a for a, b in zip(lines, ["", *lines], strict=False) if a != b], text
