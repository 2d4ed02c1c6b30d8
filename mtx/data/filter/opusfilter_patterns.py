"""The rules of OpusFilter about patterns in each text: HTML tags, regular expressions and repetitions."""

import functools
import importlib
import re
import warnings
from dataclasses import dataclass
from html.parser import HTMLParser
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from mtx.data.filter.opus_rule import WHITE_SPACE, Mask, OpusRule, Sides, Values, for_each_side, numpy_of
from mtx.errors import ConfigError
from mtx.library_errors import library_reason

TAG_START = "<[A-Za-z]"


@dataclass(frozen=True, kw_only=True)
class HtmlTagFilter(OpusRule):
    """Keeps pairs without an HTML tag, as Python's `html.parser` finds tags."""

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        kept = np.ones(len(sides), dtype=np.bool_)
        for texts in sides.texts:
            places = np.flatnonzero(numpy_of(pc.match_substring_regex(texts, TAG_START)))
            found = [has_tag(text) for text in texts.take(pa.array(places)).to_pylist()]
            kept[places[np.array(found, dtype=np.bool_)]] = False
        return kept


@dataclass(frozen=True, kw_only=True)
class RegExpFilter(OpusRule):
    """Keeps pairs of which no side matches its pattern, or with `accept_match` those of which both sides match.

    A pattern that Python's `re` can express is searched by `re`, and any other pattern by the package regex.
    """

    regexps: str | list[str]
    accept_match: bool = False

    def __post_init__(self) -> None:
        for pattern in for_each_side(self.regexps):
            compiled(pattern)

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        kept = np.ones(len(sides), dtype=np.bool_)
        for pattern, strings in zip(for_each_side(self.regexps), sides.strings, strict=True):
            search = compiled(pattern).search
            kept &= np.array([(search(text) is not None) == self.accept_match for text in strings], dtype=np.bool_)
        return kept


@dataclass(frozen=True, kw_only=True)
class RepetitionFilter(OpusRule):
    """Keeps pairs in which no text of `min_length` to `max_length` + 1 characters repeats `threshold` times in a row.

    The first occurrence does not count. Spaces between the repetitions are allowed, and do not count for the length.
    """

    threshold: Annotated[int, Field(ge=1)] = 2
    min_length: Annotated[int, Field(ge=1)] = 3
    max_length: Annotated[int, Field(ge=1)] = 100

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        pattern = rf"([^{_re_white_space()}].{{{self.min_length - 1},{self.max_length}}}?)(?: *\1){{{self.threshold},}}"
        search = re.compile(pattern).search
        kept = np.ones(len(sides), dtype=np.bool_)
        for strings, num_chars in zip(sides.strings, sides.num_chars, strict=True):
            for place in np.flatnonzero(kept & _may_repeat(strings, num_chars, self.threshold, self.max_length + 1)):
                kept[place] = search(strings[place]) is None
        return kept


def _may_repeat(strings: list[str], num_chars: Values, times: int, longest: int) -> Mask:
    """Return which texts may have a part of at most `longest` characters that repeats `times` times: bool [n].

    Without spaces, a repeated part of p characters gives a run of at least `times` · p characters. Each of these equals
    the character p places later. Up to four places of such a run are tested, at equal distances, on a hash of 8 bits.
    """
    codes = np.frombuffer("".join(strings).encode("utf-32-le"), dtype=np.uint32)
    is_kept = codes != ord(" ")
    ends = np.concatenate([[0], np.cumsum(is_kept)])[np.cumsum(num_chars)]
    codes = codes[is_kept]
    hashes = (codes ^ codes >> 8 ^ codes >> 16).astype(np.uint8)
    found = np.zeros(len(strings) + 1, dtype=np.bool_)
    for period in range(1, min(longest, len(hashes) - 1) + 1):
        run = times * period
        step = max(run // 4, 1)
        equal = hashes[:-period:step] == hashes[period::step]
        num_tests = min(run, 4)
        if len(equal) >= num_tests:
            is_run = np.logical_and.reduce([equal[k : len(equal) - num_tests + 1 + k] for k in range(num_tests)])
            found[np.searchsorted(ends, np.flatnonzero(is_run) * step, side="right")] = True
    return found[:-1]


def has_tag(text: str) -> bool:
    """Return whether a text has an HTML tag that opens."""
    parser = _TagFinder()
    try:
        parser.feed(text)
        parser.close()
    except AssertionError:  # a declaration that the parser rejects
        return False
    return parser.has_found


class _TagFinder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.has_found = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.has_found = True


@functools.cache
def compiled(pattern: str) -> Any:
    """Return a compiled pattern. Raises ConfigError if it is invalid, or needs regex and that is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a nested set, which means something else in the package regex
            return re.compile(pattern)
    except (re.error, FutureWarning, DeprecationWarning, OverflowError, RecursionError):
        package = _regex_package(pattern)
    try:
        return package.compile(pattern)
    except (package.error, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"RegExpFilter has the pattern {pattern[:200]!r}, which is not valid: {library_reason(error)}"
        ) from None


def _regex_package(pattern: str) -> ModuleType:
    try:
        return importlib.import_module("regex")
    except ImportError:
        raise ConfigError(
            f"RegExpFilter has the pattern {pattern[:200]!r}, which needs the package regex: "
            "pip install 'mtx[opusfilter]'"
        ) from None


@functools.cache
def _re_white_space() -> str:
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda found: f"\\u{int(found[1], 16):04x}", WHITE_SPACE)[1:-1]
