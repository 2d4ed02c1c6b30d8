"""Options of components, declared as fields of pydantic dataclasses: name, type and bounds.

The check of a config before any work, constructors, `task=options`, shell completion and docs/options.md use these
declarations.
"""

import dataclasses
import functools
import math
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass as checked_dataclass
from pydantic.fields import FieldInfo

from mtx.components.bounded_numbers import (
    MAX_AMOUNT,
    MAX_INTEGER,
    Amount,
    Count,
    Multiple,
    Natural,
    Probability,
    Seconds,
)
from mtx.errors import ConfigError, choices

__all__ = [
    "Amount",
    "Count",
    "Multiple",
    "Natural",
    "Probability",
    "Seconds",
    "check_values",
    "checked",
    "component",
    "describe",
    "problem_of",
]

Class = TypeVar("Class", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])

# Strict: pydantic converts no text to a number, and no number to true or false.
CHECKS = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
SIMPLE = {int: "an integer", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field, Field))
def component(group: str, *, frozen: bool = True, eq: bool = True) -> Callable[[Class], Class]:
    """Make a class a keyword-only dataclass whose constructor checks the fields by their annotations.

    If a field is invalid, the constructor raises ConfigError, which lists every invalid field with its key, such as
    `sampler.max_tokens`. The title of a field, if it has one, is its key in the config. Rules for several fields
    together belong in `__post_init__`.

    Args:
        group: config group, with which the keys in messages start.
        frozen: whether instances are immutable.
        eq: whether instances with equal fields are equal.
    """

    def decorate(cls: Class) -> Class:
        def _explained(cls_: Any, values: Any, handler: Callable[[Any], Any]) -> Any:
            try:
                return handler(values)
            except ValidationError as error:
                raise ConfigError("\n".join(_problems(cls_, group, values.kwargs or {}, error))) from None

        validator = model_validator(mode="wrap")(classmethod(_explained))  # type: ignore[arg-type]  # pydantic's types expect a method
        cls._as_config_error = validator  # type: ignore[attr-defined]  # pydantic finds validators among the attributes
        return typing.cast(Class, checked_dataclass(cls, kw_only=True, frozen=frozen, eq=eq, config=CHECKS))

    return decorate


def checked(group: str) -> Callable[[Function], Function]:
    """Return a decorator that checks the keyword arguments of a function or constructor against its annotations.

    Use it for tasks, and for constructors of classes that are not dataclasses. Values are passed on unchanged. The call
    raises ConfigError, which lists every invalid value.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*positional: Any, **values: Any) -> Any:
            check_values(group, function, values)
            return function(*positional, **values)

        return typing.cast(Function, call)

    return decorate


def check_values(group: str, function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Check `values` against the annotations of a function's parameters.

    Raises:
        ConfigError: a value is invalid; the message lists every invalid value.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    found = [problem_of(f"{group}.{name}", hints[name], value) for name, value in values.items() if name in hints]
    if problems := [problem for problem in found if problem]:
        raise ConfigError("\n".join(problems))


def problem_of(key: str, annotation: Any, value: Any) -> str | None:
    """Return what is wrong with the `value` of a config key, and what to set instead; None if it is valid.

    A list is also valid for a tuple, since YAML has no tuples. A type that pydantic cannot check accepts any value.
    """
    adapter = _adapter(annotation)
    if adapter is None or any(_is_valid(adapter, each) for each in (value, _with_tuples(value))):
        return None
    if items := _item_type(annotation) if isinstance(value, Mapping) else None:
        found = [problem_of(f"{key}.{name}", items, item) for name, item in value.items()]
        if problems := [problem for problem in found if problem]:
            return "\n".join(problems)
    return f"{key} is {describe(annotation, value)}, but is {value!r}{_proposal(key, annotation, value)}"


def describe(annotation: Any, value: Any = None) -> str:
    """Return a type and its bounds in words: `an integer of at least 1, or null`.

    If the field has a description, it replaces the type; for a number, it follows in parentheses as the reason for the
    bounds. Among several choices, the one most similar to `value` is first.
    """
    bare, bounds, said = _taken_apart(annotation)
    if bare in (int, float):
        return f"{SIMPLE[bare]}{_range(bounds, value)}" + f" ({said})" * bool(said)
    if said:
        return said
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if origin in (Union, UnionType):
        words = dict.fromkeys(describe(argument, value) for argument in arguments if argument is not type(None))
        return " or ".join(words) + ", or null" * (type(None) in arguments)
    if origin is Literal:
        return "one of " * (len(arguments) > 1) + choices(str(value), [str(each) for each in arguments])
    if _is_a(origin, Mapping):
        return "a mapping"
    if _is_a(origin, Sequence):
        return "a list"
    return SIMPLE.get(bare) or str(getattr(bare, "__name__", bare))


def _problems(made: Any, group: str, values: Mapping[str, Any], error: ValidationError) -> Iterator[str]:
    """Yield one message for each invalid field, in the order of the fields."""
    fields: Mapping[str, FieldInfo] = made.__pydantic_fields__
    hints = typing.get_type_hints(made, include_extras=True)
    places = ((each["loc"], each["type"]) for each in error.errors(include_url=False, include_context=False))
    wrong = {str(loc[0]): kind if len(loc) == 1 else "inside" for loc, kind in places if loc}
    for name in [*fields, *(name for name in wrong if name not in fields)]:
        key = f"{group}.{(name in fields and fields[name].title) or name}"
        if wrong.get(name) == "missing":
            yield f"{key} is required: set {key}=VALUE"
        elif name in wrong and name not in fields:
            yield f"{key} is not a key of {made.__name__}. Its keys: {choices(name, fields)}"
        elif name in wrong:
            yield problem_of(key, hints[name], values[name]) or f"{key} does not take {values[name]!r}"


@functools.cache
def _adapter_of(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about annotations in other packages
            return TypeAdapter(annotation, config=CHECKS)
    except Exception:  # pydantic cannot use the annotation, such as a name that exists only for type checkers
        return None


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return _adapter_of(annotation)
    except TypeError:  # the annotation is not hashable, such as Annotated with a list
        return _adapter_of.__wrapped__(annotation)


def _is_valid(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    except Exception:  # pydantic built the validator late, and cannot use the annotation
        return True
    return True


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _taken_apart(annotation: Any) -> tuple[Any, list[Any], str]:
    """Return the type without Annotated, its bounds, and the description of the field, or an empty text."""
    bounds: list[Any] = []
    said = ""
    while typing.get_origin(annotation) is Annotated:
        annotation, *metadata = typing.get_args(annotation)
        for each in metadata:
            bounds += each.metadata if isinstance(each, FieldInfo) else [each]
            if isinstance(each, FieldInfo) and each.description:
                said = each.description
    return annotation, bounds, said


def _limits(bounds: Sequence[Any]) -> dict[str, Any]:
    return {name: getattr(each, name) for each in bounds for name in ("ge", "gt", "le", "lt") if hasattr(each, name)}


def _item_type(annotation: Any) -> Any:
    """Return the type of a mapping's values, or None if the annotation is not a mapping."""
    bare, _, _ = _taken_apart(annotation)
    if typing.get_origin(bare) in (Union, UnionType):
        return next((found for found in map(_item_type, typing.get_args(bare)) if found), None)
    return typing.get_args(bare)[1] if _is_a(typing.get_origin(bare), Mapping) else None


def _range(bounds: Sequence[Any], value: Any) -> str:
    words = {"ge": "of at least {}", "gt": "above {}", "le": "of at most {}", "lt": "below {}"}
    limits = _limits(bounds)
    is_above = isinstance(value, int | float) and value > limits.get("le", math.inf)
    if limits.get("le") in (MAX_INTEGER, MAX_AMOUNT) and not is_above:
        del limits["le"]
    if limits.keys() == {"ge", "le"}:
        return f" from {limits['ge']} to {limits['le']}"
    return "".join(f" {'and ' * (number > 0)}{words[name].format(limits[name])}" for number, name in enumerate(limits))


def _proposal(key: str, annotation: Any, value: Any) -> str:
    """Return a sentence with a value that the key accepts, or an empty text if no value is obvious."""
    bare, bounds, _ = _taken_apart(annotation)
    arguments = typing.get_args(bare)
    if typing.get_origin(bare) in (Union, UnionType):
        found = next((found for found in (_proposal(key, each, value) for each in arguments) if found), "")
        return found or (f". Set {key}=null, or leave it out" if type(None) in arguments else "")
    if typing.get_origin(bare) is Literal:
        closest = choices(str(value), [str(each) for each in arguments]).split(", ")[0]
        return f". Set {key}={closest}"
    if bare is bool:
        return f". Set {key}=true or {key}=false"
    if bare is str:
        return f". Set {key}=TEXT"
    limits = _limits(bounds)
    if "le" in limits and isinstance(value, int | float) and value > limits["le"]:
        return f". Set {key}={limits['le']} or less"
    return f". Set {key}={limits['ge']} or more" if "ge" in limits else ""


def _is_a(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)
