"""Ids of stages: hashes of everything that decides a stage's output.

The id of a stage's output is computed from the ids of its inputs and the identity of its component. So the same config
finds the same data, in any process, on any machine. The identity of a component is its kind, version and options, not
the location of its code.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mtx.components.code_digest import code_digest

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

LATER = {"is_later": True}  # metadata of a field added in a later version: at its default, it does not change an id
ID_DIGITS = 16  # 64 bits: with 600 million datasets, two have the same id with a probability of 1 %


def plain_value(value: Any) -> JSON:
    """Convert tuples, mappings and dataclasses to JSON values; raise TypeError for other objects."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain_value(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be part of an identity: {value!r}")


def digest(value: Any) -> str:
    """Return the first 16 hex digits of SHA-256 over the canonical JSON of a value."""
    text = json.dumps(plain_value(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def identity(component: Any, *, exclude: Collection[str] = ()) -> dict[str, JSON]:
    """Return the identity of a dataclass component: its kind, its version, and the fields that decide its output.

    Args:
        component: an instance of a dataclass. If it has a method `identity_fields`, as a component that contains other
            components needs, that method returns its fields as plain values.
        exclude: names of fields that do not change the output.

    Raises:
        ConfigError: the class has no `version`, and no source file from which a version can be computed.
    """
    own: Callable[[], dict[str, JSON]] | None = getattr(component, "identity_fields", None)
    fields = plain_value(component) if own is None else own()
    assert isinstance(fields, dict)
    later = {
        field.name
        for field in dataclasses.fields(component)
        if field.metadata.get("is_later") and getattr(component, field.name) == field.default
    }
    kept = {name: value for name, value in fields.items() if name not in {*exclude, *later}}
    return {**class_identity(type(component)), **kept}


def class_identity(target: Any) -> dict[str, JSON]:
    """Return `kind` and `version` of a class or function; values that its base classes declare are ignored.

    Classes of mtx declare `kind = "filter/default"` and `version = 1`; the version rises if the same options give
    another output. So moving a module or renaming a class does not change ids. Without a `version`, the version is a
    digest of the code (see `code_digest`). The kind is then the declared kind or the class name, whether the module is
    run or imported. With a `version` but no `kind`, the kind is the module and the class name.
    """
    own = vars(target)
    kind, version = own.get("kind"), own.get("version")
    if version is None:
        return {"kind": str(kind or target.__qualname__), "version": f"code:{code_digest(target)}"}
    return {"kind": str(kind or f"{target.__module__}.{target.__qualname__}"), "version": version}
