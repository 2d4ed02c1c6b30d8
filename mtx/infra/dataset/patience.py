"""How long a failing Hub is asked again, and which failures pass by themselves."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import TypeVar

Answer = TypeVar("Answer")

TEMPORARY = (408, 429, 500, 502, 503, 504)  # HTTP status that another try may not get
FIRST_WAIT_S = 1.0  # before the second try; doubles with each
MAX_WAIT_S = 60.0


class ShortAnswerError(OSError):
    """Fewer bytes came than were asked for."""


class OutOfPatienceError(Exception):
    """A file gave no answer, for the cause. No OSError: `datasets` asks again after those, many times more."""


@dataclass(frozen=True)
class Patience:
    """Asks again, with waits that grow, until an answer comes or the time is up.

    Each request has the whole time, so a long reading survives any number of short failures.

    Args:
        patience_s: seconds to keep trying one request; 0 asks once.
        random: where the waits are drawn from, so that many jobs do not ask at the same moment.
    """

    patience_s: float
    random: Random = field(default_factory=lambda: Random(0), compare=False)

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Return the answer to `question`; raises what it raised last, where that does not pass or time is up."""
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
            retry=tenacity.retry_if_exception(passes),
            reraise=True,
        )
        return retrying(question)


def passes(error: BaseException) -> bool:
    """Tell whether another try may get an answer."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if not isinstance(error, network_errors()) or isinstance(error, OfflineModeIsEnabled):
        return False
    status = status_of(error)
    if status is not None:
        return status in TEMPORARY
    return isinstance(error, LocalEntryNotFoundError) or not isinstance(error, (FileNotFoundError, PermissionError))


def network_errors() -> tuple[type[Exception], ...]:
    """Return what the client raises: OSError, and the base of its HTTP library's errors, whichever that is."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)))


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that came, where one did."""
    return getattr(getattr(error, "response", None), "status_code", None)


def retry_after_s(error: BaseException | None) -> float | None:
    """Return the seconds that the Hub asks to wait, where it says how many, or until when."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    said = str(headers.get("Retry-After", "")).strip()
    if said.isascii() and said.isdecimal():
        return float(said)
    try:
        until = parsedate_to_datetime(said)
    except ValueError:  # neither seconds nor a date
        return None
    return max(0.0, (until.astimezone(UTC) - datetime.now(UTC)).total_seconds())
