"""Read a SentencePiece `.model` file: pieces, settings and the rules of its normaliser.

The file is a protocol buffer, `ModelProto` in sentencepiece_model.proto. The reader takes only the fields that decide
ids, and checks all lengths and types, because a file may come from anyone. Nothing in it is unpickled or executed.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtx.errors import TokenizerError
from mtx.library_errors import library_reason

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # types of a piece
MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
MAX_PIECES = 1 << 22
# The field of the trainer with the name of a token, and the name that the library gives it by default.
ROLES = {"bos": (46, "<s>"), "eos": (47, "</s>"), "pad": (48, "<pad>")}
SPACE_MARK = "\u2581"  # stands for a space in pieces
NORMALISERS = (b"nmt_nfkc", b"nfkc", b"nmt_nfkc_cf", b"nfkc_cf", b"identity")  # no rule of these begins with a space
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types of a protocol buffer


@dataclass(frozen=True)
class Piece:
    """A piece of the vocabulary; its id is its position in the file."""

    text: str
    score: float
    type: int


@dataclass(frozen=True)
class SentencePieceFile:
    """The content of a `.model` file that mtx needs; the library `sentencepiece` reads the rest.

    Attributes:
        pieces: all pieces in the order of their ids.
        model_type: how a text is split into pieces: unigram, bpe, word or char.
        special: the names of the tokens `unk`, `bos`, `eos` and `pad` that the model has.
        splits_words: whether words have the same ids alone as in a text. This holds for BPE with the usual settings,
            but not for unigram models, for which the library sums over a whole text.
    """

    pieces: tuple[Piece, ...]
    model_type: str
    special: Mapping[str, str]
    splits_words: bool = False


def read_sentencepiece(content: bytes, path: object) -> SentencePieceFile:
    """Return the content of a `.model` file.

    All parts are checked. Raises TokenizerError if the file is no model, or is damaged.
    """
    try:
        return _model(memoryview(content))
    except (ValueError, struct.error, IndexError, KeyError, TypeError) as error:
        raise TokenizerError(
            f"{path} is no SentencePiece model, or is damaged ({library_reason(error)}). Set "
            "tokenizer.filepath to the .model file that sentencepiece wrote; read a tokenizer.json with "
            "tokenizer=pretrained"
        ) from None


def _model(content: memoryview) -> SentencePieceFile:
    pieces: list[Piece] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(content):
        if number == 1:
            pieces.append(_piece(dict(_fields(_message(value)))))
            if len(pieces) > MAX_PIECES:
                raise ValueError(f"more than {MAX_PIECES} pieces")
        elif number == 2:
            trainer.update(_fields(_message(value)))
        elif number == 3:
            normalizer.update(_fields(_message(value)))
    if not pieces:
        raise ValueError("no pieces")
    if len({piece.text for piece in pieces}) < len(pieces):
        raise ValueError("a piece occurs twice")
    if sum(piece.type == UNKNOWN for piece in pieces) != 1:
        raise ValueError("not exactly one unknown token")
    check_charsmap(bytes(_message(normalizer.get(2, memoryview(b"")))))
    special = {"unk": next(piece.text for piece in pieces if piece.type == UNKNOWN)}
    controls = {piece.text for piece in pieces if piece.type == CONTROL}
    for role, (field, default) in ROLES.items():
        name = str(_message(trainer[field]), "utf-8") if field in trainer else default
        if name in controls:
            special[role] = name
    model_type = MODEL_TYPES[_number(trainer.get(3, 1))]
    return SentencePieceFile(
        tuple(pieces), model_type, special, model_type == "bpe" and _splits_words(pieces, trainer, normalizer)
    )


def _splits_words(pieces: list[Piece], trainer: dict[int, Any], normalizer: dict[int, Any]) -> bool:
    """Return whether texts are split at spaces, begin with a space, and have no other extra spaces."""
    has_defaults = all(_number(normalizer.get(field, 1)) for field in (3, 4, 5)) and not _number(trainer.get(24, 0))
    is_known = bytes(_message(normalizer.get(1, memoryview(b"")))) in NORMALISERS
    return has_defaults and is_known and not any(SPACE_MARK in piece.text[1:] or " " in piece.text for piece in pieces)


def _piece(fields: dict[int, Any]) -> Piece:
    score = fields.get(2, 0.0)
    kind = _number(fields.get(3, NORMAL))
    text = str(_message(fields[1]), "utf-8")
    if not isinstance(score, float) or not math.isfinite(score):
        raise ValueError(f"the score of a piece is {score!r}")
    if not NORMAL <= kind <= BYTE:
        raise ValueError(f"the type of a piece is {kind}")
    if not text:
        raise ValueError("a piece is empty")
    return Piece(text, score, kind)


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError("a field is no integer")
    return value


def _message(value: Any) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("a field is no message")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each field of a message."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if not number:
            raise ValueError("a field has the number 0")
        if wire == VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == BYTES:
            size, place = _varint(data, place)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"a field has the wire type {wire}")
        if place + size > len(data):
            raise ValueError("the file ends within a field")
        part = data[place : place + size]
        place += size
        yield number, part if wire == BYTES else struct.unpack("<f" if wire == FIXED32 else "<d", part)[0]


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError("the file ends within a number")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def check_charsmap(charsmap: bytes) -> None:
    """Raise ValueError or struct.error if the compiled normaliser is damaged, because the library does not check it.

    The compiled form is the size of a trie, the trie as a double array (Darts), and the replacements, each ended by
    NUL. A node whose children would be outside of the array lets the library read outside of its memory.
    """
    if not charsmap:
        return
    (size,) = struct.unpack_from("<I", charsmap)
    if size % 4 or not size or 4 + size > len(charsmap):
        raise ValueError(f"the trie of the normaliser has {size} bytes")
    units = np.frombuffer(charsmap, dtype="<u4", count=size // 4, offset=4).astype(np.int64)
    texts = charsmap[4 + size :]
    is_value = units >> 31 == 1
    nodes = np.flatnonzero(~is_value)
    children = nodes ^ (units[nodes] >> 10 << ((units[nodes] & 1 << 9) >> 6))
    if int((children | 0xFF).max(initial=0)) >= len(units) or texts[-1:] != b"\0":
        raise ValueError("the trie of the normaliser points outside of it")
    if int((units[is_value] & 0x7FFFFFFF).max(initial=0)) >= len(texts):
        raise ValueError("a rule of the normaliser has no replacement")
