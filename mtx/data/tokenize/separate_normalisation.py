"""Checks whether a tokenizer's normaliser changes the pieces of a text separately.

Normal forms of Unicode never change text across the positions of `cut_places`. Other steps might: SentencePiece's
compiled rules remove some characters or replace them by spaces, and a later step merges spaces. `SeparateNormaliser`
therefore normalises pieces, and accepts those whose edges stay as they are.
"""

import json
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Normalizer

NORMAL_FORMS = ("NFC", "NFKC", "NFD", "NFKD")
SPACE_MARK = "\u2581"  # SentencePiece's mark of a space
SPACE_RUNS = ({"String": "  "}, {"Regex": " {2,}"})  # what a step may replace by one space
ASCII_PIECE = re.compile(r" *[!-~](?:[ -~]*[!-~])?")
# Characters that form one grapheme with the next character, even with a space (Unicode's property "Prepend"). The
# compiled rules are applied to graphemes.
PREPENDED = frozenset(
    "\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2\U000111c3\U0001193f\U00011941\U00011a3a"
    "\U00011d46\U00011f02"
) | {*map(chr, range(0x600, 0x606)), *map(chr, range(0x11A84, 0x11A8A))}


@dataclass(frozen=True)
class SeparateNormaliser:
    """Normalises pieces of text, to find those that text beside them would not change.

    Attributes:
        normaliser: steps that change each grapheme on its own. They leave spaces and visible ASCII characters visible.
    """

    normaliser: Normalizer

    def are_separate(self, pieces: Iterable[str]) -> list[bool]:
        """Return for each piece whether it is normalised the same whatever text stands before and after it.

        A piece begins with a space or at the start of a text, and ends before a space or at the end of a text.
        """
        return [ASCII_PIECE.fullmatch(piece) is not None or self._has_fixed_edges(piece) for piece in pieces]

    def _has_fixed_edges(self, piece: str) -> bool:
        alone, followed = self.normaliser.normalize_str(piece), self.normaliser.normalize_str(f"{piece} ")
        if followed != f"{alone} " or piece[-1:] in PREPENDED or piece[:1] == " " != alone[:1]:
            return False
        first, last = alone.lstrip(" ")[:1], alone[-1:]  # a step that strips white space must remove spaces alone
        return bool(first) and not first.isspace() and not last.isspace() and last != SPACE_MARK


def separate_normaliser(steps: list[dict[str, Any]]) -> SeparateNormaliser | None:
    """Return the check for the steps of a normaliser, described as in its JSON; None: it may change any text.

    Normal forms of Unicode and SentencePiece's compiled rules may come first; steps that merge or strip spaces follow.
    """
    count = next((place for place, step in enumerate(steps) if _changes_spaces_only(step)), len(steps))
    if any(step["type"] not in (*NORMAL_FORMS, "Precompiled") for step in steps[:count]):
        return None
    if not all(map(_changes_spaces_only, steps[count:])):
        return None
    normaliser = _made(steps[:count])
    visible = [normaliser.normalize_str(char) for char in string.punctuation + string.digits + string.ascii_letters]
    keeps_ascii = normaliser.normalize_str(" ") == " " and all(map(str.strip, visible)) and SPACE_MARK not in visible
    return SeparateNormaliser(normaliser) if keeps_ascii else None


def _changes_spaces_only(step: dict[str, Any]) -> bool:
    if step["type"] == "Replace":
        return bool(step["pattern"] in SPACE_RUNS and step["content"] in (" ", SPACE_MARK))
    return bool(step["type"] == "Strip")


def _made(steps: list[dict[str, Any]]) -> Normalizer:
    """Return the normaliser with these steps. A tokenizer without a vocabulary reads them."""
    empty = json.loads(Tokenizer(BPE()).to_str())
    empty["normalizer"] = {"type": "Sequence", "normalizers": steps}
    made: Normalizer = Tokenizer.from_str(json.dumps(empty)).normalizer
    return made
