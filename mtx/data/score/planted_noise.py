"""Planted noise: bad pairs of known kinds, made from a user's own pairs, to measure what a score or a rule catches.

Each kind draws its rows anew from all pairs. If kinds shared out the rows, kinds with a condition, such as a number in
the target, would take the long pairs first. The other pairs would be short. A score that follows length would then seem
to tell them apart. A kind with a condition still has longer pairs than the corpus.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.score.text_features import UNSPACED, character_table
from mtx.errors import ConfigError, choices

Generator = np.random.Generator
Text = str
SIMILAR_PLACES = 50  # a misaligned target is one of the 100 targets whose lengths are nearest
MIN_WORDS = 4  # of a target that is cut or shuffled; a shorter one may stay right
MIN_UNSPACED_CHARS = 8  # the same for a text in a script without spaces
REPETITIONS = 5
TRIES_PER_PAIR = 40  # rows that a kind with a condition looks at for each pair that it needs
MARKUP = (
    '<div class="nav"><a href="https://example.org/{number}">{text}</a></div>',
    "<p>{text}</p> <a href='/login'>Login</a> | <a href='/help'>?</a>",
    "https://example.org/page?id={number} {text} &nbsp;&raquo; 2 3 4",
)
MAX_MARKS = 6
PUNCTUATION = ("...", "—", "***", "-----", "? ? ?", "!!!", "•", "_____")


@dataclass(frozen=True)
class PlantedPairs:
    """Bad pairs of one kind.

    Attributes:
        rows: the numbers of the pairs from which they are made, int64 [n].
        pairs: the bad pairs, with `src` and `tgt`.
        other_rows: the number of the pair whose target the bad pair has, or also has; −1: none. int64 [n].
        stands_beside: whether a bad pair stands beside the pair from which it is made, as a near-duplicate does.
            Otherwise it stands in its place, so a scorer that compares pairs must not compare the two.
    """

    rows: NDArray[np.int64]
    pairs: pa.Table
    other_rows: NDArray[np.int64]
    stands_beside: bool = False


class _Pool:
    """The pairs from which noise is made."""

    def __init__(self, pairs: pa.Table) -> None:
        self.source: list[str] = pairs["src"].to_pylist()
        self.target: list[str] = pairs["tgt"].to_pylist()

    def __len__(self) -> int:
        return len(self.target)

    @cached_property
    def by_length(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows in the order of their target lengths, and the place of each row in that order."""
        order = np.argsort([len(text) for text in self.target], kind="stable")
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.arange(len(order))
        return order, places

    def other_target(self, row: int, other: int) -> str | None:
        """Return the target of another row, unless the rows share a text."""
        if self.source[row] == self.source[other] or self.target[row] == self.target[other]:
            return None
        return self.target[other]


Made = tuple[Text, Text] | tuple[Text, Text, int]  # source, target, and the row whose target it has, if it is another
Maker = Callable[[_Pool, int, Generator], Made | None]


def _misaligned(pool: _Pool, row: int, rng: Generator) -> Made | None:
    order, places = pool.by_length
    offset = int(rng.integers(1, SIMILAR_PLACES + 1)) * (1 if rng.integers(2) else -1)
    other = int(order[(places[row] + offset) % len(order)])
    target = pool.other_target(row, other)
    return None if target is None else (pool.source[row], target, other)


def _shifted(pool: _Pool, row: int, rng: Generator) -> Made | None:
    del rng
    other = (row + 1) % len(pool)
    target = pool.other_target(row, other)
    return None if target is None else (pool.source[row], target, other)


def _copied(pool: _Pool, row: int, rng: Generator) -> tuple[Text, Text] | None:
    del rng
    return (pool.source[row], pool.source[row]) if pool.source[row] != pool.target[row] else None


def _swapped(pool: _Pool, row: int, rng: Generator) -> tuple[Text, Text] | None:
    del rng
    return (pool.target[row], pool.source[row]) if pool.source[row] != pool.target[row] else None


def _truncated(pool: _Pool, row: int, rng: Generator) -> tuple[Text, Text] | None:
    del rng
    pieces, joint = _pieces(pool.target[row])
    return None if pieces is None else (pool.source[row], joint.join(pieces[: len(pieces) // 2]))


def _merged(pool: _Pool, row: int, rng: Generator) -> Made | None:
    other = int(rng.integers(len(pool)))
    target = pool.other_target(row, other)
    return (pool.source[row], f"{pool.target[row]} {target}", other) if target and pool.target[row] else None


def _shuffled(pool: _Pool, row: int, rng: Generator) -> tuple[Text, Text] | None:
    pieces, joint = _pieces(pool.target[row])
    if pieces is None:
        return None
    shuffled = joint.join(pieces[place] for place in rng.permutation(len(pieces)))
    return (pool.source[row], shuffled) if shuffled != pool.target[row] else None


def _mojibake(pool: _Pool, row: int, rng: Generator) -> tuple[Text, Text] | None:
    """Read the UTF-8 of the target as Windows-1252, with the C1 characters of Latin-1 where that has no character."""
    del rng
    if pool.target[row].isascii():
        return None
    octets = pool.target[row].encode("utf-8", "surrogatepass")
    return pool.source[row], "".join(_windows_character(octet) for octet in octets)


def _windows_character(octet: int) -> str:
    try:
        return bytes([octet]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(octet)


def _markup(pool: _Pool, row: int, rng: Generator) -> tuple[Text, Text] | None:
    template = MARKUP[int(rng.integers(len(MARKUP)))]
    return pool.source[row], template.format(number=int(rng.integers(10, 10_000)), text=pool.target[row])


def _changed_number(pool: _Pool, row: int, rng: Generator) -> tuple[Text, Text] | None:
    places = [place for place, character in enumerate(pool.target[row]) if character in "0123456789"]
    if not places:
        return None
    place = places[int(rng.integers(len(places)))]
    digit = (int(pool.target[row][place]) + int(rng.integers(1, 10))) % 10
    return pool.source[row], f"{pool.target[row][:place]}{digit}{pool.target[row][place + 1 :]}"


def _repeated(pool: _Pool, row: int, rng: Generator) -> tuple[Text, Text] | None:
    pieces, joint = _pieces(pool.target[row])
    if pieces is None:
        return None
    place = int(rng.integers(len(pieces)))
    return pool.source[row], joint.join([*pieces[:place], *[pieces[place]] * REPETITIONS, *pieces[place + 1 :]])


def _near_duplicate(pool: _Pool, row: int, rng: Generator) -> tuple[Text, Text] | None:
    source, target = pool.source[row], pool.target[row]
    if min(len(source), len(target)) < MIN_UNSPACED_CHARS:
        return None
    end = "!.?"[int(rng.integers(3))]
    return source.rstrip(".!?") + end, target.rstrip(".!?") + end


def _punctuation(pool: _Pool, row: int, rng: Generator) -> tuple[Text, Text] | None:
    # Several marks, so that few targets are equal: else a scorer of duplicates would find them by that alone.
    marks = rng.integers(len(PUNCTUATION), size=int(rng.integers(1, MAX_MARKS + 1)))
    return pool.source[row], " ".join(PUNCTUATION[mark] for mark in marks)


MAKERS: Mapping[str, Maker] = {
    "misaligned": _misaligned,
    "shifted": _shifted,
    "copied": _copied,
    "swapped": _swapped,
    "truncated": _truncated,
    "merged": _merged,
    "shuffled": _shuffled,
    "mojibake": _mojibake,
    "markup": _markup,
    "changed_number": _changed_number,
    "repeated": _repeated,
    "near_duplicate": _near_duplicate,
    "punctuation": _punctuation,
}
KINDS = {
    "misaligned": "target of another pair, of similar length",
    "shifted": "target of the next pair",
    "copied": "source copied as the target",
    "swapped": "both sides swapped",
    "truncated": "second half of the target missing",
    "merged": "target of another pair appended",
    "shuffled": "words of the target in another order",
    "mojibake": "UTF-8 of the target read as Windows-1252",
    "markup": "target in HTML, or after a URL",
    "changed_number": "one digit of the target changed",
    "repeated": "one word of the target five times",
    "near_duplicate": "both sides with another end mark",
    "punctuation": "only punctuation as the target",
    "wrong_language": "target in another language",
}


def planted_noise(
    pairs: pa.Table,
    *,
    per_kind: int,
    seed: int,
    kinds: Sequence[str] | None = None,
    other_targets: Sequence[str] = (),
) -> dict[str, PlantedPairs]:
    """Make bad pairs of several kinds from good ones.

    Args:
        pairs: columns `src` and `tgt`; most of the pairs should be good. The next pair of `shifted` is the next row.
        per_kind: number of bad pairs of each kind; fewer if few pairs fulfil the condition of the kind.
        seed: another seed makes other pairs. Each kind has its own random numbers, whatever other kinds are made.
        kinds: the kinds, of `KINDS`; None: all that are possible.
        other_targets: texts in another language, which `wrong_language` needs.

    Returns:
        The bad pairs by kind. A kind without any pair is left out.

    Raises:
        ConfigError: a kind is unknown, or `wrong_language` lacks texts.
    """
    wanted = list(kinds) if kinds is not None else [*MAKERS, *(["wrong_language"] if other_targets else [])]
    for kind in wanted:
        if kind not in KINDS:
            raise ConfigError(f"there is no kind of noise {kind!r}. There are: {choices(kind, KINDS)}")
    if "wrong_language" in wanted and not other_targets:
        raise ConfigError("the noise wrong_language needs texts in another language: pass other_targets")
    pool = _Pool(pairs)
    makers = {**MAKERS, "wrong_language": _wrong_language_maker(other_targets)}
    found = {}
    for kind in wanted:
        rng = np.random.default_rng([seed, list(KINDS).index(kind)])
        made = _planted(pool, makers[kind], per_kind, rng)
        if len(made.rows):
            found[kind] = replace(made, stands_beside=kind == "near_duplicate")
    return found


def _planted(pool: _Pool, maker: Maker, per_kind: int, rng: Generator) -> PlantedPairs:
    rows: list[int] = []
    others: list[int] = []
    sources: list[str] = []
    targets: list[str] = []
    tries = rng.permutation(len(pool))[: TRIES_PER_PAIR * per_kind] if len(pool) > 1 else np.empty(0, dtype=np.int64)
    for row in tries.tolist():
        if len(rows) == per_kind:
            break
        if (made := maker(pool, row, rng)) is not None:
            rows.append(row)
            sources.append(made[0])
            targets.append(made[1])
            others.append(made[2] if len(made) == 3 else -1)
    texts = {"src": pa.array(sources, pa.large_string()), "tgt": pa.array(targets, pa.large_string())}
    return PlantedPairs(np.array(rows, dtype=np.int64), pa.table(texts), np.array(others, dtype=np.int64))


def _wrong_language_maker(other_targets: Sequence[str]) -> Maker:
    order = sorted(other_targets, key=len)
    lengths = np.array([len(text) for text in order])

    def make(pool: _Pool, row: int, rng: Generator) -> tuple[Text, Text] | None:
        place = int(np.searchsorted(lengths, len(pool.target[row]))) + int(
            rng.integers(-SIMILAR_PLACES, SIMILAR_PLACES)
        )
        return pool.source[row], order[min(max(place, 0), len(order) - 1)]

    return make


def _pieces(text: str) -> tuple[list[str] | None, str]:
    """Return the words of a text and a space, or the characters of a text without spaces and an empty text.

    None: the text has too few of them.
    """
    words = text.split()
    if len(words) >= MIN_WORDS:
        return words, " "
    flags = character_table().flags
    is_unspaced = sum(bool(flags[ord(character)] & UNSPACED) for character in text) >= MIN_UNSPACED_CHARS
    return (list(text), "") if is_unspaced else (None, "")
