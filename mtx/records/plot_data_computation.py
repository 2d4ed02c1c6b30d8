"""Compute the profile of a run for its plots, from manifests, the plan of an epoch, and the training record."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.planner import Int, Lengths, Plan, batch_shapes
from mtx.data.tokenize.tokenization import vocabulary_size
from mtx.records.plot_data_record import (
    SIDES,
    DataProfile,
    Fertility,
    Histogram,
    PlanProfile,
    Rejects,
    RuleSamples,
    Sample,
    TokensPerStep,
    TrainingProfile,
    ValidationPoint,
)

if TYPE_CHECKING:
    from mtx.training.loader import EpochBatches
    from mtx.training.training_record import TrainingProgress
    from mtx.training.translation_data import TranslationData

MAX_BINS = 60
MAX_SHAPES = 300
MAX_POINTS = 500
MAX_RULES = 30  # rules with samples; a user-defined filter may have more rules

# Above this number of characters per gap between words, a text counts as written without spaces, and tokens per word
# are not reported. Japanese and Chinese lie above; English has a gap in about 6 characters, Finnish in about 8.
MAX_CHARS_PER_GAP = 40

Point = TypeVar("Point")


def data_profile(datamodule: "TranslationData") -> DataProfile:
    """Return the data part of the profile from manifests: pairs that the filter dropped, and tokenizer statistics."""
    repo, ids = datamodule.storage.repo, datamodule.ids
    assert ids is not None
    rejected = {split: reject_profile(repo.manifest(name).metrics) for split, name in ids.filtered.items()}
    counts, pair = datamodule.token_counts(), datamodule.tokenizers
    num_pairs = len(repo.manifest(ids.filtered["train"]))
    sizes = {"source": vocabulary_size(pair.source), "target": vocabulary_size(pair.target)}
    return DataProfile(
        rejects={split: found for split, found in rejected.items() if found or split == "train"},
        fertility={side: fertility(counts, side, num_pairs, size) for side, size in sizes.items()},
        **rule_samples(repo.manifest(ids.filtered["train"]).metrics),
    )


def plan_profile(batches: "EpochBatches", lengths: Lengths, *, length_multiple: int = 1) -> PlanProfile:
    """Return the plan part of the profile for the next epoch of `batches`: lengths, bucket edges, shapes and tokens.

    Args:
        batches: The batches of one rank or of several; the profile covers the whole epoch.
        lengths: The lengths of all rows in this epoch.
        length_multiple: The number to a multiple of which tensor lengths are rounded up.
    """
    plan = batches.plan()
    edges = batches.draft.edges(seed=batches.seed, epoch=batches.planned_epoch)
    of_batches = batch_shapes(plan, lengths, length_multiple=length_multiple)
    found = common_shapes(of_batches)
    return PlanProfile(
        lengths={side: histogram(getattr(lengths, side)[plan.rows]) for side in SIDES},
        bucket_edges={side: tuple(map(int, edges[side])) if side in edges else None for side in SIDES},
        shapes=found.shapes,
        num_shapes=found.num_shapes,
        other_batches=found.other_batches,
        tokens_per_step=tokens_per_step(plan, lengths, of_batches),
    )


def fit_profile(progress: "TrainingProgress") -> TrainingProfile:
    """Return the training part of the profile: validations and training loss; a value that is not finite is None."""
    points = [
        ValidationPoint(
            step=found["step"],
            seconds=_finite_or_none(found.get("seconds")),
            real_tokens=_finite_or_none(found.get("real_tokens")),
            epoch=_finite_or_none(found.get("epoch")),
            bits_per_byte=_finite_or_none(found.get("val/bits_per_byte")),
            loss=_finite_or_none(found.get("val/loss")),
        )
        for found in progress.validations
    ]
    losses = [(step, loss) for step, loss in progress.train_losses if math.isfinite(loss)]
    return TrainingProfile(
        validations=tuple(spaced_points(points, MAX_POINTS)), train_loss=tuple(spaced_points(losses, MAX_POINTS))
    )


def reject_profile(metrics: Mapping[str, Any]) -> dict[str, Rejects]:
    """Return the number of dropped pairs of each filter rule and some samples, the most frequent rule first.

    Datasets of older versions of mtx have no samples.

    Args:
        metrics: The metrics in the manifest of a filtered dataset.
    """
    counts: dict[str, int] = metrics["dropped"]
    samples: dict[str, list[dict[str, str]]] = metrics.get("rejects", {})
    reasons = sorted(counts, key=lambda reason: (-counts[reason], reason))
    with_samples = frozenset(reasons[:MAX_RULES])
    return {
        reason: Rejects(
            count=counts[reason],
            samples=tuple(Sample(**sample) for sample in samples.get(reason, ()) if reason in with_samples),
        )
        for reason in reasons
    }


def rule_samples(metrics: Mapping[str, Any]) -> dict[str, dict[str, RuleSamples]]:
    """Return the field `rules` of a profile from the metrics of a filtered dataset; empty for other filters.

    The rules of the selections before are among them, since each rule of such a chain has a name of its own.
    """
    fields = tuple(RuleSamples.model_fields)
    rules: dict[str, RuleSamples] = {}
    selection: Mapping[str, Any] | None = metrics.get("rules")
    while selection is not None:
        rules |= {
            name: RuleSamples.model_validate({key: rule[key] for key in fields})
            for name, rule in selection.get("rules", {}).items()
            if rule["dropped_alone"]
        }
        selection = selection.get("before")
    return {"rules": rules} if rules else {}


def fertility(metrics: Mapping[str, Any], side: str, num_pairs: int, vocab_size: int) -> Fertility:
    """Return the tokenizer statistics of one side of the training split.

    Args:
        metrics: The counts in the manifest of the encoded dataset. Counts that an older mtx did not store are missing.
        side: `source` or `target`.
        num_pairs: The number of pairs in the dataset.
        vocab_size: The vocabulary size of the side.

    Returns:
        The statistics. A ratio is None if a count is missing or its divisor is 0. Tokens per word are also None for
        texts almost without spaces.
    """
    tokens, chars, words, num_bytes, unknown, unused = (
        metrics.get(f"{side}_{name}") for name in ("tokens", "chars", "words", "bytes", "unknown", "unused")
    )
    has_spaces = words is not None and chars is not None and chars <= MAX_CHARS_PER_GAP * (words - num_pairs)
    return Fertility(
        vocab_size=vocab_size,
        tokens_per_word=_ratio(tokens, words) if has_spaces else None,
        tokens_per_char=_ratio(tokens, chars),
        bytes_per_token=_ratio(num_bytes, tokens),
        unknown_share=_ratio(unknown, tokens),
        unused_share=_ratio(unused, vocab_size),
    )


def histogram(values: NDArray[np.integer[Any]]) -> Histogram:
    """Return a histogram of integers of at least 0, with at most 60 bins of equal width."""
    if not len(values):
        return Histogram(edges=(0,), counts=())
    of_value = np.bincount(values)
    low, high = int(np.flatnonzero(of_value)[0]), len(of_value) - 1
    width = -(-(high - low + 1) // MAX_BINS)
    starts = np.arange(low, high + 1, width)
    return Histogram(
        edges=(*starts.tolist(), int(starts[-1]) + width), counts=tuple(np.add.reduceat(of_value, starts).tolist())
    )


def common_shapes(of_batches: Int) -> PlanProfile:
    """Return the most frequent batch shapes as (B, S, T, number of batches), and the count of all others.

    Args:
        of_batches: The shape (B, S, T) of each batch, int64 [batches, 3].
    """
    found, counts = np.unique(of_batches, axis=0, return_counts=True)
    kept = np.argsort(-counts, kind="stable")[:MAX_SHAPES]
    return PlanProfile(
        shapes=tuple(map(tuple, np.column_stack([found[kept], counts[kept]]).tolist())),
        num_shapes=len(found),
        other_batches=int(counts.sum() - counts[kept].sum()),
    )


def tokens_per_step(plan: Plan, lengths: Lengths, of_batches: Int) -> TokensPerStep:
    """Return real and padded tokens of both sides, for evenly spaced batches in the order of the epoch.

    `positions` are the numbers of the batches from 0. `padded` counts all slots of both tensors, padding or not.
    """
    if not len(plan):
        return TokensPerStep(positions=(), real=(), padded=())
    both = (lengths.source + lengths.target)[plan.rows].astype(np.int64)
    real = np.add.reduceat(both, plan.offsets[:-1])[plan.order]
    padded = of_batches[:, 0] * (of_batches[:, 1] + of_batches[:, 2])
    at = spaced_points(range(len(plan)), MAX_POINTS)
    return TokensPerStep(positions=tuple(at), real=tuple(real[at].tolist()), padded=tuple(padded[at].tolist()))


def spaced_points(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most `most` of the points, evenly spaced, including the first and the last point."""
    if len(points) <= most:
        return list(points)
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
