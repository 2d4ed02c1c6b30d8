"""`task=options`: every group, option and field, with type, default, unit and effect; also as a page."""

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from mtx.errors import ConfigError, choices
from mtx.experiment.reference import Field, Option, all_options
from mtx.experiment.run import Run
from mtx.infra.dal.base import atomic_file

TOP = "config"  # what stands at the top goes by this name
MAX_KEY_WIDTH = 36  # characters, of 80


def options(run: Run, *, only: str | None = None, to: str | None = None) -> None:
    """Print all options with their purpose, or those of a group with all fields, or write the whole as a page.

    Args:
        run: where to print.
        only: a group (`sampler`), an option (`sampler/bucket`), or `config` for what stands at the top.
        to: a Markdown file that gets all of it.

    Raises ConfigError where there is no such group or option.
    """
    found = all_options()
    if to is not None:
        path = Path(to)
        with atomic_file(path) as file:
            file.write(page(found).encode())
        run.console.print(f"options: {path}", highlight=False, soft_wrap=True)
    elif only is None:
        run.console.print(overview(found))
        run.console.print("All fields of a group: mtx task=options only=GROUP. Change them with GROUP.KEY=VALUE")
    else:
        for option in _named(found, only):
            run.console.print(Text(_title(option), style="bold"))
            run.console.print(Text(option.purpose))
            if option.fields:
                run.console.print(details(option))


def overview(found: list[Option]) -> Table:
    """List the options of all groups, one a row."""
    table = Table(show_lines=False)
    table.add_column("group=option", no_wrap=True)
    table.add_column("what it is for")
    for option in found:
        table.add_row(_title(option), Text(_first_sentence(option.purpose)))
    return table


def details(option: Option) -> Table:
    """List the fields of an option, one a row."""
    table = Table(show_lines=True)
    table.add_column("field, default, type", overflow="fold", max_width=MAX_KEY_WIDTH)
    table.add_column("effect", ratio=1)
    for field in option.fields:
        told = (field.key, f"  = {field.default}", f"  {_kind(field)}" if _kind(field) else "")
        table.add_row(Text("\n".join(line for line in told if line)), Text(field.effect))
    return table


def page(found: list[Option]) -> str:
    """Write all options as Markdown."""
    return "\n".join(_page(found)) + "\n"


def _page(found: list[Option]) -> Iterator[str]:
    yield "# Every option"
    yield ""
    yield "Made from the files in `conf/` by `mtx task=options to=docs/options.md`; change them there."
    yield "`GROUP=OPTION` chooses an option, `KEY=VALUE` changes a field: `mtx sampler=bucket sampler.batch_size=64`."
    group = None
    for option in found:
        if option.group != group:
            group = option.group
            yield from ("", f"## {group or 'At the top'}")
        if option.group:
            yield from ("", f"### {_title(option)}")
        yield from ("", _escaped(option.purpose))
        if option.launches:
            yield from ("", *(f"    {line}" for line in option.launches))
        if option.fields:
            yield from ("", "| field | default | type | unit | effect |", "| --- | --- | --- | --- | --- |")
            for field in option.fields:
                cells = (f"`{field.key}`", f"`{field.default}`", field.type, field.unit, field.effect)
                yield "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _named(found: list[Option], only: str) -> list[Option]:
    wanted = [option for option in found if only in (option.group or TOP, f"{option.group}/{option.name}")]
    if not wanted:
        known = [option.group or TOP for option in found] + [f"{o.group}/{o.name}" for o in found if o.group]
        raise ConfigError(f"there is no group or option {only!r}. There are: {choices(only, known)}")
    return wanted


def _title(option: Option) -> str:
    return f"{option.group}={option.name}" if option.group else TOP


def _kind(field: Field) -> str:
    return f"{field.type}, {field.unit}" if field.type and field.unit else field.type or field.unit


def _first_sentence(text: str) -> str:
    head, dot, _ = text.partition(". ")
    return head.rstrip(".") if dot else text.rstrip(".")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
