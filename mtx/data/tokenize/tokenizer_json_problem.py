"""Why the library `tokenizers` cannot read a tokenizer.json: the part of the file, and the rule that it breaks.

The errors of the library name no part. Each part of a file is therefore read alone, in a minimal tokenizer.
"""

import base64
import codecs
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors

from mtx.errors import MtxError
from mtx.exhausted_resources import panics_as_errors
from mtx.library_errors import library_reason

FORMAT_VERSION = "1.0"  # of all files that versions 0.x of the library write
MODEL_START_BYTES = 64  # a SentencePiece model begins with its first pieces, each after a line feed as its tag
PARTS: Mapping[str, type] = {
    "normalizer": normalizers.Normalizer,
    "pre_tokenizer": pre_tokenizers.PreTokenizer,
    "post_processor": processors.PostProcessor,
    "decoder": decoders.Decoder,
}  # with the base class of their components, whose subclasses have the names of the types
MEMBERS = ("normalizers", "pretokenizers", "processors", "decoders")  # of a part of the type Sequence
MODEL_KEYS = {
    "BPE": ("vocab", "merges"),
    "Unigram": ("vocab",),
    "WordLevel": ("vocab", "unk_token"),
    "WordPiece": ("vocab", "unk_token"),
}
LONGEST_VALUE = 80  # characters of a value of the file in a message
SMALLEST_MODEL = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}


def tokenizer_json_problem(content: bytes | str, error: Exception) -> str:
    """Return why the library has refused the content of a tokenizer.json, for a message without a full stop.

    Args:
        content: the content of the file.
        error: what the library or the decoding has raised.
    """
    raw = content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
    if isinstance(error, MtxError):
        return library_reason(error)
    if raw.startswith(b"\n") and b"<unk>" in raw[:MODEL_START_BYTES]:
        return "it seems to be a SentencePiece model, which tokenizer=sentencepiece reads"
    if isinstance(error, UnicodeError):
        return library_reason(error)
    if raw.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark, which JSON does not allow"
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as of_json:
        return library_reason(of_json)
    if not isinstance(found, dict):
        return f"it is JSON of the type {type(found).__name__}, not an object"
    try:
        problem = _problem_of_object(found)
    except Exception:  # a value of a form that no rule here expects
        problem = None
    return problem or library_reason(error, library="tokenizers")


def _problem_of_object(found: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the JSON object of a tokenizer; None if no part of it is to blame."""
    if "model" not in found:
        if found and all(isinstance(value, int) for value in found.values()):
            return "it holds token ids without a model, which tokenizer=vocabulary_file reads"
        if "tokenizer_class" in found:
            return "it is a tokenizer_config.json of transformers. Set tokenizer.filepath to its folder"
        return "it has no key 'model'"
    if (number := found.get("version", FORMAT_VERSION)) != FORMAT_VERSION:
        known = f"tokenizers {version('tokenizers')} reads version 1.0"
        return _newer(f"it has the format version {_shown(number)}, but {known}")
    for part in PARTS:
        if (problem := _part_problem(part, found.get(part))) is not None:
            return problem
    return _model_problem(found["model"])


def _newer(problem: str) -> str:
    return (
        f"{problem}. A newer version may have written it: pip install -U tokenizers, or save it with an older version"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _part_problem(part: str, value: Any) -> str | None:
    """Return what is wrong with the first component of a part that the library cannot read; None if it reads all."""
    for component in _components(value):
        kind = component.get("type") if isinstance(component, Mapping) else None
        if _is_precompiled(component) if kind == "Precompiled" else _is_read({part: component}):
            continue
        known: list[type] = PARTS[part].__subclasses__()
        if kind in [each.__name__ for each in known]:
            return f"its {part} {kind!r} has keys or values of another form"
        named = _shown(kind) if isinstance(kind, str) else f"of the JSON type {type(component).__name__}"
        return _newer(f"its {part} {named} is none that tokenizers {version('tokenizers')} can read")
    return None


def _is_precompiled(component: Mapping[str, Any]) -> bool:
    """Return whether the library reads a normalizer of SentencePiece, without the panic of a whole tokenizer."""
    try:
        normalizers.Precompiled(base64.b64decode(component["precompiled_charsmap"], validate=True))
    except Exception:  # the library raises plain Exception
        return False
    return True


def _components(value: Any) -> Iterator[Any]:
    """Yield the components of a part: itself, or those of a Sequence at any depth."""
    members = [value[key] for key in MEMBERS if key in value] if isinstance(value, Mapping) else []
    if members and isinstance(members[0], list) and value.get("type") == "Sequence":
        for member in members[0]:
            yield from _components(member)
    elif value is not None:
        yield value


def _model_problem(model: Any) -> str | None:
    """Return what is wrong with the model of a tokenizer; None if the library reads it."""
    if _is_read({"model": model}):
        return None
    if not isinstance(model, Mapping):
        return f"its model is JSON of the type {type(model).__name__}, not an object"
    kind = model.get("type", "BPE")
    if not isinstance(kind, str) or kind not in MODEL_KEYS:
        known = f"tokenizers {version('tokenizers')} reads {', '.join(MODEL_KEYS)}"
        return _newer(f"its model has the type {_shown(kind)}, but {known}")
    if missing := [key for key in MODEL_KEYS[kind] if key not in model]:
        return f"its {kind} model has no key {missing[0]!r}"
    if (token := _unknown_merge(model)) is not None:
        return f"its BPE model merges to the token {_shown(token)}, which is not in its vocabulary"
    return f"its {kind} model has keys or values of another form"


def _unknown_merge(model: Mapping[str, Any]) -> str | None:
    """Return the first token of a merge, or its result, that the vocabulary of a BPE model lacks; None without one."""
    merges, vocabulary = model.get("merges"), model["vocab"]
    prefix = model.get("continuing_subword_prefix") or ""
    if not (isinstance(merges, list) and isinstance(vocabulary, Mapping) and isinstance(prefix, str)):
        return None
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(each, str) for each in pair)):
            return None
        for token in (*pair, pair[0] + pair[1].removeprefix(prefix)):
            if token not in vocabulary:
                return str(token)
    return None


def _is_read(parts: Mapping[str, Any]) -> bool:
    """Return whether the library reads a tokenizer of these parts and, if it is none of them, the smallest model."""
    try:
        with panics_as_errors():
            Tokenizer.from_str(json.dumps({"version": FORMAT_VERSION, "model": SMALLEST_MODEL, **parts}))
    except Exception:  # the library raises plain Exception
        return False
    return True
