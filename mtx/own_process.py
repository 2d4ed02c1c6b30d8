"""Whether this process runs nothing but the command `mtx`, so that it may fork."""

import os

OWN_PROCESS_VARIABLE = "MTX_OWN_PROCESS"  # the id of a process that runs nothing but the command


def is_own_process() -> bool:
    """Return whether this process runs nothing but the command, so that it may fork."""
    return hasattr(os, "fork") and os.environ.get(OWN_PROCESS_VARIABLE) == str(os.getpid())
