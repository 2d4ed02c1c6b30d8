"""Checks for datasets without a pair: raises an error if training needs the dataset, otherwise logs a warning."""

import logging
from collections.abc import Mapping
from typing import cast

from mtx.components.identity import JSON
from mtx.data.dataset import TranslationDataset
from mtx.data.validation_sets import CONFIG_KEY as SETS_KEY
from mtx.errors import EmptyDatasetError
from mtx.infra.dataset.download import Downloader

log = logging.getLogger(__name__)


def check_filtered(filtered: Mapping[str, TranslationDataset], downloader: Downloader) -> None:
    """Check that each filtered split, and each source of a mixture, has at least one pair; warn about the others.

    Raises:
        EmptyDatasetError: the training split has no pair, or a source with a weight in the mixture has no training
            pair.
    """
    for split, dataset in filtered.items():
        if dataset.n:
            if split == "train" and "sources" in dataset.metrics:
                _check_sources(dataset, is_weighted=downloader.is_weighted)
            continue
        reasons = _dropped_text(dataset.metrics)
        if split == "train":
            raise EmptyDatasetError(
                f"{dataset.name} has no training pair left; dropped: {reasons}. "
                "Check the source, relax the filter (filter.…), or keep all pairs with filter=none"
            )
        log.warning(
            "the %s split of %s is empty (dropped: %s). Set datamodule.%s to a higher number, or to null for none",
            split,
            dataset.name,
            reasons,
            split,
        )


def check_validation_set(dataset: TranslationDataset, name: str) -> None:
    """Raise EmptyDatasetError if an additional validation set has no pair."""
    if not dataset.n:
        raise EmptyDatasetError(f"{dataset.name} has no pair. Name another with {SETS_KEY}.{name}=FILE")


def _check_sources(train: TranslationDataset, *, is_weighted: bool) -> None:
    for name, counts in cast(dict[str, dict[str, JSON]], train.metrics["sources"]).items():
        if counts["kept"]:
            continue
        problem = f"the source {name!r} of the mixture has no training pair left; dropped: {_dropped_text(counts)}"
        if is_weighted:
            raise EmptyDatasetError(
                f"{problem}. Check the source, relax the filter (filter.…), or remove it from downloader.sources"
            )
        log.warning("%s", problem)


def _dropped_text(counts: Mapping[str, JSON]) -> str:
    """Return the counts of dropped pairs by reason, the largest first."""
    dropped = sorted(cast(dict[str, int], counts["dropped"]).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in dropped) or "none; the source has no pair"
