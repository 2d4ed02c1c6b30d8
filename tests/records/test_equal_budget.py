"""Trained jobs are compared at equal budgets, by their curves. Expected values are worked by hand."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from jobs_on_disk import trained, write_job
from rich.console import Console

from mtx.errors import ConfigError
from mtx.records.cohorts import cohorts
from mtx.records.job_records import read_results
from mtx.records.objective_at_equal_budget import check_budget_measure, condition_lines
from mtx.records.sweep_record import PAGE_FILE, SweepRecord
from mtx.records.verdict_lines import verdict_text
from mtx.sweep.terminal_summary import end_sweep


def fitted(
    folder: Path,
    arm: str,
    seed: int,
    curve: list[tuple[int, float]],
    *,
    config: dict[str, Any] | None = None,
    **more: Any,
) -> None:
    """Write a job that trained on the last number of real tokens of its curve, one update per 100 tokens."""
    tokens, bits = curve[-1]
    validations = [{"step": x // 100, "seconds": x / 50, "real_tokens": x, "val/bits_per_byte": y} for x, y in curve]
    spent = {"steps": tokens // 100, "seconds": tokens / 50, "real_tokens": tokens, "source_bytes": None}
    report = trained(bits, validations=validations, spent=spent, **more)
    settings = {"seed": seed, "sampler": {}, "budget": {"real_tokens": 1000}, **(config or {})}
    write_job(folder / f"{arm}{seed}", settings, report, choices={"sampler": arm}, objective="bits_per_byte")


def test_jobs_that_trained_longer_are_compared_at_what_all_reached(tmp_path: Path) -> None:
    for seed in (1, 2):
        fitted(tmp_path, "a", seed, [(0, 8.0), (1000, 4.0 + seed / 10)])
        fitted(tmp_path, "b", seed, [(0, 8.0), (800, 5.0 + seed / 10), (1600, 3.0 + seed / 10)])
    (cohort,) = cohorts(read_results([tmp_path]))
    assert cohort.notes == (
        "Jobs trained for different real tokens: 1,000 to 1,600. "
        "They are compared at 1,000, by their validation curves.",
    )
    found = cohort.results
    assert (
        found.verdict.winner == "a"
    )  # b is at 4.5, a quarter of the way from 5 to 3, and would win by its last number
    assert found.arms["b"].numbers("bits_per_byte") == pytest.approx([4.6, 4.7])
    assert condition_lines(found) == ("different: seconds 20 to 32, updates 10 to 16, real tokens 1,000 to 1,600",)


def test_equal_seconds_on_a_busy_machine_are_said(tmp_path: Path) -> None:
    said = []
    for folder, slowest in (("busy", 700), ("quiet", 900)):
        for arm in ("a", "b"):
            for seed, tokens in ((1, 1000), (2, slowest if arm == "b" else 1000)):
                config = {"budget": {"seconds": 20}}
                spent = {"steps": tokens // 100, "seconds": 20.0, "real_tokens": tokens}
                fitted(tmp_path / folder, arm, seed, [(0, 8.0), (tokens, 4.0)], config=config)
                path = tmp_path / folder / f"{arm}{seed}" / "report.json"
                path.write_text(json.dumps(json.loads(path.read_text()) | {"spent": spent}))
        said.append(cohorts(read_results([tmp_path / folder]))[0].notes)
    assert said == [
        (
            "In equal seconds, jobs of one arm made 7 to 10 updates. Other work has slowed some of them, so "
            "differences can come from that. Repeat the sweep with budget.seconds=null and budget.real_tokens=1000.",
        ),
        (),
    ]


def test_unequal_budgets_of_a_sweep_are_recorded_as_an_assumption(tmp_path: Path) -> None:
    SweepRecord(assumptions=("job 2 is passed over",)).write(tmp_path)
    fitted(tmp_path, "a", 1, [(0, 8.0), (1000, 4.0)])
    fitted(tmp_path, "b", 1, [(0, 8.0), (1600, 3.0)])
    end_sweep(tmp_path, console=Console(file=io.StringIO()))
    first, second = read_results([tmp_path]).assumptions
    assert first == "job 2 is passed over"
    assert second.startswith("Jobs trained for different real tokens: 1,000 to 1,600.")
    page = (tmp_path / PAGE_FILE).read_text()
    section = page[page.index('<h2 id="assumptions">') :].partition("</section>")[0]
    assert first in section
    assert second in section


def test_equal_budgets_are_left_as_they_are(tmp_path: Path) -> None:
    fitted(tmp_path, "a", 1, [(0, 8.0), (1000, 4.0)])
    fitted(tmp_path, "b", 1, [(0, 8.0), (1040, 3.0)])
    results = read_results([tmp_path])
    (cohort,) = cohorts(results)
    assert (cohort.results, cohort.notes) == (results, ())
    assert condition_lines(results) == ("equal: seconds, updates, real tokens",)


def test_the_measure_may_be_chosen(tmp_path: Path) -> None:
    for arm, tokens in (("a", 1000), ("b", 2000)):
        config = {"sweep": {"budget": "seconds"}, "budget": {}}
        fitted(tmp_path, arm, 1, [(0, 8.0), (tokens, 4.0)], config=config)
    (cohort,) = cohorts(read_results([tmp_path]))
    assert cohort.notes[0].startswith("Jobs trained for different seconds: 20 to 40.")
    assert cohort.results.arms["b"].numbers("bits_per_byte") == [6.0]
    with pytest.raises(ConfigError, match=r"sweep\.budget is seconds, .*, or null, but is 'second'"):
        check_budget_measure("second")


def test_a_budget_that_the_sweep_varies_is_no_unequal_condition(tmp_path: Path) -> None:
    for arm, tokens in (("a", 1000), ("b", 2000)):
        fitted(tmp_path, arm, 1, [(0, 8.0), (tokens, 4.0)], config={"budget": {"real_tokens": tokens}})
    results = read_results([tmp_path])
    (cohort,) = cohorts(results)
    assert cohort.results == results


def test_a_job_without_a_curve_is_left_out_and_named(tmp_path: Path) -> None:
    fitted(tmp_path, "a", 1, [(0, 8.0), (1000, 4.0)])
    fitted(tmp_path, "b", 1, [(1600, 3.0)])
    (cohort,) = cohorts(read_results([tmp_path]))
    assert "Left out, since their curves do not show this amount: jobs b1." in cohort.notes
    assert list(cohort.results.verdict.order) == ["a"]


def test_a_diverged_job_stays_diverged(tmp_path: Path) -> None:
    fitted(tmp_path, "a", 1, [(0, 8.0), (1000, 4.0)])
    fitted(tmp_path, "b", 1, [(0, 8.0), (1000, 3.0), (2000, float("nan"))])
    (cohort,) = cohorts(read_results([tmp_path]))
    assert cohort.results.verdict.diverged == {"b": 1}


def test_tokenizers_that_differ_are_compared_by_bits_per_byte_only(tmp_path: Path) -> None:
    for seed in (1, 2):
        for arm in ("a", "b"):
            ids = {"tokenizer": f"tokenizer-{arm}"}
            fitted(tmp_path, arm, seed, [(0, 8.0), (1000, 4.0 + seed / 10 + (arm == "a"))], ids=ids, train_loss=3.0)
    results = read_results([tmp_path])
    (cohort,) = cohorts(results)
    assert "The tokenizers differ, so equal numbers of real tokens are different amounts of text." in cohort.notes
    assert "b is best" in verdict_text(cohort.results)
    by_loss = [dataclasses.replace(job, objectives={"train_loss": 3.0}) for job in results.jobs]
    told = verdict_text(dataclasses.replace(results, jobs=tuple(by_loss)))
    assert told.startswith("No winner: train_loss is a mean over tokens, and the tokenizers differ.")
