"""The page's section on slices: bits per byte by slice, and where another arm beats the best one."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jobs_on_disk import trained, write_job
from lxml import html
from scipy import stats

from mtx.page.job_links import without_samples
from mtx.page.ranking import Row
from mtx.page.render import render
from mtx.page.slices_section import RatioDifference, _Compared, _findings, ratio_difference, slices_section
from mtx.records.held_out_sentences import complete_held_out, write_likelihoods
from mtx.records.job_records import read_results
from mtx.records.result_types import JobRecord
from mtx.records.slice_report import Slice

OF_PAIR = np.arange(40) % 2


def row(number: int, label: str, job: JobRecord) -> Row:
    return Row(number, "", (), label, (), (), (job,), 1)


def write_sliced(folder: Path, arm: str, short: float, long: float, seed: int = 1) -> None:
    """Write a job with two slices of 20 pairs of one byte each, and the bits per byte of both."""
    bits = np.where(OF_PAIR == 0, short, long) + np.tile([0.01, 0.01, -0.01, -0.01], 10)
    slices = [
        {"name": name, "num_pairs": 20, "nats": 20 * value * math.log(2), "target_bytes": 20}
        for name, value in (("<b>short", short), ("long", long))
    ]
    report = trained(float(bits.mean()), slices={"source_length": slices})
    config = {"seed": seed, "sampler": {}}
    write_job(folder, config, report, choices={"sampler": arm}, objective="bits_per_byte")
    write_likelihoods(folder, np.stack([np.arange(40), bits * np.log(2), np.ones(40)]))
    complete_held_out(folder, digest="one", documents=None, scores=None, columns={"slice.source_length": OF_PAIR})


def test_the_page_says_where_an_arm_beats_the_best_one(tmp_path: Path) -> None:
    write_sliced(tmp_path / "0", "a", 2.0, 2.0)
    write_sliced(tmp_path / "1", "b", 3.0, 1.5)
    page = html.fromstring(render(read_results([tmp_path]), tmp_path).encode())
    (section,) = page.xpath("//section[@aria-labelledby='slices']")
    words = " ".join(section.text_content().split())
    assert "b beats a in: length of the source long by -0.5" in words
    *_, lost = (" ".join(answer.text_content().split()) for answer in page.xpath("//div[@class='answers']/p"))
    assert lost.startswith("Where does the best arm lose? b beats a in: length of the source long by -0.5")
    cells = [[cell.text_content().strip() for cell in row.iter("th", "td")] for row in section.iter("tr")]
    assert cells[0] == ["slice", "pairs", "a", "b", "contrastive accuracy"]
    assert cells[1][:3] == ["<b>short", "20", "2.000"]
    assert cells[1][3].startswith("3.000+1")
    assert cells[1][3].endswith("worse")
    assert cells[2][3].endswith("better")


def test_one_run_shows_its_own_slices(tmp_path: Path) -> None:
    write_sliced(tmp_path / "0", "a", 2.0, 2.5)
    page = html.fromstring(render(read_results([tmp_path / "0"]), tmp_path / "0").encode())
    (section,) = page.xpath("//section[@aria-labelledby='slices']")
    assert "long 20 2.500" in " ".join(" ".join(section.itertext()).split())


def test_the_interval_is_that_of_a_mean_if_all_targets_have_equal_bytes() -> None:
    nats = np.random.default_rng(1).normal(0.3, 1, 50)
    found = ratio_difference(nats, np.full(50, 2.0)).difference()
    wanted = stats.ttest_1samp(nats / 2 / math.log(2), 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert not ratio_difference(nats[:5], np.ones(5)).difference().is_told_apart


def test_sentences_of_one_document_count_as_one() -> None:
    of_document = np.random.default_rng(1).normal(0.3, 1, 20)
    alone = ratio_difference(of_document, np.ones(20))
    repeated = ratio_difference(np.repeat(of_document, 5), np.ones(100), np.repeat(np.arange(20), 5))
    assert (repeated.estimate, repeated.error, repeated.df) == pytest.approx((alone.estimate, alone.error, 19))
    assert ratio_difference(np.ones(100), np.ones(100), np.arange(100) // 20).df == 0  # five documents


def test_a_finding_must_hold_for_all_cells_together() -> None:
    found = RatioDifference(-1.0, 0.45, 39)  # t is 2.2
    assert found.difference().is_told_apart
    assert found.is_told_apart(1)
    assert not found.is_told_apart(2)
    clear = RatioDifference(-1.0, 0.1, 39)
    told = _findings(["a", "a"], [_Compared(1, "one", found), _Compared(1, "two", clear)])
    assert "one by" in told[0]  # after the clear one, it is the only one that is left
    assert "one by" not in _findings(["a", "b"], [_Compared(1, "one", found), _Compared(1, "two", found)])[0]


def test_an_arm_that_is_compared_before_its_end_is_left_out(tmp_path: Path) -> None:
    write_sliced(tmp_path / "0", "a", 2.0, 2.0)
    write_sliced(tmp_path / "1", "b", 3.0, 1.5)
    results = read_results([tmp_path])
    a, b = (
        replace(job, objectives={"bits_per_byte": bits}) for job, bits in zip(results.jobs, (2.0, 2.5), strict=True)
    )
    section = slices_section([row(1, "a", a), row(2, "b", b)])
    assert section is not None
    assert section.tables[0].arms == ("a",)
    assert section.findings[0].startswith("Left out: b.")


def test_arms_with_equal_labels_keep_their_own_cells_and_values_of_columns_are_hidden(tmp_path: Path) -> None:
    write_sliced(tmp_path / "0", "a", 2.0, 2.0)
    write_sliced(tmp_path / "1", "b", 3.0, 1.5)
    results = read_results([tmp_path])
    section = slices_section([row(n, "same", job) for n, job in enumerate(results.jobs, 1)])
    assert section is not None
    assert [cell.bits_per_byte for cell in section.tables[0].rows[0][3]] == ["2.000", "3.000"]
    slices = {"column.note": (Slice(name="a secret", num_pairs=1), Slice(name="other values", num_pairs=1))}
    job = replace(results.jobs[0], report=results.jobs[0].report.model_copy(update={"slices": slices}))
    (hidden,) = without_samples(replace(results, jobs=(job,))).jobs
    assert [one.name for one in hidden.report.slices["column.note"]] == ["value 1", "other values"]
