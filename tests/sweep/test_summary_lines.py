"""The end of a sweep in the terminal: arms and time, one line for an arm, the answers, and effects of settings."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jobs_on_disk import profile, trained, write_job
from rich.cells import cell_len
from rich.console import Console

from mtx.progress.literal_console import PlainConsole
from mtx.records.job_records import read_results
from mtx.records.result_types import Results
from mtx.records.sweep_progress import sweep_progress
from mtx.sweep.summary_lines import effect_lines, size_text, summary_curves
from mtx.sweep.terminal_summary import left_out_text, print_summary

NOISE = (0.0, 0.01, -0.01)  # of three seeds


def grid(folder: Path, samplers: tuple[str, ...], sizes: tuple[int, ...]) -> Results:
    """Write the jobs of a grid of samplers and vocabulary sizes over three seeds, and return their results."""
    for i, sampler in enumerate(samplers):
        for j, size in enumerate(sizes):
            for seed, noise in enumerate(NOISE):
                bits = 2.5 + 0.3 * i + 0.1 * j + noise
                curve = profile()
                curve["validations"][1] |= {"bits_per_byte": bits, "seconds": 5.0 + i + noise}
                config = {"sampler": {"_target_": sampler}, "tokenizer": {"vocab_size": size}, "seed": seed}
                report = trained(bits, padding_ratio=0.1 + 0.2 * i + noise / 10, spent={"steps": 10, "seconds": 10.0})
                choices = {"sampler": sampler}
                place = folder / f"{i}-{j}-{seed}"
                write_job(place, config, report, choices=choices, objective="bits_per_byte", profile=curve)
                status = json.loads((place / "status.json").read_text())
                status |= {"started": "2026-01-31T12:00:00+00:00", "ended": f"2026-01-31T12:0{seed}:05+00:00"}
                (place / "status.json").write_text(json.dumps(status))
    return read_results([folder])


def printed(results: Results, width: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    print_summary(results, console)
    return console.export_text().splitlines()


def test_the_end_of_a_sweep_has_arms_time_answers_and_effects(tmp_path: Path) -> None:
    results = grid(tmp_path, ("bucket", "random"), (1000, 2000))
    size = "4 arms (sampler, vocab_size) x 3 seeds"
    assert size_text(results) == size, "runs of several commands have other time between them"
    assert size_text(replace(results, command=("-m",))) == f"{size}, 2:05 in all"
    curves = summary_curves(results)
    fastest, padding = curves.answers
    assert fastest.startswith("Which arm is fastest to 2.910 bits per byte? Compared by seconds of training")
    assert padding.startswith(
        "Which arm has the least padding? Compared by padding ratio in percent (lower is better). "
    )
    first, second = effect_lines(results)
    assert first.startswith("effect of sampler, against bucket: random +0.300")
    assert second.startswith("effect of vocab_size, against 1000: 2000 +0.100")
    lines = printed(results)
    assert max(map(cell_len, lines[2:])) <= 80
    arms = [line for line in lines if "│" in line and ("bucket" in line or "random" in line)]
    assert len(arms) == 4, "one line for each arm"
    assert all("±" in line for line in arms)
    assert "+0.300" in arms[2]


def test_seconds_to_a_common_level_have_a_column_where_there_is_room(tmp_path: Path) -> None:
    results = grid(tmp_path, ("bucket", "random"), (1000, 2000))
    lines = printed(results, 100)
    heading = next(line for line in lines if "vocab_size" in line and "┃" in line)
    assert "2.910 ┃" in heading, "the level, below the words `s to`"
    arms = [line for line in lines if "│" in line and ("bucket" in line or "random" in line)]
    seconds = [line.split("│")[6].strip() for line in arms]
    assert seconds == ["3.6", "3.9", "5.5 ± 0.1", "5.9 ± 0.1"], "5 s · (4 − 2.91) / (4 − 2.5) for the first arm"


def test_a_table_of_many_arms_says_what_it_leaves_out(tmp_path: Path) -> None:
    results = grid(tmp_path, ("bucket",), tuple(range(1000, 1023)))
    told = left_out_text(results)
    assert told == "… 3 more arms on the page, 4.5000 to 4.7000; the last: vocab_size=1022"
    assert any(line.startswith("… 3 more arms on the page") for line in printed(results))
    assert left_out_text(grid(tmp_path / "few", ("bucket",), (1, 2))) == ""


@pytest.mark.parametrize("number", [0, 1])
def test_a_sweep_without_arms_has_no_size(tmp_path: Path, number: int) -> None:
    for seed in range(number):
        write_job(tmp_path / str(seed), {"seed": seed}, trained(2.0))
    assert size_text(read_results([tmp_path])) == ""


def test_brackets_are_printed_as_they_are(tmp_path: Path) -> None:
    for number, score in enumerate(("[rules]", "[bold]")):
        write_job(tmp_path / str(number), {"seed": 1, "score": score}, trained(2.0 + number), objective="bits_per_byte")
    write_job(tmp_path / "2", {"seed": 1, "score": "[x]"}, error="no [key]")
    console = PlainConsole(width=80, file=io.StringIO(), record=True)
    print_summary(read_results([tmp_path]), console, resume_command="mtx -m 'score=[rules],[bold]'")
    told = console.export_text()
    assert "  mtx -m 'score=[rules],[bold]'\n" in told
    assert "  no [key]\n" in told
    assert "\\" not in told


def test_headings_are_broken_so_that_settings_have_room(tmp_path: Path) -> None:
    for number, share in enumerate((0.0625, 0.125)):
        for seed, noise in enumerate(NOISE):
            config = {"datamodule": {"a_rather_long_name_of_a_key": share}, "seed": seed}
            write_job(tmp_path / f"{number}-{seed}", config, trained(2 + noise + number), objective="bits_per_byte")
    lines = printed(read_results([tmp_path]))
    assert any("a_rather_long_name_of_a_key" in line for line in lines), "not folded"
    assert max(map(cell_len, lines[2:])) <= 80


@pytest.mark.parametrize("moment", ["2026-01-31T12:00:00", "x", "2026-01-31T12:00:00+00:00"])
def test_times_without_a_zone_and_invalid_ones_do_not_end_a_comparison(tmp_path: Path, moment: str) -> None:
    results = replace(grid(tmp_path, ("bucket",), (1, 2)), command=("-m",))
    first, *others = results.jobs
    results = replace(results, jobs=(replace(first, started=moment, ended=moment), *others))
    assert size_text(results).startswith("2 arms (vocab_size) x 3 seeds, ")
    sweep: Any = SimpleNamespace(attempt_started=moment, num_jobs=9)
    assert sweep_progress(results.jobs, sweep, datetime.now(UTC)).completed == 6
