"""Line-aligned text: two files, in which line n of one is the translation of line n of the other."""

from collections.abc import Iterator
from itertools import zip_longest

from mtx.errors import SourceError
from mtx.infra.dataset.pairs import Refusals, is_text
from mtx.infra.dataset.sources.files import SourceFile, decoded_lines, not_utf8


def read_aligned(source: SourceFile, target: SourceFile, refusals: Refusals) -> Iterator[tuple[str, str]]:
    """Stream the pairs; an empty line is an empty text. Raises SourceError, also where the files differ in length."""
    for number, (source_text, target_text) in enumerate(zip_longest(decoded_lines(source), decoded_lines(target)), 1):
        if source_text is None or target_text is None:
            raise _unequal(source, target)
        for file, text in ((source, source_text), (target, target_text)):
            if not is_text(text):
                what = not_utf8(text.encode(errors="surrogateescape"))
                refusals.refuse("invalid_utf8", f"{file.path}, line {number}", what)
                break
        else:
            yield source_text, target_text


def check_lengths(source: SourceFile, target: SourceFile) -> None:
    """Raise SourceError where the files differ in their number of lines; for those who read only the first."""
    if _num_lines(source) != _num_lines(target):
        raise _unequal(source, target)


def _num_lines(file: SourceFile) -> int:
    return sum(1 for _ in decoded_lines(file))


def _unequal(source: SourceFile, target: SourceFile) -> SourceError:
    return SourceError(
        f"line-aligned files have the same number of lines, but {source.path} has {_num_lines(source):,} and "
        f"{target.path} has {_num_lines(target):,}. Name two files that belong together with "
        "downloader.source_path=FILE downloader.target_path=FILE"
    )
