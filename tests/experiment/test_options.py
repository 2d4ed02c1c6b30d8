"""What `task=options` tells, and the page that is made of it."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from mtx.app import compose
from mtx.errors import ConfigError
from mtx.experiment.options import options, page
from mtx.experiment.reference import Field, Option, _option, all_options
from mtx.experiment.run import Run

ROOT = Path(__file__).parents[2]
TEXT = """\
# Batches of boxes. And more of it,
# on two lines.
#   mtx box=big
#   mtx box=big box.max_tokens=3
_target_: mtx.infra.dataset.plan.token_budget.TokenBudgetPlanner

# How much goes in:
# more is more.
max_tokens: 4096

# Both of these.
budget: side
max_pairs: null
inner:
  # Deep | down.
  seed: 0
"""


def run(tmp_path: Path, width: int = 80) -> Run:
    return Run(compose(["task=options"]), output_dir=tmp_path, console=Console(width=width, record=True))


def test_a_file_is_read_into_purpose_commands_and_fields() -> None:
    assert _option("box", "big", TEXT) == Option(
        "box",
        "big",
        "Batches of boxes. And more of it, on two lines.",
        ("mtx box=big", "mtx box=big box.max_tokens=3"),
        (
            Field("box.max_tokens", "4096", "an integer", "tokens", "How much goes in: more is more."),
            Field("box.budget", "side", "one of side, area", "", "Both of these."),
            Field("box.max_pairs", "null", "an integer or null", "", "Both of these."),
            Field("box.inner.seed", "0", "", "", "Deep | down."),
        ),
    )


def test_a_global_option_names_its_keys_as_the_command_line_does() -> None:
    (field,) = _option("task", "show", "# @package _global_\n# Shows.\n\n# Which.\nstage: null\n").fields
    assert field.key == "stage"


def test_every_option_that_is_shipped_is_there_with_its_purpose() -> None:
    found = {(option.group, option.name) for option in all_options() if option.purpose}
    files = {(path.parent.name, path.stem) for path in (ROOT / "conf").glob("*/*.yaml")}
    assert found == files | {("", "config")}


def test_every_field_of_a_component_of_ours_has_a_type_and_an_effect() -> None:
    bare = [
        field.key
        for option in all_options()
        if option.group in ("downloader", "filter", "sampler", "datamodule", "tokenizer")
        for field in option.fields
        if not (field.type and field.effect)
    ]
    assert bare == []


def test_the_page_in_the_docs_is_the_one_that_is_made_now() -> None:
    told = "run: mtx task=options to=docs/options.md"
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == page(all_options()), told


def test_tables_of_the_page_have_five_cells_a_row(tmp_path: Path) -> None:
    options(run(tmp_path), to=str(tmp_path / "page.md"))
    rows = [line for line in (tmp_path / "page.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) > 100
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {7}


@pytest.mark.parametrize("only", [None, "sampler", "sampler/bucket", "config", "trainer/default"])
def test_what_is_printed_fits_80_columns(only: str | None, tmp_path: Path) -> None:
    at = run(tmp_path)
    options(at, only=only)
    printed = at.console.export_text()
    assert max(map(len, printed.splitlines())) <= 80
    assert "sampler.batch_size" in printed or only not in ("sampler", "sampler/bucket")


def test_a_wrong_name_is_answered_with_the_right_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"there is no group or option 'sampler/buckets'\. There are: sampler/bucket,"
    ):
        options(run(tmp_path), only="sampler/buckets")
