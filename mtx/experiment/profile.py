"""`profile.json`: what a run leaves for pictures, beside the figures of `report.json`; docs/report.md explains it.

Small at any size of the corpus: histograms instead of lengths, and evenly spaced points instead of all. Text of the
corpus stands in it as it is: whoever shows it has to escape it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mtx.experiment.run import Run
from mtx.infra.dal.base import atomic_file
from mtx.infra.dataset.plan.base import Int, Lengths, Plan, shapes
from mtx.training.loader import EpochBatches
from mtx.training.record import Progress

PROFILE_VERSION = 1
FILE = "profile.json"
SIDES = ("source", "target")

MAX_BINS = 60
MAX_SHAPES = 300
MAX_POINTS = 500
MAX_RULES = 30  # with samples; a filter of one's own may have any number of them

# Text with fewer gaps between words is written without spaces, as Japanese and Chinese are, or has a word a line:
# there, white space says nothing of words. English has a gap in some 6 characters, Finnish in 8.
MAX_CHARS_PER_GAP = 40

Point = TypeVar("Point")


def write_profile(folder: Path, profile: Mapping[str, Any]) -> Path:
    """Write `profile.json` into a folder, whole or not at all, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"profile_version": PROFILE_VERSION, **profile}, ensure_ascii=False, allow_nan=False)
    with atomic_file(folder / FILE) as file:
        file.write(text.encode() + b"\n")
    return folder / FILE


def data_profile(run: Run) -> dict[str, Any]:
    """Profile what was prepared, from its manifests: what the filter rejected, and how the tokenizer cuts."""
    datamodule = run.datamodule
    repo, ids = datamodule.storage.repo, datamodule.ids
    assert ids is not None
    rejected = {split: rejects(repo.manifest(name).metrics) for split, name in ids.filtered.items()}
    encoded, pair = repo.manifest(ids.encoded["train"]), datamodule.tokenizers
    sizes = {"source": pair.source.get_vocab_size(), "target": pair.target.get_vocab_size()}
    return {
        "rejects": {split: found for split, found in rejected.items() if found or split == "train"},
        "fertility": {side: fertility(encoded.metrics, side, len(encoded), size) for side, size in sizes.items()},
    }


def plan_profile(batches: EpochBatches, lengths: Lengths, *, length_multiple: int = 1) -> dict[str, Any]:
    """Profile the batches of the next epoch of `batches`: lengths, where they are cut, shapes, and tokens of each.

    Args:
        batches: of one rank or several; the epoch is looked at as a whole.
        lengths: of all rows in that epoch.
        length_multiple: what positions are rounded up to a multiple of.
    """
    plan = batches.plan()
    edges = batches.draft.edges(seed=batches.seed, epoch=batches.planned_epoch)
    of_batches = shapes(plan, lengths, length_multiple=length_multiple)
    return {
        "lengths": {side: histogram(getattr(lengths, side)[plan.rows]) for side in SIDES},
        "bucket_edges": {side: [int(edge) for edge in edges[side]] if side in edges else None for side in SIDES},
        **common_shapes(of_batches),
        "tokens_per_step": tokens_per_step(plan, lengths, of_batches),
    }


def fit_profile(progress: Progress) -> dict[str, Any]:
    """Profile a training: the curves of held-out text and of the training loss. What is no number is None."""
    looks = [
        {
            "step": found["step"],
            **{name: _finite(found.get(name)) for name in ("seconds", "real_tokens", "epoch")},
            "bits_per_byte": _finite(found.get("val/bits_per_byte")),
            "loss": _finite(found.get("val/loss")),
        }
        for found in progress.validations
    ]
    losses = [[step, loss] for step, loss in progress.train_losses if math.isfinite(loss)]
    return {"curve": spaced(looks, MAX_POINTS), "train_loss": spaced(losses, MAX_POINTS)}


def rejects(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return, of a filtered dataset's metrics, `count` and `samples` by rule, the most frequent first.

    Datasets that were stored before samples were kept have none.
    """
    counts: dict[str, int] = metrics["dropped"]
    samples: dict[str, list[dict[str, str]]] = metrics.get("rejects", {})
    reasons = sorted(counts, key=lambda reason: (-counts[reason], reason))
    return {
        reason: {"count": counts[reason], "samples": samples.get(reason, []) if place < MAX_RULES else []}
        for place, reason in enumerate(reasons)
    }


def fertility(metrics: Mapping[str, Any], side: str, num_pairs: int, vocab_size: int) -> dict[str, float | None]:
    """Return how a tokenizer cuts the training texts of a side, from the metrics of the encoded dataset.

    Args:
        metrics: what was counted; datasets of earlier versions lack some, and then the ratio is None.
        side: `source` or `target`.
        num_pairs: of the dataset.
        vocab_size: of the side's vocabulary.

    Returns:
        `tokens_per_word`, None for text with next to no spaces; `tokens_per_char`; `bytes_per_token`;
        `unknown_share` of the tokens; `unused_share` of the vocabulary; `vocab_size`. A ratio to nothing is None.
    """
    tokens, chars, words, num_bytes, unknown, unused = (
        metrics.get(f"{side}_{name}") for name in ("tokens", "chars", "words", "bytes", "unknown", "unused")
    )
    has_spaces = words is not None and chars is not None and chars <= MAX_CHARS_PER_GAP * (words - num_pairs)
    return {
        "vocab_size": vocab_size,
        "tokens_per_word": _ratio(tokens, words) if has_spaces else None,
        "tokens_per_char": _ratio(tokens, chars),
        "bytes_per_token": _ratio(num_bytes, tokens),
        "unknown_share": _ratio(unknown, tokens),
        "unused_share": _ratio(unused, vocab_size),
    }


def histogram(values: NDArray[np.integer[Any]]) -> dict[str, list[int]]:
    """Count values of at least 0 in at most 60 bins of equal width: bin i is from `edges[i]` to `edges[i + 1]` - 1."""
    if not len(values):
        return {"edges": [0], "counts": []}
    of_value = np.bincount(values)
    low, high = int(np.flatnonzero(of_value)[0]), len(of_value) - 1
    width = -(-(high - low + 1) // MAX_BINS)
    starts = np.arange(low, high + 1, width)
    return {
        "edges": [*starts.tolist(), int(starts[-1]) + width],
        "counts": np.add.reduceat(of_value, starts).tolist(),
    }


def common_shapes(of_batches: Int) -> dict[str, Any]:
    """Return the most frequent shapes as [pairs, source, target positions, batches], given int64 [batches, 3].

    With `num_shapes`, how many there are in all, and `other_batches`, those of shapes that are not listed.
    """
    found, counts = np.unique(of_batches, axis=0, return_counts=True)
    kept = np.argsort(-counts, kind="stable")[:MAX_SHAPES]
    return {
        "shapes": np.column_stack([found[kept], counts[kept]]).tolist(),
        "num_shapes": len(found),
        "other_batches": int(counts.sum() - counts[kept].sum()),
    }


def tokens_per_step(plan: Plan, lengths: Lengths, of_batches: Int) -> dict[str, list[int]]:
    """Return, for evenly spaced batches in serving order, `positions` from 0, and the tokens of both sides.

    `real` are tokens; `padded` are all slots of the two tensors, those of real tokens included.
    """
    if not len(plan):
        return {"positions": [], "real": [], "padded": []}
    both = (lengths.source + lengths.target)[plan.rows].astype(np.int64)
    real = np.add.reduceat(both, plan.offsets[:-1])[plan.order]
    padded = of_batches[:, 0] * (of_batches[:, 1] + of_batches[:, 2])
    at = spaced(range(len(plan)), MAX_POINTS)
    return {"positions": at, "real": real[at].tolist(), "padded": padded[at].tolist()}


def spaced(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most so many of some points, evenly spaced, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
