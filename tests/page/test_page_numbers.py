"""What the page works out: fair cohorts, effects, fronts, what jobs share. Expected values are worked by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs_on_disk import measured, profile, trained, write_job
from lxml import html
from scipy import stats

from mtx.page.arm_curves import MAX_COMMON_POINTS, ArmCurve, curve_columns
from mtx.page.combination_grid import combination_grid
from mtx.page.data_section import funnels, histograms, vocabularies
from mtx.page.effects import effects
from mtx.page.pareto import fronts, is_dominated
from mtx.page.provenance import common_settings, stage_outputs
from mtx.page.ranking import group_label, ranking
from mtx.page.render import render
from mtx.page.time_to_quality import time_to_quality
from mtx.records.cohorts import cohorts, held_out_digest
from mtx.records.job_records import read_results
from mtx.records.plot_data_record import read_profile
from mtx.records.report_record import Report
from mtx.records.result_types import Results
from mtx.records.verdict_lines import separation_text


def sweep(folder: Path, numbers: dict[tuple[str, int, int], float]) -> Results:
    """Write a sweep over sampler, vocabulary and seed, with the bits per byte of each, and read it."""
    for number, ((sampler, size, seed), bits) in enumerate(numbers.items()):
        config = {"sampler": {"batch": 1}, "tokenizer": {"vocab_size": size}, "seed": seed}
        write_job(folder / str(number), config, trained(bits), choices={"sampler": sampler}, objective="bits_per_byte")
    return read_results([folder])


def test_an_effect_is_the_mean_over_all_else_and_the_difference_in_jobs_that_are_alike(tmp_path: Path) -> None:
    results = sweep(
        tmp_path,
        {
            ("bucket", 100, 1): 2.0,
            ("bucket", 100, 2): 2.2,
            ("bucket", 200, 1): 1.0,
            ("bucket", 200, 2): 1.2,
            ("random", 100, 1): 2.1,
            ("random", 100, 2): 2.3,
            ("random", 200, 1): 1.3,
            ("random", 200, 2): 1.5,
        },
    )
    of_sampler, of_size = effects(results)
    assert [of_sampler.key, of_size.key] == ["sampler", "tokenizer.vocab_size"]
    assert of_sampler.is_balanced
    best, other = of_sampler.rows
    assert (best.value, best.is_best, best.difference) == ("bucket", True, None)
    assert best.numbers == (2.0, 2.2, 1.0, 1.2)
    assert other.difference is not None
    assert other.difference.estimate == pytest.approx(0.2)  # 0.1, 0.1, 0.3, 0.3
    interval = stats.ttest_1samp([0.1, 0.1, 0.3, 0.3], 0).confidence_interval(0.95)
    assert (other.difference.low, other.difference.high) == pytest.approx((interval.low, interval.high))
    assert (other.num_pairs, best.mark, other.mark) == (4, "★", "")
    assert [row.value for row in of_size.rows] == [100, 200]  # numbers by size, the best last here
    assert of_size.rows[1].is_best


def test_an_effect_of_a_sweep_with_holes_says_so_and_compares_only_jobs_that_are_alike(tmp_path: Path) -> None:
    results = sweep(tmp_path, {("bucket", 100, 1): 2.0, ("random", 100, 1): 2.5, ("random", 200, 1): 1.0})
    of_sampler, of_size = effects(results)
    assert not of_sampler.is_balanced
    best, other = of_sampler.rows
    assert best.value == "bucket"  # the mean of random is lower, from jobs with better other settings
    assert (other.value, other.num_pairs) == ("random", 1)
    assert other.difference is not None
    assert other.difference.estimate == pytest.approx(0.5)
    assert (best.mark, other.mark) == ("", "")
    assert of_size.rows[0].num_pairs == 1


def test_one_varied_choice_has_no_effect_beside_the_table(tmp_path: Path) -> None:
    assert effects(sweep(tmp_path, {("a", 1, 1): 2.0, ("a", 1, 2): 2.2, ("b", 1, 1): 1.0, ("b", 1, 2): 1.1})) == ()


def test_a_diverged_job_makes_its_value_the_worst(tmp_path: Path) -> None:
    bits = {("a", 1, 1): 2.0, ("a", 2, 1): 2.1, ("b", 1, 1): 1.0, ("b", 2, 1): float("nan")}
    of_sampler, _ = effects(sweep(tmp_path, bits))
    assert [row.value for row in of_sampler.rows] == ["a", "b"]
    assert of_sampler.rows[1].numbers == (1.0,)


def test_a_setting_that_only_one_option_has_is_compared_among_jobs_of_that_option(tmp_path: Path) -> None:
    for number, (sampler, tokens, padding) in enumerate([("b", 8, 0.1), ("b", 16, 0.2), ("r", None, 0.5)]):
        config = {"sampler": {} if tokens is None else {"max_tokens": tokens}}
        write_job(tmp_path / str(number), config, measured(padding), choices={"sampler": sampler})
    of_sampler, of_tokens = effects(read_results([tmp_path]))
    assert [row.value for row in of_tokens.rows] == [8, 16]
    assert [row.num_pairs for row in of_sampler.rows] == [0, 0]  # no jobs are alike in max_tokens


def test_jobs_on_other_held_out_pairs_are_not_ranked_with_each_other(tmp_path: Path) -> None:
    for number, (digest, bits) in enumerate([("one", 2.0), ("two", 1.0), ("one", 3.0)]):
        report = trained(bits, held_out={"digest": digest})
        write_job(tmp_path / str(number), {"seed": number}, report, objective="bits_per_byte")
    write_job(tmp_path / "3", {"seed": 3}, error="DataError: no")
    results = read_results([tmp_path])
    found = cohorts(results)
    assert [(cohort.held_out, [job.name for job in cohort.results.jobs]) for cohort in found] == [
        ("one", ["0", "2", "3"]),
        ("two", ["1"]),
    ]
    assert separation_text(results, found) == (
        "Not compared with each other: bits per byte of jobs that were measured on different held-out pairs. "
        "Digests of the held-out pairs: one (3 jobs), two (1 job). Each set has its own table and verdict."
    )


def test_padding_is_compared_whatever_was_held_out(tmp_path: Path) -> None:
    for number, digest in enumerate(["one", "two"]):
        write_job(tmp_path / str(number), {"seed": number}, measured(held_out={"digest": digest}))
    assert len(cohorts(read_results([tmp_path]))) == 1


def test_old_reports_are_told_apart_by_their_validation_datasets() -> None:
    assert (
        held_out_digest(Report.of({"ids": {"filtered": {"validation": "filtered-validation-1"}}}))
        == "filtered-validation-1"
    )
    assert held_out_digest(Report.of({"held_out": {"digest": "d"}, "ids": {"filtered": {"validation": "v"}}})) == "d"
    assert held_out_digest(Report()) is None


def test_the_front_is_what_nothing_beats_in_both(tmp_path: Path) -> None:
    for number, (padding, speed) in enumerate([(0.1, 100.0), (0.2, 300.0), (0.3, 200.0), (0.3, 300.0)]):
        write_job(tmp_path / str(number), {"a": number}, measured(padding, real_tokens_per_s=speed))
    speeds, batches = fronts(read_results([tmp_path]))
    assert (speeds.x, speeds.y, speeds.on_front) == ("padding_ratio", "real_tokens_per_s", (1, 2))
    assert batches.on_front == (1,)  # all have as many batches: the least padding
    assert is_dominated((1, 1), [(1, 1), (1, 0)])
    assert not is_dominated((1, 1), [(1, 1), (0, 2)])


def test_the_front_of_two_objectives_goes_by_the_direction_of_each(tmp_path: Path) -> None:
    for number, (batches, pairs) in enumerate([(10, 500), (20, 900), (20, 400)]):
        report = measured(num_batches=batches, num_pairs_kept=pairs)
        config = {"a": number, "sweep": {"direction": ["minimize", "maximize"]}}
        write_job(tmp_path / str(number), config, report, objective=["num_batches", "num_pairs_kept"])
    assert fronts(read_results([tmp_path]))[0].on_front == (1, 2)


def test_trained_jobs_are_placed_by_bits_per_byte(tmp_path: Path) -> None:
    for number, seconds in enumerate([10.0, 10.2]):
        write_job(tmp_path / str(number), {"a": number}, trained(2.0, fit_s=seconds), objective="bits_per_byte")
    assert [(front.x, front.y) for front in fronts(read_results([tmp_path]))] == [
        ("padding_ratio", "bits_per_byte"),
        ("fit_s", "bits_per_byte"),
    ]


def test_seconds_are_no_trade_off_where_a_budget_made_them_alike(tmp_path: Path) -> None:
    for number, seconds in enumerate([300.0, 301.0]):
        write_job(tmp_path / str(number), {"a": number}, trained(2.0, fit_s=seconds), objective="bits_per_byte")
    assert [front.x for front in fronts(read_results([tmp_path]))] == ["padding_ratio"]


def test_the_table_shows_means_over_seeds_best_first(tmp_path: Path) -> None:
    results = sweep(tmp_path, {("b", 1, 1): 2.0, ("b", 1, 2): 2.2, ("a", 1, 1): 1.0, ("a", 1, 2): 1.1})
    table = ranking(results, results.varied)
    assert table.repeats
    assert [(row.number, row.mark, row.label) for row in table.rows] == [(1, "★", "a"), (2, "", "b")]
    cell = table.rows[1].cells[0]
    assert cell is not None
    assert (cell.mean, cell.spread) == ("2.10", "0.14")
    assert table.intervals == ("over seeds",)
    assert [row.interval for row in table.rows] == [
        pytest.approx((0.0, 0.0, 0.0)),
        pytest.approx((0.41 / 1.69, 1.05 / 1.69, 1.0), abs=0.01),
    ]
    # Pooled variance (0.02 + 0.005) / 2, and 4.303 standard errors for 2 degrees of freedom; pairs have only one.
    assert [row.differences for row in table.rows] == [("",), ("+1.05 [+0.41, +1.69]",)]


def test_what_jobs_share_is_told_once_and_named_by_what_they_have_in_common(tmp_path: Path) -> None:
    for number, (sampler, size) in enumerate([("bucket", 1), ("bucket", 2), ("random", 1), ("random", 2)]):
        buckets = [10, 20] if sampler == "bucket" else None
        config = {"tokenizer": {"vocab_size": size}}
        report = measured(source_vocab_size=size, built=["filtered-1"] if number == 0 else [])
        left = profile(buckets=buckets)
        write_job(tmp_path / str(number), config, report, choices={"sampler": sampler}, profile=left)
    results = read_results([tmp_path])
    profiles = {job.folder: read_profile(job.folder, job.report) for job in results.jobs}
    assert [label for label, _ in histograms(results.jobs, results.varied, profiles)] == [
        "sampler=bucket",
        "sampler=random",
    ]
    assert [(of.label, of.side) for of in vocabularies(results.jobs, results.varied, profiles)] == [
        ("vocab_size=1", "source"),
        ("vocab_size=1", "target"),
        ("vocab_size=2", "source"),
        ("vocab_size=2", "target"),
    ]
    (funnel,) = funnels(results.jobs, results.varied, profiles)
    assert funnel.label == "all jobs"
    assert [(step.kind, step.name, step.count) for step in funnel.steps] == [
        ("in", "pairs read", 1000),
        ("dropped", "length_ratio", 30),
        ("dropped", "duplicate", 10),
        ("kept", "pairs kept", 960),
        ("split", "train", 940),
        ("split", "validation", 10),
        ("split", "test", 10),
    ]
    assert funnel.steps[1].samples == (("a", "b"),)
    filtered = next(stage for stage in stage_outputs(results.jobs) if stage.name == "filtered")
    assert (filtered.num_outputs, filtered.num_built, filtered.built_by, filtered.reused) == (1, 1, ("0",), 3)
    assert ("tokenizer.vocab_size", "1") not in common_settings(results.jobs, results.varied)


def test_some_of_the_jobs_are_named_by_their_values_or_by_their_numbers(tmp_path: Path) -> None:
    for number, (sampler, size) in enumerate([("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2), ("c", 2)]):
        config = {"tokenizer": {"vocab_size": size}}
        write_job(tmp_path / str(number), config, measured(), choices={"sampler": sampler})
    results = read_results([tmp_path])
    jobs = results.jobs
    assert group_label([jobs[0], jobs[1]], jobs, results.varied) == "sampler=a or b, vocab_size=1"
    assert group_label([jobs[0], jobs[4]], jobs, results.varied) == "jobs 0, 4"
    assert group_label(jobs, jobs, results.varied) == "all jobs"


def with_curves(folder: Path, curves: dict[tuple[str, int], list[tuple[float, float]]]) -> Results:
    """Write jobs by sampler and seed, whose held-out text took so many bits a byte at so many seconds."""
    for number, ((sampler, seed), points) in enumerate(curves.items()):
        curve = [
            {"step": step, "seconds": s, "real_tokens": 100 * s, "bits_per_byte": bits}
            for step, (s, bits) in enumerate(points)
        ]
        report = trained(points[-1][1])
        choices = {"sampler": sampler}
        write_job(
            folder / str(number),
            {"seed": seed},
            report,
            choices=choices,
            objective="bits_per_byte",
            profile={**profile(), "validations": curve},
        )
    return read_results([folder])


def of_table(results: Results) -> list[tuple[str, float, float | None]]:
    profiles = {job.folder: read_profile(job.folder, job.report) for job in results.jobs}
    found = time_to_quality(ranking(results, results.varied).rows, profiles)
    assert found is not None
    assert found.bits_per_byte == 2.5
    lines = []
    for row, seconds, tokens in found.rows:
        assert seconds is not None
        assert tokens is not None
        assert tokens.mean == pytest.approx(100 * seconds.mean)
        lines.append((row.label, seconds.mean, seconds.spread))
    return lines


def test_the_level_is_what_every_job_reached_and_lies_between_two_looks(tmp_path: Path) -> None:
    results = with_curves(
        tmp_path,
        {
            ("random", 1): [(0, 4.0), (10, 3.0), (20, 2.5)],  # the worst: its end is the level
            ("random", 2): [(0, 4.0), (10, 3.0), (20, 2.0)],  # 2.5 half-way between 3 and 2: 15 s
            ("bucket", 1): [(0, 4.0), (8, 2.5), (16, 2.6)],  # later rises do not count: 8 s
            ("bucket", 2): [(0, 4.0), (4, 3.0), (8, 2.0)],  # 6 s
        },
    )
    (first, *of_bucket), (second, *of_random) = of_table(results)
    profiles = {job.folder: read_profile(job.folder, job.report) for job in results.jobs}
    found = time_to_quality(ranking(results, results.varied).rows, profiles)
    assert found is not None
    assert found.harder == ()  # the worst job of each arm ends at the common level
    assert (first, second) == ("bucket", "random")
    assert of_bucket == pytest.approx([7.0, 2**0.5])
    assert of_random == pytest.approx([17.5, 12.5**0.5])


def test_a_level_that_only_some_arms_reach_has_no_time_for_the_others(tmp_path: Path) -> None:
    results = with_curves(
        tmp_path, {("random", 1): [(0, 4.0), (10, 3.0)], ("bucket", 1): [(0, 4.0), (10, 3.0), (20, 2.0)]}
    )
    profiles = {job.folder: read_profile(job.folder, job.report) for job in results.jobs}
    found = time_to_quality(ranking(results, results.varied).rows, profiles)
    assert found is not None
    assert found.bits_per_byte == 3.0
    ((level, seconds),) = found.harder
    assert level == 2.0
    assert [(row.label, row.number in seconds) for row, _, _ in found.rows] == [("bucket", True), ("random", False)]


def times(results: Results) -> tuple[float, list[tuple[str, float | None, bool]], bool]:
    """Return the first level, the seconds of each row with whether it was there at the start, and if they compare."""
    profiles = {job.folder: read_profile(job.folder, job.report) for job in results.jobs}
    found = time_to_quality(ranking(results, results.varied).rows, profiles)
    assert found is not None
    rows = [
        (row.label, None if spent is None else spent.mean, spent is not None and spent.is_at_start)
        for row, spent, _ in found.rows
    ]
    return found.bits_per_byte, rows, found.is_fair


def test_a_level_that_no_job_trained_for_is_replaced_by_one_that_others_do_not_reach(tmp_path: Path) -> None:
    results = with_curves(tmp_path, {("random", 1): [(0, 4.0), (10, 4.5)], ("bucket", 1): [(0, 4.0), (10, 3.0)]})
    assert times(results) == (3.0, [("bucket", 10.0, False), ("random", None, False)], False)
    page = render(results, tmp_path)
    assert "No level was reached by training in all arms. For 3.000 bits per byte: random did not reach it." in page
    assert '<td class="n">not reached</td>' in page


def test_an_arm_that_starts_below_the_level_of_others_is_not_called_the_fastest(tmp_path: Path) -> None:
    results = with_curves(tmp_path, {("random", 1): [(0, 4.0), (10, 3.0)], ("bucket", 1): [(0, 2.5), (10, 2.0)]})
    assert times(results) == (3.0, [("bucket", 0.0, True), ("random", 10.0, False)], False)
    page = render(results, tmp_path)
    assert "For 3.000 bits per byte: bucket was there at the first validation." in page
    assert '<td class="n">at the start</td>' in page


def test_an_arm_of_which_some_jobs_start_below_the_level_is_not_called_the_fastest(tmp_path: Path) -> None:
    curves = {("bucket", seed): [(0, 2.5), (10, 2.0)] if seed == 1 else [(0, 4.0), (9, 3.0)] for seed in (1, 2)}
    results = with_curves(tmp_path, {**curves, **{("random", seed): [(0, 4.0), (10, 3.0)] for seed in (1, 2)}})
    assert times(results) == (3.0, [("bucket", 4.5, False), ("random", 10.0, False)], False)
    told = "For 3.000 bits per byte: some jobs of bucket were there at the first validation."
    assert told in render(results, tmp_path)


def test_jobs_that_never_learned_leave_no_level(tmp_path: Path) -> None:
    results = with_curves(tmp_path, {("random", 1): [(0, 4.0), (10, 4.5)], ("bucket", 1): [(0, 4.0), (10, 4.0)]})
    profiles = {job.folder: read_profile(job.folder, job.report) for job in results.jobs}
    assert time_to_quality(ranking(results, results.varied).rows, profiles) is None


def test_two_settings_have_a_grid_with_numbers_by_size_and_gaps(tmp_path: Path) -> None:
    numbers = {("a", 200): 1.0, ("a", 30): 2.0, ("b", 30): 3.0, ("b", 1000): 1.5, ("a", 1000): 1.2}
    results = sweep(tmp_path, {(*key, seed): bits + seed / 1000 for key, bits in numbers.items() for seed in (1, 2)})
    found = combination_grid(results, ranking(results, results.varied))
    assert found is not None
    assert (found.column_key, found.columns) == ("sampler", ("a", "b"))
    assert (found.row_key, [value for value, _ in found.rows]) == ("tokenizer.vocab_size", ["30", "200", "1000"])
    cells = [of for _, cells in found.rows for of in cells]
    assert [of and of.goodness for of in cells] == pytest.approx([0.5, 0.0, 1.0, None, 0.9, 0.75])
    assert [of is not None and of.is_best for of in cells] == [False, False, True, False, False, False]
    tree = html.fromstring(render(results, tmp_path).encode())
    rows = [[cell.text_content() for cell in row] for row in tree.xpath("//table[@class='heat']//tr")]
    assert "Bits per byte for each tokenizer.vocab_size (rows)" in tree.text_content()
    assert rows[0] == ["value", "a", "b"]
    assert rows[2] == ["200", "1.0015 ± 0.0007", "–"]


def test_one_or_three_settings_have_no_grid(tmp_path: Path) -> None:
    one = sweep(tmp_path / "one", {("a", size, 1): float(size) for size in range(1, 5)})
    assert combination_grid(one, ranking(one, one.varied)) is None
    for number in range(8):
        config = {"a": number % 2, "b": number // 2 % 2, "c": number // 4, "seed": 1}
        write_job(tmp_path / "three" / str(number), config, trained(float(number)), objective="bits_per_byte")
    three = read_results([tmp_path / "three"])
    assert combination_grid(three, ranking(three, three.varied)) is None


def test_a_metric_that_is_the_same_in_all_rows_has_no_column(tmp_path: Path) -> None:
    for number, bits in enumerate([2.0, 3.0]):
        report = trained(bits, padding_ratio=0.125, fit_s=1.0 + number)
        write_job(tmp_path / str(number), {"a": number}, report, objective="bits_per_byte")
    results = read_results([tmp_path])
    table = ranking(results, results.varied)
    assert table.headings == ("bits per byte", "training time (s)")
    assert table.shared[0] == ("padding ratio (%)", "12.5")
    assert [len(row.cells) for row in table.rows] == [2, 2]
    assert "The same in all rows: padding ratio (%) 12.5, batches 20" in render(results, tmp_path)


def test_curves_over_seconds_share_an_axis_of_bounded_length_and_keep_their_ends() -> None:
    rng = np.random.default_rng(1)
    curves = [
        ArmCurve(number, str(number), np.sort(rng.random(80)) * 100, np.linspace(4.0, 3.0 - number / 100, 80), None)
        for number in range(1, 41)
    ]
    found: Any = curve_columns(curves, "seconds", "seconds of training")
    assert len(found["x"]) <= MAX_COMMON_POINTS + 2 * len(curves)
    for curve, arm in zip(curves, found["arms"], strict=True):
        known = [value for value in arm["mean"] if value is not None]
        assert (known[0], known[-1]) == (4.0, pytest.approx(3.0 - curve.number / 100))
