"""Run a command in a pseudo-terminal of a given width, and collect the lines that it shows."""

import fcntl
import os
import pty
import re
import select
import struct
import tempfile
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

from warm_process import WarmProcess

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TIMEOUT_S = 300


def in_terminal(
    command: Sequence[str], *, columns: int, folder: Path, watch: Callable[[int, str], None] | None = None
) -> tuple[int, list[str], str]:
    """Run `python COMMAND...` in a new pseudo-terminal; the plots of its page are empty.

    Args:
        command: `-m MODULE`, `-c CODE` or a file, and the arguments.
        columns: The width of the terminal in characters.
        folder: The working folder of the command.
        watch: Called after each output with the process id and the whole output so far.

    Returns:
        The exit code; all lines ever shown, including those of progress bars, without equal neighbours; and the raw
        output with control sequences.
    """
    terminal, inner = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
    environment.pop("COLUMNS", None)  # readline, which pytest imports, sets it
    with tempfile.TemporaryDirectory() as unused:
        process = WarmProcess(tuple(command), Path(unused), folder, environment, os.ttyname(inner), undrawn=True)
        written = b""
        while True:
            ended = process.returncode is not None
            if select.select([terminal], [], [], 0.05)[0]:
                written += os.read(terminal, 65536)
                if watch is not None:
                    watch(process.pid, written.decode(errors="replace"))
            elif ended:
                break
        code = process.wait(TIMEOUT_S).returncode
        process.process.close()
    os.close(inner)
    os.close(terminal)
    text = written.decode()
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", CONTROL.sub("", text)) if line.strip()]
    return code, [a for a, b in zip(lines, ["", *lines], strict=False) if a != b], text
