"""Power law of a held-out loss over the number of training pairs, with intervals by a bootstrap over seeds.

The loss is L(n) = a + b·n^−c with a, b, c ≥ 0 (Hestness et al. 2017, "Deep Learning Scaling is Predictable,
Empirically", arXiv 1712.00409; Kaplan et al. 2020, "Scaling Laws for Neural Language Models", arXiv 2001.08361). For a
given exponent, the law is linear in a and b. So the fit searches the exponent alone (variable projection, Golub and
Pereyra 1973, SIAM Journal on Numerical Analysis 10). It has no start values, and cannot end in a local minimum.

A resample adds residuals that are drawn with replacement to the mean of each size (Davison and Hinkley 1997, "Bootstrap
Methods and their Application", section 6.2). Residuals are pooled over all sizes, since three seeds of one size tell
too little. `docs/statistics.md` has the coverage of the intervals by simulation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.evaluation.critical_values import t_quantile
from mtx.evaluation.verdict import Difference

NUM_RESAMPLES = 1000
NUM_PARAMETERS = 3
MIN_SIZES = NUM_PARAMETERS + 1  # one more than parameters, or the law would pass through all means
EXPONENTS = np.geomspace(0.05, 2.0, 150)  # published exponents of data are 0.07 to 0.35; 2 is flat after two doublings
LACK_OF_FIT_LEVEL = 0.01
MIN_DF = 2  # with one degree of freedom, intervals of 95 % hold the truth in 77 % only

Vector = NDArray[np.float64]
Losses = Mapping[float, Mapping[Any, float]]


@dataclass(frozen=True)
class PowerLaws:
    """Power laws of one loss: the first is fitted to the means, the others to resamples of them.

    Attributes:
        unit: number of pairs in which the law counts, the largest size.
        floor: a of each law, float64 [R].
        amount: b of each law, with n in `unit`, float64 [R].
        exponent: c of each law, float64 [R].
        at_largest: mean loss at the largest size, in the data and in each resample, float64 [R].
        df: degrees of freedom of the variance over seeds; 0 if seeds do not tell it, and then R is 1.
        lack_of_fit: probability that means of such a law differ from it by as much; None if it is not known.
        num_seeds: seeds of the largest size.
        level: confidence level.
    """

    unit: float
    floor: Vector
    amount: Vector
    exponent: Vector
    at_largest: Vector
    df: int
    lack_of_fit: float | None
    num_seeds: int
    level: float

    @property
    def fits(self) -> bool:
        """Whether the means do not contradict the law."""
        return self.lack_of_fit is None or self.lack_of_fit >= LACK_OF_FIT_LEVEL

    def losses(self, num_pairs: float) -> Vector:
        """Return the loss of each law at a number of pairs, float64 [R]; the first is the estimate."""
        losses: Vector = self.floor + self.amount * (num_pairs / self.unit) ** -self.exponent
        return losses

    def times_as_many(self, losses: Vector) -> Vector:
        """Return how many times the largest size has some losses by each law, float64 [R]; infinite if none has."""
        above = losses - self.floor
        reached = (above > 0) & (self.amount > 0)
        ratio = np.where(reached, above, 1.0) / np.where(reached, self.amount, 1.0)
        with np.errstate(over="ignore"):  # infinite, as for a loss that no number of pairs reaches
            times: Vector = np.where(reached, ratio ** (-1 / self.exponent), math.inf)
        return times

    def interval(self, values: Vector) -> Difference:
        """Return the first of some values, float64 [R], with the interval of the others.

        The percentiles are further out for few seeds, as Student's t is wider than the normal distribution (Hesterberg
        2015, The American Statistician 69). The ends are infinite without resamples.
        """
        if len(values) < 2:
            return Difference(float(values[0]), -math.inf, math.inf, self.num_seeds)
        tail = NormalDist().cdf(-t_quantile(self.df, (1 + self.level) / 2))
        low, high = np.quantile(values[1:], [tail, 1 - tail], method="inverted_cdf")
        return Difference(float(values[0]), float(low), float(high), self.num_seeds)

    @cached_property
    def gain_of_twice(self) -> Difference:
        """How much twice as many pairs as the largest size would lower the loss."""
        return self.interval(self.losses(self.unit) - self.losses(2 * self.unit))


def fitted_power_laws(
    curves: Mapping[str, Losses],
    *,
    paired: bool,
    rng: np.random.Generator,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, PowerLaws]:
    """Return the power law of each curve and those of its resamples over seeds, by the name of the curve.

    Args:
        curves: by name, finite losses by number of pairs, at least `MIN_SIZES` different numbers, and by seed.
        paired: whether equal seeds have a common effect by design. If all sizes of a curve have the same seeds, this
            effect and the rest are resampled apart. A resample takes the effects of the same seeds in all curves.
        rng: source of the resamples.
        level: confidence level of the intervals, between 0 and 1.
        num_resamples: resamples.

    Raises:
        ValueError: a curve has too few sizes.
    """
    most = max((len(of) for losses in curves.values() for of in losses.values()), default=1)
    seed_places = rng.random((num_resamples, most))
    return {
        name: _power_laws(losses, is_paired=paired, seed_places=seed_places, rng=rng, level=level)
        for name, losses in curves.items()
    }


def _power_laws(
    losses: Losses, *, is_paired: bool, seed_places: Vector, rng: np.random.Generator, level: float
) -> PowerLaws:
    if len(losses) < MIN_SIZES:
        raise ValueError(f"a power law needs {MIN_SIZES} sizes, but there are {len(losses)}")
    sizes = sorted(losses)
    of_size = [np.array([losses[size][seed] for seed in sorted(losses[size], key=str)]) for size in sizes]
    counts = np.array([len(numbers) for numbers in of_size])
    means = np.array([numbers.mean() for numbers in of_size])
    is_balanced = is_paired and counts.min() > 1 and len({frozenset(of) for of in losses.values()}) == 1
    common, rest, df = _residuals(of_size, means, is_balanced=is_balanced)
    df = df if df >= MIN_DF else 0
    resamples = means[None, :]
    if df > 0:
        effects = common[(seed_places[:, : int(counts.max())] * len(common)).astype(int)].mean(axis=1)
        drawn = [
            mean + effects + rng.choice(rest, (len(effects), int(count))).mean(axis=1)
            for mean, count in zip(means, counts, strict=True)
        ]
        resamples = np.concatenate([resamples, np.stack(drawn, axis=1)])
    unit = sizes[-1]
    floor, amount, exponent = _fitted(np.array(sizes) / unit, resamples, counts / counts.sum())
    found = PowerLaws(unit, floor, amount, exponent, resamples[:, -1], df, None, int(counts[-1]), level)
    expected = np.array([found.losses(size)[0] for size in sizes])
    return replace(found, lack_of_fit=_lack_of_fit(counts, means - expected, rest, df))


def _residuals(of_size: Sequence[Vector], means: Vector, *, is_balanced: bool) -> tuple[Vector, Vector, int]:
    """Return the effects of seeds, the other residuals, and the degrees of freedom of these.

    Residuals are too small by the fitted means, so they are divided by the root of the share of degrees of freedom.
    """
    residuals = [numbers - mean for numbers, mean in zip(of_size, means, strict=True)]
    total = sum(len(numbers) for numbers in of_size)
    if not is_balanced:
        df = total - len(of_size)
        rest = np.concatenate(residuals) * math.sqrt(total / df) if df else np.zeros(1)
        return np.zeros(1), rest, df
    table = np.stack(residuals)
    num_sizes, num_seeds = table.shape
    effects = table.mean(axis=0)
    df = (num_sizes - 1) * (num_seeds - 1)
    rest = (table - effects).ravel() * math.sqrt(total / df)
    return effects * math.sqrt(num_seeds / (num_seeds - 1)), rest, df


def _fitted(sizes: Vector, losses: Vector, weights: Vector) -> tuple[Vector, Vector, Vector]:
    """Return a, b and c of the law with the least squares for each row of losses, float64 [R] each.

    Args:
        sizes: numbers of pairs in units of the largest, float64 [k].
        losses: mean losses, float64 [R, k].
        weights: weights of the sizes, which add up to 1, float64 [k].
    """
    best = np.full(len(losses), math.inf)
    found = np.zeros((3, len(losses)))
    mean = losses @ weights
    for exponent in EXPONENTS:
        term = sizes**-exponent
        centred = term - term @ weights
        amount = np.maximum((losses @ (weights * centred)) / (weights @ centred**2), 0)
        floor = mean - amount * (term @ weights)
        without_floor = np.maximum((losses @ (weights * term)) / (weights @ term**2), 0)
        amount, floor = np.where(floor < 0, without_floor, amount), np.maximum(floor, 0)
        error = ((losses - floor[:, None] - amount[:, None] * term) ** 2) @ weights
        is_better = error < best
        best = np.where(is_better, error, best)
        found = np.where(is_better, np.stack([floor, amount, np.full(len(losses), exponent)]), found)
    return found[0], found[1], found[2]


def _lack_of_fit(counts: NDArray[np.int64], misses: Vector, rest: Vector, df: int) -> float | None:
    """Return the probability of such misses of the means under the law, by an F test; None without a variance."""
    variance = float(np.mean(rest**2))
    num_free = len(misses) - NUM_PARAMETERS
    if df < 1 or variance <= 0:
        return None
    from scipy.special import fdtrc  # imported late, as in critical_values

    return float(fdtrc(num_free, df, float(counts @ misses**2) / num_free / variance))
