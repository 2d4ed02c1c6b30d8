"""Each command that a message proposes is parsed by a shell as it is printed, and its overrides are valid."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mtx.app.corrected_command import is_override
from mtx.components.option_reference import all_options

PACKAGE = Path(__file__).parents[2] / "mtx"
CONFIGS = Path(__file__).parents[2] / "conf"
COMMAND = re.compile(r"\bmtx(?: -m)?(?: (?:'[^']+'|\"[^\"]+\"|[\w./@+~-]+=[^\s`)]+))+")
UNQUOTED = re.compile(r"""(?<!['"`\w.{?+])[+~]?[a-z_]+(?:\.[\w]+)*=[\[{*][^ ]*""")
EXPANDED = set("[]{}*?$`!")  # what a shell expands outside of quotes


def messages(mark: str) -> Iterator[tuple[str, str]]:
    """Yield the texts that are no docstrings of files that contain `mark`, with X for values, and where they are."""
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if mark not in source:  # to parse all files takes seconds
            continue
        nodes = list(ast.walk(ast.parse(source)))
        inner = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        spoken = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if not isinstance(node, ast.JoinedStr | ast.Constant) or id(node) in inner or id(node) in spoken:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
                yield f"{path.name}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node.value, str):
                yield f"{path.name}:{node.lineno}", node.value


COMMANDS = sorted(
    {(found[0].rstrip(".,:;`"), where) for where, text in messages("mtx ") for found in COMMAND.finditer(text)}
)
COMMANDS += sorted(
    (found[0].strip(), path.name)
    for path in CONFIGS.rglob("*.yaml")
    for found in re.finditer(r"(?<=#   )mtx [^#\n]+?(?=  |$)", path.read_text(encoding="utf-8"), re.MULTILINE)
)


@pytest.mark.parametrize(("command", "where"), COMMANDS, ids=[f"{where} {command}" for command, where in COMMANDS])
def test_a_proposed_command_is_parsed_by_a_shell_and_by_hydra(command: str, where: str) -> None:
    words = shlex.split(command)
    unquoted = shlex.shlex(command, posix=False, punctuation_chars="")
    unquoted.whitespace_split = True
    bare = [word for word in unquoted if not word.startswith(("'", '"'))]
    assert not [word for word in bare if EXPANDED & set(re.sub(r"'[^']*'|\"[^\"]*\"", "", word))], where
    assert all(is_override(word) for word in words[1:] if not word.startswith("-")), where


@pytest.mark.parametrize(("command", "where"), COMMANDS, ids=[f"{where} {command}" for command, where in COMMANDS])
def test_each_key_and_option_of_a_proposed_command_exists(command: str, where: str) -> None:
    keys, options = _keys_and_options()
    for word in (word for word in shlex.split(command)[1:] if "=" in word):
        key, _, value = word.lstrip("+~").partition("=")
        parents = [key[:place] for place, letter in enumerate(key) if letter in ".@"]
        is_new = word.startswith("+") and parents and parents[0] in options
        is_placeholder = not key.islower() or parents[0:1] == ["hydra"]
        assert is_placeholder or is_new or {key, *parents[1:]} & keys or key.partition("@")[0] in options, where
        if key in options and re.fullmatch("[a-z_,]+", value):
            assert set(value.split(",")) <= options[key], where


@cache
def _keys_and_options() -> tuple[set[str], dict[str, set[str]]]:
    """Return the keys of all options, and the names of the options of each group."""
    keys, options = {"model._target_"}, dict[str, set[str]]()
    for option in all_options():
        keys.update(field.key for field in option.fields)
        options.setdefault(option.group, set()).add(option.name)
    return keys, options


def test_a_proposed_override_with_brackets_is_in_quotes() -> None:
    found = {where: text for where, text in messages("=") if UNQUOTED.search(text)}
    assert found == {}
