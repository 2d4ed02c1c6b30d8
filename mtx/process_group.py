"""End a group of processes, such as the jobs of a sweep that a launcher has started."""

import os
import signal
import time
from contextlib import suppress

SECONDS_TO_END = 3.0  # between the signal that asks the processes to end, and the one that ends them
SECONDS_BETWEEN_LOOKS = 0.05


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
