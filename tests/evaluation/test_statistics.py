"""The verdict on arms: right values against scipy and by hand, and the rate of false winners by simulation."""

import math
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import stats

from mtx.evaluation.critical_values import range_critical_value
from mtx.evaluation.seeds_needed import more_seeds
from mtx.evaluation.verdict import Verdict, verdict

Values = dict[str, dict[int, float]]
A, B = [2.00, 2.03, 2.01], [2.10, 2.16, 2.11]


def arms(**numbers: list[float]) -> Values:
    """Return values by arm and seed, seeds from 1."""
    return {arm: dict(enumerate(of_arm, start=1)) for arm, of_arm in numbers.items()}


def simulated(rng: np.random.Generator, means: list[float], num_seeds: int, seed_effect: float = 0.0) -> Values:
    seeds = seed_effect * rng.normal(size=num_seeds)
    return {f"arm{i}": dict(enumerate(mean + seeds + rng.normal(size=num_seeds))) for i, mean in enumerate(means)}


def test_two_arms_are_compared_by_the_t_test() -> None:
    found = verdict(arms(b=B, a=A), direction="minimize")
    by_scipy = stats.ttest_ind(B, A)
    interval = by_scipy.confidence_interval(0.95)
    assert found.winner == "a"
    assert list(found.differences) == ["b"]
    difference = found.differences["b"]
    assert (difference.estimate, difference.low, difference.high) == pytest.approx(
        (np.mean(B) - np.mean(A), interval.low, interval.high)
    )
    assert difference.num_seeds == 3
    assert (found.seeds_needed, found.tied, found.order, found.compared_to) == (0, ("a",), ("a", "b"), "a")
    assert found.reason == "a is best: 0.110 lower than b (95 % interval 0.053 to 0.167, 3 seeds)."


def test_the_level_is_that_of_the_test() -> None:
    p_value = float(stats.ttest_ind(B, A).pvalue)
    for level, wins in ((1 - 1.01 * p_value, True), (1 - 0.99 * p_value, False)):
        assert (verdict(arms(b=B, a=A), direction="minimize", level=level).winner == "a") is wins


def test_the_most_is_best_if_the_direction_says_so() -> None:
    found = verdict(arms(a=A, b=B), direction="maximize")
    assert found.winner == "b"
    assert found.differences["a"].high < 0
    assert found.reason.startswith("b is best: 0.110 higher than a")


def test_the_variance_is_pooled_over_all_arms() -> None:
    noisy = [9.0, 12.0, 15.0]
    found = verdict(arms(a=A, b=B, c=noisy), direction="minimize")
    pooled = math.sqrt(float(np.mean([np.var(numbers, ddof=1) for numbers in (A, B, noisy)])))
    assert found.winner is None
    assert found.seeds_needed is not None
    # Tied: a and b. The t test of the two alone would name a, and c is told apart by the range of three.
    assert found.tied == ("a", "b")
    half = range_critical_value(3, 6, 0.95) * pooled * math.sqrt(2 / 3)
    assert found.differences["c"].low == pytest.approx(12 - np.mean(A) - half)
    half = float(stats.t.ppf(0.975, 6)) * pooled * math.sqrt(2 / 3)
    assert found.differences["b"].high == pytest.approx(np.mean(B) - np.mean(A) + half)
    assert found.reason.startswith("Can't tell yet: a is 0.1 lower than b (95 % interval -3.4 to 3.6, 3 seeds). About ")


def test_pairs_are_compared_by_differences() -> None:
    """Seeds that vary much more than arms hide a difference, unless they are pairs."""
    seeds = [5.0, 7.0, 9.5, 4.0]
    first, second = [s + e for s, e in zip(seeds, [0, 0.1, 0, 0.05], strict=True)], [s + 0.5 for s in seeds]
    values = arms(a=first, b=second)
    assert verdict(values, direction="minimize").winner is None
    found = verdict(values, direction="minimize", paired=True)
    interval = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert found.winner == "a"
    assert (found.differences["b"].low, found.differences["b"].high) == pytest.approx((interval.low, interval.high))
    assert found.paired


def test_three_paired_arms_are_a_block_model() -> None:
    rng = np.random.default_rng(5)
    numbers = rng.normal(size=(3, 4)) + 10 * rng.normal(size=4)
    found = verdict(arms(**dict(zip("abc", numbers.tolist(), strict=True))), direction="minimize", paired=True)
    left = numbers - numbers.mean(axis=0) - numbers.mean(axis=1, keepdims=True) + numbers.mean()
    error = math.sqrt((left**2).sum() / 6 * 2 / 4)  # (3 − 1) × (4 − 1) degrees of freedom
    best = found.order[0]
    runner_up = found.differences[found.order[1]]
    half = (runner_up.high - runner_up.low) / 2
    assert found.tied == found.order
    assert half == pytest.approx(error * float(stats.studentized_range.ppf(0.95, 3, 6)) / math.sqrt(2), rel=1e-5)
    assert best == "abc"[int(numbers.mean(axis=1).argmin())]


def test_a_missing_job_of_a_block_is_adjusted_for() -> None:
    """Without the seed that is bad for all arms, b looks best by its plain mean."""
    values = arms(a=[1.0, 2.01, 9.0], b=[1.2, 2.2, 9.19])
    del values["b"][3]
    found = verdict(values, direction="minimize", paired=True)
    assert found.order == ("a", "b")
    assert found.differences["b"].estimate == pytest.approx(0.195)


def test_seeds_that_are_not_shared_are_no_pairs() -> None:
    values = {"a": {1: 1.0, 2: 1.1}, "b": {3: 2.0, 4: 2.1}}
    found = verdict(values, direction="minimize", paired=True)
    assert not found.paired
    assert found == verdict(values, direction="minimize", paired=False)


def test_one_seed_tells_nothing() -> None:
    found = verdict(arms(a=[1.0], b=[2.0]), direction="minimize")
    assert found.winner is None
    assert found.tied == ("a", "b")
    assert found.differences["b"].estimate == 1.0
    assert (found.differences["b"].low, found.differences["b"].high) == (-math.inf, math.inf)
    assert found.seeds_needed is None
    assert found.reason == (
        "No winner: each arm has one seed, and one seed does not show how much seeds vary. "
        "a has the lowest number, 1 lower than b. Run more seeds: seed=1,2,3."
    )


def test_an_arm_with_one_seed_does_not_win() -> None:
    found = verdict(arms(a=[0.0], b=B, c=A), direction="minimize")
    assert found.winner is None
    assert found.reason.startswith("No winner: a, which has the lowest mean, has one seed")


def test_the_best_is_compared_with_every_other_arm() -> None:
    """b is the runner-up; c has one seed, so its mean is less certain and c may be better than a."""
    values = arms(a=[1.0, 1.1, 0.9, 1.05, 0.95], b=[1.15, 1.25, 1.05, 1.2, 1.1], c=[1.16])
    found = verdict(values, direction="minimize")
    assert verdict({arm: values[arm] for arm in "ab"}, direction="minimize").winner == "a"
    assert found.winner is None
    assert "lower than c" in found.reason


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_diverged_arms_rank_last_and_are_not_averaged(bad: float) -> None:
    found = verdict(arms(a=A, c=[0.1, 0.1, bad], b=B), direction="minimize")
    assert found.winner == "a"
    assert found.order == ("a", "b", "c")
    assert found.diverged == {"c": 1}
    assert math.isnan(found.differences["c"].estimate)
    assert found.differences["b"] == verdict(arms(a=A, b=B), direction="minimize").differences["b"]
    assert found.reason.endswith(" 1 job of c diverged (NaN or infinite), so ranked last, not averaged.")


def test_without_finite_numbers_there_is_no_winner() -> None:
    assert verdict({}, direction="minimize").reason == "No winner: no arm has a number."
    assert verdict(arms(a=A), direction="minimize").reason == "No winner: a is the only arm with numbers."
    found = verdict(arms(a=[math.nan] * 2, b=[math.inf]), direction="minimize")
    assert found.winner is None
    assert found.reason.startswith("No winner: all arms diverged. 3 jobs of a and b diverged")
    found = verdict(arms(a=A, b=[math.inf]), direction="minimize")
    assert found.winner is None
    assert found.reason.startswith("No winner: a is the only arm without divergence.")


def test_numbers_that_seeds_do_not_change_are_compared_as_they_are() -> None:
    found = verdict(arms(a=[0.1, 0.1], b=[0.3, 0.3]), direction="minimize")
    assert found.winner == "a"
    assert found.reason == "a is best: 0.2 lower than b with each seed."
    found = verdict(arms(a=[0.1 + 0.2] * 3, b=[0.3] * 3), direction="minimize")  # one rounding error apart
    assert found.winner is None
    assert found.reason == "No winner: b and a have equal numbers."


def test_arms_are_told_apart_from_a_reference_by_holm() -> None:
    rng = np.random.default_rng(2)
    values = {f"arm{i}": dict(enumerate(mean + rng.normal(size=6))) for i, mean in enumerate([0, 0.2, 1.6, 4.0])}
    found = verdict(values, direction="minimize", reference="arm0")
    assert set(found.differences) == {"arm1", "arm2", "arm3"}
    numbers = {arm: np.array(list(of_arm.values())) for arm, of_arm in values.items()}
    error = math.sqrt(np.mean([of_arm.var(ddof=1) for of_arm in numbers.values()]) * 2 / 6)
    statistics = {arm: abs(numbers[arm].mean() - numbers["arm0"].mean()) / error for arm in found.differences}
    p_values = {arm: 2 * float(stats.t.sf(statistic, 20)) for arm, statistic in statistics.items()}
    ranked = sorted(p_values, key=lambda arm: p_values[arm])
    apart = {arm for i, arm in enumerate(ranked) if all(p_values[ranked[j]] <= 0.05 / (3 - j) for j in range(i + 1))}
    assert (
        {arm for arm, difference in found.differences.items() if difference.is_told_apart} == apart == {"arm3", "arm2"}
    )
    dunnett = stats.dunnett(*(numbers[f"arm{i}"] for i in (1, 2, 3)), control=numbers["arm0"], rng=0)
    assert [bool(p <= 0.05) for p in dunnett.pvalue] == [False, True, True]
    assert found.compared_to == "arm0"


@pytest.mark.parametrize(
    "options",
    [{"direction": "least"}, {"direction": "minimize", "level": 95}, {"direction": "minimize", "reference": "z"}],
)
def test_wrong_arguments_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"(direction|level|reference) is "):
        verdict(arms(a=A, b=B), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("num_means", "df"), [(2, 4), (3, 1), (3, 12), (6, 6), (12, 48)])
def test_critical_values_are_those_of_the_studentised_range(num_means: int, df: int) -> None:
    expected = stats.studentized_range.ppf(0.95, num_means, df) / math.sqrt(2)
    assert range_critical_value(num_means, df, 0.95) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("num_means", "df", "expected"), [(500, 1, 68.48506), (2000, 2, 21.49681)])
def test_critical_values_of_many_means_and_few_degrees_of_freedom_are_exact(
    num_means: int, df: int, expected: float
) -> None:
    """The expected values come from integrals with 15 times as many steps of both variables."""
    assert range_critical_value(num_means, df, 0.95) == pytest.approx(expected, rel=1e-4)


def test_the_seeds_needed_are_those_of_the_power_of_the_t_test() -> None:
    """The usual 17 per group for one standard deviation, by two-sided tests at 5 % with a power of 80 %."""
    assert more_seeds(1, 1, num_arms=2, num_seeds=2, paired=False, level=0.95) == 17 - 2
    assert more_seeds(0.1, 1, num_arms=2, num_seeds=2, paired=False, level=0.95) > 1000
    assert more_seeds(0, 1, num_arms=2, num_seeds=2, paired=False, level=0.95) == 10_000
    assert more_seeds(-1, 1, num_arms=2, num_seeds=30, paired=True, level=0.95) == 1


def winners(means: list[float], num_seeds: int, repeats: int, **options: bool) -> tuple[float, list[Verdict]]:
    rng = np.random.default_rng(len(means) * 100 + num_seeds)
    effect = 3.0 if options.get("paired") else 0.0
    found = [verdict(simulated(rng, means, num_seeds, effect), direction="minimize", **options) for _ in range(repeats)]
    return sum(one.winner is not None for one in found) / repeats, found


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("means", [[0.0, 0.0], [0.0] * 6, [0.0, 0.0, 30.0, 30.0]])
def test_false_winners_are_no_more_than_the_level_allows(means: list[float], paired: bool) -> None:
    rate, found = winners(means, 3, 800, paired=paired)
    assert rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 800)
    false = [len(one.tied) < means.count(0.0) for one in found]  # some equal arm is called worse
    assert np.mean(false) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 800)


def test_true_winners_are_found() -> None:
    rate, found = winners([-2.0, 0, 0, 0, 0, 0], 5, 300)
    assert 0.54 < rate < 0.72  # .63 by a long simulation
    assert sum(one.winner == "arm0" for one in found) > 0.95 * rate * 300


def test_a_verdict_on_many_arms_takes_a_moment_and_little_is_imported() -> None:
    values = simulated(np.random.default_rng(0), [0.01 * i for i in range(12)], 5)
    range_critical_value.cache_clear()
    started = time.process_time()
    verdict(values, direction="minimize")
    assert time.process_time() - started < 1
    code = "import sys, mtx.evaluation.verdict; sys.exit('scipy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
