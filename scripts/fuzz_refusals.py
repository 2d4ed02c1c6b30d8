"""Judge the refusal of a setting: it names the key, quotes no other library, and its commands are valid."""

import re
import shlex
from collections.abc import Callable, Sequence

FOREIGN = re.compile(  # sentences of Hydra and OmegaConf, which no refusal contains
    r"(Could not |Invalid type assigned|Cannot (convert|assign|merge)|Value '.*' (is not a valid|of type)|"
    r"Key '.*' is not in struct|Unsupported interpolation|Interpolation key|no viable alternative|Error merging)"
)
LEAST_CHARS = 12  # of a sentence of another library
COMMAND = re.compile(r": (mtx .+)$", re.MULTILINE)


def quoted_sentence(error: BaseException | None) -> str | None:
    """Return what is wrong if the message of an error has a sentence of the library whose error it explains."""
    from mtx.errors import MtxError
    from mtx.library_errors import library_reason

    message, causes = str(error), [error]
    while (error := causes[-1]) is not None:
        cause = error.__cause__ or error.__context__
        if any(cause is known for known in causes):
            return f"is among its own causes, {type(cause).__name__}: {message[:300]}"
        causes.append(cause)
        lines = str(cause).splitlines()
        if cause is None or isinstance(cause, MtxError) or not lines or len(lines[0]) < LEAST_CHARS:
            continue
        if lines[0] in message and lines[0] not in library_reason(cause):
            return f"quotes {type(cause).__name__}: {message[:300]}"
    return None


def refusal_problem(
    message: str, shown: Sequence[str], *, composition_problem: Callable[[list[str]], str | None] = lambda words: None
) -> str | None:
    """Return why the message of a refusal is not good enough, or None.

    Args:
        message: the message.
        shown: names, one of which the message has to contain.
        composition_problem: returns why the overrides of a proposed command compose no config, or None.
    """
    if not any(name in message for name in shown):
        return f"names no key: {message[:300]}"
    if FOREIGN.search(message):
        return f"is a sentence of another library: {message[:300]}"
    if len(message.splitlines()) > 6:
        return f"has {len(message.splitlines())} lines: {message[:300]}"
    for command in COMMAND.findall(message):
        try:
            words = shlex.split(command)
        except ValueError as error:
            return f"proposes a command that no shell parses ({error}): {command}"
        from mtx.app.corrected_command import is_override

        if wrong := [word for word in words[1:] if not word.startswith("-") and not is_override(word)]:
            return f"proposes a command whose override is invalid ({wrong[0]}): {command}"
        if problem := composition_problem(words[1:]):
            return f"proposes a command that does not compose ({problem[:100]}): {command}"
    return None


def names_in(typed: str) -> list[str]:
    """Return what else names the override: as it was typed, or its key without `+` and `~`."""
    from mtx.redaction_and_escaping import visible_text

    key = typed.lstrip("+~- ").partition("=")[0]
    whole = [] if key == "hydra" else [key]
    return [visible_text(typed), repr(typed), *(repr(part) for part in key.split(".")), *whole]
