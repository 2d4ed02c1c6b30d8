"""Read a tokenizer folder of transformers: `tokenizer.json`, and the names of the special tokens in its other files.

`save_pretrained` of a fast tokenizer writes such a folder. Only JSON is read; no class that a file names is built.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mtx.assumption_log import assume
from mtx.data.tokenize.language_token_names import DECODER_START, FORCED_START, TargetStart, languages_of_tokens
from mtx.data.tokenize.tokenization import SPECIAL_TOKENS, SpecialTokens
from mtx.errors import TokenizerError
from mtx.library_errors import library_reason

TOKENIZER_FILE = "tokenizer.json"
TOKEN_FILES = ("special_tokens_map.json", "tokenizer_config.json")
MODEL_FILES = ("generation_config.json", "config.json")
# The names of a token in the files, the first that is there. Models like BERT end a text with sep_token.
ROLES = {
    "pad": ("pad_token",),
    "bos": ("bos_token", "cls_token"),
    "eos": ("eos_token", "sep_token"),
    "unk": ("unk_token",),
}
MAX_LISTED = 8  # files of a folder that a message lists


class ModelStarts(NamedTuple):
    """The tokens with which a model begins.

    Attributes:
        bos: the start of the decoder; None: the files name none, or a language.
        targets: the tokens besides BOS with which a translation begins.
    """

    bos: str | None
    targets: tuple[TargetStart, ...]


def tokenizer_file(folder: Path) -> Path:
    """Return the tokenizer file of a folder. Raises TokenizerError if the folder has none."""
    path = folder / TOKENIZER_FILE
    if path.is_file():
        return path
    names = sorted(entry.name for entry in folder.iterdir())[:MAX_LISTED]
    raise TokenizerError(
        f"the folder {folder} has no {TOKENIZER_FILE}, only {', '.join(names) or 'no files'}. A fast tokenizer of "
        "transformers writes the file: AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER). Then set "
        "tokenizer.filepath=FOLDER"
    )


def folder_special_tokens(folder: Path, start: str | None = None, *, is_start_typed: bool = False) -> SpecialTokens:
    """Return the special tokens that the files of a folder name; mtx's own name where they name none.

    `start` is `ModelStarts.bos` of the folder, and counts before the other files. Without it and without a token of
    that kind, `bos` is the padding token, as in T5 and Marian. An assumption says so, unless the user has chosen `bos`
    (`is_start_typed`).

    Raises TokenizerError if a file is no JSON object.
    """
    found = _role_tokens(folder)
    found["bos"] = start or found["bos"]
    if found["bos"] is None:
        found["bos"] = found["pad"]
        if found["pad"] is not None and not is_start_typed:
            assume(
                f"the decoder starts with the padding token {found['pad']!r}, because the tokenizer's folder names no "
                "other start. For another, set tokenizer.bos_token=TOKEN"
            )
    return SpecialTokens(**{role: token or getattr(SPECIAL_TOKENS, role) for role, token in found.items()})


def model_starts(folder: Path) -> ModelStarts:
    """Return the tokens with which the folder's model begins, as its files say. Parses the tokenizer at most once.

    The start of the decoder may name a language, as that of the first mBART. It then is not BOS.

    Raises TokenizerError if a file is no JSON object.
    """
    ids = {key: _token_id(folder, key) for key in (FORCED_START, DECODER_START)}
    if set(ids.values()) == {None}:
        return ModelStarts(None, ())
    tokens = _added_tokens(folder)
    found = {key: tokens[number] for key, number in ids.items() if number is not None and number in tokens}
    start = found.get(DECODER_START)
    if start in languages_of_tokens(tokens.values()) and start not in _role_tokens(folder).values():
        start = None
    targets = (TargetStart(token, key) for key, token in found.items() if key == FORCED_START or start is None)
    return ModelStarts(start, tuple(targets))


def _role_tokens(folder: Path) -> dict[str, str | None]:
    named = {key: value for name in reversed(TOKEN_FILES) for key, value in _object(folder / name).items()}
    return {role: next(filter(None, (_text(named.get(key)) for key in keys)), None) for role, keys in ROLES.items()}


def _token_id(folder: Path, key: str) -> int | None:
    """Return the id at a key of the model's files, the first that has one; None without any."""
    ids = (_object(folder / name).get(key) for name in MODEL_FILES)
    return next((each for each in ids if isinstance(each, int)), None)


def _added_tokens(folder: Path) -> dict[int, str]:
    added = _object(folder / TOKENIZER_FILE).get("added_tokens")
    tokens = [each for each in added if isinstance(each, Mapping)] if isinstance(added, list) else []
    by_id = {each["id"]: _text(each.get("content")) for each in tokens if isinstance(each.get("id"), int)}
    return {number: token for number, token in by_id.items() if token is not None}


def _text(value: Any) -> str | None:
    """Return a token that a file gives as a text, or as an object with its content; None for anything else."""
    content = value.get("content") if isinstance(value, Mapping) else value
    return content if isinstance(content, str) and content else None


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerError(
            f"{path} cannot be read as JSON: {library_reason(error)}. Correct tokenizer.filepath"
        ) from error
    if not isinstance(found, dict):
        raise TokenizerError(f"{path} must be a JSON object, but is {type(found).__name__}. Correct tokenizer.filepath")
    return found
