"""The documentation names what is there: keys in the option reference, and rows of tables as scripts print them."""

import re
import shlex

import pytest
from markdown_pages import ROOT

from mtx.components.option_reference import all_options

# First cells of tables that no script prints: headings, and figures that were measured by hand.
NOT_PRINTED = {
    "cost of the compiled kernels",
    "first use on a machine: compilation",
    "each later process, at `setup",
    "the same, if numba read its own cache",
    "kills / reported as stored / faults",
    "kills / reported as stored / faults, `--seed 1",
    "8 processes add, read, remove for a minute, `--seed 1",
    "one bit flipped: changed bytes / detected / in unused bytes, `--seed 1",
    "tokenizers: manifest and files",  # two rows of the script
}


def test_commands_of_the_option_reference_name_what_is_there() -> None:
    """Each group, option and key exists. To compose the config of each command would take half a minute."""
    known = set()
    for option in all_options():
        keys = {field.key.strip('"') for field in option.fields}
        known |= {f"{option.group}={option.name}", *keys, *(key.removeprefix("task.") for key in keys)}
    lines = re.findall(r"^    (mtx\b.*?)(?:  .*)?$", (ROOT / "docs/options.md").read_text(), re.MULTILINE)
    assert len(lines) > 100
    unknown = []
    for line in lines:
        for argument in shlex.split(line)[1:]:
            key, _, value = argument.partition("=")
            if key in known or key.startswith(("-", "+", "~", "hydra.")) or key.endswith("._target_"):
                continue
            if not {f"{key}={one}" for one in value.strip("[]").split(",")} <= known:
                unknown.append(f"{line}: there is no {argument}")
    assert unknown == []


@pytest.mark.parametrize("page", ["docs/performance.md", "docs/reliability.md"])
def test_rows_of_measured_tables_are_called_as_the_scripts_print_them(page: str) -> None:
    """The parts of a name between numbers are in the text of a script."""
    scripts = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.py"))
    text = (ROOT / page).read_text()
    measured = text.partition("## Measurements")[2] or text
    lines = [line for line in measured.splitlines() if re.match(r"\|(?! ---)", line)]
    names = {line.split("|")[1].strip(" *`") for line in lines}
    assert len(names) > 30
    parts = {name: [part.strip() for part in re.split(r"[\d,.]+|`.*`", name)] for name in names - NOT_PRINTED}
    assert {name for name, own in parts.items() if any(part not in scripts for part in own)} == set()
