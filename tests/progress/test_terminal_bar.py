"""What fits into a bar: metrics give way, the rest stays."""

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len

from mtx.progress.literal_console import PlainConsole
from mtx.progress.terminal_bar import Bar, BarState, bar_layout

TRAINING = BarState(
    label="training",
    done=1_460_000,
    total=4_000_000,
    unit="tokens",
    left_s=34,
    metrics=["loss 5.671", "52.2 k tokens/s", "2.571 bits/byte", "padding 2.1%", "wait 0.3%"],
)


@pytest.mark.parametrize(
    ("width", "cells", "num_metrics"), [(45, 5, 0), (60, 10, 0), (62, 10, 1), (80, 10, 2), (100, 20, 2), (140, 20, 5)]
)
def test_metrics_are_left_out_from_the_right(width: int, cells: int, num_metrics: int) -> None:
    label, found, figures = bar_layout(TRAINING, width)
    assert (label, found) == ("training", cells)
    parts = ["", "1.46/4.00 M tokens", "0:34 left", *TRAINING.metrics[:num_metrics]]
    assert figures == "  ".join(parts)
    assert cell_len(label) + 1 + cells + cell_len(figures) <= width


@pytest.mark.parametrize("label", ["reading a-corpus-with-quite-a-long-name-of-its-own train", "本" * 40])
def test_a_long_label_is_cut_and_bar_amount_and_time_stay(label: str) -> None:
    told, cells, figures = bar_layout(replace(TRAINING, label=label), 80)
    assert label.startswith(told.rstrip())
    assert cell_len(told) > 35
    assert (cells, figures) == (4, "  1.46/4.00 M tokens  0:34 left")
    assert cell_len(told) + 1 + cells + cell_len(figures) == 80


def test_without_a_total_there_is_the_time_that_was_taken() -> None:
    assert bar_layout(BarState(label="reading", done=50, unit="pairs", elapsed_s=61), 80)[2] == "  50 pairs  1:01"
    assert bar_layout(BarState(label="learning", elapsed_s=5), 80)[2] == "  0:05"
    assert bar_layout(BarState(label="reading", total=9, unit="pairs"), 80)[2] == "  0/9 pairs  -:-- left"


def test_a_bar_leaves_nothing_behind() -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=True, width=80, color_system=None)
    bar = Bar(console)
    bar.draw(TRAINING)
    assert "training" in out.getvalue()
    bar.close()
    end = out.getvalue().rpartition("left")[2]
    assert "\x1b[2K" in end  # the line is cleared,
    assert end.endswith("\x1b[?25h") or "\x1b[?25h" in end  # and the cursor is seen again


def test_names_from_outside_control_no_terminal() -> None:
    out = io.StringIO()
    bar = Bar(PlainConsole(file=out, force_terminal=True, width=80, color_system=None))
    bar.draw(BarState(label="reading \x1b[31mred[bold]"))
    bar.close()
    assert "reading \\x1b[31mred[bold]" in out.getvalue()
