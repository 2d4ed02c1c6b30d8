"""What mtx assumes where the user's config leaves something open, such as the language of a file.

Each assumption is one line in the terminal and in the log, and an item of `assumptions` in `report.json`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from mtx.redaction_and_escaping import redacted_text, visible_text

log = logging.getLogger(__name__)

_collected: ContextVar[list[str] | None] = ContextVar("mtx_assumptions", default=None)
_kept: ContextVar[list[str] | None] = ContextVar("mtx_kept_assumptions", default=None)
_sweep: ContextVar[Path | None] = ContextVar("mtx_sweep", default=None)
_shown: set[tuple[Path | None, str]] = set()  # the sweeps and what this process has logged in them


def assume(what: str) -> None:
    """Log an assumption and keep it for the report of the run. A run logs equal assumptions once.

    Args:
        what: one sentence without a full stop: what mtx assumes, why, and the override that changes it.
    """
    if (left := _kept.get()) is not None:
        left.append(what)
        return
    what = visible_text(redacted_text(what)).replace("\n", "\\n")
    kept = _collected.get()
    if kept is not None:
        if what in kept:
            return
        kept.append(what)
    shown = (_sweep.get(), what)
    log.warning("assumed: %s", what, extra={"is_repeated": shown in _shown})
    _shown.add(shown)


@contextmanager
def collected_assumptions(*, sweep: Path | None = None) -> Iterator[list[str]]:
    """Yield the list that gets the assumptions which are made inside the `with` block.

    Args:
        sweep: The folder of the sweep, if the block is one of its jobs. The terminal shows equal assumptions of the
            jobs of a sweep once.
    """
    kept: list[str] = []
    if sweep is None:
        _shown.clear()
    tokens = _collected.set(kept), _sweep.set(sweep)
    try:
        yield kept
    finally:
        _collected.reset(tokens[0])
        _sweep.reset(tokens[1])


@contextmanager
def distinct_assumptions() -> Iterator[None]:
    """Log equal assumptions once inside the `with` block, also where no run collects them."""
    if _collected.get() is not None:
        yield
        return
    with collected_assumptions():
        yield


@contextmanager
def kept_assumptions() -> Iterator[list[str]]:
    """Yield the list that gets the assumptions of the `with` block instead of the log, so that others can make them."""
    kept: list[str] = []
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)
