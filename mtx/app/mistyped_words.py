"""Explain arguments that are no overrides, or that have several values in a command that is no sweep."""

import difflib
import re
from collections.abc import Mapping, Sequence

from hydra.core.override_parser.types import Override

from mtx.app.corrected_command import command, is_override, quoted_override, replaced, shell_word

FORM = "an override is GROUP=OPTION or GROUP.KEY=VALUE"


def word_problems(arguments: Sequence[str], wrong: Sequence[str], options: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what is wrong with arguments that Hydra cannot parse, and the corrected command if all are understood.

    Args:
        arguments: all arguments of the command.
        wrong: the arguments that cannot be parsed.
        options: option names by group.
    """
    left, problems, are_known = list(arguments), [], True
    for text in wrong:
        if text not in left:  # a part of the override before it
            continue
        told = f"{text!r} is not an override: {FORM}"
        if (quoted := quoted_override(text)) is not None:
            left[left.index(text)] = quoted
            told += f", and a value with special characters is in quotes: {shell_word(quoted)}"
        elif (corrected := _as_override(text, left, options)) is not None:
            meant, left = corrected
            told += f". Did you mean {meant}?"
        else:
            are_known = False
            told += _similar_group(text, options)
        problems.append(told)
    if problems and are_known:
        problems[-1] += f"{'' if problems[-1].endswith('?') else '.'} Type: {command(left)}"
    return problems


def _similar_group(text: str, options: Mapping[str, Sequence[str]]) -> str:
    if close := difflib.get_close_matches(text.partition("=")[0].lstrip("-+"), options, n=1):
        return f". The group with the most similar name is {close[0]}: {', '.join(options[close[0]])}"
    return ". mtx --help lists the groups and their options"


def several_values_problem(override: Override, arguments: Sequence[str], *, is_group: bool) -> str:
    """Return how to type an override with several values: as a sweep, or as one value in quotes."""
    text = str(override.input_line)
    sweep = command(["-m", *arguments])
    told = f"{text!r} has several values, and only a sweep runs a job for each. Type: {sweep}"
    quoted = None if is_group else quoted_override(text)
    if quoted is None or "," not in text:
        return told
    return f"{told}\nIf it is one value with a comma, type: {replaced(arguments, {text: quoted})}"


def _as_override(
    text: str, arguments: Sequence[str], options: Mapping[str, Sequence[str]]
) -> tuple[str, list[str]] | None:
    """Return the override that a word, or a group and the word after it, may stand for, and the whole command."""
    place = list(arguments).index(text) if text in arguments else -1
    if place < 0:
        return None
    key, equals, value = (part.strip() for part in text.lstrip("-").partition("="))
    if equals and key in options and value and f"{key}={value}" != text and is_override(f"{key}={value}"):
        return f"{key}={value}", [*arguments[:place], f"{key}={value}", *arguments[place + 1 :]]
    if place and arguments[place - 1].endswith("=") and is_override(joined := arguments[place - 1] + text):
        return joined, [*arguments[: place - 1], joined, *arguments[place + 1 :]]
    word = text.strip("-").rstrip(":=").lower()
    after = arguments[place + 1 :]
    if "=" in (body := text.lstrip("-")) and body != text:
        return body, [*arguments[:place], body, *after]
    if word in options:
        rest = [part for part in after if part != "="]
        if rest and (value := rest[0].lstrip("=")) in options[word]:
            return f"{word}={value}", [*arguments[:place], f"{word}={value}", *rest[1:]]
        return None
    groups = [group for group, names in options.items() if word in names]
    groups = ["task"] if "task" in groups else groups
    if len(groups) != 1:
        close = difflib.get_close_matches(word, options.get("task", ()), n=1, cutoff=0.6)
        if groups or not close or not re.fullmatch(r"\w+", word):
            return None
        return f"task={close[0]}", [*arguments[:place], f"task={close[0]}", *after]
    return f"{groups[0]}={word}", [*arguments[:place], f"{groups[0]}={word}", *after]
