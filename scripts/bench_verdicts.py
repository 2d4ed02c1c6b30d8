"""Simulates sweeps, and counts how often the verdict names a false winner, names the true one, and misses a difference.

    scripts/bench_verdicts            the tables of docs/statistics.md, some minutes
    scripts/bench_verdicts quick      the same from few sweeps, in seconds

The rule is that of mtx.evaluation.verdict.verdict, vectorised over sweeps with complete seeds. Each run first checks
on some sweeps that both rules agree. The last tables are about the intervals over held-out sentences: how often they
hold the true difference, with and without documents, and how long they take.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtx.evaluation.corpus_metrics import METRICS, bits_per_byte
from mtx.evaluation.critical_values import range_critical_value
from mtx.evaluation.paired_bootstrap import bootstrap_differences
from mtx.evaluation.verdict import verdict

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


@dataclass(frozen=True)
class Texts:
    """Held-out sentences of simulated texts. `per_document`: sentences of a document; `share`: of the variance of
    differences that lies between documents."""

    num_documents: int
    per_document: int
    share: float


TEXTS = {
    "50 sentences, independent": Texts(50, 1, 0.0),
    "100 sentences, independent": Texts(100, 1, 0.0),
    "1,000 sentences, independent": Texts(1000, 1, 0.0),
    "5 documents of 40": Texts(5, 40, 0.1),
    "10 documents of 40": Texts(10, 40, 0.1),
    "20 documents of 40": Texts(20, 40, 0.1),
    "100 documents of 10": Texts(100, 10, 0.1),
    "100 documents of 10, half alike": Texts(100, 10, 0.5),
}
TRUE_BITS = 0.02  # bits per byte between the two arms


def simulated_text(rng: np.random.Generator, text: Texts) -> tuple[Array, Array, Array]:
    """Return the statistics of two arms [n, 2] and the documents [n]: sentences of log-normal length, whose bits differ
    between the arms with a standard deviation of 0.1 bits a byte."""
    documents = np.repeat(np.arange(text.num_documents), text.per_document)
    num_bytes = np.maximum(1, np.round(rng.lognormal(4.3, 0.7, len(documents))))
    of_document = rng.normal(size=text.num_documents)[documents]
    noise = np.sqrt(text.share) * of_document + np.sqrt(1 - text.share) * rng.normal(size=len(documents))
    first = num_bytes * (1.5 + 0.3 * rng.standard_t(5, size=len(documents)))
    second = first + num_bytes * (TRUE_BITS + 0.1 * noise)
    a, b = (np.stack([bits * np.log(2), num_bytes], axis=1) for bits in (first, second))
    return a, b, documents


def sentence_coverage(num_texts: int) -> None:
    error = 200 * (0.05 * 0.95 / num_texts) ** 0.5
    print(f"\n{num_texts:,} simulated texts a row; simulation error of 95.0: ± {error:.1f} (two standard errors)")
    print("\nIntervals over held-out sentences that hold the true difference, %\n")
    print("| held-out text | by sentence | by document |")
    print("| --- | ---: | ---: |")
    for name, text in TEXTS.items():
        rng = np.random.default_rng([text.num_documents, text.per_document, num_texts])
        held = np.zeros(2)
        for _ in range(num_texts):
            a, b, documents = simulated_text(rng, text)
            arms = {"a": [(1.0, a)], "b": [(1.0, b)]}
            for index, clusters in enumerate((None, documents)[: 1 + (text.per_document > 1)]):
                found = bootstrap_differences(
                    arms, bits_per_byte, compared_to="a", rng=rng, clusters=clusters, level=LEVEL
                )["b"]
                held[index] += found.low <= TRUE_BITS <= found.high
        shares = held / num_texts if text.per_document > 1 else np.repeat(held[0] / num_texts, 2)
        print(f"| {name} | {' | '.join(map(percent, shares))} |")


def resampling_times() -> None:
    rng = np.random.default_rng(0)
    print("\nTime of 1,000 resamples of 12 arms\n")
    print("| metric | jobs per arm | sentences | s |")
    print("| --- | ---: | ---: | ---: |")
    for metric, num_jobs, num in (
        ("bits_per_byte", 1, 1_000),
        ("bits_per_byte", 1, 10_000),
        ("bits_per_byte", 1, 200_000),
        ("scores.bleu", 3, 100),
        ("scores.bleu", 3, 10_000),
        ("scores.chrf", 3, 10_000),
    ):
        shape = (num, len(METRICS[metric].statistics))
        arms = {
            f"{arm}": [(1 / num_jobs, rng.integers(1, 40, shape).astype(np.float64)) for _ in range(num_jobs)]
            for arm in range(12)
        }
        started = time.perf_counter()
        bootstrap_differences(arms, METRICS[metric].of_sums, compared_to="0", rng=rng)
        print(f"| {metric} | {num_jobs} | {num:,} | {time.perf_counter() - started:.1f} |")


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
    sentence_coverage(10 if said.mode == "quick" else num_sweeps // 20)
    if said.mode == "full":
        resampling_times()


if __name__ == "__main__":
    main()
