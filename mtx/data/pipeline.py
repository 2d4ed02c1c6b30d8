"""From a source to token ids: every stage, in order, each stored under a name that its inputs and config decide.

    downloader → raw → held out, filtered → tokenizer → encoded
    further validation sets, text to translate → raw → encoded

Asking for what exists reads it; two processes that ask at once build it once.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.corpus import BETWEEN, Corpus, SourceTally
from mtx.data.dataset import SPLITS, Split, TranslationDataset
from mtx.data.encode import encode_pairs
from mtx.data.filter.base import PairFilter, count_dropped
from mtx.data.filter.none import NoFilter
from mtx.data.pairs import pair_batches, without_source
from mtx.data.progress import track
from mtx.data.seen import remembered
from mtx.data.sets import KEY as SETS_KEY
from mtx.data.sets import PREDICT, named_errors
from mtx.data.split import LEAK, HeldOut, assign, select
from mtx.data.store import Store
from mtx.data.tokenize.base import Tokenization
from mtx.data.tokenize.pair import TokenizerPair, get_or_train
from mtx.data.tokenize.words import get_or_cut
from mtx.errors import ConfigError, EmptyDatasetError
from mtx.identity import JSON, digest, identity
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.sources.mixture import MixtureDownloader

log = logging.getLogger(__name__)

HELD_OUT_AS_IT_IS = NoFilter()  # so that runs with other filters are measured on the same text

VERSION = 1  # goes up when this module makes other output from the same inputs


@dataclass(frozen=True)
class Recipe:
    """What decides the data: one component a stage.

    Attributes:
        downloader: where the corpus comes from.
        held_out: what of it is not trained on.
        filter: how it is cleaned.
        tokenizer: how texts become ids.
        validation_sets: further sets to validate on, by name: the training split of each downloader. They are not
            filtered; with `held_out.drop_leaks` no source sentence of theirs is trained on.
        predict_from: text to translate, its targets empty.
    """

    downloader: Downloader
    held_out: HeldOut
    filter: PairFilter
    tokenizer: Tokenization
    validation_sets: Mapping[str, Downloader] = field(default_factory=dict)
    predict_from: Downloader | None = None


@dataclass(frozen=True)
class StageIds:
    """Names of what a recipe made, by split. Plain text, so that one process can tell the others.

    Attributes:
        raw: raw datasets by the source's own splits; those of a mixture by `SOURCE/SPLIT`.
        filtered: filtered datasets by split.
        tokenizer: the tokenizer's folder.
        encoded: encoded datasets by split.
        beside_raw: raw datasets beside the corpus: validation sets by name, and the text to translate as `predict`.
        beside: the same, encoded.
        words: the words of the training split, where its texts are cut into other tokens in each epoch.
        built: the ids that were missing and were built now.
    """

    raw: Mapping[str, str]
    filtered: Mapping[str, str]
    tokenizer: str
    encoded: Mapping[str, str]
    beside_raw: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    words: str | None = None
    built: list[str] = field(default_factory=list)


def prepare(recipe: Recipe, store: Store) -> StageIds:
    """Build whatever of `recipe` is missing from the store, and return the names of all of it.

    Raises:
        ConfigError: the held-out splits leave nothing to train on, or a validation set is of the other direction.
        SourceError: the source cannot be read.
        EmptyDatasetError: no training pair is left, or a validation set has none.
        TokenizerError: the tokenizer cannot be made or does not fit.
    """
    built: list[str] = []
    recipe = _remembering(recipe, store)
    info = recipe.downloader.info()
    raw = _raw_corpus(recipe.downloader, store, info, built)
    sets = {name: _raw_set(name, source, store, info, built) for name, source in recipe.validation_sets.items()}
    parts = _Parts(recipe, Corpus(recipe.downloader, info, raw, store.repo), sets)
    filtered: dict[str, str] = {split: _filtered(recipe, store, parts, split, built) for split in parts.splits}
    _check_not_empty(recipe, store, filtered)
    tokenizers = get_or_train(recipe.tokenizer, store, filtered["train"], built)
    encoded = {split: _encoded(store, dataset_id, tokenizers, built) for split, dataset_id in filtered.items()}
    words = get_or_cut(store, filtered["train"], tokenizers, built) if recipe.tokenizer.samples else None
    beside_raw = dict(sets)
    if recipe.predict_from is not None:
        text = recipe.predict_from
        beside_raw[PREDICT] = _raw(text, store, text.info(), "train", built, stored_as="test")
    return StageIds(
        raw=raw,
        filtered=filtered,
        tokenizer=tokenizers.id,
        encoded=encoded,
        beside_raw=beside_raw,
        beside={name: _encoded(store, raw_id, tokenizers, built) for name, raw_id in beside_raw.items()},
        words=words,
        built=built,
    )


def _remembering(recipe: Recipe, store: Store) -> Recipe:
    """Let sources on servers be asked no more than they have to."""
    return replace(
        recipe,
        downloader=remembered(recipe.downloader, store),
        validation_sets={name: remembered(source, store) for name, source in recipe.validation_sets.items()},
        predict_from=None if recipe.predict_from is None else remembered(recipe.predict_from, store),
    )


class _Parts:
    """The raw pairs of each split: the source's own, or those held out from (or left in) its training split."""

    def __init__(self, recipe: Recipe, corpus: Corpus, sets: Mapping[str, str]) -> None:
        self.recipe = recipe
        self.corpus = corpus
        self.kept_apart = sorted(set(sets.values())) if recipe.held_out.drop_leaks else []
        self._own = [split for split in SPLITS[1:] if split in corpus.splits]
        self._held_out = [split for split in SPLITS[1:] if split not in self._own and getattr(recipe.held_out, split)]

    @property
    def splits(self) -> list[Split]:
        """Those that the source has, and those that are held out, in the order of `SPLITS`."""
        return ["train", *(split for split in SPLITS[1:] if split in self._own or split in self._held_out)]

    def pairs(self, split: Split, tally: SourceTally) -> Iterator[pa.RecordBatch]:
        """Stream the pairs of `split`; training pairs that leak held-out ones count as dropped."""
        table = self.corpus.table(split if split in self._own else "train")
        if split in self._own:
            tally.begun(table)
            return iter(table.to_batches())
        leaks = (self._assignment == LEAK) & (split == "train")
        tally.begun(table, (self._assignment == SPLITS.index(split)) | leaks)
        count_dropped(tally.dropped, "in_held_out", leaks, table)
        if split == "train":
            tally.capped(self.corpus.num_capped())
        return select(table, self._assignment, split)

    def inputs(self, split: Split) -> dict[str, JSON]:
        """Name what the pairs of `split` depend on; where no set is kept apart, as if there were none."""
        kept_apart = self.kept_apart if split == "train" or split not in self._own else []
        return {**self.corpus.described(), **({"kept_apart": list(kept_apart)} if kept_apart else {})}

    @cached_property
    def _assignment(self) -> NDArray[np.uint8]:
        own = [self.corpus.table(split) for split in self._own]
        own += [self.corpus.rows(dataset_id) for dataset_id in self.kept_apart]
        return assign(self.corpus.table("train"), self.recipe.held_out, wanted=self._held_out, own=own)


def _raw_corpus(downloader: Downloader, store: Store, info: SourceInfo, built: list[str]) -> dict[str, str]:
    """Store all splits of a source; of a mixture, each source as if it were alone."""
    if not isinstance(downloader, MixtureDownloader):
        return {split: _raw(downloader, store, info, split, built) for split in info.splits}
    raw: dict[str, str] = {}
    for name, part in downloader.parts.items():
        with downloader.named_errors(name):
            own = downloader.part_infos[name]
            raw |= {f"{name}{BETWEEN}{split}": _raw(part, store, own, split, built) for split in own.splits}
    return raw


def _raw(
    downloader: Downloader, store: Store, info: SourceInfo, split: str, built: list[str], stored_as: str | None = None
) -> str:
    """Store a split of a source; `stored_as` calls it another split than the source does."""
    described = {"stage": "raw", "version": VERSION, "source": info.identity, "split": split}
    if stored_as is not None:
        described["stored_as"] = stored_as
    raw_id = f"raw-{stored_as or split}-{digest(described)}"

    def build() -> TranslationDataset:
        built.append(raw_id)
        skipped: dict[str, int] = {}
        batches = downloader.batches(split, skipped)
        return TranslationDataset(
            id=raw_id,
            name=info.name,
            stage="raw",
            split=cast(Split, stored_as or split),
            languages=info.languages,
            provenance={"revision": info.revision, "source": dict(info.identity), **info.provenance},
            metrics={"skipped": cast(dict[str, JSON], skipped)},
            data=track(pair_batches(map(without_source, batches)), f"reading {info.name} {split}"),
        )

    store.repo.get_or_build(raw_id, build)
    return raw_id


def _raw_set(name: str, source: Downloader, store: Store, corpus: SourceInfo, built: list[str]) -> str:
    """Store a further validation set. Raises as `prepare` does."""
    with named_errors(name):
        info = source.info()
        if info.languages == corpus.languages[::-1] != corpus.languages:
            raise ConfigError(
                f"its languages are {' to '.join(info.languages)}, but those of {corpus.name} are "
                f"{' to '.join(corpus.languages)}. Swap its sides, with {SETS_KEY}.{name}.source_column and "
                "target_column, or source_language and target_language"
            )
        raw_id = _raw(source, store, info, "train", built, stored_as="validation")
        if not store.repo.manifest(raw_id).n:
            raise EmptyDatasetError(f"{info.name} has no pair. Name another with {SETS_KEY}.{name}=FILE")
    return raw_id


def _filtered(recipe: Recipe, store: Store, parts: _Parts, split: Split, built: list[str]) -> str:
    keeper = recipe.filter if split == "train" else HELD_OUT_AS_IT_IS
    made_by = {"held_out": identity(recipe.held_out), "filter": identity(keeper)}
    described = {"stage": "filtered", "version": VERSION, **parts.inputs(split), **made_by, "split": split}
    filtered_id = f"filtered-{split}-{digest(described)}"

    def build() -> TranslationDataset:
        built.append(filtered_id)
        corpus, tally = parts.corpus, SourceTally(parts.corpus.names)
        pairs = track(parts.pairs(split, tally), f"filtering {split}")
        return TranslationDataset(
            id=filtered_id,
            name=corpus.info.name,
            stage="filtered",
            split=split,
            languages=corpus.info.languages,
            provenance={"inputs": [*corpus.raw.values(), *parts.kept_apart], **made_by},
            metrics=tally.metrics,
            data=tally.kept(keeper.apply(pairs, tally.dropped)),
        )

    store.repo.get_or_build(filtered_id, build)
    return filtered_id


def _check_not_empty(recipe: Recipe, store: Store, filtered: Mapping[str, str]) -> None:
    for split, dataset_id in filtered.items():
        dataset = store.repo.manifest(dataset_id)
        if dataset.n:
            if split == "train" and isinstance(recipe.downloader, MixtureDownloader):
                _check_sources(dataset, recipe.downloader)
            continue
        told = _told(dataset.metrics)
        if split == "train":
            raise EmptyDatasetError(
                f"{dataset.name} has no training pair left; dropped: {told}. "
                "Check the source, loosen the filter (filter.…), or keep everything with filter=none"
            )
        log.warning(
            "the %s split of %s is empty (dropped: %s); hold out more with datamodule.%s=COUNT, or none with =null",
            split,
            dataset.name,
            told,
            split,
        )


def _check_sources(train: TranslationDataset, mixture: MixtureDownloader) -> None:
    """Look for sources of a mixture without a training pair: an error where they have a share of the epochs."""
    for name, counts in cast(dict[str, dict[str, JSON]], train.metrics["sources"]).items():
        if counts["kept"]:
            continue
        said = f"the source {name!r} of the mixture has no training pair left; dropped: {_told(counts)}"
        if mixture.is_weighted:
            raise EmptyDatasetError(
                f"{said}. Check it, loosen the filter (filter.…), or leave it out of downloader.sources"
            )
        log.warning("%s", said)


def _told(counts: Mapping[str, JSON]) -> str:
    dropped = cast(dict[str, int], counts["dropped"])
    return ", ".join(f"{count:,} {reason}" for reason, count in dropped.items()) or "there was none to begin with"


def _encoded(store: Store, filtered_id: str, tokenizers: TokenizerPair, built: list[str]) -> str:
    """Store the ids of a filtered dataset, or of a raw one beside the corpus."""
    filtered = store.repo.manifest(filtered_id)
    described = {"stage": "encoded", "version": VERSION, "filtered": filtered_id, "tokenizer": tokenizers.id}
    encoded_id = f"encoded-{filtered.split}-{digest(described)}"

    def build() -> TranslationDataset:
        built.append(encoded_id)
        counts: dict[str, int] = {}
        pairs = store.repo.get(filtered_id).rows
        return TranslationDataset(
            id=encoded_id,
            name=filtered.name,
            stage="encoded",
            split=filtered.split,
            languages=filtered.languages,
            provenance={"inputs": [filtered_id, tokenizers.id]},
            metrics=cast(dict[str, JSON], counts),
            data=encode_pairs(pairs.table, tokenizers, scratch=store.scratch(), counts=counts),
        )

    store.repo.get_or_build(encoded_id, build)
    return encoded_id
