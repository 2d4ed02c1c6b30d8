"""Retries of requests to the Hugging Face Hub: the waiting times, and the errors that count as temporary."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import TypeVar

Response = TypeVar("Response")

TEMPORARY_STATUSES = (408, 429, 500, 502, 503, 504)  # HTTP statuses after which a retry may succeed
FIRST_WAIT_S = 1.0  # before the second attempt; doubles with each further attempt
MAX_WAIT_S = 60.0


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
    """

    patience_s: float
    random: Random = field(default_factory=lambda: Random(0), compare=False)

    def call(self, question: Callable[[], Response]) -> Response:
        """Return the result of `question`.

        Raises its last exception if the error is not temporary or the time is up.
        """
        import tenacity

        begun_s = time.monotonic()

        def wait_s(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            longest_s = min(MAX_WAIT_S, FIRST_WAIT_S * 2.0 ** min(state.attempt_number - 1, 16))
            wanted_s = retry_after_s(error) or longest_s * self.random.uniform(0.5, 1.0)
            return max(0.0, min(wanted_s, begun_s + self.patience_s - time.monotonic()))

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self.patience_s),
            wait=wait_s,
            retry=tenacity.retry_if_exception(is_temporary),
            reraise=True,
        )
        return retrying(question)


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
