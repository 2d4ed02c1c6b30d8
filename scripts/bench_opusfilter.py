"""Benchmark: the same rules in mtx and in OpusFilter, on the same pairs: other decisions, and pairs per CPU second.

OpusFilter is no dependency of mtx. Install it into an environment of its own, and name that environment's folder:

    python -m venv /tmp/opusfilter && /tmp/opusfilter/bin/pip install opusfilter
    scripts/bench_opusfilter --packages /tmp/opusfilter/lib/python3.11/site-packages
"""

import argparse
import logging
import math
import random
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

import mtx
from mtx.data.filter.opus_config_file import OPUSFILTER
from mtx.data.filter.opus_rule import Sides
from mtx.infra.dataset.pair_stream import ROWS_PER_BATCH

RULES: list[tuple[str, dict[str, Any]]] = [
    ("LengthFilter", {}),
    ("LengthFilter", {"unit": ["char", "word"], "min_length": [10, 2], "max_length": [200, 30], "pass_empty": True}),
    ("LengthRatioFilter", {"threshold": 1.5}),
    ("LengthRatioFilter", {"threshold": 1.5, "unit": "char"}),
    ("LongWordFilter", {"threshold": [15, 20]}),
    ("AverageWordLengthFilter", {"min_length": 3, "max_length": 6}),
    ("HtmlTagFilter", {}),
    ("RegExpFilter", {"regexps": [r"\d{4}", r"(?i)der\b"]}),
    ("AlphabetRatioFilter", {"threshold": 0.8}),
    ("AlphabetRatioFilter", {"threshold": [0.9, 0.95], "exclude_whitespace": True}),
    ("CharacterScoreFilter", {"scripts": ["Latin", "Latin"], "thresholds": [1, 0.9]}),
    ("TerminalPunctuationFilter", {"threshold": -0.7}),
    ("NonZeroNumeralsFilter", {"threshold": 0.9}),
    ("LongestCommonSubstringFilter", {}),
    ("LongestCommonSubstringFilter", {"threshold": 0.4}),
    ("SimilarityFilter", {}),
    ("SimilarityFilter", {"threshold": 0.5, "lowercase": True}),
    ("RepetitionFilter", {}),
    ("RepetitionFilter", {"threshold": 1, "min_length": 2, "max_length": 30}),
]
CHARACTERS = "abc\u0301\u05d0\u3042\u4e2d ..?!…0129<b></p>&amp;\x1c\x85\u00a0\t\nİß𝒳\u2028[%"

Pairs = list[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", help="folder of the packages of an environment with OpusFilter")
    parser.add_argument("--pairs", type=int, default=20_000, help="number of pairs")
    parser.add_argument("--damaged", action="store_true", help="damage each pair at random, to reach rare cases")
    parser.add_argument("source", nargs="*", help="overrides that choose a corpus, such as downloader=local")
    chosen = parser.parse_args()
    downloader = mtx.compose_datamodule(chosen.source).recipe.downloader
    table = pa.Table.from_batches(downloader.batches("train", {})).slice(0, chosen.pairs)
    pairs = list(zip(table["src"].to_pylist(), table["tgt"].to_pylist(), strict=True))
    if chosen.damaged:
        pairs = damaged(pairs, random.Random(1))
    filters = opusfilter_filters(chosen.packages)
    print(f"{len(pairs):,} pairs{' with damage' * chosen.damaged}\n")
    print(
        "| rule | parameters | dropped | decided otherwise | pairs/s | ratio to OpusFilter |\n|---|---|---|---|---|---|"
    )
    for name, parameters in RULES:
        found, rate = timed(lambda: by_mtx(name, parameters, pairs), len(pairs))  # noqa: B023  # called at once
        line = f"| {name} | {parameters} | {np.mean(~found):.3f} |"
        if filters is None:
            print(f"{line} – | {rate:,.0f} | – |")
            continue
        made = getattr(filters, name)(**parameters)
        theirs, their_rate = timed(lambda: np.array(list(made.decisions(pairs))), len(pairs))  # noqa: B023
        print(f"{line} {np.count_nonzero(found != theirs)} | {rate:,.0f} | {rate / their_rate:.1f} |")


def opusfilter_filters(packages: str | None) -> Any:
    """Return OpusFilter's module of filters; None if it is not installed. mtx's own packages come first."""
    if packages:
        sys.path.append(packages)
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    try:
        from opusfilter import filters
    except ImportError as error:
        print(f"OpusFilter cannot be imported ({error}), so only mtx is measured. See --help\n")
        return None
    return filters


def by_mtx(name: str, parameters: dict[str, Any], pairs: Pairs) -> np.ndarray:
    rule = OPUSFILTER[name](**parameters)
    columns = [pa.array(list(side), pa.large_string()) for side in zip(*pairs, strict=True)]
    starts = range(0, len(pairs), ROWS_PER_BATCH)
    return np.concatenate([rule.keeps(Sides(*(c.slice(start, ROWS_PER_BATCH) for c in columns))) for start in starts])


def timed(function: Callable[[], np.ndarray], num_pairs: int) -> tuple[np.ndarray, float]:
    """Return what a function returns, and the pairs per second of CPU time in the best of three calls."""
    best = math.inf
    for _ in range(3):
        started = time.process_time()
        found = function()
        best = min(best, time.process_time() - started)
    return found, num_pairs / max(best, 1e-9)


def damaged(pairs: Pairs, rng: random.Random) -> Pairs:
    """Return each pair changed in one of several ways: copied, cut, emptied, repeated, or made of odd characters."""

    def odd() -> str:
        return "".join(rng.choice(CHARACTERS) for _ in range(rng.randrange(60)))

    ways: list[Callable[[str, str], tuple[str, str]]] = [
        lambda s, t: (s, s),
        lambda s, t: (s, s[: len(s) * 9 // 10] + "x"),
        lambda s, t: ("", t),
        lambda s, t: (s, odd()),
        lambda s, t: (s + " ".join(["ha ha"] * rng.randrange(5)), t),
        lambda s, t: (odd(), odd() + "<br>"),
        lambda s, t: (s, s * 5),
        lambda s, t: (s.upper(), t),
        lambda s, t: (s * 4 + t, s * 4 + t),
        lambda s, t: ("", ""),
    ]
    return [rng.choice(ways)(*pair) for pair in pairs]


if __name__ == "__main__":
    main()
