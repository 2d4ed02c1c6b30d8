"""What each rule is worth: gains with intervals, and prices in pairs, from the jobs of a sweep."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from jobs_on_disk import trained, write_job

from mtx.page.render import render
from mtx.progress.literal_console import PlainConsole
from mtx.records.job_records import read_results
from mtx.records.result_types import Results
from mtx.records.rule_worth import rule_worths, worth_cells, worth_table

NOISE = (0.0, 0.3, -0.2)  # the effect of each seed, which pairs take off
JITTER = (0.001, -0.001, 0.0)
# Bits per byte and kept pairs of each arm: letters is worth 0.2, copy −0.1, and markup drops nothing. As many pairs
# dropped at random besides cost 0.05 for letters, and gain 0.1 for copy.
ARMS = {
    "all": (2.0, 900),
    "none": (2.3, 1000),
    "without_letters": (2.2, 950),
    "random_besides_letters": (2.05, 850),
    "without_copy": (1.9, 920),
    "random_besides_copy": (2.1, 880),
    "without_markup": (2.0, 900),
    "random_besides_markup": (2.0, 900),
}


def sweep(folder: Path, arms: Mapping[str, tuple[float, int]] = ARMS, **more: object) -> Results:
    for number, (arm, (bits, kept)) in enumerate(arms.items()):
        for seed, (effect, jitter) in enumerate(zip(NOISE, JITTER, strict=True)):
            turned = jitter * (1 + number % 2 * 0.5)
            config = {"seed": seed, "filter.ablation": arm, "filter.ablation_seed": seed, **more}
            write_job(
                folder / f"{arm}-{seed}-{len(more)}",
                config,
                trained(bits + effect + turned, num_pairs_kept=kept),
                objective="bits_per_byte",
            )
    return read_results([folder])


def test_a_rule_has_a_gain_a_loss_or_is_not_told_apart_and_a_price(tmp_path: Path) -> None:
    (worths,) = rule_worths(sweep(tmp_path))
    assert worths.is_paired
    assert worths.num_seeds == 3
    assert worths.chance.endswith("less that of as many pairs dropped at random besides all rules.")
    rows = {row.rule: row for row in worths.rows}
    assert list(rows) == ["all rules", "copy", "letters", "markup"], "in the order of the jobs' names"
    letters, copy, markup, together = (rows[name] for name in ("letters", "copy", "markup", "all rules"))
    assert letters.gain is not None
    assert letters.over_chance is not None
    assert letters.gain.estimate == pytest.approx(0.2)
    assert letters.over_chance.estimate == pytest.approx(0.25), "its gain of 0.2, and the cost of 0.05 of a random drop"
    assert (letters.num_pairs, letters.share) == (50, pytest.approx(50 / 950))
    assert letters.result == "gain; better than chance"
    assert copy.result == "loss; not told apart from chance"
    assert markup.result == "drops no pair that the other rules keep"
    assert together.gain is not None
    assert together.gain.estimate == pytest.approx(0.3)
    assert together.over_chance is None
    assert "letters has a gain of +0.200" in worths.summary
    assert "copy has a loss of +0.100" in worths.summary
    assert "Drop no pair that the other rules keep: markup." in worths.summary
    assert worth_cells(letters)[1] == "50 (5.26%)"


def test_the_gain_over_chance_has_the_variance_of_its_three_arms(tmp_path: Path) -> None:
    (worths,) = rule_worths(sweep(tmp_path))
    (letters,) = (row for row in worths.rows if row.rule == "letters")
    assert letters.gain is not None
    assert letters.over_chance is not None
    widths = [of.high - of.low for of in (letters.over_chance, letters.gain)]
    # 1 + 1 + 4 parts of a variance against 1 + 1; Holm's method has other critical values for the two.
    assert widths[0] / widths[1] == pytest.approx(3**0.5, rel=0.15)


def test_a_control_instead_of_the_rule_is_compared_with_all_rules(tmp_path: Path) -> None:
    (worths,) = rule_worths(sweep(tmp_path, {"all": (2.0, 900), "random_for_letters": (2.15, 900), "none": (2.3, 999)}))
    letters = worths.rows[1]
    assert letters.gain is None
    assert letters.over_chance is not None
    assert letters.over_chance.estimate == pytest.approx(0.15)
    assert "which leaves equally many pairs" in worths.chance


def test_a_difference_within_the_variation_over_seeds_is_not_told_apart(tmp_path: Path) -> None:
    arms = {"all": (2.0, 90), "without_copy": (2.0004, 95), "random_for_copy": (2.0, 90)}
    (worths,) = rule_worths(sweep(tmp_path, arms))
    assert worths.rows[1].result == "not told apart"
    assert worths.rows[0].result == "not measured", "no job without any rule"
    assert worths.summary.startswith("Not told apart from no effect: copy.")


def test_other_settings_have_a_table_of_their_own(tmp_path: Path) -> None:
    sweep(tmp_path, budget=1)
    found = rule_worths(sweep(tmp_path, budget=2, unused=0))
    assert sorted(one.label for one in found) == ["budget=1", "budget=2, unused=0"]


def test_a_sweep_over_other_settings_has_no_worths(tmp_path: Path) -> None:
    assert rule_worths(sweep(tmp_path, {"all": (2.0, 90)})) == ()


def test_the_page_and_the_terminal_show_the_worth_of_each_rule(tmp_path: Path) -> None:
    results = sweep(tmp_path, {**ARMS, "without_<b>": (2.0, 900)})
    html = render(results, tmp_path)
    assert '<h2 id="worth">What is each rule worth?</h2>' in html
    assert "gain; better than chance" in html
    assert 'href="#worth"' in html
    assert "<b>" not in html.split('id="worth"')[1].split("</section>")[0].replace("<bdi>", "")
    console = PlainConsole(width=100, record=True)
    console.print(worth_table(rule_worths(results)[0]))
    assert "50 (5.26%)" in console.export_text()
