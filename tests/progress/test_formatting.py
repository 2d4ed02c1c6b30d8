"""The form of lines of the log, and of figures in a bar."""

import pytest

from mtx.progress.formatting import amount, drop_counts, duration, line, rounded, share, state


def test_a_line_is_an_event_and_its_values() -> None:
    values = {"update": 207, "loss": 5.6712, "tokens_per_s": 50499.7, "s": 3.84, "left_s": 29.6, "best": True}
    expected = "train     50% update=207 loss=5.671 tokens_per_s=50500 s=3.8 left_s=30 best"
    assert line("train", "50%", values) == expected


def test_what_is_not_known_is_left_out() -> None:
    assert line("validate", "", {"update": 0, "tokens": None, "best": False}) == "validate  update=0"


def test_a_line_is_one_line_of_ascii() -> None:
    told = line("end", "failed\nby Größe", {"error": "no file 'ä b'\nTry again", "name": "日本"})
    assert told == "end       failed by Gr\\xf6\\xdfe error=\"no file '\\u00e4 b'\\nTry again\" name=\\u65e5\\u672c"


def test_a_long_error_is_cut() -> None:
    assert len(line("end", "failed", {"error": "word " * 1000})) < 400


def test_work_under_way_has_its_amount_its_rate_and_the_time_left() -> None:
    assert state(300, 1000, "pairs", 30) == {"pairs": 300, "pairs_per_s": 10, "left_s": 70}
    assert state(0, 1000, "pairs", 30)["left_s"] is None
    assert state(5, None, "pairs", 10) == {"pairs": 5, "pairs_per_s": 0.5, "left_s": None}
    assert state(0, None, None, 30) == {"s": 30}
    assert state(0, None, "pairs", 30) == {"s": 30}, "a rate of 0 would look as if nothing happened"
    assert (share(300, 1000), share(3, None), share(1001, 1000)) == ("30%", "", "100%")


def test_counts_of_a_stage_are_by_reason_most_first() -> None:
    metrics = {"dropped": {"too_long": 2, "duplicate": 5, "empty": 0}, "rejects": {}}
    assert list(drop_counts(metrics, 93).items()) == [("kept", 93), ("dropped", 7), ("duplicate", 5), ("too_long", 2)]
    assert drop_counts({"skipped": {}}) == {}
    assert drop_counts({"skipped": {"malformed": 3}}) == {"skipped": 3, "malformed": 3}
    assert drop_counts({"changed": 4}) == {"changed": 4}


@pytest.mark.parametrize(
    ("done", "total", "unit", "expected"),
    [
        (34.4, 60, "s", "34/60 s"),
        (12_000, 52_000, "pairs", "12,000/52,000 pairs"),
        (1_460_000, 4_000_000, "tokens", "1.46/4.00 M tokens"),
        (5e8, 2e9, "source bytes", "0.50/2.00 G source bytes"),
        (7, None, "pairs", "7 pairs"),
        (0.25, 0.5, "s", "0.25/0.5 s"),
    ],
)
def test_amounts_are_short(done: float, total: float | None, unit: str, expected: str) -> None:
    assert amount(done, total, unit) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(831.4, "831"), (1000, "1.00 k"), (52_210, "52.2 k"), (999_999, "1.00 M"), (4e9, "4.00 G")]
)
def test_rates_have_three_digits(value: float, expected: str) -> None:
    assert rounded(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(33.6, "0:34"), (3723, "1:02:03"), (-1, "0:00"), (3599.7, "1:00:00")]
)
def test_times_are_minutes_and_seconds(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected
