"""The page's section on slices: bits per byte by slice, and where another arm beats the best one."""

import math
from pathlib import Path

import numpy as np
import pytest
from jobs_on_disk import trained, write_job
from lxml import html
from scipy import stats

from mtx.page.render import render
from mtx.page.slices_section import ratio_difference
from mtx.records.held_out_sentences import complete_held_out, write_likelihoods
from mtx.records.job_records import read_results

OF_PAIR = np.arange(40) % 2


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
    found = ratio_difference(nats, np.full(50, 2.0))
    wanted = stats.ttest_1samp(nats / 2 / math.log(2), 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert not ratio_difference(nats[:5], np.ones(5)).is_told_apart
