"""Parse one line of JSON Lines with Python's `json`, which says where an invalid line is wrong."""

import json
from collections import Counter
from typing import Any

from mtx.infra.dataset.pair_stream import Reason
from mtx.infra.dataset.sources.local_files import LINE_END_ADVICE, utf8_problem

EXCERPT_CHARS = 60  # number of characters of an invalid line in an error message


class RefusedLineError(Exception):
    """A line is not a valid pair. Contains the reason, and a description for the error message."""

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.what = what


class TooDeepLineError(RefusedLineError):
    """A line is nested too deeply for Python's `json`."""


class ObjectWithRepeats(dict[str, Any]):
    """A JSON object in which some keys occur more than once."""

    repeated: frozenset[str] = frozenset()


def parsed_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line. Raises RefusedLineError if the line is not a JSON object."""
    try:
        value = DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise RefusedLineError("invalid_utf8", utf8_problem(line)) from error
    except json.JSONDecodeError as error:
        what = f"the line is not valid JSON (at character {error.colno}): {excerpt(line)}"
        if b"\r" in line.rstrip(b"\r\n"):
            what += rf". It has carriage returns (\r), which end no line, {LINE_END_ADVICE}"
        raise RefusedLineError("malformed_json", what) from error
    except RecursionError as error:
        what = f"the JSON of this line is nested too deeply: {excerpt(line)}"
        raise TooDeepLineError("malformed_json", what) from error
    if not isinstance(value, dict):
        raise RefusedLineError(
            "not_an_object", f'the line is not an object like {{"src": …, "tgt": …}}: {excerpt(line)}'
        )
    return value


def _object_hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = ObjectWithRepeats(found)
    repeating.repeated = frozenset(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
    return repeating


def _ignored_number(_: str) -> float:
    return 0.0  # numbers are never texts; skipping their conversion saves time and avoids Python's digit limit


DECODER = json.JSONDecoder(object_pairs_hook=_object_hook, parse_int=_ignored_number, parse_float=_ignored_number)


def kind_name(value: Any) -> str:
    """Return the JSON type of a value, for error messages."""
    return {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}.get(
        type(value), "an object"
    )


def excerpt(line: bytes) -> str:
    """Return the beginning of a line, for error messages."""
    text = line.decode().strip()
    return repr(text[:EXCERPT_CHARS] + ("…" if len(text) > EXCERPT_CHARS else ""))
