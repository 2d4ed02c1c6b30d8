"""What mtx assumes where the user's config leaves something open, such as the language of a file.

Each assumption is one line in the terminal and in the log, and an item of `assumptions` in `report.json`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mtx.redaction_and_escaping import redacted_text, visible_text

log = logging.getLogger(__name__)

_collected: ContextVar[list[str] | None] = ContextVar("mtx_assumptions", default=None)
_shown: set[str] = set()  # what this process has logged in the current sweep


def assume(what: str) -> None:
    """Log an assumption and keep it for the report of the run. A run logs equal assumptions once.

    Args:
        what: one sentence without a full stop: what mtx assumes, why, and the override that changes it.
    """
    what = visible_text(redacted_text(what)).replace("\n", "\\n")
    kept = _collected.get()
    if kept is not None:
        if what in kept:
            return
        kept.append(what)
    log.warning("assumed: %s", what, extra={"is_repeated": what in _shown})
    _shown.add(what)


@contextmanager
def collected_assumptions(*, in_sweep: bool = False) -> Iterator[list[str]]:
    """Yield the list that gets the assumptions which are made inside the `with` block.

    Args:
        in_sweep: Whether the block is a job of a sweep. The terminal shows equal assumptions of several jobs once.
    """
    kept: list[str] = []
    if not in_sweep:
        _shown.clear()
    token = _collected.set(kept)
    try:
        yield kept
    finally:
        _collected.reset(token)


@contextmanager
def distinct_assumptions() -> Iterator[None]:
    """Log equal assumptions once inside the `with` block, also where no run collects them."""
    if _collected.get() is not None:
        yield
        return
    with collected_assumptions():
        yield
