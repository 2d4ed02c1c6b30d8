"""Numbers of a report by name, and those that people look at first."""

from collections.abc import Mapping
from typing import Any

Value = None | bool | int | float | str

RETURNED = "objective"  # the name of what a task returned, where its report has no such number
# What a table shows of a job, in this order: name in report.json, heading, format.
KEY_METRICS = {
    "bits_per_byte": ("bits per byte", ".4f"),
    "fit_s": ("fit s", ",.1f"),
    "target_tokens_per_s": ("target tok/s", ",.0f"),
    "padding_ratio": ("padding", ".4f"),
    "num_batches": ("batches", ",.0f"),
    "real_tokens_per_s": ("real tok/s", ",.0f"),
}
NO_METRICS = frozenset({"report_version", "seed", "epoch"})


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one, with dots between names; empty mappings and lists stay as they are."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            found.update(flat(item, f"{name}."))
        else:
            found[name] = item
    return found


def flat_numbers(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a report by dotted name: `real_tokens_per_batch.mean`. Lists and texts are left out."""
    named = flat(report)
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in NO_METRICS
    }


def named_after(number: float, report: Mapping[str, Any]) -> str | None:
    """Return the name of the number in a report that a task returned, among those that people look at first."""
    return next((name for name in KEY_METRICS if report.get(name) == number), None)
