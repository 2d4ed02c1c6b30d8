"""How long and how often a Hub that fails is asked again."""

import os
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from types import SimpleNamespace

import pytest

from mtx import own_process
from mtx.infra.dataset.hub import retry as module
from mtx.infra.dataset.hub.model_files import ONE_REQUEST
from mtx.infra.dataset.hub.retry import RetryPolicy, is_temporary, retry_after_s, seconds_left


class AnswerError(OSError):
    """An answer with that status, as the client raises it."""

    def __init__(self, status: int, retry_after: str | None = None) -> None:
        super().__init__(f"status {status}")
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        self.response = SimpleNamespace(status_code=status, headers=headers)


class Hub:
    """Raises what is given, one after the other, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.num_asked = 0

    def __call__(self) -> str:
        self.num_asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "an answer"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds waited for, while the clock goes on by as much and nobody waits."""
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    monkeypatch.setattr(module.time, "monotonic", lambda: 1000.0 + sum(waited))
    return waited


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416])
def test_an_error_that_stays_is_raised_at_once(waits: list[float], status: int) -> None:
    hub = Hub(AnswerError(status))
    with pytest.raises(AnswerError, match=str(status)):
        RetryPolicy(300).call(hub)
    assert (hub.num_asked, waits) == (1, [])


@pytest.mark.parametrize("error", [FileNotFoundError("no file"), PermissionError("no"), KeyError("no network error")])
def test_an_error_of_this_machine_is_raised_at_once(waits: list[float], error: Exception) -> None:
    hub = Hub(error)
    with pytest.raises(type(error)):
        RetryPolicy(300).call(hub)
    assert hub.num_asked == 1
    assert not is_temporary(error)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_error_that_passes_is_asked_again(waits: list[float], status: int) -> None:
    assert RetryPolicy(300).call(Hub(AnswerError(status), ConnectionResetError())) == "an answer"
    assert len(waits) == 2


def test_waits_double_up_to_a_minute_and_are_drawn_from_the_upper_half(waits: list[float]) -> None:
    RetryPolicy(10_000).call(Hub(*(AnswerError(503) for _ in range(9))))
    longest = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert all(most / 2 <= wait <= most for most, wait in zip(longest, waits, strict=True)), waits


def test_waits_come_from_the_random_that_is_given(waits: list[float]) -> None:
    def waited(seed: int) -> list[float]:
        waits.clear()
        RetryPolicy(10_000, Random(seed)).call(Hub(*(AnswerError(503) for _ in range(4))))
        return list(waits)

    assert waited(1) == waited(1)
    assert waited(1) != waited(2)


def test_the_hub_says_how_many_seconds_to_wait(waits: list[float]) -> None:
    RetryPolicy(300).call(Hub(AnswerError(429, "17")))
    assert waits == [17]


def test_the_hub_says_until_when_to_wait(waits: list[float]) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    RetryPolicy(300).call(Hub(AnswerError(429, until)))
    assert 25 < waits[0] <= 30


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("3", 3), ("0", 0), (" 5 ", 5), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("soon", None), ("-1", None), ("²", None)],
)
def test_what_the_hub_says_of_waiting_is_read_or_passed_over(said: str, seconds: float | None) -> None:
    assert retry_after_s(AnswerError(429, said)) == seconds


def test_a_hub_that_says_nothing_of_waiting() -> None:
    assert retry_after_s(AnswerError(429)) is None
    assert retry_after_s(None) is None
    assert retry_after_s(ConnectionResetError()) is None


def test_it_never_waits_beyond_its_time(waits: list[float]) -> None:
    hub = Hub(*(AnswerError(503, "3600") for _ in range(9)))
    with pytest.raises(AnswerError, match="503"):
        RetryPolicy(20).call(hub)
    assert sum(waits) == pytest.approx(20)
    assert hub.num_asked == 2


def test_no_patience_asks_once(waits: list[float]) -> None:
    hub = Hub(AnswerError(503))
    with pytest.raises(AnswerError):
        RetryPolicy(0).call(hub)
    assert hub.num_asked == 1


# What is said, and when


def test_the_first_failure_is_told_with_what_was_tried_and_for_how_long(
    waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub(ConnectionRefusedError("Connection refused\nmore"), *(AnswerError(503) for _ in range(5)))
    RetryPolicy(300, instead="then it rests").call(hub)
    (message,) = caplog.messages
    assert message.startswith("the Hugging Face Hub at http")
    assert "(ConnectionRefusedError: Connection refused). Is there a network?" in message
    assert message.endswith("mtx tries for up to 300 s (downloader.patience_s=300), then it rests")


@pytest.mark.parametrize("error", [AnswerError(404), FileNotFoundError("no file"), None])
def test_an_answer_and_an_error_that_stays_are_not_told(
    waits: list[float], caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    with suppress(OSError):
        RetryPolicy(300).call(Hub(*([error] if error else [])), is_short=True)
    assert caplog.messages == []


@pytest.mark.parametrize(("is_short", "num_told"), [(True, 1), (False, 0)])
def test_silence_is_told_before_the_request_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_short: bool, num_told: int
) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.01)
    told: list[int] = []

    def slow() -> None:
        time.sleep(0.2)
        told.append(len(caplog.messages))

    RetryPolicy(300).call(slow, is_short=is_short)
    assert told == [num_told]
    assert all("does not answer (nothing came within 0.01 s)" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("age_s", "is_own", "silent_s"),
    [(0.4, True, 1.5), (1.7, True, 1.0), (2.6, True, 0.5), (4.0, True, 0.5), (60.0, True, 1.5), (1.7, False, 1.5)],
)
def test_a_command_that_has_just_started_tells_silence_within_three_seconds(
    monkeypatch: pytest.MonkeyPatch, age_s: float, is_own: bool, silent_s: float
) -> None:
    monkeypatch.setattr(own_process, "IMPORTED_S", time.monotonic() - age_s)
    monkeypatch.setenv(own_process.OWN_PROCESS_VARIABLE, str(os.getpid()) if is_own else "")
    assert module.silence_s() == pytest.approx(silent_s, abs=0.05)


def test_one_request_without_an_option_names_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.01)
    ONE_REQUEST.call(lambda: time.sleep(0.1), is_short=True)
    (message,) = caplog.messages
    assert message.endswith("mtx waits for this one request, then takes the files of an earlier download, or stops")


def test_a_request_takes_no_longer_than_the_time_that_is_left() -> None:
    assert seconds_left() is None
    left = RetryPolicy(5).call(seconds_left)
    assert left is not None
    assert 4 < left <= 5
    assert RetryPolicy(0.1).call(seconds_left) == module.MIN_TIMEOUT_S
    assert RetryPolicy(0).call(seconds_left) is None
    assert seconds_left() is None
