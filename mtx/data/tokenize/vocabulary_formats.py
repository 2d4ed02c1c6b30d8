"""Read the vocabulary files of fairseq (`dict.txt`) and Marian (`vocab.yml`, `vocab.json`, or one token per line).

Ids are exactly those of the two programs. Only texts and numbers are read from a file; nothing in it is built.
"""

import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtx.errors import TokenizerError
from mtx.infra.dataset.pair_stream import is_text
from mtx.library_errors import library_reason

FAIRSEQ_SPECIAL = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>"}  # the ids 0 to 3
OVERWRITE = "#fairseq:overwrite"
MARIAN_SPECIAL = {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"}  # the decoder starts with a zero vector or <pad>
NEMATUS_SPECIAL = {"eos": ("eos", 0), "unk": ("UNK", 1)}  # former names, which Marian prefers at these ids
MAPPING_SUFFIXES = (".yml", ".yaml", ".json")
MAX_SHOWN = 60  # characters of a wrong line in a message
EXPECTED = "Set tokenizer.filepath to the dict.txt of fairseq, or the vocab.yml, vocab.json or list of tokens of Marian"


@dataclass(frozen=True)
class Vocabulary:
    """The content of a vocabulary file.

    Attributes:
        words: the id of each token that texts can contain, without the special tokens.
        special: the id of each special token.
        roles: the name of the special token of each role (`pad`, `bos`, `eos`, `unk`) that the file has.
        splits_at_any_space: whether all white space separates tokens, as in fairseq, or only the ASCII space.
    """

    words: Mapping[str, int]
    special: Mapping[str, int]
    roles: Mapping[str, str]
    splits_at_any_space: bool


def read_vocabulary(content: bytes, path: Path) -> Vocabulary:
    """Return the content of a vocabulary file; its suffix and its lines decide the format.

    Raises TokenizerError if it is none, with the wrong line.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"{path} is no vocabulary file, because it is not UTF-8: {library_reason(error)}. {EXPECTED}"
        ) from None
    if path.suffix in MAPPING_SUFFIXES:
        return _of_marian(_mapping(text, path), path, is_mapping=True)
    lines = io.StringIO(text, newline=None).readlines()
    if any(" " in line.strip() for line in lines[:2]):
        return _of_fairseq(lines, path)
    return _of_marian(_listed(lines, path), path, is_mapping=False)


def _of_fairseq(lines: list[str], path: Path) -> Vocabulary:
    special = {name: id for id, name in enumerate(FAIRSEQ_SPECIAL.values())}
    words: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        head, _, last = line.rstrip().rpartition(" ")
        replaces = last == OVERWRITE
        word, _, count = head.rpartition(" ") if replaces else (head, "", last)
        if not word or re.fullmatch(r"[+-]?\d+", count) is None:
            raise TokenizerError(
                f"{path}, line {number}: a line of a dict.txt of fairseq has a token, a space and a count, but is "
                f"{line.rstrip()[:MAX_SHOWN]!r}. {EXPECTED}"
            )
        if not replaces and (word in words or word in special):
            raise TokenizerError(
                f"{path}, line {number}: the token {word[:MAX_SHOWN]!r} occurs twice, which fairseq refuses. Remove "
                f"the line, or append ` {OVERWRITE}` to it"
            )
        if word not in special:
            words[word] = len(special) + number - 1
    return Vocabulary(words, special, FAIRSEQ_SPECIAL, splits_at_any_space=True)


def _of_marian(ids: Mapping[str, int], path: Path, *, is_mapping: bool) -> Vocabulary:
    names = {id: token for token, id in ids.items()}
    roles = {role: token for role, token in MARIAN_SPECIAL.items() if token in ids}
    if is_mapping:
        roles |= {role: token for role, (token, id) in NEMATUS_SPECIAL.items() if names.get(id) == token}
    for role in ("eos", "unk"):
        if role not in roles:
            raise TokenizerError(
                f"{path} has no {MARIAN_SPECIAL[role]}, which each vocabulary of Marian has. {EXPECTED}"
            )
    special = {token: ids[token] for token in roles.values()}
    words = {token: id for token, id in ids.items() if token not in special}
    return Vocabulary(words, special, roles, splits_at_any_space=False)


def _listed(lines: list[str], path: Path) -> dict[str, int]:
    tokens = [line.rstrip("\n") for line in lines]
    found = {token: id for id, token in enumerate(tokens)}
    if "" in found or len(found) < len(tokens):
        number = next(n for n, token in enumerate(tokens, 1) if not token or found[token] != n - 1)
        what = "is empty" if not tokens[number - 1] else f"has {tokens[number - 1][:MAX_SHOWN]!r}, which occurs twice"
        raise TokenizerError(f"{path}, line {number} {what}, but each line is another token. {EXPECTED}")
    return found


def _mapping(text: str, path: Path) -> dict[str, int]:
    try:
        found = json.loads(text, object_pairs_hook=_by_token) if path.suffix == ".json" else _yaml_mapping(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(library_reason(error).split())[:120]
        raise TokenizerError(f"{path} cannot be read as {path.suffix[1:].upper()}: {reason}. {EXPECTED}") from None
    wrong = f"{path} must map each token to its id, but "
    if not isinstance(found, dict):
        raise TokenizerError(f"{wrong}is {type(found).__name__}. {EXPECTED}")
    for token, id in found.items():
        is_id = isinstance(id, int) and not isinstance(id, bool) and id >= 0
        if not is_id or not token or not is_text(token):
            shown = str(id)[:MAX_SHOWN] if isinstance(id, int | float | str) else type(id).__name__
            raise TokenizerError(f"{wrong}has {str(token)[:MAX_SHOWN]!r}: {shown}. {EXPECTED}")
    if len(set(found.values())) < len(found):
        raise TokenizerError(f"{wrong}gives one id to two tokens. {EXPECTED}")
    return found


def _by_token(entries: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for token, id in entries:
        if token in found:
            raise ValueError(f"the token {token[:MAX_SHOWN]!r} occurs twice")
        found[token] = id
    return found


def _yaml_mapping(text: str) -> dict[str, Any]:
    """Read a flat YAML mapping with all keys as texts, as Marian does: `no: 5` is the token "no".

    Only the parser runs. The library's composer recurses into nested lists until the process dies.
    """
    import yaml

    scalars: list[str] = []
    try:
        found = yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        events = (event for event in found if isinstance(event, yaml.NodeEvent | yaml.DocumentStartEvent))
        next(events, None)
        if not isinstance(next(events, None), yaml.MappingStartEvent):
            raise ValueError("it is no mapping")
        for event in events:
            if not isinstance(event, yaml.ScalarEvent):
                raise ValueError(f"line {event.start_mark.line + 1} has neither a token nor an id")
            scalars.append(event.value)
    except yaml.YAMLError as error:
        raise ValueError(library_reason(error)) from None
    ids = (int(id) if id.isdecimal() else id for id in scalars[1::2])
    return _by_token(zip(scalars[::2], ids, strict=True))
