"""The + of a key that was typed with it, which settings proposed in error messages have, too."""

import re
from collections.abc import Iterable
from functools import partial

KEY = r"[\w./@-]+"
TYPED = re.compile(rf"(\+{{1,2}})({KEY})=")
SETTING = rf'(?:"\+*{KEY}=[^"]*"|\+*{KEY}=\S*)'
PROPOSAL = re.compile(rf"\b(?:[Ss]et|or|[Tt]ype) (?:{SETTING}(?<![.,;:]) )*{SETTING}")


def with_typed_plus(message: str, arguments: Iterable[str]) -> str:
    """Return a message whose proposals have the + that was typed before a key.

    A proposal is one KEY=VALUE or several, after `Set`, `or` or `type`. Hydra takes a key without + only if the config
    has it already, so a key is proposed as it was typed.
    """
    for plus, key in [found.groups() for argument in arguments if (found := TYPED.match(argument))]:
        of_key = re.compile(rf'(?<=[ "])(?={re.escape(key)}=)')
        message = PROPOSAL.sub(partial(_with_plus, of_key, plus), message)
    return message


def _with_plus(of_key: re.Pattern[str], plus: str, proposal: re.Match[str]) -> str:
    return of_key.sub(plus, proposal[0])
