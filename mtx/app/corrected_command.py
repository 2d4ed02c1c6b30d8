"""Corrected command lines for error messages: each can be pasted into a shell, and composes."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

SHELL_EXPANDED = re.compile(r'["$`\\!\n]')  # characters that a shell changes inside double quotes
KEY = re.compile(r"\+{0,2}[\w./@-]+")
INTERPOLATION = re.compile(r"(?<!\\)\$\{")


def shell_word(text: str) -> str:
    """Return an argument as it is typed into a shell: bare, in double quotes, or quoted by `shlex.quote`."""
    if shlex.quote(text) == text:
        return text
    return shlex.quote(text) if SHELL_EXPANDED.search(text) or "'" not in text else f'"{text}"'


def command(arguments: Iterable[str]) -> str:
    """Return the shell command that runs mtx with `arguments`."""
    return " ".join(["mtx", *map(shell_word, arguments)])


def replaced(arguments: Sequence[str], changes: Mapping[str, str], *, added: Sequence[str] = ()) -> str:
    """Return the shell command with some arguments replaced, and others added before the first of them."""
    found: list[str] = []
    for argument in arguments:
        if argument in changes and not set(added) <= set(found):
            found += added
        found.append(changes.get(argument, argument))
    return command(found)


def config_source_words(hydra_config: Any) -> tuple[str, ...]:
    """Return the words on the command line of a run that say where Hydra finds configs.

    Args:
        hydra_config: Hydra's part of the config.
    """
    folders = [
        source.path for source in hydra_config.runtime.config_sources if source.provider == "command-line"
    ]  # absolute paths
    search_paths = [text for text in hydra_config.overrides.hydra if text.lstrip("+").startswith("hydra.searchpath=")]
    return (*(f"--config-dir={folder}" for folder in folders), *search_paths)


def quoted_override(text: str) -> str | None:
    """Return the override KEY=VALUE with its value in quotes of Hydra's grammar; None if it has no valid key.

    The value becomes plain text if OmegaConf cannot parse an interpolation in it, as in `${`. It also becomes plain
    text if it is a list or a mapping. Hydra takes these without quotes once their brackets are closed.
    """
    key, equals, value = text.partition("=")
    if not equals or not KEY.fullmatch(key):
        return None
    is_text = value.startswith(("[", "{"))
    try:
        OmegaConf.create([value])
    except OmegaConfBaseException:
        is_text = True
    if is_text:
        value = INTERPOLATION.sub(r"\\${", value)
    # In Hydra's grammar, backslashes are doubled only before a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    quoted = f"{key}='{escaped}'"
    return quoted if is_override(quoted) else None


def is_override(text: str) -> bool:
    """Return whether Hydra can parse an argument as an override."""
    try:
        OverridesParser.create().parse_override(text)
    except HydraException:
        return False
    return True
