"""`task=options`: explain groups, options and keys in the terminal, search them, or write all of them as Markdown."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from rich.table import Table
from rich.text import Text

from mtx.components.option_reference import Field, Option, all_options
from mtx.errors import ConfigError
from mtx.experiment.run_context import Run, needs
from mtx.infra.dal.atomic_file import atomic_file

TOP_LEVEL = "config"  # the name under which `only` finds keys outside of groups, such as `seed`
MAX_KEY_WIDTH = 36  # columns, of a terminal of 80
MAX_SIMILAR_NAMES = 5  # names that an error message lists


@needs()
def options(run: Run, *, only: str | None = None, to: str | None = None) -> None:
    """Print all options with their purpose, or explain those that `only` names, or write all of them as Markdown.

    Args:
        run: the run, whose console prints the tables.
        only: a group (`sampler`), an option (`sampler/bucket`), or a key (`max_tokens` or `sampler.max_tokens`).
            `config` stands for the keys outside of groups. Any other word is searched in all names and descriptions.
        to: the Markdown file that gets all options; nothing else is printed then.

    Raises:
        ConfigError: `only` is no group, option or key, and no description contains it.
    """
    found = all_options()
    if to is not None:
        path = Path(to)
        with atomic_file(path) as file:
            file.write(reference_page(found).encode())
        run.console.print(f"options: {path}", highlight=False, soft_wrap=True)
    elif only is None:
        run.console.print(option_table(found))
        run.console.print(
            "All keys of a group: mtx task=options only=GROUP. Search: only=KEY or only=WORD. "
            "Change a value with GROUP.KEY=VALUE",
            highlight=False,
        )
    elif chosen := [option for option in found if only in _option_names(option)]:
        for option in chosen:
            run.console.print(Text(_option_title(option), style="bold"))
            run.console.print(Text(option.purpose))
            if option.fields:
                run.console.print(field_table(option.fields))
    else:
        _print_search(run, found, only)


def option_table(found: Sequence[Option]) -> Table:
    """Return a table with one row per option: its name, and the first sentence of its purpose."""
    table = Table(show_lines=False)
    table.add_column("group=option", no_wrap=True)
    table.add_column("purpose")
    for option in found:
        table.add_row(_option_title(option), Text(_first_sentence(option.purpose)))
    return table


def field_table(fields: Sequence[Field], owners: Sequence[Sequence[str]] | None = None) -> Table:
    """Return a table of fields; neighbouring fields with the same effect share a row.

    Args:
        fields: the fields, in the order of the rows.
        owners: for each field, the options that have it, such as `sampler=bucket`; None: no options are shown.
    """
    table = Table(show_lines=True)
    table.add_column("key, default, type", overflow="fold", max_width=MAX_KEY_WIDTH)
    table.add_column("effect", ratio=1)
    numbered = list(zip(fields, owners or [()] * len(fields), strict=True))
    for (effect, options_), rows in groupby(numbered, key=lambda row: (row[0].effect, tuple(row[1]))):
        lines = [line for field, _ in rows for line in _field_lines(field)]
        where = f"\n(in {', '.join(options_)})" if options_ else ""
        table.add_row(Text("\n".join(lines)), Text(effect + where))
    return table


def reference_page(found: Sequence[Option]) -> str:
    """Return all options as a Markdown page, which is `docs/options.md`."""
    return "\n".join(_page_lines(found)) + "\n"


def _print_search(run: Run, found: Sequence[Option], word: str) -> None:
    """Print the keys that are called `word`; if there are none, all keys and options that contain the word.

    Raises ConfigError if nothing contains the word.
    """
    fields = _merged_fields(found, lambda field: f".{word}." in f".{field.key}.")
    matching: list[Option] = []
    if not fields:
        fields = _merged_fields(found, lambda field: _has_word(f"{field.key} {field.effect}", word))
        matching = [option for option in found if _has_word(f"{_option_title(option)} {option.purpose}", word)]
    if not fields and not matching:
        raise ConfigError(_not_found_message(found, word))
    if matching:
        run.console.print(option_table(matching))
    if fields:
        run.console.print(field_table(list(fields), list(fields.values())))


def _merged_fields(found: Sequence[Option], is_wanted: Callable[[Field], bool]) -> dict[Field, list[str]]:
    """Return each wanted field once, with the titles of all options in which it is the same."""
    owners: dict[Field, list[str]] = {}
    for option in found:
        for field in filter(is_wanted, option.fields):
            owners.setdefault(field, []).append(_option_title(option))
    return owners


def _has_word(text: str, word: str) -> bool:
    return word.casefold() in text.casefold()


def _not_found_message(found: Sequence[Option], word: str) -> str:
    keys = {name for option in found for field in option.fields for name in (field.key, field.key.split(".")[-1])}
    names = keys.union(*map(_option_names, found))
    similar = difflib.get_close_matches(word, sorted(names), n=MAX_SIMILAR_NAMES, cutoff=0.6)
    proposal = f"Set only={similar[0]}; similar names: {', '.join(similar)}" if similar else "Leave it out to list all"
    rule = "only is a group, an option, a key, or a word in a name or description"
    return f"{rule}, but nothing matches {word!r}. {proposal}"


def _page_lines(found: Sequence[Option]) -> Iterator[str]:
    yield "# Every option"
    yield ""
    yield "`mtx task=options to=docs/options.md` generates this page from the files in `conf/`. Edit those files."
    yield ""
    yield "`GROUP=OPTION` chooses an option, `KEY=VALUE` changes a value: `mtx sampler=bucket sampler.batch_size=64`."
    group = None
    for option in found:
        if option.group != group:
            group = option.group
            yield from ("", f"## {group or 'Keys outside of groups'}")
        if option.group:
            yield from ("", f"### {_option_title(option)}")
        yield from ("", _escaped_text(option.purpose))
        if option.launches:
            yield from ("", *(f"    {line}" for line in option.launches))
        if option.fields:
            yield from ("", "| key | default | type | unit | effect |", "| --- | --- | --- | --- | --- |")
            for field in option.fields:
                cells = (f"`{field.key}`", f"`{field.default}`", field.type, field.unit, field.effect)
                yield "| " + " | ".join(_escaped_text(cell) for cell in cells) + " |"


def _option_names(option: Option) -> set[str]:
    """Return the values of `only` that name an option: its group, and GROUP/OPTION."""
    return {option.group, f"{option.group}/{option.name}"} if option.group else {TOP_LEVEL}


def _option_title(option: Option) -> str:
    return f"{option.group}={option.name}" if option.group else TOP_LEVEL


def _field_lines(field: Field) -> list[str]:
    kind = ", ".join(part for part in (field.type, field.unit) if part)
    return [field.key, f"  = {field.default}", *([f"  {kind}"] if kind else [])]


def _first_sentence(text: str) -> str:
    head, dot, _ = text.partition(". ")
    return head.rstrip(".") if dot else text.rstrip(".")


def _escaped_text(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
