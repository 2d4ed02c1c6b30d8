"""Encodes many short pieces as few long texts, because each text costs the `tokenizers` library some microseconds.

A separator between two pieces gives a known sequence of token ids, whose last id occurs in no piece. The ids of the
pieces are therefore the ids between the separators. Only pieces that begin and end with a visible character are joined.
So the separator is a word of its own in every tokenizer that `cut_rule` accepts.
"""

import json
import re
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.data.tokenize.text_cuts import drops_spaces, is_split_metaspace, normalizer_steps
from mtx.data.tokenize.text_pieces import WIDE_SPACES, CutRule
from mtx.data.tokenize.tokenization import encode_texts

PIECES_PER_TEXT = 256
SYMBOLS = "|~^`\\@#_"  # candidates for the separator of tokenizers that drop white space, the rarest first
VISIBLE = rf"[^\s\x00-\x20\x7f{''.join(WIDE_SPACES)}]"


@dataclass(frozen=True)
class PieceJoiner:
    """Joins pieces of one tokenizer.

    Attributes:
        separator: the text between two pieces, and after the last one.
        ids: the token ids of the separator.
        symbol: the character of the separator that no piece may contain.
        joinable: pattern that matches a piece that can be joined.
        lead: text before a piece that does not begin with a space, except at the start of a joined text, where the
            tokenizer adds it.
        is_ascii_only: whether only ASCII pieces can be joined, because normal forms of others may contain spaces.
    """

    separator: str
    ids: tuple[int, ...]
    symbol: str
    joinable: re.Pattern[str]
    lead: str = ""
    is_ascii_only: bool = False

    def is_joinable(self, piece: str) -> bool:
        """Return whether the ids of the piece stay the same beside a separator."""
        is_possible = self.symbol not in piece and self.joinable.fullmatch(piece) is not None
        return is_possible and (not self.is_ascii_only or piece.isascii())

    def encode(self, tokenizer: Tokenizer, pieces: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Return the number of ids of each piece, and the concatenated ids; None: the separators were not all found."""
        spaced = [piece if piece[0] == " " else self.lead + piece for piece in pieces]
        texts = [
            f"{self.separator.join(spaced[start : start + PIECES_PER_TEXT])}{self.separator}"[len(self.lead) :]
            for start in range(0, len(pieces), PIECES_PER_TEXT)
        ]
        rows = encode_texts(tokenizer, texts)
        ids = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=sum(map(len, rows)))
        ends = np.flatnonzero(ids == self.ids[-1])
        lengths = np.diff(ends, prepend=-1) - len(self.ids)
        if len(ends) != len(pieces) or lengths.min(initial=0) < 0:
            return None
        is_piece = np.ones(len(ids), dtype=np.bool_)
        for back, id in enumerate(reversed(self.ids)):
            if (ids[ends - back] != id).any():
                return None
            is_piece[ends - back] = False
        return lengths, ids[is_piece]


def piece_joiner(tokenizer: Tokenizer, rule: CutRule) -> PieceJoiner | None:
    """Return a joiner for a tokenizer with a rule for cuts; None: no separator is known for it."""
    described = json.loads(tokenizer.to_str())
    words = described["pre_tokenizer"]
    compatible = any(step["type"] not in ("NFC", "NFD") for step in normalizer_steps(described["normalizer"]))
    optional = "" if rule == "drop" else " ?"
    lead = " " if rule == "drop" or is_split_metaspace(words) else ""
    if drops_spaces(words):
        candidates = [(f" {symbol} ", symbol) for symbol in SYMBOLS]
    elif lead:
        candidates = [(" \n", "\n"), *((f" {symbol}", symbol) for symbol in SYMBOLS)]
    elif words["type"] == "ByteLevel" and words["use_regex"] and not words["add_prefix_space"]:
        candidates = [("\n", "\n")]
    else:
        return None
    for separator, symbol in candidates:
        pattern = re.compile(rf"{optional}{VISIBLE}(?:[^\n]*{VISIBLE})?")
        ids = _separator_ids(tokenizer, separator, described["model"])
        if ids:
            joiner = PieceJoiner(separator, ids, symbol, pattern, lead, compatible)
            if _is_consistent(joiner, tokenizer):
                return joiner
    return None


def _separator_ids(tokenizer: Tokenizer, separator: str, model: dict[str, object]) -> tuple[int, ...]:
    """Return the ids of a separator between two words; empty: it has no ids of its own, or is an unknown token."""
    word, between = encode_texts(tokenizer, ["a", f"a{separator}"])
    ids = tuple(between[len(word) :])
    unknown = {tokenizer.token_to_id(str(model.get("unk_token"))), model.get("unk_id")}
    return () if not ids or ids[-1] in unknown or ids[-1] in word else ids


def _is_consistent(joiner: PieceJoiner, tokenizer: Tokenizer) -> bool:
    """Return whether a few pieces have the same ids in a joined text and alone."""
    pieces = ["ab", "a1.", "(b)", "1", "é"]
    chosen = [piece for piece in [*pieces, *(f" {piece}" for piece in pieces)] if joiner.is_joinable(piece)]
    found = joiner.encode(tokenizer, chosen)
    alone = encode_texts(tokenizer, chosen)
    return found is not None and found[1].tolist() == list(chain.from_iterable(alone)) and len(found[0]) == len(alone)
