"""`LengthModel`: the usual ratio of target to source length in a corpus, for each range of source lengths."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

BUCKETS_PER_OCTAVE = 2  # source lengths that differ by less than 41 % share a bucket
MAX_BUCKETS = 40  # up to 2^20 characters; longer sources share the last bucket
MIN_PAIRS = 200  # a bucket with fewer pairs joins the bucket below, because its MAD would be unreliable
MAD_TO_DEVIATION = 1.4826  # the standard deviation of a normal distribution is 1.4826 times its MAD
MIN_DEVIATION = 0.05  # of the logarithm; a corpus whose lengths never differ would give infinite z

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LengthModel:
    """Median and robust deviation of the logarithm of the length ratio by bucket of source length.

    Raw length ratios do not carry over between scripts; z by median and MAD do (see docs/howto/score_pairs.md).

    Attributes:
        medians: float64 [buckets].
        deviations: float64 [buckets], 1.4826 × MAD.
    """

    medians: Floats
    deviations: Floats

    @classmethod
    def of(cls, source: NDArray[np.int64], target: NDArray[np.int64]) -> Self:
        """Compute the model from the lengths of both sides in characters: int64 [n], n at least 1."""
        ratios, buckets = _log_ratios(source, target), _buckets(source)
        order = np.argsort(buckets, kind="stable")
        bounds = np.searchsorted(buckets[order], np.arange(MAX_BUCKETS + 1))
        medians, deviations = np.zeros((2, MAX_BUCKETS))
        begin = 0
        known: list[tuple[int, float, float]] = []
        for bucket in range(MAX_BUCKETS):
            end = int(bounds[bucket + 1])
            is_last = end == len(ratios)
            if end - begin >= MIN_PAIRS or (is_last and not known):
                inside = ratios[order[begin:end]]
                middle = float(np.median(inside))
                deviation = MAD_TO_DEVIATION * float(np.median(np.abs(inside - middle)))
                known.append((bucket, middle, max(deviation, MIN_DEVIATION)))
                begin = end
        ends = np.array([bucket for bucket, _, _ in known])
        place = np.minimum(np.searchsorted(ends, np.arange(MAX_BUCKETS)), len(known) - 1)
        medians[:] = np.array([middle for _, middle, _ in known])[place]
        deviations[:] = np.array([deviation for _, _, deviation in known])[place]
        return cls(medians, deviations)

    def z(self, source: NDArray[np.int64], target: NDArray[np.int64]) -> Floats:
        """Return how many deviations the logarithm of each length ratio is above the median: float64 [n]."""
        buckets = _buckets(source)
        return (_log_ratios(source, target) - self.medians[buckets]) / self.deviations[buckets]

    def to_json(self) -> dict[str, list[float]]:
        """Return the model as plain values."""
        return {"medians": self.medians.tolist(), "deviations": self.deviations.tolist()}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the model that `to_json` has described."""
        return cls(np.array(value["medians"]), np.array(value["deviations"]))


def _log_ratios(source: NDArray[np.int64], target: NDArray[np.int64]) -> Floats:
    return np.log((target + 1.0) / (source + 1.0))


def _buckets(source: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.minimum(np.log2(source + 1.0) * BUCKETS_PER_OCTAVE, MAX_BUCKETS - 1).astype(np.int64)
    return found
