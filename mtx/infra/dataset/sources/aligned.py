"""Line-aligned text: two files, in which line n of one is the translation of line n of the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import pyarrow as pa

from mtx.errors import SourceError
from mtx.infra.dataset.pairs import Refusals, batches_of_rows, is_text
from mtx.infra.dataset.sources.files import SourceFile, decoded_lines, not_utf8


@dataclass(frozen=True)
class Side:
    """One of the two texts.

    Attributes:
        name: what messages call it.
        lines: opens it, and iterates over its lines as `decoded_lines` does.
    """

    name: str
    lines: Callable[[], Iterator[str]]


def read_aligned(
    source: SourceFile, target: SourceFile, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Stream the pairs of two files, `limit` at most. Raises SourceError, also where the files differ in length."""
    advice = "Name two files that belong together with downloader.source_path=FILE downloader.target_path=FILE"
    sides = [Side(str(file.path), partial(decoded_lines, file)) for file in (source, target)]
    return read_sides(sides[0], sides[1], advice, refusals, limit)


def read_sides(
    source: Side, target: Side, advice: str, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Stream the pairs, `limit` at most; an empty line is an empty text.

    Raises SourceError where the sides differ in length, with `advice` behind it.
    """
    if limit is not None and _num_lines(source) != _num_lines(target):  # those who read all of them notice by that
        raise _unequal(source, target, advice)
    return batches_of_rows(_pairs(source, target, advice, refusals), limit)


def _pairs(source: Side, target: Side, advice: str, refusals: Refusals) -> Iterator[tuple[str, str]]:
    for number, (source_text, target_text) in enumerate(zip_longest(source.lines(), target.lines()), 1):
        if source_text is None or target_text is None:
            raise _unequal(source, target, advice)
        for side, text in ((source, source_text), (target, target_text)):
            if not is_text(text):
                what = not_utf8(text.encode(errors="surrogateescape"))
                refusals.refuse("invalid_utf8", f"{side.name}, line {number}", what)
                break
        else:
            yield source_text, target_text


def _num_lines(side: Side) -> int:
    return sum(1 for _ in side.lines())


def _unequal(source: Side, target: Side, advice: str) -> SourceError:
    return SourceError(
        f"line-aligned files have the same number of lines, but {source.name} has {_num_lines(source):,} and "
        f"{target.name} has {_num_lines(target):,}. {advice}"
    )
