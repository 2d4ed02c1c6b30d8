"""Paired bootstrap over held-out sentences: how much a difference between arms depends on which text was held out.

Each resample draws as many sentences as there are, with replacement (Koehn 2004, "Statistical Significance Tests for
Machine Translation Evaluation", EMNLP). A resample is the same for all arms. If documents are known, whole documents
are drawn, since sentences of a document are alike (Davison and Hinkley 1997, "Bootstrap Methods and their Application",
section 3.8; Field and Welsh 2007, "Bootstrapping clustered data", JRSS B 69). Metrics are computed anew from summed
statistics. `docs/statistics.md` has the coverage of the intervals by simulation.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mtx.evaluation.critical_values import t_quantile
from mtx.evaluation.verdict import Difference

NUM_RESAMPLES = 1000
MAX_CLUSTERS = 20_000  # more are joined at random, so that the time of a resample has a bound
MAX_COUNTS = 2**22  # counts of one block of resamples: 32 MB, and as much for the drawn numbers

Metric = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Arm = Sequence[tuple[float, NDArray[np.float64]]]


def bootstrap_differences(
    arms: Mapping[str, Arm],
    metric: Metric,
    *,
    compared_to: str,
    rng: np.random.Generator,
    clusters: NDArray[np.int64] | None = None,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Difference]:
    """Return the difference of each arm to one of them, with its interval over held-out sentences.

    An interval is the expanded percentile interval (Hesterberg 2015, "What Teachers Should Know About the Bootstrap",
    The American Statistician 69). Its ends are percentiles of the resampled differences. They are further out for few
    clusters, as Student's t is wider than the normal distribution. Each interval stands for itself. The models stay as
    they were trained, so the interval says nothing about other seeds.

    Args:
        arms: by arm, for each of its jobs its weight and the statistics of its sentences, float64 [n, k]. The weights
            of an arm add up to 1. All jobs have the same n sentences in the same order.
        metric: computes the metric of each row of sums of statistics [R, k], float64 [R].
        compared_to: the arm that differences refer to.
        rng: source of the resamples.
        clusters: the number of the document of each sentence, from 0 without gaps, int64 [n]; None: each sentence is
            one cluster.
        level: confidence level of the intervals, between 0 and 1.
        num_resamples: resamples.

    Returns:
        By arm, without `compared_to`; `num_seeds` is the number of jobs. Ends are infinite with fewer than two
        clusters, or if a resample has no metric.
    """
    jobs = [(arm, weight, values) for arm, of_arm in arms.items() for weight, values in of_arm]
    groups = _bounded_clusters(clusters, len(jobs[0][2]), rng)
    summed = np.hstack([_cluster_sums(values, groups) for _, _, values in jobs])
    widths = [values.shape[1] for _, _, values in jobs]
    sums = np.vstack([summed.sum(axis=0, keepdims=True), resampled_sums(summed, rng, num_resamples)])
    means = {arm: np.zeros(len(sums)) for arm in arms}
    for (arm, weight, _), of_job in zip(jobs, np.split(sums, np.cumsum(widths)[:-1], axis=1), strict=True):
        means[arm] += weight * metric(of_job)
    found = {}
    for arm in arms:
        if arm != compared_to:
            estimate, *resampled = means[arm] - means[compared_to]
            low, high = _interval(np.array(resampled), len(summed), level)
            found[arm] = Difference(float(estimate), low, high, len(arms[arm]))
    return found


def resampled_sums(summed: NDArray[np.float64], rng: np.random.Generator, num_resamples: int) -> NDArray[np.float64]:
    """Draw clusters with replacement, and return the sum of their statistics for each resample.

    Args:
        summed: the statistics of each cluster, float64 [C, K].
        rng: source of the resamples.
        num_resamples: resamples, R.

    Returns:
        The sums over C drawn clusters, float64 [R, K].
    """
    num_clusters = len(summed)
    at_once = max(1, MAX_COUNTS // max(num_clusters, 1))
    found = np.empty((num_resamples, summed.shape[1]))
    for first in range(0, num_resamples, at_once):
        num = min(at_once, num_resamples - first)
        drawn = rng.integers(num_clusters, size=(num, num_clusters))
        drawn += num_clusters * np.arange(num)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=num * num_clusters).reshape(num, num_clusters)
        found[first : first + num] = counts.astype(np.float64) @ summed
    return found


def _bounded_clusters(
    clusters: NDArray[np.int64] | None, num_sentences: int, rng: np.random.Generator
) -> NDArray[np.int64] | None:
    """Return clusters, at most `MAX_CLUSTERS`: independent clusters stay so if they are joined at random."""
    num_clusters = num_sentences if clusters is None else int(clusters.max(initial=-1)) + 1
    if num_clusters <= MAX_CLUSTERS:
        return clusters
    joined: NDArray[np.int64] = rng.permutation(num_clusters) % MAX_CLUSTERS
    return joined if clusters is None else joined[clusters]


def _cluster_sums(values: NDArray[np.float64], clusters: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Return the sum of the statistics [n, k] of each cluster, float64 [C, k]."""
    if clusters is None:
        return values
    return np.stack([np.bincount(clusters, weights=column) for column in values.T], axis=1)


def _interval(resampled: NDArray[np.float64], num_clusters: int, level: float) -> tuple[float, float]:
    """Return the expanded percentile interval of resampled differences."""
    if num_clusters < 2 or not np.isfinite(resampled).all():
        return -math.inf, math.inf
    expanded = t_quantile(num_clusters - 1, (1 + level) / 2) * math.sqrt(num_clusters / (num_clusters - 1))
    tail = NormalDist().cdf(-expanded)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)
