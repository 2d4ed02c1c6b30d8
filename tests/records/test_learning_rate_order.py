"""The order of arms by learning rate, worked out by hand."""

import re
from dataclasses import replace
from math import nan
from pathlib import Path
from statistics import fmean

from jobs_on_disk import trained, write_job

from mtx.page.plots.learning_rate_means import learning_rate_plot
from mtx.page.plots.matplotlib_svg import Figures
from mtx.page.render import render
from mtx.progress.literal_console import PlainConsole
from mtx.records.job_records import read_results
from mtx.records.learning_rate_order import agreement_rows, learning_rate_order, order_rows, order_tables
from mtx.records.result_types import Results

# Bits per byte after 10, 25, 50 and 100 steps, by learning rate and arm. At 0.005, the order turns round on the way.
CURVES = {
    0.0005: {"a": (3.0, 2.8, 2.6, 2.4), "b": (3.1, 2.9, 2.7, 2.5), "c": (3.2, 3.0, 2.8, 2.6)},
    0.005: {"a": (2.9, 2.6, 2.4, 2.0), "b": (2.8, 2.5, 2.3, 2.1), "c": (2.7, 2.4, 2.2, 2.2)},
}
STEPS = (10, 25, 50, 100)


def sweep(folder: Path, curves: dict[float, dict[str, tuple[float, ...]]]) -> Results:
    for rate, arms in curves.items():
        for arm, values in arms.items():
            for seed in (1, 2):
                validations = [
                    {"step": step, "val/bits_per_byte": value + 0.01 * seed}
                    for step, value in zip(STEPS, values, strict=True)
                ]
                report = trained(values[-1] + 0.01 * seed, validations=validations, spent={"steps": 100})
                config = {"seed": seed, "model": {"learning_rate": rate}, "filter": {}, "budget": {"steps": 100}}
                place = folder / f"{arm}-{rate}-{seed}"
                write_job(place, config, report, choices={"filter": arm}, objective="bits_per_byte")
    return read_results([folder])


def test_each_learning_rate_is_compared_with_the_arms_at_their_best_ones(tmp_path: Path) -> None:
    results = sweep(tmp_path, CURVES)
    order = learning_rate_order(results)
    assert order is not None
    assert order.arms == ("a", "b", "c")
    assert order.budgets == ("a tenth", "a quarter", "half", "the whole")
    same = {rate: [one.num_same for one in of if one is not None] for rate, of in order.agreements.items()}
    assert same == {0.0005: [3, 3, 3, 3], 0.005: [0, 0, 0, 3]}
    assert order.sentence == "The order of the 3 arms is the same at both learning rates."
    assert order_rows(order)[0][1].startswith("1: 2.41")
    assert agreement_rows(order)[1][1].startswith("0 of 3 [0 to ")
    section = render(results, tmp_path).split('id="learning-rates"')[1].split("</section>")[0]
    assert "The order of the 3 arms is the same" in section
    assert "3 of 3 [" in section
    assert 'aria-label="bits per byte by learning rate: ' in section
    console = PlainConsole(width=120, record=True)
    for table in order_tables(order):
        console.print(table)
    assert "0 of 3 [0 to" in console.export_text()


def test_a_best_arm_that_depends_on_the_learning_rate_is_told(tmp_path: Path) -> None:
    turned = {
        0.0005: {arm: CURVES[0.0005][arm] for arm in "ab"},
        0.005: {"a": (2.7, 2.6, 2.5, 2.4), "b": (2.7, 2.6, 2.4, 2.0)},
    }
    order = learning_rate_order(sweep(tmp_path, turned))
    assert order is not None
    assert order.sentence == "The best arm depends on the learning rate: at 0.0005, a; at 0.005, b."
    assert agreement_rows(order) == [], "two arms have one pair, whose share says nothing"


def test_a_sweep_with_one_learning_rate_or_one_arm_has_no_such_order(tmp_path: Path) -> None:
    assert learning_rate_order(sweep(tmp_path / "one", {0.005: CURVES[0.005]})) is None
    alone = {rate: {"a": arms["a"]} for rate, arms in CURVES.items()}
    assert learning_rate_order(sweep(tmp_path / "alone", alone)) is None


def diverging(results: Results, *names: str) -> Results:
    """Return results in which the named jobs ended with NaN."""
    jobs = (replace(job, objectives={"bits_per_byte": nan}) if job.name in names else job for job in results.jobs)
    return replace(results, jobs=tuple(jobs))


def test_an_arm_with_a_diverged_job_has_no_mean_at_that_learning_rate(tmp_path: Path) -> None:
    two = {rate: {arm: arms[arm] for arm in "ab"} for rate, arms in CURVES.items()}
    order = learning_rate_order(diverging(sweep(tmp_path, two), "a-0.0005-1", "a-0.005-2"))
    assert order is not None
    assert order.arms == ("b", "a"), "an arm without a mean is not the best"
    assert [row[:2] for row in order_rows(order)] == [["b", "1: 2.5150 ± 0.0071"], ["a", "diverged"]]
    assert order.rank(0.005, "a") is None
    assert order.sentence.endswith("is not known. Jobs that diverged: 2.")


def test_learning_rates_that_are_left_out_are_named(tmp_path: Path) -> None:
    results = sweep(tmp_path, {**CURVES, 0.05: CURVES[0.005]})
    order = learning_rate_order(diverging(results, "c-0.05-1"))
    assert order is not None
    assert order.sentence == (
        "The order of the 3 arms is the same at 2 of 3 learning rates. Left out, since jobs are missing or diverged: "
        "learning rate 0.05. Jobs that diverged: 1."
    )
    assert order.agreements[0.05] == (None,) * 4, "two arms are left"


def test_the_plot_has_the_means_of_all_arms_without_those_of_diverged_jobs(tmp_path: Path) -> None:
    order = learning_rate_order(diverging(sweep(tmp_path, CURVES), "a-0.0005-1"))
    assert order is not None
    plot = learning_rate_plot(Figures(), order)
    means = {arm: [fmean(order.numbers[rate][arm]) for rate in order.rates] for arm in "abc"}
    assert plot.label.startswith("bits per byte by learning rate: ")
    told = dict(text.split(" ", 1) for text in plot.label.partition(": ")[2].split("; "))
    assert told == {arm: ", ".join(f"{mean:.4g}" for mean in means[arm][arm == "a" :]) for arm in "abc"}
    words = [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", plot.svg)]
    assert {"0.0005", "0.005", "a", "b", "c", "learning rate", "bits per byte"} <= set(words)
