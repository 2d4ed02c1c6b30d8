"""The steps of an OpusFilter config: which of them drop pairs, in which order, with their constants inserted."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mtx.errors import ConfigError

# Steps that say where the text comes from or train models, and drop no pair by themselves.
HARMLESS = frozenset({"opus_read", "download", "write", "unzip", "concatenate", "score"})
TRAINING = "train_"
MAX_NODES = 10_000  # values of a config, after YAML's aliases are inserted
FILTER, DUPLICATES = "filter", "remove_duplicates"
FOREIGN_PARAMETERS = {  # of a step, with the value at which they have no effect
    FILTER: {"filterfalse": False, "limit": None},
    DUPLICATES: {"overlap": None, "tokenizers": None},
}


@dataclass(frozen=True)
class Step:
    """One rule of a config, or something that mtx does not have.

    Attributes:
        kind: the name of the rule or step in the tool.
        parameters: its parameters.
        place: where it stands, for messages.
        left_out: why mtx does not have it; empty: mtx may have it.
    """

    kind: str
    parameters: Any
    place: str
    left_out: str = ""


@dataclass(frozen=True)
class Variable:
    """A value `!var NAME`, or a text `!varstr "{NAME}.gz"`, in which constants are inserted."""

    text: str
    is_template: bool


class ConfigLoader(yaml.SafeLoader):
    """The safe loader with OpusFilter's two tags for constants, and with a bound for merged mappings."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Insert the merged mappings `<<`; raise ConstructorError beyond a bound, which nested aliases can exceed."""
        super().flatten_mapping(node)
        if len(node.value) > MAX_NODES:
            raise yaml.constructor.ConstructorError(None, None, f"more than {MAX_NODES} keys", node.start_mark)


def _variable(loader: yaml.SafeLoader, node: yaml.Node) -> Variable:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(None, None, f"{node.tag} takes one text", node.start_mark)
    return Variable(str(node.value), node.tag == "!varstr")


ConfigLoader.add_constructor("!var", _variable)
ConfigLoader.add_constructor("!varstr", _variable)


def steps_of_config(path: str, config: Mapping[str, Any], chosen: Sequence[int] | None) -> list[Step]:
    """Return the rules of an OpusFilter config in order.

    Args:
        path: path of the file, for messages.
        config: the content of the file.
        chosen: numbers of the steps to apply, from 1; None: all steps that drop pairs.

    Raises:
        ConfigError: a step is malformed or does not exist, or the steps do not form one chain.
    """
    common = config.get("common")
    constants = common.get("constants") if isinstance(common, Mapping) else None
    steps = [_checked_step(path, number, step, constants) for number, step in enumerate(config["steps"], 1)]
    if chosen is not None and (missing := [number for number in chosen if not 1 <= number <= len(steps)]):
        raise ConfigError(f"filter.steps has {missing[0]}, but {path} has the steps 1 to {len(steps)}")
    numbers = range(1, len(steps) + 1) if chosen is None else sorted(set(chosen))
    dropping = [number for number in numbers if steps[number - 1]["type"] in (FILTER, DUPLICATES)]
    _check_chain(path, steps, dropping)
    return [rule for number in numbers for rule in _rules_of_step(number, steps[number - 1])]


def _checked_step(path: str, number: int, step: Any, constants: Any) -> dict[str, Any]:
    place = f"step {number} of {path}"
    if not isinstance(step, Mapping) or not isinstance(step.get("type"), str):
        raise ConfigError(f"{place} must be a mapping with the key type, such as type: filter")
    values = {**(constants if isinstance(constants, Mapping) else {})}
    values |= step["constants"] if isinstance(step.get("constants"), Mapping) else {}
    parameters = _Inserted(place, values).of(step.get("parameters") or {})
    if not isinstance(parameters, dict):
        raise ConfigError(f"{place}: parameters must be a mapping, but is {_short(parameters)}")
    return {"type": step["type"], "parameters": parameters, "is_repeated": bool(step.get("variables"))}


class _Inserted:
    """Inserts constants into the parameters of a step, and counts the values, which aliases can multiply."""

    def __init__(self, place: str, constants: Mapping[str, Any]) -> None:
        self._place, self._constants, self._num_nodes = place, constants, 0

    def of(self, value: Any) -> Any:
        """Return a copy of a value with the constants inserted."""
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES:
            raise ConfigError(f"{self._place} has more than {MAX_NODES} values")
        if isinstance(value, Mapping):
            return {str(key): self.of(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.of(item) for item in value]
        if not isinstance(value, Variable):
            return value
        if value.is_template:
            return re.sub(r"\{(\w+)\}", lambda found: str(self._constant(found[1])), value.text)
        return self._constant(value.text)

    def _constant(self, name: str) -> Any:
        if name not in self._constants:
            raise ConfigError(f"{self._place} uses the constant {name[:60]!r}, which the config does not define")
        return self._constants[name]


def _rules_of_step(number: int, step: dict[str, Any]) -> Iterator[Step]:
    kind, parameters = step["type"], step["parameters"]
    place = f"step {number} ({shown_kind(kind)})"
    if kind in HARMLESS or kind.startswith(TRAINING):
        return
    if kind not in (FILTER, DUPLICATES):
        yield Step(kind, None, place, "mtx has no such step")
        return
    if step["is_repeated"]:
        yield Step(kind, None, place, "a step with variables stands for several steps; write them out")
        return
    foreign = FOREIGN_PARAMETERS[kind]
    if found := [name for name, value in foreign.items() if parameters.get(name, value) not in (value, False)]:
        yield Step(kind, None, place, f"mtx does not have its parameter {found[0]}")
        return
    if kind == DUPLICATES:
        known = {key: value for key, value in parameters.items() if key not in ("inputs", "outputs", "hash", *foreign)}
        yield Step(kind, known, place)
        return
    filters = parameters.get("filters")
    if not isinstance(filters, list) or not all(isinstance(each, dict) and each for each in filters):
        raise ConfigError(
            f"{place}: filters must be a list of mappings, such as [{{LengthFilter: {{max_length: 80}}}}]"
        )
    for each in filters:
        own = [name for name in each if name != "module"]
        name = own[0] if len(own) == 1 else "module"
        if "module" in each:
            yield Step(name, None, place, "mtx imports no module that a config names; write a rule with @mtx.rule")
        elif len(own) != 1:
            raise ConfigError(f"{place}: each filter must be a mapping with one key, but one has {len(own)}")
        else:
            yield Step(name, each[name], place)


def _check_chain(path: str, steps: Sequence[dict[str, Any]], dropping: Sequence[int]) -> None:
    """Raise ConfigError unless each step reads what the step before it in `dropping` has left."""
    for place, number in enumerate(dropping):
        files = _files(steps[number - 1], "inputs")
        origin = _origin(steps, number, files, dropping)
        wanted = dropping[place - 1] if place else None
        if files and origin != wanted:
            read = "text that no step has filtered" if origin is None else f"the output of step {origin}"
            raise ConfigError(
                f"{path}: step {number} reads {read}, not the output of step {wanted}, so the steps form no chain. "
                f"Choose steps that do, such as filter.steps=[{number}]"
            )


def _origin(steps: Sequence[dict[str, Any]], number: int, files: list[str], dropping: Sequence[int]) -> int | None:
    """Return the step of `dropping` before step `number` from which the files come, also through other steps."""
    for earlier in range(number - 1, 0, -1):
        if set(files) & set(_files(steps[earlier - 1], "outputs")):
            if earlier in dropping:
                return earlier
            return _origin(steps, earlier, _files(steps[earlier - 1], "inputs"), dropping)
    return None


def _files(step: dict[str, Any], key: str) -> list[str]:
    parameters = step["parameters"]
    found = parameters.get(key, [])
    single = parameters.get(key.removesuffix("s"))
    return [str(name) for name in (*(found if isinstance(found, list) else [found]), single) if name]


def shown_kind(kind: str) -> str:
    """Return the name of a rule or step for messages; an unusual name is shortened, in quotes, and with escapes."""
    return kind if re.fullmatch(r"[\w.-]{1,60}", kind) else ascii(kind[:60])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
