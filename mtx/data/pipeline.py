"""From a source to token ids: every stage, in order, each stored under a name that its inputs and config decide.

    downloader → raw → held out, filtered → tokenizer → encoded

Asking for what exists reads it; two processes that ask at once build it once.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from tokenizers import Tokenizer

from mtx.data.dataset import SPLITS, Split, TranslationDataset
from mtx.data.encode import encode_pairs
from mtx.data.filter.base import PairFilter
from mtx.data.progress import track
from mtx.data.split import HeldOut, assign, held_out_sources, select
from mtx.data.store import Store
from mtx.data.tokenize.base import Tokenization
from mtx.data.tokenize.pair import TokenizerPair, get_or_train
from mtx.errors import EmptyDatasetError
from mtx.identity import JSON, digest, identity
from mtx.infra.dataset.download import Downloader, SourceInfo

log = logging.getLogger(__name__)

VERSION = 1  # goes up when this module makes other output from the same inputs


@dataclass(frozen=True)
class Recipe:
    """What decides the data: one component a stage."""

    downloader: Downloader
    held_out: HeldOut
    filter: PairFilter
    tokenizer: Tokenization


@dataclass(frozen=True)
class StageIds:
    """Names of what a recipe made, by split. Plain text, so that one process can tell the others.

    Attributes:
        raw: raw datasets by the source's own splits.
        filtered: filtered datasets by split.
        tokenizer: the tokenizer's folder.
        encoded: encoded datasets by split.
        built: the ids that were missing and were built now.
    """

    raw: dict[str, str]
    filtered: dict[str, str]
    tokenizer: str
    encoded: dict[str, str]
    built: list[str] = field(default_factory=list)


def prepare(recipe: Recipe, store: Store) -> StageIds:
    """Build whatever of `recipe` is missing from the store, and return the names of all of it.

    Raises:
        SourceError: the source cannot be read.
        EmptyDatasetError: no training pair is left.
        TokenizerError: the tokenizer cannot be made or does not fit.
    """
    built: list[str] = []
    info = recipe.downloader.info()
    raw = {split: _raw(recipe, store, info, split, built) for split in info.splits}
    filtered = {split: _filtered(recipe, store, info, raw, split, built) for split in _wanted(recipe, info)}
    for split, dataset_id in filtered.items():
        _check_not_empty(store, split, dataset_id)
    tokenizers = get_or_train(recipe.tokenizer, store, filtered["train"], built)
    encoded = {split: _encoded(store, dataset_id, tokenizers, built) for split, dataset_id in filtered.items()}
    return StageIds(raw=raw, filtered=filtered, tokenizer=tokenizers.id, encoded=encoded, built=built)


def _wanted(recipe: Recipe, info: SourceInfo) -> list[str]:
    return [s for s in SPLITS if s == "train" or s in info.splits or getattr(recipe.held_out, s)]


def _raw(recipe: Recipe, store: Store, info: SourceInfo, split: str, built: list[str]) -> str:
    described = {"stage": "raw", "version": VERSION, "source": info.identity, "split": split}
    raw_id = f"raw-{split}-{digest(described)}"

    def build() -> TranslationDataset:
        built.append(raw_id)
        skipped: dict[str, int] = {}
        return TranslationDataset(
            id=raw_id,
            name=info.name,
            stage="raw",
            split=cast(Split, split),
            languages=info.languages,
            provenance={"revision": info.revision, "source": dict(info.identity)},
            metrics={"skipped": cast(dict[str, JSON], skipped)},
            data=track(recipe.downloader.batches(split, skipped), f"reading {info.name} {split}"),
        )

    if store.repo.get_or_build(raw_id, build).n == 0 and split == "train":
        store.repo.remove(raw_id)  # nothing worth keeping, and the source may have been repaired by the next run
        raise EmptyDatasetError(f"{info.name} has no pair in its {split} split. Check the source that downloader names")
    return raw_id


def _filtered(
    recipe: Recipe, store: Store, info: SourceInfo, raw: dict[str, str], split: str, built: list[str]
) -> str:
    described = {
        "stage": "filtered",
        "version": VERSION,
        "raw": raw,
        "held_out": identity(recipe.held_out),
        "filter": identity(recipe.filter),
        "split": split,
    }
    filtered_id = f"filtered-{split}-{digest(described)}"

    def build() -> TranslationDataset:
        built.append(filtered_id)
        dropped: dict[str, int] = {}
        counts: dict[str, JSON] = {"dropped": cast(dict[str, JSON], dropped)}
        pairs = _pairs_of(recipe, store, raw, split, dropped)
        counts["num_pairs_in"] = pairs.num_rows + sum(dropped.values())
        return TranslationDataset(
            id=filtered_id,
            name=info.name,
            stage="filtered",
            split=cast(Split, split),
            languages=info.languages,
            provenance={
                "inputs": list(raw.values()),
                "held_out": identity(recipe.held_out),
                "filter": identity(recipe.filter),
            },
            metrics=counts,
            data=track(recipe.filter.apply(pairs, dropped), f"filtering {split}", pairs.num_rows),
        )

    store.repo.get_or_build(filtered_id, build)
    return filtered_id


def _pairs_of(
    recipe: Recipe, store: Store, raw: dict[str, str], split: str, dropped: dict[str, int]
) -> pa.Table:
    """Return the raw pairs of a split: the source's own, or those held out from (or left in) its training split."""
    own = split in raw and split != "train"
    table = store.repo.get(raw[split if own else "train"]).data.table  # type: ignore[union-attr]
    if own:
        return table
    held_out = [s for s in SPLITS[1:] if s not in raw and getattr(recipe.held_out, s)]
    ...


def _encoded(store: Store, filtered_id: str, tokenizers: TokenizerPair, built: list[str]) -> str:
    filtered = store.repo.manifest(filtered_id)
    described = {"stage": "encoded", "version": VERSION, "filtered": filtered_id, "tokenizer": tokenizers.id}
    encoded_id = f"encoded-{filtered.split}-{digest(described)}"

    def build() -> TranslationDataset:
        built.append(encoded_id)
        counts: dict[str, int] = {}
        pairs = store.repo.get(filtered_id).data
        assert pairs is not None
        return TranslationDataset(
            id=encoded_id,
            name=filtered.name,
            stage="encoded",
            split=filtered.split,
            languages=filtered.languages,
            provenance={"inputs": [filtered_id, tokenizers.id]},
            metrics=cast(dict[str, JSON], counts),
            data=encode_pairs(
                pairs.table, tokenizers.source, tokenizers.target, scratch=store.scratch(), counts=counts
            ),
        )

    store.repo.get_or_build(encoded_id, build)
    return encoded_id
