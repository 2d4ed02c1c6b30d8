"""Retries of requests to the Hugging Face Hub: the waiting times, and the errors that count as temporary."""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import TYPE_CHECKING, TypeVar

from mtx import own_process
from mtx.library_errors import library_reason

if TYPE_CHECKING:
    import tenacity

Response = TypeVar("Response")

log = logging.getLogger(__name__)

TEMPORARY_STATUSES = (408, 429, 500, 502, 503, 504)  # HTTP statuses after which a retry may succeed
FIRST_WAIT_S = 1.0  # before the second attempt; doubles with each further attempt
MAX_WAIT_S = 60.0
SILENCE_S = 1.5  # without an answer to a short request, until a message says so
LEAST_SILENCE_S = 0.5  # the same, while a command starts
FIRST_MESSAGE_S = 2.7  # after the start of a command, a silent Hub is told
MIN_TIMEOUT_S = 1.0  # of a request that begins at the end of the time limit

_deadline_s: ContextVar[float | None] = ContextVar("mtx_hub_deadline_s", default=None)


def seconds_left() -> float | None:
    """Return the seconds that the current request may take by the time limit of its policy; None: no limit."""
    deadline_s = _deadline_s.get()
    return None if deadline_s is None else max(MIN_TIMEOUT_S, deadline_s - time.monotonic())


def silence_s() -> float:
    """Return the seconds that a short request may be silent: fewer while a command starts, which says so soon."""
    age_s = time.monotonic() - own_process.IMPORTED_S
    if not own_process.is_own_process() or age_s > 2 * FIRST_MESSAGE_S:
        return SILENCE_S
    return min(max(FIRST_MESSAGE_S - age_s, LEAST_SILENCE_S), SILENCE_S)


class ShortResponseError(OSError):
    """The server sent fewer bytes than requested."""


class RetryTimeoutError(Exception):
    """A request for a file failed after all retries; the cause is the last error.

    The class is not an OSError, because `datasets` would retry an OSError many more times.
    """


@dataclass(frozen=True)
class RetryPolicy:
    """Repeats a failed request, with increasing waiting times, until it succeeds or the time limit is reached.

    The time limit applies to each request separately, so a long download survives any number of short failures.

    Args:
        patience_s: time limit of one request in seconds; 0: no retries.
        random: random generator of the waiting times, so that several jobs do not retry at the same moment.
        instead: what mtx does if the time limit is reached, for the message about a Hub that does not answer.
        key: the option that sets `patience_s`, for the same message; empty: no option sets it.
    """

    patience_s: float
    random: Random = field(default_factory=lambda: Random(0), compare=False)
    instead: str = "then mtx stops"
    key: str = "downloader.patience_s"

    def call(self, question: Callable[[], Response], *, is_short: bool = False) -> Response:
        """Return the result of `question`.

        The first temporary error is logged, with the time limit of the retries.

        Args:
            question: sends the request.
            is_short: the answer is small, so that no answer within `silence_s()` is logged, too.

        Raises its last exception if the error is not temporary or the time is up.
        """
        import tenacity

        begun_s = time.monotonic()
        notice = _Notice(self)
        silent_s = silence_s()
        timer = threading.Timer(silent_s, notice.tell, ("does not answer", f"nothing came within {silent_s:.2g} s"))
        timer.daemon = True

        def wait_s(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            longest_s = min(MAX_WAIT_S, FIRST_WAIT_S * 2.0 ** min(state.attempt_number - 1, 16))
            wanted_s = retry_after_s(error) or longest_s * self.random.uniform(0.5, 1.0)
            return max(0.0, min(wanted_s, begun_s + self.patience_s - time.monotonic()))

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self.patience_s),
            wait=wait_s,
            retry=tenacity.retry_if_exception(is_temporary),
            before_sleep=notice.tell_failure,
            reraise=True,
        )
        token = _deadline_s.set(begun_s + self.patience_s if self.patience_s else None)
        if is_short:
            timer.start()
        try:
            return retrying(question)
        finally:
            timer.cancel()
            _deadline_s.reset(token)


class _Notice:
    """Logs once that the Hub does not answer, what was tried, and for how long mtx tries again."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._lock = threading.Lock()

    def tell(self, what: str, why: str) -> None:
        """Log that the Hub did `what`, unless it was logged before."""
        from huggingface_hub import constants

        patience_s = self._policy.patience_s
        how = f"tries for up to {patience_s:g} s" if patience_s else "waits for this one request"
        if self._lock.acquire(blocking=False):
            log.warning(
                "the Hugging Face Hub at %s %s (%s). Is there a network? mtx %s%s, %s",
                constants.ENDPOINT,
                what,
                why,
                how,
                f" ({self._policy.key}={patience_s:g})" if self._policy.key else "",
                self._policy.instead,
            )

    def tell_failure(self, state: "tenacity.RetryCallState") -> None:
        """Log the error of the failed request, as callback of tenacity."""
        error = state.outcome.exception() if state.outcome else None
        status = None if error is None else status_of(error)
        reason = "no answer" if error is None else library_reason(error)
        self.tell("cannot be reached", f"status {status}" if status else reason)


def is_temporary(error: BaseException) -> bool:
    """Return whether a retry of the request may succeed after `error`."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if not isinstance(error, network_errors()) or isinstance(error, OfflineModeIsEnabled):
        return False
    status = status_of(error)
    if status is not None:
        return status in TEMPORARY_STATUSES
    return isinstance(error, LocalEntryNotFoundError) or not isinstance(error, (FileNotFoundError, PermissionError))


def network_errors() -> tuple[type[Exception], ...]:
    """Return the exception types of failed requests: OSError, and the base classes of the client's HTTP errors."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)))


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of the response that caused `error`, or None if there was no response."""
    return getattr(getattr(error, "response", None), "status_code", None)


def retry_after_s(error: BaseException | None) -> float | None:
    """Return the waiting time in seconds from the response's header Retry-After, or None if it has none.

    The header contains a number of seconds or a date.
    """
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    said = str(headers.get("Retry-After", "")).strip()
    if said.isascii() and said.isdecimal():
        return float(said)
    try:
        until = parsedate_to_datetime(said)
    except ValueError:  # neither seconds nor a date
        return None
    return max(0.0, (until.astimezone(UTC) - datetime.now(UTC)).total_seconds())
