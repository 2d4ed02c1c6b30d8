"""Recipients of the files of a run, such as loggers: called once the page is written, after the end of the task."""

from collections.abc import Callable, Sequence
from pathlib import Path

Recipient = Callable[[Sequence[Path], bool], object]  # gets the files, and whether the run has failed

_recipients: list[Recipient] = []


def send_files_to(recipient: Recipient) -> None:
    """Let a recipient get the files of the current run, when its page is written."""
    _recipients.append(recipient)


def has_recipients() -> bool:
    """Return whether a recipient waits for the files of the current run."""
    return bool(_recipients)


def send_files(paths: Sequence[Path], *, has_failed: bool = False) -> None:
    """Give files to all recipients, which are then forgotten. Without files, recipients end without them."""
    waiting, _recipients[:] = list(_recipients), []
    for recipient in waiting:
        recipient(paths, has_failed)
