"""Reads the configs of OpusFilter (YAML) and of OpusCleaner (JSON, `*.filters.json`) as a list of rules.

The file is data only. It is read with PyYAML's safe loader or as JSON, and its size is bounded. A name in it only
selects one of the rules of mtx. Nothing is imported.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import yaml

from mtx.components.checked_options import problem_of
from mtx.data.filter import (
    opuscleaner_rules,
    opusfilter_comparisons,
    opusfilter_lengths_and_characters,
    opusfilter_patterns,
)
from mtx.data.filter.opus_rule import OpusRule
from mtx.data.filter.opus_steps import DUPLICATES, ConfigLoader, Step, shown_kind, steps_of_config
from mtx.data.filter.opusfilter_duplicates import RemovedDuplicates
from mtx.errors import ConfigError, choices
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.library_errors import library_reason

MAX_BYTES = 1 << 18  # PyYAML needs seconds for more
NAME = re.compile(r"[\w.-]{1,60}")

OPUSFILTER: dict[str, type[OpusRule]] = {
    rule.__name__: rule
    for rule in (
        opusfilter_lengths_and_characters.LengthFilter,
        opusfilter_lengths_and_characters.LengthRatioFilter,
        opusfilter_lengths_and_characters.LongWordFilter,
        opusfilter_lengths_and_characters.AverageWordLengthFilter,
        opusfilter_lengths_and_characters.AlphabetRatioFilter,
        opusfilter_lengths_and_characters.CharacterScoreFilter,
        opusfilter_lengths_and_characters.TerminalPunctuationFilter,
        opusfilter_patterns.HtmlTagFilter,
        opusfilter_patterns.RegExpFilter,
        opusfilter_patterns.RepetitionFilter,
        opusfilter_comparisons.NonZeroNumeralsFilter,
        opusfilter_comparisons.LongestCommonSubstringFilter,
        opusfilter_comparisons.SimilarityFilter,
    )
}
OPUSCLEANER: dict[str, type[OpusRule]] = {
    "max_length": opuscleaner_rules.MaxLength,
    "max_word_length": opuscleaner_rules.MaxWordLength,
    "src_trg_ratio": opuscleaner_rules.LengthShare,
    "remove_empty_lines": opuscleaner_rules.RemoveEmptyLines,
    "num_mismatch": opuscleaner_rules.NumMismatch,
}
# Defaults of OpusCleaner that differ from those of OpusFilter, under whose names it offers the same rules.
OPUSCLEANER_DEFAULTS: dict[str, dict[str, Any]] = {
    "AverageWordLengthFilter": {"min_length": 1, "max_length": 100},
    "CharacterScoreFilter": {"scripts": ["Latin", "Latin"], "thresholds": [1, 1]},
}
OPUSCLEANER_PREFIX = "opus."

# What mtx offers instead of rules and steps that it does not read.
LANGUAGE = "'score=[language]' with filter=selection judges the languages"
ALIGNMENT = "'score=[alignment]' with filter=selection judges alignments"
TEXT = "normalise=steps changes texts"
INSTEAD = {
    **dict.fromkeys(("LanguageIDFilter", "LangidFilter", "LinguaFilter", "Cld2Filter", "FastTextFilter"), LANGUAGE),
    **dict.fromkeys(("langid", "langid_heliport", "fasttext_filter"), LANGUAGE),
    "WordAlignFilter": ALIGNMENT,
    **dict.fromkeys(("preprocess", "WhitespaceNormalizer", "RegExpSub", "normalize_whitespace", "fix_quotes"), TEXT),
}


@dataclass(frozen=True)
class OpusConfig:
    """The rules of a config file, in order.

    Attributes:
        rules: the rules by name: that of the class in the tool, then a name that the config gives, or a number.
        left_out: the rules and steps of the file that mtx does not have.
    """

    rules: Mapping[str, OpusRule | RemovedDuplicates]
    left_out: Sequence[str] = field(default_factory=tuple)


def read_opus_config(path: str, steps: Sequence[int] | None = None) -> OpusConfig:
    """Read a config file. A name that ends in `.json` is a pipeline of OpusCleaner, any other a config of OpusFilter.

    Args:
        path: path of the file; `~` is the home folder.
        steps: numbers of the steps of OpusFilter to apply, from 1; None: all steps that drop pairs.

    Raises:
        ConfigError: the file cannot be read, is no such config, or a parameter is invalid.
    """
    is_json = path.endswith(".json")
    loaded = _parsed(path, _file_text(path), is_json)
    if is_json:
        if steps is not None:
            raise ConfigError("filter.steps chooses steps of OpusFilter; a pipeline of OpusCleaner has none")
        return _built(path, _opuscleaner_rules(path, loaded))
    return _built(path, steps_of_config(path, loaded, steps))


def _file_text(path: str) -> str:
    try:
        with expanded_path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"filter.path={path} has more than {MAX_BYTES:,} bytes, so it is no config of rules")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text, or its name has a NUL"
        raise ConfigError(
            f"filter.path={path} cannot be read: {reason}. Set filter.path to a config of OpusFilter, or to a "
            "*.filters.json of OpusCleaner"
        ) from None


def _parsed(path: str, text: str, is_json: bool) -> Mapping[str, Any]:
    try:
        loaded = json.loads(text) if is_json else ConfigLoader(text).get_single_data()  # a subclass of SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise ConfigError(
            f"{path} is not valid {'JSON' if is_json else 'YAML'}: {library_reason(error)}. Correct the file"
        ) from None
    key, tool = ("filters", "OpusCleaner") if is_json else ("steps", "OpusFilter")
    if not isinstance(loaded, Mapping) or not isinstance(loaded.get(key), list):
        raise ConfigError(f"{path} is no config of {tool}, which is a mapping with a list under the key {key}")
    return loaded


def _opuscleaner_rules(path: str, config: Mapping[str, Any]) -> Iterator[Step]:
    for number, each in enumerate(config["filters"], 1):
        place = f"filter {number}"
        if not isinstance(each, Mapping) or not isinstance(each.get("filter"), str):
            raise ConfigError(f"{place} of {path} must be an object with the key filter")
        kind = each["filter"].removeprefix(OPUSCLEANER_PREFIX)
        parameters = each.get("parameters") or {}
        if isinstance(parameters, Mapping) and kind != each["filter"]:
            parameters = OPUSCLEANER_DEFAULTS.get(kind, {}) | dict(parameters)
        yield Step(kind, parameters, place)


def _built(path: str, steps: Iterable[Step]) -> OpusConfig:
    """Make the rules of a config. Raises ConfigError, which lists all invalid parameters."""
    rules: dict[str, OpusRule | RemovedDuplicates] = {}
    left_out, problems = [], []
    known = {**OPUSFILTER, **OPUSCLEANER, DUPLICATES: RemovedDuplicates}
    for step in steps:
        if step.left_out or step.kind not in known:
            reason = INSTEAD.get(step.kind) or step.left_out or "mtx has no such rule"
            left_out.append(f"{step.place}: {shown_kind(step.kind)}: {reason}")
            continue
        if step.parameters is not None and not isinstance(step.parameters, Mapping):
            problems.append(f"{step.place}: the parameters of {step.kind} must be a mapping")
            continue
        parameters = {str(name): value for name, value in (step.parameters or {}).items()}
        own_name = str(parameters.pop("name", None) or "")
        try:
            if own_name and not NAME.fullmatch(own_name):
                raise ConfigError("the name must have at most 60 letters, digits, underscores, dots and hyphens")
            rule = _rule(step.kind, known[step.kind], parameters)
        except ConfigError as error:
            problems += [f"{step.place}: {problem}" for problem in str(error).splitlines()]
            continue
        rules[_unused_name(f"{step.kind}.{own_name}" if own_name else step.kind, rules)] = rule
    if problems:
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems))
    return OpusConfig(rules, left_out)


def _rule(kind: str, cls: Any, parameters: Mapping[str, Any]) -> Any:
    hints = {
        each.name: hint
        for each in dataclasses.fields(cls)
        for hint in [get_type_hints(cls, include_extras=True)[each.name]]
    }
    required = [each.name for each in dataclasses.fields(cls) if each.default is dataclasses.MISSING]
    problems = [f"{kind}.{name} is required" for name in required if name not in parameters]
    for name, value in parameters.items():
        if name not in hints:
            problems.append(f"{kind}.{name[:60]} is not a parameter of {kind}. Its parameters: {choices(name, hints)}")
        elif problem := problem_of(f"{kind}.{name}", hints[name], value):
            problems.append(problem if len(problem) < 300 else f"{problem[:299]}…")
        elif isinstance(value, list) and name not in ("weights", "compare") and len(value) != 2:
            problems.append(f"{kind}.{name} has {len(value)} values, but a pair has two sides")
    if problems:
        raise ConfigError("\n".join(problems))
    return cls(**parameters)


def _unused_name(name: str, used: Mapping[str, Any]) -> str:
    number = 1
    while (tried := name if number == 1 else f"{name}_{number}") in used:
        number += 1
    return tried
