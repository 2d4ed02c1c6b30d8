"""Messages for errors of OmegaConf: the key, the rule, the value found, and what to type instead."""

import os
import re
from collections.abc import Mapping
from typing import Any

from omegaconf import BooleanNode, Container, DictConfig, EnumNode, FloatNode, IntegerNode, ListConfig, StringNode
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    GrammarParseError,
    InterpolationKeyError,
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from mtx.app.corrected_command import shell_word
from mtx.components.groups import GROUPS
from mtx.errors import MtxError, choices
from mtx.library_errors import is_raised_by_user, library_reason

# Rules for the values of typed keys, such as Hydra's, and a valid value of each.
RULES: Mapping[type, tuple[str, str]] = {
    BooleanNode: ("true or false", "true"),
    IntegerNode: ("an integer", "1"),
    FloatNode: ("a number", "1.0"),
    StringNode: ("a text", "TEXT"),
    ListConfig: ("a list", "[ITEM,ITEM]"),
}
MAPPING_RULE = ("a mapping", "{KEY: VALUE}")
VARIABLE = re.compile(r"\boc\.env:\s*(\w+)")
# What is wrong with an interpolation, the most special errors first.
INTERPOLATIONS: Mapping[type, str] = {
    UnsupportedInterpolationType: "calls a resolver that does not exist",
    InterpolationKeyError: "refers to a key that the config does not have",
    InterpolationToMissingValueError: "refers to a key that has no value",
    GrammarParseError: "is not an interpolation, which is ${KEY} or ${RESOLVER:ARGUMENT}",
}


def omegaconf_message(error: OmegaConfBaseException) -> str:
    """Return the message for an error of OmegaConf, which has the key at which it occurred, or no key."""
    key = error.full_key or ""
    if isinstance(error, InterpolationResolutionError | GrammarParseError):
        return _interpolation_message(error, key)
    if isinstance(error, MissingMandatoryValue):
        return f"{key or 'a key'} has no value. Set {key or 'KEY'}=VALUE"
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and key:
        inside, _, name = key.rpartition(".")
        return f"{inside or 'the config'} has no key {name!r}. A new key is added with +, as in +{key}=VALUE"
    if not key:
        return f"the config cannot be composed: {library_reason(error)}"
    return _value_message(error, key)


def _interpolation_message(error: OmegaConfBaseException, key: str) -> str:
    """Return the message for a value with `${`, such as `${nope}`."""
    if told := _group_problem(error.parent_node):
        return told
    cause: BaseException | None = error
    while isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, MtxError):  # of one of mtx's resolvers
        return str(cause)
    found = next((told for kind, told in INTERPOLATIONS.items() if isinstance(error, kind)), None)
    typed = _typed_value(error)
    if found is None and isinstance(cause, KeyError) and (variables := VARIABLE.findall(typed or "")):
        variable = next((name for name in variables if name not in os.environ), variables[0])
        found = f"needs the environment variable {variable}, which is not set"
    if found is None:
        is_refused = cause is None or (isinstance(cause, TypeError | ValueError) and not is_raised_by_user(cause))
        reason = "its resolver refuses the arguments" if is_refused else library_reason(cause or error)
        found = f"cannot be resolved: {reason}"
    name = f"{key} is {typed!r}, which {found}" if typed is not None else f"{key or 'an interpolation'} {found}"
    return f"{name}. Set {key}=VALUE" if key else name


def group_value_message(group: str, value: Any) -> str:
    """Return the message that a file gives a group a value, as in `task: fit`, instead of choosing its option."""
    option = value if isinstance(value, str) else "NAME"
    return (
        f"{group} is a group, whose value is a mapping, but a config file sets it to {value!r}. Choose an option in "
        f"the defaults list of that file: - override /{group}: {option}"
    )


def _group_problem(node: Any) -> str | None:
    """Return a message for a group of a whole config that is no mapping, so that other keys cannot refer to it."""
    root = node._get_root() if node is not None else None
    if not isinstance(root, DictConfig):
        return None
    for group in (name for name in GROUPS if name in root and not GROUPS[name].is_multiple):
        value: Any = root._get_node(group)
        if not isinstance(value, Container):
            return group_value_message(group, value._value())
    return None


def _typed_value(error: OmegaConfBaseException) -> str | None:
    """Return the interpolation as it is in the config; None if it is not known."""
    if isinstance(error.value, str):
        return error.value
    node = error.child_node
    value = node._value() if node is not None else None
    return value if isinstance(value, str) else None


def _value_message(error: OmegaConfBaseException, key: str) -> str:
    """Return the message for a value that is not of the type of its key, as in `hydra.job.num=abc`."""
    node, value = error.child_node, error.value
    if isinstance(node, DictConfig) and (names := [str(name) for name in node]):
        return f"{key} has keys of its own, and takes no single value. Set one of them, as in {key}.{names[0]}=VALUE"
    if isinstance(node, EnumNode):
        names = [member.name for member in node.enum_type]
        return f"{key} is one of {choices(str(value), names)}, but is {value!r}. Set {key}={names[0]}"
    rule, example = next((each for kind, each in RULES.items() if isinstance(node, kind)), MAPPING_RULE)
    if node is None and isinstance(value, dict | list):
        rule, example = "a single value", "VALUE"
    elif node is not None and node._is_optional() and isinstance(node, tuple(RULES)):
        rule += ", or null"
    found = "its value has another form" if value is None and node is None else f"is {_plain(value)!r}"
    return f"{key} is {rule}, but {found}. Set {shell_word(f'{key}={example}')}"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) else value
