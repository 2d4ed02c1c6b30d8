"""Intervals of a verdict over held-out sentences, from the statistics that jobs stored in `held_out.parquet`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtx.errors import StoreError
from mtx.evaluation.corpus_metrics import INSTALL_COMMAND, METRICS
from mtx.evaluation.paired_bootstrap import NUM_RESAMPLES, Arm, bootstrap_differences
from mtx.evaluation.verdict import Difference, Verdict
from mtx.evaluation.verdict_text import names_text
from mtx.records.held_out_sentences import SentenceStatistics, read_held_out

if TYPE_CHECKING:
    from mtx.records.result_types import Group, JobRecord

RESAMPLING_SEED = 2004  # constant, so that a page shows the same intervals whenever it is written
NOT_KNOWN = "Intervals over held-out sentences are not known"


@dataclass(frozen=True)
class SentenceIntervals:
    """Differences between arms with intervals over held-out sentences.

    Attributes:
        differences: by arm, the difference to the arm that the verdict compares with.
        basis: for people: which sentences were resampled, and for which arms the interval is not known and why; empty
            if the question does not arise.
    """

    differences: Mapping[str, Difference] = field(default_factory=dict)
    basis: str = ""


def sentence_intervals(metric: str | None, arms: Mapping[str, "Group"], decided: Verdict) -> SentenceIntervals:
    """Return intervals over held-out sentences for the arms of a verdict.

    An arm has one if each of its jobs has stored the statistics of the same sentences. These must also give the number
    by which the job is compared. So a number at an equal budget, which lies between two validations, has none.

    Args:
        metric: the metric of the verdict.
        arms: the arms, with their jobs.
        decided: the verdict over seeds.
    """
    compared = [arm for arm in decided.order if arm not in decided.diverged]
    if metric is None or metric not in METRICS or len(compared) < 2 or decided.compared_to not in compared:
        return SentenceIntervals()
    first, *others = sorted(compared, key=lambda arm: arm != decided.compared_to)
    unknown: dict[str, list[str]] = {}
    try:
        found, shared = _arm_statistics(metric, arms[first], None)
        known = {first: found}
        for arm in others:
            try:
                known[arm], _ = _arm_statistics(metric, arms[arm], shared)
            except _UnknownSentencesError as error:
                unknown.setdefault(str(error), []).append(arm)
    except _UnknownSentencesError as error:
        return SentenceIntervals({}, f"{NOT_KNOWN}: {first} {error}.")
    except ImportError:
        return SentenceIntervals({}, f"Intervals over held-out sentences need sacrebleu: {INSTALL_COMMAND}.")
    clusters = clusters_of(shared.documents)
    resampled = bootstrap_differences(
        known,
        METRICS[metric].of_sums,
        compared_to=first,
        rng=np.random.default_rng(RESAMPLING_SEED),
        clusters=clusters,
        level=decided.level,
    )
    num_seeds = {arm: found.num_seeds for arm, found in decided.differences.items()}
    differences = {arm: replace(found, num_seeds=num_seeds[arm]) for arm, found in resampled.items()}
    return SentenceIntervals(differences, _basis(differences, shared, clusters, unknown))


class _UnknownSentencesError(Exception):
    """The reason why an arm has no interval, as the predicate of a sentence."""


def _arm_statistics(metric: str, arm: "Group", shared: SentenceStatistics | None) -> tuple[Arm, SentenceStatistics]:
    """Return the weight and the statistics of each job of an arm, and the sentences that all jobs share.

    Bits per byte are linear in the nats, so the jobs of an arm are averaged at once.
    """
    found: list[tuple[float, NDArray[np.float64]]] = []
    for weight, job in arm.weighted_jobs(metric):
        of_job = _job_statistics(metric, job)
        shared = of_job if shared is None else shared
        _check_same_sentences(metric, of_job, shared)
        if metric != "bits_per_byte":
            found.append((weight, of_job.values))
        elif not found:
            found.append((1.0, weight * of_job.values))
        else:
            found[0] = (1.0, found[0][1] + weight * of_job.values)
    assert shared is not None
    return found, shared


def _job_statistics(metric: str, job: "JobRecord") -> SentenceStatistics:
    try:
        found = read_held_out(job.folder, metric)
    except StoreError as error:
        raise _UnknownSentencesError(f"has a job whose sentences cannot be read: {str(error).rstrip('.')}") from error
    if found is None:
        raise _UnknownSentencesError("has jobs that stored no sentences")
    number, of_metric = float(job.number(metric) or 0.0), METRICS[metric]
    told = None if job.report.held_out is None else job.report.held_out.digest
    if not math.isclose(of_metric.of_sentences(found.values), number, rel_tol=1e-5, abs_tol=of_metric.tolerance):
        raise _UnknownSentencesError("is not compared by its last evaluation, whose sentences are stored")
    if found.digest and told and told != found.digest:
        raise _UnknownSentencesError("stored the sentences of other held-out pairs")
    return found


def _check_same_sentences(metric: str, found: SentenceStatistics, shared: SentenceStatistics) -> None:
    columns = list(METRICS[metric].of_reference)
    is_same = found.digest == shared.digest and np.array_equal(found.rows, shared.rows)
    if not is_same or not np.array_equal(found.values[:, columns], shared.values[:, columns]):
        raise _UnknownSentencesError("stored other held-out sentences")


def clusters_of(documents: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """Return the cluster of each sentence, numbered from 0; a sentence without a document is one of its own.

    None if no document is known.
    """
    if documents is None or (documents < 0).all():
        return None
    alone = documents < 0
    own = documents.max() + 1 + np.arange(len(documents))
    clusters: NDArray[np.int64] = np.unique(np.where(alone, own, documents), return_inverse=True)[1]
    return clusters


def _basis(
    differences: Mapping[str, Difference],
    shared: SentenceStatistics,
    clusters: NDArray[np.int64] | None,
    unknown: Mapping[str, list[str]],
) -> str:
    missing = [f"{names_text(arms)} {reason}" for reason, arms in unknown.items()]
    if not differences:
        return f"{NOT_KNOWN}: {'; '.join(missing)}."
    sentences = f"{len(shared.rows):,} held-out sentences"
    if clusters is not None:
        sentences += f" in {clusters.max() + 1:,} documents, which are drawn as a whole"
    told = f"Over sentences: {NUM_RESAMPLES:,} resamples of {sentences}; models stay as trained. Seeds alone decide."
    return f"{told} Not known: {'; '.join(missing)}." if missing else told
