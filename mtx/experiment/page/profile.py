"""What a run left in `profile.json` for plots: read as plain values, and left out where it is missing or odd.

Nothing here raises for what a file says: old runs have none, and a page is made of whatever there is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

PROFILE_FILE = "profile.json"
SIDES = ("source", "target")
MOST = 1e300  # numbers beyond are none that a plot could show


@dataclass(frozen=True)
class Histogram:
    """Counts between edges: `counts[i]` lie from `edges[i]` up to `edges[i + 1]`."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]


@dataclass(frozen=True)
class Rejects:
    """What a rule of the filter dropped: how many pairs, and a few of them as (source, target)."""

    count: int
    samples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tokens:
    """Tokens of the batches at some positions of the epoch, both sides together."""

    positions: tuple[float, ...]
    real: tuple[float, ...]
    padded: tuple[float, ...]


@dataclass(frozen=True)
class Look:
    """One look at held-out text. None: not known."""

    step: float | None
    seconds: float | None
    real_tokens: float | None
    bits_per_byte: float | None


@dataclass(frozen=True)
class Profile:
    """What plots of a run are drawn from.

    Attributes:
        lengths: of the training pairs, by side.
        bucket_edges: of the sampler, by side; empty where it has none.
        shapes: (B, S, T, number of batches), the most frequent first.
        num_shapes: how many there are in all.
        other_batches: those of shapes that are not listed.
        tokens: a step.
        rejects: of the filter, by split and rule.
        fertility: by side: tokens a word, a character, bytes a token, share of unknown tokens.
        curve: looks at held-out text.
        train_loss: (step, loss).
    """

    lengths: Mapping[str, Histogram] = field(default_factory=dict)
    bucket_edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    shapes: tuple[tuple[int, int, int, int], ...] = ()
    num_shapes: int | None = None
    other_batches: int = 0
    tokens: Tokens | None = None
    rejects: Mapping[str, Mapping[str, Rejects]] = field(default_factory=dict)
    fertility: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    curve: tuple[Look, ...] = ()
    train_loss: tuple[tuple[float, float], ...] = ()


def read_profile(folder: Path, report: Mapping[str, Any]) -> Profile:
    """Return the profile of the job of `folder`; what it lacks is taken from the report, as far as that has it."""
    try:
        read = json.loads((folder / PROFILE_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        read = {}
    told = mapping(read)
    lengths, edges = mapping(told.get("lengths")), mapping(told.get("bucket_edges"))
    return Profile(
        lengths={side: found for side in SIDES if (found := _histogram(mapping(lengths.get(side)))) is not None},
        bucket_edges={side: _ascending(edges.get(side)) for side in SIDES},
        shapes=_shapes(told.get("shapes")),
        num_shapes=_whole(told.get("num_shapes")),
        other_batches=_whole(told.get("other_batches")) or 0,
        tokens=_tokens(mapping(told.get("tokens_per_step"))),
        rejects={str(split): _rejects(mapping(rules)) for split, rules in mapping(told.get("rejects")).items()},
        fertility=_fertility(mapping(told.get("fertility"))) or fertility_by_counts(report),
        curve=_curve(told.get("curve")) or _curve_of_report(report),
        train_loss=tuple((x, y) for x, y in _rows(told.get("train_loss"), 2)),
    )


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> float | None:
    """Return a value if it is a number that can be drawn, else None."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and -MOST < value < MOST
    return float(value) if usable else None


def fertility_by_counts(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return what a report's counts of training tokens tell of the vocabulary, by side."""
    counts = mapping(report.get("train_tokens"))
    found: dict[str, dict[str, float]] = {}
    for side in SIDES:
        tokens, chars, unknown, num_bytes = (
            number(counts.get(f"{side}_{name}")) for name in ("tokens", "chars", "unknown", "bytes")
        )
        if not tokens:
            continue
        shares = {
            "tokens_per_char": tokens / chars if chars else None,
            "bytes_per_token": num_bytes / tokens if num_bytes else None,
            "unknown_share": None if unknown is None else unknown / tokens,
        }
        found[side] = {name: share for name, share in shares.items() if share is not None}
    return found


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _numbers(value: Any) -> tuple[float, ...]:
    """Return a list of numbers; empty where one of them is none."""
    found = [number(item) for item in _list(value)]
    return tuple(item for item in found if item is not None) if None not in found else ()


def _ascending(value: Any) -> tuple[float, ...]:
    return tuple(sorted(set(_numbers(value))))


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None or found < 0 else int(found)


def _rows(value: Any, width: int) -> list[tuple[float, ...]]:
    return [row for item in _list(value) if len(row := _numbers(item)) == width]


def _histogram(told: Mapping[str, Any]) -> Histogram | None:
    edges, counts = _numbers(told.get("edges")), _numbers(told.get("counts"))
    fits = len(edges) == len(counts) + 1 and len(counts) > 0 and min(counts) >= 0
    rises = all(low < high for low, high in pairwise(edges))
    return Histogram(edges, counts) if fits and rises and edges[0] >= 0 else None


def _shapes(value: Any) -> tuple[tuple[int, int, int, int], ...]:
    rows = [row for row in _rows(value, 4) if min(row) >= 0 and row[3] >= 1 and max(row) < 1e12]
    return tuple((int(b), int(s), int(t), int(count)) for b, s, t, count in rows)


def _tokens(told: Mapping[str, Any]) -> Tokens | None:
    found = [_numbers(told.get(name)) for name in ("positions", "real", "padded")]
    alike = len({len(numbers) for numbers in found}) == 1 and len(found[0]) > 0
    return Tokens(*found) if alike and all(min(numbers) >= 0 for numbers in found) else None


def _rejects(rules: Mapping[str, Any]) -> dict[str, Rejects]:
    found = {}
    for rule, told in rules.items():
        samples = [mapping(sample) for sample in _list(mapping(told).get("samples"))]
        pairs = tuple((str(sample.get("source", "")), str(sample.get("target", ""))) for sample in samples)
        found[str(rule)] = Rejects(_whole(mapping(told).get("count")) or 0, pairs)
    return found


def _fertility(told: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for side in SIDES:
        numbers = {str(name): number(value) for name, value in mapping(told.get(side)).items()}
        if shares := {name: value for name, value in numbers.items() if value is not None}:
            found[side] = shares
    return found


def _curve(value: Any) -> tuple[Look, ...]:
    looks = [mapping(item) for item in _list(value)]
    names = ("step", "seconds", "real_tokens", "bits_per_byte")
    return tuple(Look(*(number(look.get(name)) for name in names)) for look in looks if look)


def _curve_of_report(report: Mapping[str, Any]) -> tuple[Look, ...]:
    """Return what a report says of each look at held-out text, which is less: no seconds, no tokens."""
    looks = [mapping(item) for item in _list(report.get("validations"))]
    found = [(number(look.get("step")), number(look.get("val/bits_per_byte"))) for look in looks]
    return tuple(Look(step, None, None, bits) for step, bits in found if bits is not None)
