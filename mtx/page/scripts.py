"""The scripts of the page, their data, and the content security policy that allows these scripts alone."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mtx.page.arm_curves import UNITS, arm_curves, curve_columns
from mtx.page.ranking import Ranking, metric_columns, ranked_groups
from mtx.page.safe_text import safe_text
from mtx.records.plot_data_record import RunProfile
from mtx.records.report_metrics import metric_heading, shown_value
from mtx.records.result_types import Results

LIBRARY, OWN, LICENSE, STYLE = "uplot.min.js", "page.js", "uplot.license.txt", "uplot.min.css"
MAX_ARMS = 400  # points of the scatter
# Characters that could end the element or start a comment inside it, or that old scripts take for line ends.
ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


@cache
def scripts() -> tuple[Markup, ...]:
    """Return the sources of the page's scripts in order: the plotting library with its licence, and mtx's own."""
    library = f"/*\n{packaged_text(LICENSE).strip()}\n*/\n{packaged_text(LIBRARY)}"
    return Markup(library), Markup(packaged_text(OWN))


@cache
def library_style() -> Markup:
    """Return the style sheet of the plotting library."""
    return Markup(packaged_text(STYLE))


@cache
def script_sources() -> Markup:
    """Return the sources of scripts for the content security policy: the SHA-256 of each script of the page."""
    digests = [hashlib.sha256(str(script).encode()).digest() for script in scripts()]
    return Markup(" ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests))


def page_data(
    results: Results,
    ranking: Ranking | None,
    labels: Mapping[Path, str],
    profiles: Mapping[Path, RunProfile],
) -> Markup:
    """Return the numbers that the page's script plots, as JSON that cannot end its element."""
    curves: list[dict[str, object]] = []
    for unit, axis in UNITS:
        if found := arm_curves(results, labels, profiles, unit):
            curves.append(curve_columns(found, unit, axis))
    metrics = metric_columns(results)
    arms = [] if ranking is None else _arms(ranking, results, metrics)
    data = {
        "curves": curves,
        "metrics": [(metric, metric_heading(metric)) for metric in metrics],
        "arms": arms,
        "is_followed": results.progress is not None and results.progress.is_followed,
        "as_of": None if results.progress is None else results.progress.as_of,
    }
    return Markup(escaped_json(data))


def escaped_json(value: Any) -> str:
    """Return a value as JSON for a script element; texts are made visible and lose credentials, as all others."""
    text = json.dumps(_safe(value), ensure_ascii=False, allow_nan=False)
    return text.translate(ESCAPES)


def packaged_text(name: str) -> str:
    """Return the content of a file of this package."""
    return (files("mtx.page") / name).read_text(encoding="utf-8")


def _arms(ranking: Ranking, results: Results, metrics: Sequence[str]) -> list[dict[str, object]]:
    found = []
    for row, group in zip(ranking.rows[:MAX_ARMS], ranked_groups(results), strict=False):
        numbers = {
            metric: [shown_value(metric, number) for number in (mean, group.spread(metric) or 0.0)]
            for metric in metrics
            if (mean := group.mean(metric)) is not None
        }
        found.append({"number": row.number, "label": row.label, "metrics": numbers})
    return found


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return safe_text(value)
    if isinstance(value, Mapping):
        return {_safe(str(key)): _safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe(item) for item in value]
    if isinstance(value, float) and not -1e300 < value < 1e300:
        return None
    return value
