"""Names of stages: a hash of what went in.

A stage's output is named by the ids of its inputs and the config of the component that makes it, so that the
same question finds the same answer, in any process, on any machine.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

ID_DIGITS = 16  # 64 bits: a store would need 600 million datasets for an even chance of a clash in 100


def plain(value: Any) -> JSON:
    """Turn tuples, mappings and dataclasses into what JSON has; refuse the rest with TypeError."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no place in an identity: {value!r}")


def digest(value: Any) -> str:
    """Hash a JSON-like value: the first 16 hex digits of SHA-256 over its canonical JSON."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def identity(component: Any, *, exclude: tuple[str, ...] = ()) -> dict[str, JSON]:
    """Describe a dataclass component: its class, its `VERSION`, and the fields that decide its output.

    `VERSION` is a class attribute that goes up whenever the same fields would give other output.
    """
    fields = plain(component)
    assert isinstance(fields, dict)
    kept = {name: value for name, value in fields.items() if name not in exclude}
    cls = type(component)
    return {"class": f"{cls.__module__}.{cls.__qualname__}", "version": getattr(cls, "VERSION", 1), **kept}
