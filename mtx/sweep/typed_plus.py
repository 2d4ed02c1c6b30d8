"""The + of a key that was typed with it, which settings proposed in error messages have, too."""

import re
from collections.abc import Iterable

KEY = r"[\w./@-]+"
TYPED = re.compile(rf"(\+{{1,2}})({KEY})=")
KEY_OF_SETTING = re.compile(rf'(?<=[ "]){KEY}(?==)')
SETTING = rf'(?:"\+*{KEY}=[^"]*"|\+*{KEY}=\S*)'
PROPOSAL = re.compile(rf"\b(?:[Ss]et|or|[Tt]ype) (?:{SETTING}(?<![.,;:]) )*{SETTING}")


def with_typed_plus(message: str, arguments: Iterable[str]) -> str:
    """Return a message whose proposals have the + that was typed before a key.

    A proposal is one KEY=VALUE or several, after `Set`, `or` or `type`. Hydra takes a key without + only if the config
    has it already, so a key is proposed as it was typed.
    """
    typed = {found[2]: found[1] for argument in arguments if (found := TYPED.match(argument))}

    def corrected(proposal: re.Match[str]) -> str:
        return KEY_OF_SETTING.sub(lambda found: typed.get(found[0], "") + found[0], proposal[0])

    return PROPOSAL.sub(corrected, message)
