"""Pure functions that format progress: log lines, and the figures of a progress bar. All such formatting is here.

A log line is an event with values, such as `prepare   encoding train 52% pairs=52000 left_s=9`. Log lines are ASCII, so
that every terminal, mail program and log collector shows them correctly.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

PHASE_WIDTH = 9  # width of the first word of a log line; the longest words are `translate` and `validate`
MAX_TEXT_CHARS = 300  # maximum length of one value, such as an error message


def line(phase: str, words: str = "", values: Mapping[str, object] | None = None) -> str:
    """Return a log line in ASCII: an event with its values. None and False are omitted; True is written as the key."""
    told = [] if values is None else [_value(key, value) for key, value in values.items()]
    text = " ".join([f"{phase:<{PHASE_WIDTH}}", *filter(None, [words, *told])])
    return " ".join(text.splitlines()).encode("ascii", "backslashreplace").decode()


def state(done: float, total: float | None, unit: str | None, seconds: float) -> dict[str, object]:
    """Return the values of running work for a log line: amount, rate and seconds left.

    Without a unit, or before the first result of an unknown total, they are the seconds alone.
    """
    if unit is None or not (done or total):
        return {"s": seconds}
    rate = done / seconds if seconds > 0 else 0.0
    left = max(total - done, 0) / rate if total and rate else None
    return {unit: round(done), f"{unit}_per_s": rate, "left_s": left}


def share(done: float, total: float | None) -> str:
    """Return the completed share of the work as `52%`, or an empty string if the total is unknown."""
    return f"{min(done / total, 1):.0%}" if total else ""


def drop_counts(metrics: Mapping[str, Any], kept: int | None = None) -> dict[str, object]:
    """Return the counts of a stage for its log line: kept, dropped and skipped pairs, then each reason's count."""
    found: dict[str, object] = {}
    for name in ("skipped", "dropped"):
        reasons: Mapping[str, int] | None = metrics.get(name)
        if reasons is None:
            continue
        if name == "dropped":
            found["kept"] = kept
        if any(reasons.values()) or name == "dropped":
            found[name] = sum(reasons.values())
        ordered = sorted(reasons, key=lambda reason: -reasons[reason])
        found.update((reason, reasons[reason]) for reason in ordered if reasons[reason])
    return found | ({"changed": metrics["changed"]} if "changed" in metrics else {})


def amount(done: float, total: float | None, unit: str) -> str:
    """Return the completed amount in a form for people: `34/60 s`, `1.46/4.00 M tokens`."""
    largest = max(done, total or 0)
    power, prefix = (9, " G") if largest >= 1e9 else (6, " M") if largest >= 1e6 else (0, "")
    form = ",.2f" if power else ",.0f" if largest >= 10 or largest == int(largest) else ".2g"
    shown = [f"{value / 10**power:{form}}" for value in (done, total) if value is not None]
    return f"{'/'.join(shown)}{prefix} {unit}"


def rounded(value: float) -> str:
    """Return a rate with three significant digits: `831`, `52.2 k`, `1.46 M`."""
    for power, prefix in ((9, " G"), (6, " M"), (3, " k")):
        scaled = value / 10**power
        if scaled >= 0.9995:
            return f"{scaled:.{2 - int(math.log10(max(scaled, 1)))}f}{prefix}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """Return a duration as `0:34` or `1:02:03`."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _value(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return key
    if isinstance(value, float):
        return f"{key}={_number(key, value)}"
    text = str(value)
    if isinstance(value, str) and (not text or re.search(r"\s", text)):
        text = json.dumps(text if len(text) <= MAX_TEXT_CHARS else f"{text[:MAX_TEXT_CHARS]}...")
    return f"{key}={text}"


def _number(key: str, value: float) -> str:
    if key.endswith("_per_s") or key == "left_s":
        return f"{value:.0f}"
    return f"{value:.1f}" if key == "s" else f"{value:.4g}" if abs(value) >= 10 else f"{value:.3f}"


def size_text(num_bytes: float) -> str:
    """Return a number of bytes as text for people, such as `3.4 MB`, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
