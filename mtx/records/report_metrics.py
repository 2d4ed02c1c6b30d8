"""The metrics of a report: flat names for all numbers, and the headings of the metrics that tables show."""

from collections.abc import Mapping
from typing import Any

Value = None | bool | int | float | str

RETURNED_METRIC = "objective"  # name of a task's return value if the report has no equal number
# The metrics that tables show for a job, in this order: key in report.json, heading, number format.
KEY_METRICS = {
    "bits_per_byte": ("bits per byte", ".4f"),
    "fit_s": ("training time (s)", ",.1f"),
    "target_tokens_per_s": ("target tokens/s", ",.0f"),
    "padding_ratio": ("padding ratio (%)", ",.1f"),
    "num_batches": ("batches", ",.0f"),
    "spent.steps": ("updates", ",.0f"),
    "spent.real_tokens": ("real tokens", ",.0f"),
    "real_tokens_per_s": ("real tokens/s", ",.0f"),
    "scores.bleu": ("BLEU", ".1f"),
    "scores.chrf": ("chrF", ".1f"),
    "contrastive.accuracy": ("contrastive accuracy (%)", ",.1f"),
}
OTHER_HEADINGS = {
    "source_padding_ratio": "padding ratio, source (%)",
    "target_padding_ratio": "padding ratio, target (%)",
}
SHARES = frozenset({"padding_ratio", "contrastive.accuracy", *OTHER_HEADINGS})  # from 0 to 1, read in percent
HELD_OUT_PREFIXES = (
    "bits_per_byte",
    "scores.",
    "contrastive.",
    "validations",
)  # metrics whose names begin so are of held-out text
MORE_IS_BETTER = frozenset(
    {
        *("real_tokens_per_s", "target_tokens_per_s", "scores.bleu", "scores.chrf", "contrastive.accuracy"),
        *("bleu", "chrf", "chrf_plus_plus"),  # of task=evaluate
    }
)
NON_METRIC_KEYS = frozenset({"report_version", "seed", "epoch"})


def metric_name(metric: str | None) -> str:
    """Return the name of a metric for sentences and lines, without its unit percent; empty for none."""
    return metric_heading(metric).removesuffix(" (%)")


def metric_heading(metric: str | None) -> str:
    """Return the heading of a metric in tables; empty for none."""
    return KEY_METRICS[metric][0] if metric in KEY_METRICS else OTHER_HEADINGS.get(metric or "", metric or "")


def shown_value(metric: str | None, value: float) -> float:
    """Return a metric's value in the unit of its heading: shares are shown in percent."""
    return 100 * value if metric in SHARES else value


def percent(share: float) -> str:
    """Write a share from 0 to 1 in percent with one decimal; one that is not 0 does not read as 0."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def sentence_start(text: str) -> str:
    """Return a heading as the begin of a sentence: `Bits per byte`; `chrF` and keys of a report stay."""
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text


def flat_mapping(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as a flat one with dotted keys; empty mappings and lists remain values."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            found.update(flat_mapping(item, f"{name}."))
        else:
            found[name] = item
    return found


def flat_numbers(report: Mapping[str, Any]) -> dict[str, float]:
    """Return all numbers of a report by dotted name (`real_tokens_per_batch.mean`), without lists and texts."""
    named = flat_mapping(report)
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in NON_METRIC_KEYS
    }


def returned_metric(number: float, metrics: Mapping[str, float]) -> str | None:
    """Return the first metric in `KEY_METRICS` that equals a task's return value `number`; None if none does."""
    return next((name for name in KEY_METRICS if metrics.get(name) == number), None)
