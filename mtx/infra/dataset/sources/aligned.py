"""Line-aligned text: two files, in which line n of one is the translation of line n of the other."""

from collections.abc import Iterator
from itertools import zip_longest

from mtx.errors import SourceError
from mtx.infra.dataset.pairs import Refusals, is_text
from mtx.infra.dataset.sources.files import SourceFile, decoded_lines, not_utf8


def read_aligned(source: SourceFile, target: SourceFile, refusals: Refusals) -> Iterator[tuple[str, str]]:
    """Stream the pairs; an empty line is an empty text. Raises SourceError, also where the lines do not add up."""
    for number, texts in enumerate(zip_longest(decoded_lines(source), decoded_lines(target)), 1):
        source_text, target_text = texts
        if source_text is None or target_text is None:
            check_counts(source, target)
        for file, text in ((source, source_text), (target, target_text)):
            if not is_text(text):
                what = not_utf8(text.encode(errors="surrogateescape"))
                refusals.refuse("invalid_utf8", f"{file.path}, line {number}", what)
                break
        else:
            yield source_text, target_text


def check_counts(source: SourceFile, target: SourceFile) -> None:
    """Raise SourceError where the files have not the same number of lines."""
    counts = [sum(1 for _ in decoded_lines(file)) for file in (source, target)]
    if counts[0] != counts[1]:
        raise SourceError(
            f"line-aligned files have the same number of lines, but {source.path} has {counts[0]:,} and "
            f"{target.path} has {counts[1]:,}. Name two files that belong together with downloader.source_path=FILE "
            "downloader.target_path=FILE"
        )
