"""Split words into subwords by the merges of a BPE codes file, exactly as `subword-nmt apply-bpe` does.

The method is of Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units" (ACL). The merges
of fastBPE, which counts follow, are read as well.
"""

import io
import re
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

from mtx.errors import TokenizerError
from mtx.library_errors import library_reason

END_OF_WORD = "</w>"
SEPARATOR = "@@"  # follows each subword but the last one of a word
VERSION_LINE = "#version:"
EXPECTED = (
    "Set tokenizer.codes to the file that subword-nmt learn-bpe wrote, or to a SentencePiece model whose name ends in "
    ".model or .spm"
)


class BPECodes:
    """The merges of a codes file. Picklable.

    Args:
        merges: the pairs of symbols in the order of the file; the first of equal pairs counts.
        marks_last_character: whether the end of a word is a part of its last character, as since version 0.2 of
            subword-nmt and in fastBPE. False: it is a symbol of its own.
    """

    def __init__(self, merges: Iterable[Sequence[str]], marks_last_character: bool) -> None:
        self.merges = tuple((first, second) for first, second in merges)
        self.marks_last_character = marks_last_character
        self._ranks: dict[tuple[str, str], int] = {}
        for rank, pair in enumerate(self.merges):
            self._ranks.setdefault(pair, rank)

    def __reduce__(self) -> tuple[Any, ...]:
        return BPECodes, (self.merges, self.marks_last_character)

    def segment(self, word: str) -> tuple[str, ...]:
        """Return the subwords of a word without spaces, each but the last one with the separator `@@`."""
        if len(word) == 1:
            return (word,)
        symbols = [*word[:-1], word[-1] + END_OF_WORD] if self.marks_last_character else [*word, END_OF_WORD]
        symbols = self._merged(symbols)
        if symbols[-1] == END_OF_WORD:
            symbols.pop()
        else:
            symbols[-1] = symbols[-1].removesuffix(END_OF_WORD)
        return (*(symbol + SEPARATOR for symbol in symbols[:-1]), symbols[-1])

    def _merged(self, symbols: list[str]) -> list[str]:
        """Merge each occurrence of the first pair of the file that occurs, from left to right, until none occurs.

        A queue of the ranks of pairs keeps this fast for words of 100,000 characters.
        """
        after, before = [*range(1, len(symbols)), -1], list(range(-1, len(symbols) - 1))
        places: dict[int, list[int]] = {}
        queue: list[int] = []

        def add(place: int) -> None:
            if place < 0 or after[place] < 0:
                return
            rank = self._ranks.get((symbols[place], symbols[after[place]]))
            if rank is not None:
                if rank not in places:
                    places[rank] = []
                    heappush(queue, rank)
                places[rank].append(place)

        for place in range(len(symbols)):
            add(place)
        while queue:
            rank = heappop(queue)
            first, second = self.merges[rank]
            for place in sorted(places.pop(rank)):
                other = after[place]
                if other < 0 or symbols[place] != first or symbols[other] != second:
                    continue  # an earlier merge has changed one of them
                symbols[place], symbols[other] = first + second, ""
                after[place] = after[other]
                if after[place] >= 0:
                    before[after[place]] = place
                add(before[place])
                add(place)
        return [symbol for symbol in symbols if symbol]


def read_codes(content: bytes, path: object) -> BPECodes:
    """Return the merges of a file of subword-nmt or fastBPE. Raises TokenizerError, which names a wrong line."""
    try:
        lines = io.StringIO(content.decode(), newline=None).read().rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"{path} is no BPE codes file, because it is not UTF-8: {library_reason(error)}. {EXPECTED}"
        ) from None
    version = re.fullmatch(r"#version:\s*(\d+(?:\.\d+)*?)(?:\.0)*\s*", lines[0])
    if lines[0].startswith(VERSION_LINE) and (version is None or version[1] not in ("0.1", "0.2")):
        raise TokenizerError(
            f"{path} begins with {lines[0][:40]!r}, but mtx reads the versions 0.1 and 0.2. {EXPECTED}"
        )
    rows = [tuple(line.strip("\r ").split(" ")) for line in (lines[1:] if version else lines)]
    has_counts = version is None and len(rows[0]) == 3
    for number, row in enumerate(rows, 2 if version else 1):
        if len(row) != 2 + has_counts or not all(row) or (has_counts and not row[2].isdecimal()):
            raise TokenizerError(
                f"{path}, line {number}: a line of a BPE codes file has two symbols with a space between them, but is "
                f"{' '.join(row)[:60]!r}. {EXPECTED}"
            )
    return BPECodes((row[:2] for row in rows), has_counts or (version is not None and version[1] == "0.2"))
