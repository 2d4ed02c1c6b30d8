"""Extra columns, which mtx keeps in addition to the two texts: their selection, types and conversions."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from mtx.errors import ConfigError, SourceError, choices
from mtx.infra.dal.unconvertible_value import unconvertible_value

log = logging.getLogger(__name__)

# Allowed values of `downloader.columns`: names, or names with types. The type null means the type in the source.
ExtraColumns = Annotated[
    Literal["none", "all"] | Sequence[str] | Mapping[str, str | None],
    Field(description="none, all, a list of names as [NAME], or a type for each name, as {score: float}"),
]

TYPES: dict[str, pa.DataType] = {
    "str": pa.large_string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us"),
}
RESERVED = ("src", "tgt", "row", "source")  # names of columns that mtx creates itself
NO_COLUMNS = pa.schema([])
BOOLS = {"true": True, "false": False, "1": True, "0": False}


def plain_columns(columns: ExtraColumns) -> ExtraColumns:
    """Return the option `downloader.columns` as plain values, with lists as tuples.

    Raises ConfigError if a name is empty, reserved or repeated, or if a type is unknown.
    """
    if columns in ("none", "all"):
        return columns
    assert not isinstance(columns, str)  # the component has checked the type of its field
    problems = []
    for name in columns:
        if not name:
            problems.append("downloader.columns contains an empty column name. Remove the empty name")
        elif name in RESERVED:
            problems.append(
                f"downloader.columns cannot keep a column called {name!r}, because mtx reserves the names "
                f"{', '.join(RESERVED)}. Rename the column in the source"
            )
    if isinstance(columns, Mapping):
        for name, kind in columns.items():
            if kind is not None and kind not in TYPES:
                known = choices(str(kind), TYPES)
                problems.append(
                    f"downloader.columns.{name} must be one of {known}, or null for the source's type, but is {kind!r}"
                )
    elif len(set(columns)) < len(columns):
        problems.append(f"downloader.columns must name each column only once, but is {list(columns)}")
    if problems:
        raise ConfigError("\n".join(problems))
    return dict(columns) if isinstance(columns, Mapping) else tuple(columns)


def is_wanted(columns: ExtraColumns, name: str) -> bool:
    """Return whether the option `columns` requests to keep the extra column `name`."""
    return columns == "all" or (columns != "none" and name in columns)


def kept_columns(present: pa.Schema, columns: ExtraColumns, where: str) -> pa.Schema:
    """Return the schema of the extra columns to keep, with the types in which mtx stores them.

    Args:
        present: the columns of the source without the two texts, with the source's types.
        columns: the option `downloader.columns`.
        where: name of the file or dataset, which starts each error message.

    Raises SourceError if a requested column is missing or has a type that cannot be stored.
    """
    if columns == "none":
        return NO_COLUMNS
    if columns == "all":
        reserved = [name for name in present.names if name in RESERVED]
        if reserved:
            log.warning("%s: columns not kept, because mtx reserves their names: %s", where, ", ".join(reserved))
        names: Sequence[str] = [name for name in present.names if name not in RESERVED]
    else:
        names = list(columns)
    fields = []
    for name in names:
        if name not in present.names:
            raise SourceError(
                f"{where}: there is no column {name!r} besides the two texts; present: {choices(name, present.names)}. "
                "Choose from these columns with 'downloader.columns=[NAME]', or keep all with downloader.columns=all"
            )
        said = columns.get(name) if isinstance(columns, Mapping) else None
        kind = stored_type(present.field(name).type) if said is None else TYPES[said]
        if kind is None:
            raise SourceError(
                f"{where}: the column {name!r} has the type {present.field(name).type}, which mtx cannot store. mtx "
                "stores Booleans, numbers, texts, dates, times, and lists and objects of these. Choose other columns "
                "with 'downloader.columns=[NAME]'"
            )
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def is_category(kind: pa.DataType) -> bool:
    """Return whether values of a type can name a group or a document: text, integers or Booleans."""
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(is_text or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def check_category(option: str, column: str, kind: pa.DataType) -> None:
    """Raise ConfigError if a column of the type `kind`, which an option names, cannot name a group or a document."""
    if not is_category(kind):
        raise ConfigError(
            f"{option} needs a column of text, integers or Booleans, but {column!r} holds {kind}. Choose another "
            "column, or read it as text with downloader.columns"
        )


def stored_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the Arrow type in which mtx stores values of the type `kind`, or None if mtx cannot store them."""
    types = pa.types
    if types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind):
        return pa.large_string()  # also if all values so far are null: later values can become text
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind):
        return kind
    if types.is_float16(kind):
        return pa.float32()
    if types.is_timestamp(kind) or types.is_date32(kind):
        return kind
    if types.is_date64(kind):
        return pa.date32()
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = stored_type(kind.value_type)
        return None if inner is None else pa.list_(inner)
    if types.is_struct(kind) and kind.num_fields:
        inners = [(field.name, stored_type(field.type)) for field in kind]
        return None if any(inner is None for _, inner in inners) else pa.struct(inners)
    return None


def type_name(kind: pa.DataType) -> str:
    """Return the name of an Arrow type in the option `downloader.columns`, or Arrow's name if the option has none."""
    return next((name for name, known in TYPES.items() if known == kind), str(kind))


def united_columns(schemas: Sequence[pa.Schema], where: str) -> pa.Schema:
    """Return one schema with the columns of several files. Raises SourceError if two types of a column do not fit."""
    try:
        return pa.unify_schemas(list(schemas), promote_options="permissive") if schemas else NO_COLUMNS
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        names = list(dict.fromkeys(name for schema in schemas for name in schema.names))
        found = {name: {field.type for schema in schemas for field in schema if field.name == name} for name in names}
        name = next((name for name in names if not _can_unite(found[name])), "")
        raise SourceError(
            f"{where}: the column {name!r} has different types in different files: "
            f"{', '.join(sorted(type_name(kind) for kind in found.get(name, ())))}. Set one type with "
            "'downloader.columns={NAME: TYPE}', or leave the column out"
        ) from error


def _can_unite(kinds: Iterable[pa.DataType]) -> bool:
    schemas = [pa.schema([("", kind)]) for kind in kinds]
    try:
        pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def conformed(extra: pa.RecordBatch, schema: pa.Schema, where: str) -> pa.RecordBatch:
    """Return the columns of `extra` cast to the types of `schema`. Missing columns are filled with nulls.

    Raises SourceError, with the name of the column, if a value cannot be cast.
    """
    arrays = []
    for field in schema:
        try:
            if field.name in extra.schema.names:
                array = extra.column(field.name)
                array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
                array = array.cast(field.type)
                array.validate(full=True)  # detects invalid UTF-8, which reading does not check
            else:
                array = pa.nulls(extra.num_rows, field.type)
        except (pa.ArrowException, ValueError) as error:
            wrong = unconvertible_value(array, field.type)
            raise SourceError(
                f"{where}: the column {field.name!r} has a value that is not of type {type_name(field.type)}, {wrong}. "
                "Set another type with 'downloader.columns={NAME: TYPE}', or leave the column out"
            ) from error
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def parsers_of(schema: pa.Schema) -> list[tuple[str, Callable[[str], Any]]]:
    """Return for each column its name and a function that parses the text of a table cell into a value.

    The functions raise ValueError if the text is not of the column's type.
    """
    return [(field.name, _PARSERS.get(field.type, str)) for field in schema]


def _int(text: str) -> int:
    if "_" in text:
        raise ValueError(text)
    return int(text)


def _float(text: str) -> float:
    if "_" in text:
        raise ValueError(text)
    return float(text)


def _bool(text: str) -> bool:
    try:
        return BOOLS[text.strip().lower()]
    except KeyError as error:
        raise ValueError(text) from error


def _timestamp(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is not None:
        raise ValueError(text)
    return found


_PARSERS: dict[pa.DataType, Callable[[str], Any]] = {
    TYPES["str"]: str,
    TYPES["int"]: _int,
    TYPES["float"]: _float,
    TYPES["bool"]: _bool,
    TYPES["timestamp"]: _timestamp,
}
