"""The terminal output of `task=options`, its search, and docs/options.md, which it generates."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from mtx.app.command import compose
from mtx.components.option_reference import Field, Option, _parsed_option, all_options
from mtx.errors import ConfigError
from mtx.experiment.options import field_table, options, reference_page
from mtx.experiment.run_context import Run

ROOT = Path(__file__).parents[2]
TEXT = """\
# Batches of boxes. And more of it,
# on two lines.
#   mtx box=big
#   mtx box=big box.max_tokens=3
_target_: mtx.batches.plan.token_budget.TokenBudgetPlanner

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
    assert _parsed_option("box", "big", TEXT) == Option(
        "box",
        "big",
        "Batches of boxes. And more of it, on two lines.",
        ("mtx box=big", "mtx box=big box.max_tokens=3"),
        (
            Field("box.max_tokens", "4096", "an integer of at least 1", "tokens", "How much goes in: more is more."),
            Field("box.budget", "side", "one of area, side", "", "Both of these."),
            Field("box.max_pairs", "null", "an integer of at least 1, or null", "", "Both of these."),
            Field("box.inner.seed", "0", "", "", "Deep | down."),
        ),
    )


def test_a_global_option_names_its_keys_as_the_command_line_does() -> None:
    (field,) = _parsed_option("task", "show", "# @package _global_\n# Shows.\n\n# Which.\nstage: null\n").fields
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
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == reference_page(all_options()), told


def test_tables_of_the_page_have_five_cells_a_row(tmp_path: Path) -> None:
    options(run(tmp_path), to=str(tmp_path / "page.md"))
    rows = [line for line in (tmp_path / "page.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) > 100
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {7}


def printed(tmp_path: Path, only: str | None, width: int = 80) -> str:
    at = run(tmp_path, width)
    options(at, only=only)
    return at.console.export_text()


@pytest.mark.parametrize("only", [None, "sampler", "sampler/bucket", "config", "trainer/default", "seed", "padding"])
def test_what_is_printed_fits_80_columns(only: str | None, tmp_path: Path) -> None:
    text = printed(tmp_path, only)
    assert max(map(len, text.splitlines())) <= 80
    assert "sampler.batch_size" in text or only not in ("sampler", "sampler/bucket")


@pytest.mark.parametrize("only", ["max_pairs", "sampler.max_pairs"])
def test_a_key_is_found_by_its_last_part_or_in_full_and_equal_fields_share_a_row(only: str, tmp_path: Path) -> None:
    text = printed(tmp_path, only, width=300)
    rows = [line for line in text.splitlines() if "sampler.max_pairs" in line]
    assert len(rows) == 1
    assert "Largest number of pairs in a batch." in rows[0]
    assert "(in sampler=sorted, sampler=static_shapes, sampler=token_budget)" in text
    assert "max_tokens  " not in text


def test_a_part_of_a_key_lists_all_keys_below_it(tmp_path: Path) -> None:
    text = printed(tmp_path, "budget", width=200)
    for key in ("budget.steps", "budget.seconds", "budget.real_tokens", "budget.source_bytes", "sampler.budget"):
        assert key in text
    assert "trainer.max_steps" not in text  # its description has the word


def test_a_word_is_found_in_descriptions_of_keys_and_options_in_any_case(tmp_path: Path) -> None:
    text = printed(tmp_path, "PINNED MEMORY", width=200)
    assert [line.split()[1] for line in text.splitlines() if "datamodule." in line] == ["datamodule.pin_memory"]
    assert "(in datamodule=default)" in text
    text = printed(tmp_path, "greedy", width=200)
    assert "task.beam" in text
    text = printed(tmp_path, "CUDA graphs", width=200)
    assert "sampler=static_shapes" in text


def test_neighbours_with_one_effect_share_a_row(tmp_path: Path) -> None:
    table = field_table(
        [
            Field("box.min", "1", "an integer", "characters", "Bounds."),
            Field("box.max", "2", "", "", "Bounds."),
            Field("box.by", "max", "", "", "Side."),
        ]
    )
    assert table.row_count == 2
    first, _ = table.columns[0].cells
    assert str(first) == "box.min\n  = 1\n  an integer, characters\nbox.max\n  = 2"


@pytest.mark.parametrize(
    ("only", "proposal"),
    [
        ("sampler/buckets", "Set only=sampler/bucket; similar names: sampler/bucket"),
        ("max_toknes", "Set only=max_tokens; similar names: max_tokens, eval_max_tokens, real_tokens"),
        ("qqq", "Leave it out to list all"),
    ],
)
def test_what_nothing_matches_is_answered_with_similar_names(only: str, proposal: str, tmp_path: Path) -> None:
    rule = f"only is a group, an option, a key, or a word in a name or description, but nothing matches {only!r}. "
    with pytest.raises(ConfigError, match="^" + re.escape(rule + proposal)) as caught:
        options(run(tmp_path), only=only)
    assert str(caught.value).count(",") <= 8
