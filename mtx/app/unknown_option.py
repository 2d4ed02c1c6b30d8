"""The message about an option that a config group does not have."""

from collections.abc import Iterable

from mtx.errors import choices

DEVICES = frozenset({"gpu", "cuda", "mps", "tpu", "auto"})


def unknown_option_message(group: str, name: str, options: Iterable[str]) -> str:
    """Return the message that a config group has no option of a name, with its options, those most similar first."""
    told = f"{group} has no option {name!r}. Its options: {choices(name, options)}"
    if group == "trainer" and name.lower() in DEVICES:
        return f"{told}. trainer=default takes a GPU where there is one"
    return told
