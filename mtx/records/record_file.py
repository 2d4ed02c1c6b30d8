"""Base classes of records: typed and versioned JSON files that mtx writes for people and scripts.

A record is written atomically, with its version. When a record of an older version is read, its `RENAMED` table maps
old keys to new ones. A file that is damaged, truncated, foreign or newer raises an error that names the file.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictFloat,
    StrictInt,
    ValidationError,
    model_serializer,
    model_validator,
)

from mtx.assumption_log import assume
from mtx.errors import DamagedError, NewerFormatError
from mtx.infra.dal.atomic_file import atomic_file
from mtx.library_errors import library_reason

MAX_ABSOLUTE = (1 << 64) - 1  # of an integer in a record; tables and plots use floats and 64 bits
MAYBE_HUGE = re.compile(r"(?<![.\d])[1-9]\d{18}", re.ASCII)  # an integer of at least 19 digits; a larger one has 20
MOST_PROBLEMS = 3  # problems that one error message lists
LONGEST_VALUE = 40  # characters of a value that a message quotes
REPEAT = "Repeat the run that wrote it, or leave its folder out"

KINDS = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth value"}
IN_JSON = {  # pydantic's error types for Python types, in the words of JSON
    "dict_type": "should be an object",
    "model_type": "should be an object",
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "int_type": "should be an integer",
    "int_from_float": "should be an integer",
    "float_type": "should be a number",
    "string_type": "should be a text",
    "bool_type": "should be true or false",
    "none_required": "should be null",
    "finite_number": "should be a finite number",
    "extra_forbidden": "is no key of the record",
    "literal_error": "should be {expected}",
    "greater_than": "should be greater than {gt}",
    "greater_than_equal": "should be greater than or equal to {ge}",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be less than or equal to {le}",
}

Count = Annotated[int, Field(strict=True, ge=0)]
Counts = dict[str, Count]
Number = StrictInt | StrictFloat


class Record(BaseModel):
    """A part of a record. The fields are the keys in JSON; mtx itself cannot create a record with an unknown key."""

    # Pydantic builds the validators on first use, so that importing records is fast.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class OpenRecord(Record):
    """A record that also accepts unknown keys, at the same level of its JSON.

    The unknown keys are collected in the field that `OTHERS` names.
    """

    OTHERS: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _with_others(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        declared = cls.model_fields.keys() - {cls.OTHERS}
        others = {key: item for key, item in value.items() if key not in declared}
        return {**{key: item for key, item in value.items() if key in declared}, cls.OTHERS: others}

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        declared = handler(self)
        others = declared.pop(self.OTHERS, {})
        return {**declared, **others}


class FileRecord(Record):
    """A record that is a whole file.

    Attributes:
        FILE: The file name in the folder of a run or a sweep.
        WHAT: The noun for the file in error messages.
        VERSION_KEY: The key of the version in the file.
        VERSION: The version that this mtx writes. Within a version, fields keep their names and meanings.
        INSTEAD: The next step that error messages propose.
        RENAMED: For each version, the keys that the next version renames. Dots separate nested keys; `*` matches any
            key.
    """

    FILE: ClassVar[str]
    WHAT: ClassVar[str]
    VERSION_KEY: ClassVar[str]
    VERSION: ClassVar[int]
    INSTEAD: ClassVar[str] = REPEAT
    RENAMED: ClassVar[Mapping[int, Mapping[str, str]]] = {}

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the record in a folder; None if there is no file.

        Raises:
            DamagedError: The file cannot be read, is no complete JSON, or is no record of this kind.
            NewerFormatError: A newer version of mtx wrote the file.
        """
        path = folder / cls.FILE
        value = read_object(path, cls.WHAT, cls.INSTEAD)
        return None if value is None else cls._of_json(value, path)

    def write(self, folder: Path) -> Path:
        """Write the record into a folder atomically, and return the path of the file.

        Raises:
            StoreError: The file cannot be written.
        """
        path = folder / self.FILE
        write_object(path, self.to_json())
        return path

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that `write` stores, including the version."""
        return {self.VERSION_KEY: self.VERSION, **self.model_dump()}

    @classmethod
    def current_name(cls, name: str) -> str:
        """Return the current name of a dotted key that an older version of the record used."""
        for names in cls.RENAMED.values():
            for old, new in names.items():
                if re.fullmatch(re.escape(old).replace(r"\*", ".+"), name):
                    name = ".".join([*name.split(".")[:-1], new.rpartition(".")[2]])
        return name

    @classmethod
    def _of_json(cls, value: dict[str, Any], path: Path) -> Self:
        """Return the record of a JSON object: check its version, rename old keys, and validate every field.

        Raises:
            DamagedError: The version or a field is invalid.
            NewerFormatError: A newer version of mtx wrote the file.
        """
        version = value.pop(cls.VERSION_KEY, 1 if cls._is_former(value, path) else None)
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            found = (
                f"it has neither {cls.VERSION_KEY} nor another key of a {cls.WHAT}"
                if version is None
                else f"{cls.VERSION_KEY} is 1 to {cls.VERSION}, but is {_quoted(version)}"
            )
            raise DamagedError(f"{path} is no {cls.WHAT}: {found}. Another program may have written it. {cls.INSTEAD}")
        if version > cls.VERSION:
            raise NewerFormatError(
                f"{path} has {cls.VERSION_KEY}={version}, but this mtx reads versions up to {cls.VERSION}: a newer mtx "
                "wrote it. Read it with that version of mtx, or leave its folder out"
            )
        for step in range(version, cls.VERSION):
            for old, new in cls.RENAMED.get(step, {}).items():
                _rename(value, old.split("."), new.rpartition(".")[2])
        try:
            return cls.model_validate(value, extra="ignore")
        except ValidationError as error:
            raise DamagedError(f"{path} is no {cls.WHAT}: {problems(error)}. {cls.INSTEAD}") from error

    @classmethod
    def _is_former(cls, value: Mapping[str, Any], path: Path) -> bool:
        """Return whether an object without a version key may be a record of a mtx that wrote no versions."""
        former = {old.partition(".")[0] for names in cls.RENAMED.values() for old in names}
        return not value or bool(value.keys() & (cls.model_fields.keys() | former))


def read_object(path: Path, what: str, instead: str = REPEAT) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if the file does not exist.

    Raises:
        DamagedError: The file cannot be read or contains no JSON object. The message ends with `instead`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {library_reason(error)}. {instead}") from error
    try:
        text = content.decode(json.detect_encoding(content), "surrogatepass")
        value = json.loads(text)
        left_out = _drop_huge(value) if MAYBE_HUGE.search(text) else {}
    except (ValueError, RecursionError) as error:
        raise DamagedError(
            f"{path} cannot be read: its {len(content):,} bytes are no complete JSON ({library_reason(error)}). The "
            f"file was truncated or changed after it was written. {instead}"
        ) from error
    for name, number in left_out.items():
        assume(f"{path}: {name} is left out, because it has {number.bit_length()} bits, but at most 64")
    if not isinstance(value, dict):
        raise DamagedError(f"{path} is no {what}: it holds {KINDS.get(type(value), 'null')}, no JSON object. {instead}")
    return value


def _drop_huge(value: Any, place: str = "") -> dict[str, int]:
    """Remove all integers beyond 64 bits from nested objects and lists, in place, and return them by dotted name."""
    found: dict[str, int] = {}
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, item in reversed(items):  # from the end, so that the places in a list stay valid
        name = f"{place}.{key}" if place else str(key)
        if isinstance(item, int) and not -MAX_ABSOLUTE <= item <= MAX_ABSOLUTE:
            found[name] = item
            del value[key]
        else:
            found |= _drop_huge(item, name)
    return found


def write_object(path: Path, value: Any) -> None:
    """Write a value as a JSON file atomically.

    Raises:
        StoreError: The file cannot be written.
    """
    with atomic_file(path) as file:
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
        file.write(text.encode("utf-8", "backslashreplace") + b"\n")


def problems(error: ValidationError) -> str:
    """Return the text of a validation error: at most `MOST_PROBLEMS` invalid fields with their rules and values."""
    found: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        place = [str(part) for part in problem["loc"] if part not in ("int", "float")]  # drops the members of `Number`
        rule = IN_JSON.get(problem["type"], "has another form").format(**problem.get("ctx", {}))
        rule = problem["msg"].removeprefix("Value error, ") if problem["type"] == "value_error" else rule
        told = "is missing" if problem["type"] == "missing" else f"{rule}, but is {_quoted(problem['input'])}"
        found.setdefault(".".join(place), told)
    listed = [f"{place} {told}" for place, told in list(found.items())[:MOST_PROBLEMS]]
    more = len(found) - len(listed)
    return "; ".join(listed) + (f"; and {more} more" if more else "")


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _rename(value: Any, path: list[str], name: str) -> None:
    """Rename the key at a path inside of nested objects; values that are no objects are left for the validation."""
    first, *rest = path
    if not isinstance(value, dict):
        return
    if not rest:
        if first in value:
            value.setdefault(name, value.pop(first))
        return
    for inner in value.values() if first == "*" else [value.get(first)]:
        _rename(inner, rest, name)
