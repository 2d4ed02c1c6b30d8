"""Simulates sweeps, and counts how often the verdict names a false winner, names the true one, and misses a difference.

    scripts/bench_verdicts            the tables of docs/statistics.md, some minutes
    scripts/bench_verdicts quick      the same from few sweeps, in seconds

The rule is that of mtx.evaluation.statistics.verdict, vectorised over sweeps with complete seeds. Each run first checks
on some sweeps that both rules agree.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtx.evaluation.statistics import verdict
from mtx.evaluation.student_range import range_critical_value

ARMS, SEEDS = (2, 3, 6, 12), (2, 3, 5, 10)
LEVEL = 0.95
FAR = 30.0  # standard deviations between two tied arms and the rest
CHECKED = 20  # sweeps per case on which both rules are compared
UNEQUAL = 4  # ratio of variances
Array = np.ndarray


@dataclass(frozen=True)
class Decisions:
    """Decisions on many sweeps. `best`: the best arm by mean; `wins`: whether it is the winner; `ranked`: arms by mean;
    `tied`: how many arms may be the best. `gaps`, `halves`: differences to the best arm and their intervals."""

    best: Array
    wins: Array
    ranked: Array
    tied: Array
    gaps: Array
    halves: Array


def decide(numbers: Array, *, paired: bool) -> Decisions:
    """Decide on sweeps [sweep, arm, seed], the smallest mean being the best."""
    _, num_arms, num_seeds = numbers.shape
    means = numbers.mean(axis=2)
    left = numbers - means[:, :, None]
    df = num_arms * (num_seeds - 1)
    if paired:
        left = left - left.mean(axis=1, keepdims=True)
        df = (num_arms - 1) * (num_seeds - 1)
    errors = np.sqrt((left**2).sum(axis=(1, 2)) / df * 2 / num_seeds)
    ranked = means.argsort(axis=1)
    ordered = np.take_along_axis(means, ranked, axis=1)
    gaps = ordered[:, 1:] - ordered[:, :1]
    critical = np.array([range_critical_value(rank, df, LEVEL) for rank in range(2, num_arms + 1)])
    apart = gaps > critical * errors[:, None]
    wins = apart[:, 0]
    from_worst = np.cumprod(apart[:, ::-1], axis=1)[:, ::-1].astype(bool)
    tied = np.where(wins, 1, num_arms - from_worst.sum(axis=1))
    used = np.where(np.arange(2, num_arms + 1) < tied[:, None], critical[np.maximum(tied - 2, 0)][:, None], critical)
    used = np.where(wins[:, None], critical[0], used)
    return Decisions(ranked[:, 0], wins, ranked, tied, gaps, used * errors[:, None])


def check(numbers: Array, found: Decisions, *, paired: bool) -> None:
    """Stop if mtx's own verdict on the first sweeps is another one."""
    for sweep in range(min(CHECKED, len(numbers))):
        values = {str(arm): dict(enumerate(map(float, row))) for arm, row in enumerate(numbers[sweep])}
        own = verdict(values, direction="minimize", paired=paired, level=LEVEL)
        assert own.order == tuple(map(str, found.ranked[sweep]))
        assert (own.winner is not None) == bool(found.wins[sweep])
        assert len(own.tied) == found.tied[sweep]
        widths = [(own.differences[arm].high - own.differences[arm].low) / 2 for arm in own.order[1:]]
        assert np.allclose(widths, found.halves[sweep], rtol=1e-6)


Noise = Callable[[np.random.Generator, tuple[int, int, int]], Array]


def normal(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    return rng.normal(size=shape)


def heavy(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    return rng.standard_t(3, size=shape) / np.sqrt(3)


def unequal(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Every second arm has four times the variance of the others."""
    return rng.normal(size=shape) * np.where(np.arange(shape[1]) % 2, np.sqrt(UNEQUAL), 1)[:, None]


def unequal_best(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """The first two arms have four times the variance of the others."""
    return rng.normal(size=shape) * np.where(np.arange(shape[1]) < 2, np.sqrt(UNEQUAL), 1)[:, None]


def seed_effect(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """A common effect of seeds with twice the standard deviation of a job."""
    return rng.normal(size=shape) + 2 * rng.normal(size=(shape[0], 1, shape[2]))


KINDS: dict[str, tuple[Noise, bool]] = {
    "normal": (normal, False),
    "seed effect, paired": (seed_effect, True),
    "seed effect, unpaired": (seed_effect, False),
    "heavy tails (t3)": (heavy, False),
    f"variances 1:{UNEQUAL}": (unequal, False),
    f"variances 1:{UNEQUAL}, first two large": (unequal_best, False),
}


def sweeps(noise: Noise, means: Array, num_seeds: int, num_sweeps: int, *, paired: bool) -> tuple[Array, Decisions]:
    rng = np.random.default_rng([len(means), num_seeds, num_sweeps])
    numbers = means[None, :, None] + noise(rng, (num_sweeps, len(means), num_seeds))
    found = decide(numbers, paired=paired)
    check(numbers, found, paired=paired)
    return numbers, found


def ahead(num_arms: int, lead: float) -> Array:
    return np.r_[-lead, np.zeros(num_arms - 1)]


def two_best(num_arms: int) -> Array:
    return np.r_[0.0, 0.0, np.full(num_arms - 2, FAR)]


def old_rule(numbers: Array) -> Array:
    """Return whether mtx's former rule named a winner: no other mean within the sum of standard deviations."""
    means, spreads = numbers.mean(axis=2), numbers.std(axis=2, ddof=1)
    best = means.argmin(axis=1)[:, None]
    within = means - np.take_along_axis(means, best, 1) <= spreads + np.take_along_axis(spreads, best, 1)
    return within.sum(axis=1) == 1


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    print(f"\n{title}\n")
    print("| arms | " + " | ".join(f"{seeds} seeds" for seeds in SEEDS) + " |")
    print("| --- |" + " ---: |" * len(SEEDS))
    for row in rows:
        print(f"| {' | '.join(row)} |")


def false_winners(num_sweeps: int) -> None:
    for kind, (noise, paired) in KINDS.items():
        rows = []
        for num_arms in ARMS:
            equal, two = [], []
            for num_seeds in SEEDS:
                equal.append(sweeps(noise, np.zeros(num_arms), num_seeds, num_sweeps, paired=paired)[1].wins.mean())
                two.append(sweeps(noise, two_best(num_arms), num_seeds, num_sweeps, paired=paired)[1].wins.mean())
            rows.append((f"{num_arms}, all equal", *map(percent, equal)))
            if num_arms > 2:
                rows.append((f"{num_arms}, two tied best", *map(percent, two)))
        print_table(f"False winners, % of sweeps: {kind}", rows)


def false_differences(num_sweeps: int) -> None:
    rows = []
    for num_arms in ARMS:
        found = [sweeps(normal, np.zeros(num_arms), seeds, num_sweeps, paired=False)[1] for seeds in SEEDS]
        rows.append((f"{num_arms}", *(percent((one.tied < num_arms).mean()) for one in found)))
    print_table("Any arm wrongly called worse than the best, % of sweeps, all equal: normal", rows)
    rows = []
    for num_arms in ARMS:
        numbers = [sweeps(normal, np.zeros(num_arms), seeds, num_sweeps, paired=False)[0] for seeds in SEEDS]
        rows.append((f"{num_arms}", *(percent(old_rule(one).mean()) for one in numbers)))
    print_table("False winners of the former rule (sum of standard deviations), % of sweeps, all equal: normal", rows)


def true_winners(num_sweeps: int) -> None:
    for lead in (1, 2):
        for kind in ("normal", "seed effect, paired"):
            noise, paired = KINDS[kind]
            rows = []
            for num_arms in ARMS:
                by_verdict, by_former = [], []
                for seeds in SEEDS:
                    numbers, found = sweeps(noise, ahead(num_arms, lead), seeds, num_sweeps, paired=paired)
                    by_verdict.append(percent((found.wins & (found.best == 0)).mean()))
                    by_former.append(percent((old_rule(numbers) & (numbers.mean(axis=2).argmin(axis=1) == 0)).mean()))
                rows += [(f"{num_arms}", *by_verdict), (f"{num_arms}, former rule", *by_former)]
            print_table(f"True best named, % of sweeps, {lead} SD ahead of equal others: {kind}", rows)


def coverage(num_sweeps: int) -> None:
    for name, lead in (("all equal", 0.0), ("one arm 2 SD ahead", 2.0)):
        each, every = [], []
        for num_arms in ARMS:
            of_each, of_every = [], []
            for seeds in SEEDS:
                _, found = sweeps(normal, ahead(num_arms, lead), seeds, num_sweeps, paired=False)
                truth = ahead(num_arms, lead)[found.ranked]
                inside = np.abs(found.gaps - (truth[:, 1:] - truth[:, :1])) <= found.halves
                of_each.append(percent(inside.mean()))
                of_every.append(percent(inside.all(axis=1).mean()))
            each.append((f"{num_arms}, one interval", *of_each))
            each.append((f"{num_arms}, all of a sweep", *of_every))
        print_table(f"Intervals that hold the true difference, %: normal, {name}", [*each, *every])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", nargs="?", choices=["full", "quick"], default="full")
    parser.add_argument("--sweeps", type=int, help="simulated sweeps of each cell")
    said = parser.parse_args()
    num_sweeps = said.sweeps or (400 if said.mode == "quick" else 20_000)
    print(f"{num_sweeps:,} simulated sweeps a cell, level {LEVEL}; simulation error of 5.0: ± ", end="")
    print(f"{200 * (0.05 * 0.95 / num_sweeps) ** 0.5:.1f} (two standard errors)")
    false_winners(num_sweeps)
    false_differences(num_sweeps)
    true_winners(num_sweeps)
    coverage(num_sweeps)


if __name__ == "__main__":
    main()
