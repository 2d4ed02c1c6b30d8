"""What more pairs are worth: a power law over shares, with its interval, from the jobs of a sweep."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jobs_on_disk import trained, write_job

from mtx.evaluation.power_law import PowerLaws, fitted_power_laws
from mtx.evaluation.verdict import Difference
from mtx.page.content import TEMPLATE_FUNCTIONS
from mtx.page.render import render
from mtx.progress.literal_console import PlainConsole
from mtx.records.data_curve import _times_text, curve_table, data_curves
from mtx.records.job_records import read_results
from mtx.records.report_record import Spent
from mtx.records.result_types import Results
from mtx.sweep.terminal_summary import print_summary

SHARES = (0.0625, 0.125, 0.25, 0.5, 1.0)
EFFECTS = (0.0, 0.3, -0.2)  # of the seeds, the same at each share
NOISE = (0.002, -0.001, -0.001)
PAIRS = 16_000


def law(share: float, *, floor: float = 1.5, amount: float = 0.5, exponent: float = 0.3) -> float:
    """Return bits per byte at a share of the pairs."""
    return floor + amount * share**-exponent


def fitted(losses: dict[float, dict[int, float]], *, paired: bool = False) -> PowerLaws:
    return fitted_power_laws({"": losses}, paired=paired, rng=np.random.default_rng(0))[""]


def sweep(folder: Path, filters: dict[str, float], shares: tuple[float, ...] = SHARES, read: float = 3.0) -> Results:
    """Write a sweep whose filters lower the bits per byte of each share by some amount."""
    for name, gain in filters.items():
        for place, share in enumerate(shares):
            for seed, effect in enumerate(EFFECTS):
                noise = NOISE[(seed + place) % 3]
                report = trained(
                    law(share) - gain + effect + noise,
                    num_pairs_train=round(share * PAIRS),
                    train_tokens={"source_bytes": round(1000 * share)},
                    spent={"steps": 9, "source_bytes": 1000 * read},
                )
                config = {"seed": seed, "datamodule": {"share": share}, "filter": {}}
                place_of = folder / f"{name}-{share}-{seed}".replace("<", "").replace("/", "")
                write_job(place_of, config, report, choices={"filter": name}, objective="bits_per_byte")
    return read_results([folder])


def test_a_law_without_noise_is_found_and_extrapolated() -> None:
    losses = {1000.0 * 2**place: {1: law(2.0**place / 16)} for place in range(5)}
    laws = fitted(losses)
    assert laws.gain_of_twice.estimate == pytest.approx(law(1) - law(2), rel=0.01)
    assert laws.exponent[0] == pytest.approx(0.3, rel=0.03)
    assert laws.gain_of_twice.low == -np.inf, "one seed tells no interval"
    assert laws.times_as_many(np.array([law(2)]))[0] == pytest.approx(2, rel=0.01)
    assert laws.times_as_many(np.array([1.4]))[0] == np.inf, "below the floor"


def test_the_interval_over_seeds_is_that_of_the_noise_without_common_effects_of_seeds() -> None:
    rng = np.random.default_rng(1)
    sizes = [1000.0 * 2**place for place in range(5)]
    noise = rng.normal(0, 0.01, (5, 3))
    losses = {
        size: {seed: law(size / sizes[-1]) + EFFECTS[seed] + noise[place, seed] for seed in range(3)}
        for place, size in enumerate(sizes)
    }
    paired, apart = (fitted(losses, paired=together) for together in (True, False))
    gain = paired.gain_of_twice
    assert gain.low < law(1) - law(2) < gain.high
    assert 0.003 < gain.high - gain.low < 0.08
    assert apart.gain_of_twice.high - apart.gain_of_twice.low > 3 * (gain.high - gain.low)
    assert paired.fits
    assert fitted(losses, paired=True).gain_of_twice == gain, "equal seeds of the resamples, equal numbers"


def test_means_that_are_no_power_law_are_told_and_flat_ones_promise_nothing() -> None:
    bent = {1000.0 * 2**place: {seed: bits + NOISE[seed] for seed in range(3)} for place, bits in
            enumerate((3.0, 2.0, 2.9, 1.5, 2.8))}  # fmt: skip
    assert not fitted(bent).fits
    flat = {1000.0 * 2**place: {seed: 2 + NOISE[(seed + place) % 3] for seed in range(3)} for place in range(5)}
    gain = fitted(flat).gain_of_twice
    assert gain.low <= 0 <= gain.estimate < 0.002
    with pytest.raises(ValueError, match="needs 4 sizes, but there are 3"):
        fitted(dict(list(flat.items())[:3]))


def test_one_degree_of_freedom_tells_no_interval() -> None:
    losses = {1000.0 * 2**place: {1: law(2.0**place / 8)} for place in range(4)}
    losses[1000.0][2] = losses[1000.0][1] + 0.01
    assert fitted(losses).gain_of_twice.low == -np.inf
    assert fitted(losses).lack_of_fit is None
    losses[2000.0][2] = losses[2000.0][1] + 0.01
    assert np.isfinite(fitted(losses).gain_of_twice.low)


def test_shares_with_equally_many_pairs_count_as_one_and_repeats_are_not_left_out(tmp_path: Path) -> None:
    results = sweep(tmp_path, {"none": 0.0}, shares=(0.0625, 0.125, 0.5, 0.50001, 1.0))
    curves = data_curves(results)
    assert curves is not None
    (curve,) = curves.curves
    assert len(curve.points) == 5
    assert curve.laws is not None
    assert "by the power law through 4 shares." in curve.sentences[0]
    assert curve.sentences[1] == "1 shares have as many pairs as another one, and count with it."
    repeated = data_curves(replace(results, jobs=(*results.jobs, results.jobs[0])))
    assert repeated is not None
    assert repeated.num_left_out == 0
    lost = replace(results.jobs[0], objectives={"bits_per_byte": np.nan})
    without = data_curves(replace(results, jobs=(lost, *results.jobs[1:])))
    assert without is not None
    assert without.sentences[-1] == "Left out, without bits per byte or a number of pairs: 1 jobs."


def test_numbers_of_times_are_written_without_exponents() -> None:
    assert _times_text(Difference(99.8, 9.96, np.inf, 3)) == "100 times [10, more than 100]"


def test_twice_as_many_pairs_are_compared_with_better_ones(tmp_path: Path) -> None:
    curves = data_curves(sweep(tmp_path, {"none": 0.0, "selection": 0.02}))
    assert curves is not None
    none, selection = curves.curves
    assert [point.num_pairs for point in none.points] == [1000, 2000, 4000, 8000, 16000]
    assert none.largest.times_read == 3
    assert none.sentences[0].startswith("none: twice as many pairs, 32,000, would lower bits per byte by 0.0")
    assert none.laws is not None
    assert none.laws.gain_of_twice.estimate == pytest.approx(0.094, abs=0.02)
    (comparison,) = curves.comparisons
    assert comparison.startswith("selection instead of none lowers bits per byte by 0.02")
    assert comparison.endswith("Twice as many pairs of none would help more than selection.")
    assert selection.label == "selection"


def test_a_larger_gain_of_better_pairs_is_told_as_well(tmp_path: Path) -> None:
    curves = data_curves(sweep(tmp_path, {"none": 0.0, "selection": 0.3}))
    assert curves is not None
    assert curves.comparisons[0].endswith("selection helps more than twice as many pairs of none would.")


def test_what_limits_the_answer_is_told(tmp_path: Path) -> None:
    few = data_curves(sweep(tmp_path / "few", {"none": 0.0}, shares=(0.25, 0.5, 1.0)))
    assert few is not None
    assert "needs 4 shares with different numbers of pairs, of which there are 3" in few.sentences[0]
    unread = data_curves(sweep(tmp_path / "unread", {"none": 0.0}, read=0.5))
    assert unread is not None
    assert "Training read the largest share only 0.5 times" in " ".join(unread.sentences)
    results = sweep(tmp_path / "tokens", {"none": 0.0})
    counts = {"train_tokens": {"source_tokens": 40, "target_tokens": 60}, "spent": Spent(real_tokens=250)}
    jobs = tuple(replace(job, report=job.report.model_copy(update=counts)) for job in results.jobs)
    by_tokens = data_curves(replace(results, jobs=jobs))
    assert by_tokens is not None
    assert by_tokens.curves[0].largest.times_read == 2.5
    assert data_curves(sweep(tmp_path / "other", {"none": 0.0, "default": 0.1}, shares=(1.0,))) is None


def test_the_page_and_the_terminal_ask_whether_more_pairs_help(tmp_path: Path) -> None:
    results = sweep(tmp_path, {"none": 0.0, "<b>[bold]": 0.02})
    section = render(results, tmp_path).split('id="more-pairs"')[1].split("</section>")[0]
    assert "Would more pairs help?" in section
    assert section.count("<svg") == 1
    assert "instead of none lowers bits per byte by" in section
    assert "<b>" not in section
    console = PlainConsole(width=120, record=True)
    print_summary(results, console)
    told = console.export_text()
    assert "would lower bits per byte by" in told
    assert "32,000" in told
    curves = data_curves(results)
    assert curves is not None
    assert curve_table(curves.curves[0]).row_count == 5


def test_curves_that_are_not_drawn_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEMPLATE_FUNCTIONS, "max_data_curves", 1)
    page = render(sweep(tmp_path, {"a": 0.0, "b": 0.1}, shares=(0.5, 1.0)), tmp_path)
    assert "The plot has the first 1 of 2 curves; the tables have all." in page
