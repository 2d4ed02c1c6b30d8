"""The notation of settings and of the marks for the best arm, in the terminal and on pages."""

import math
import re
from collections.abc import Container, Mapping, Sequence

from mtx.evaluation.verdict_text import decimals
from mtx.records.report_metrics import KEY_METRICS, SHARES, Value, metric_name, shown_value

BEST_MARK = "★"
TIE_MARK = "≈"
SPEED_DIGITS = 3  # of a speed, which varies between runs by a percent and more
MAX_VALUE_CHARS = 60  # characters of a setting that tables and names show


def short_key(key: str, keys: Sequence[str]) -> str:
    """Return the shortest ending of a dotted key that is unique in `keys`: `vocab_size` for `tokenizer.vocab_size`."""
    parts = key.split(".")
    for length in range(1, len(parts)):
        end = ".".join(parts[-length:])
        if not any(other != key and (other == end or other.endswith(f".{end}")) for other in keys):
            return end
    return key


def setting_text(value: Value) -> str:
    """Return a config value as it is typed on the command line; – for null."""
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def brief_text(text: str, longest: int = MAX_VALUE_CHARS) -> str:
    """Return a text, with its middle left out if it is too long: paths differ at their ends."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def brief_value(value: Value) -> str:
    """Write a config value as on the command line, with its middle left out if it is too long."""
    return brief_text(setting_text(value))


def brief_key(key: str, keys: Sequence[str]) -> str:
    """Return the end of a key that tells it from the others, not too long."""
    return brief_text(short_key(key, list(keys)))


def settings_label(settings: Mapping[str, Value], options: Container[str]) -> str:
    """Name jobs by their settings: `bucket, vocab_size=4000`; settings without a value are left out.

    Args:
        settings: values by key.
        options: keys whose value is written without the key, as `sampler`.
    """
    keys = list(settings)
    values = {key: brief_value(value) for key, value in settings.items() if value is not None}
    return ", ".join(text if key in options else f"{brief_key(key, keys)}={text}" for key, text in values.items())


def metric_text(metric: str, value: float) -> str:
    """Write a metric's value for people, in the unit of its heading."""
    value = shown_value(metric, value)
    if metric.endswith("_per_s") and math.isfinite(value):
        value = float(f"{value:.{SPEED_DIGITS}g}")
    return format(value, KEY_METRICS[metric][1] if metric in KEY_METRICS else ",.1f" if metric in SHARES else ",.4g")


def named_metric_text(metric: str, value: float) -> str:
    """Write a metric with its name and its unit, for a line: `padding ratio 3.6 %`."""
    return f"{metric_name(metric)} {metric_text(metric, value)}{' %' * (metric in SHARES)}"


def mean_texts(metric: str, mean: float, deviation: float | None) -> tuple[str, str | None]:
    """Write a mean and its standard deviation: two digits of the deviation, and as many decimals of the mean.

    Neither has more decimals than the metric has in tables. The deviation is None if it is unknown or rounds to 0.
    """
    raw = mean
    mean, deviation = shown_value(metric, mean), None if deviation is None else shown_value(metric, deviation)
    most = int(found.group(1)) if (found := re.search(r"\.(\d)f", KEY_METRICS.get(metric, ("", ""))[1])) else 8
    if deviation is None or round(deviation, most) == 0:
        return metric_text(metric, raw), None
    places = min(decimals(deviation), most)
    return f"{mean:,.{places}f}", f"{deviation:,.{places}f}"
