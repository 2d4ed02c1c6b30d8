"""What a recipe made, opened: its tokenizers and splits, mapped into memory when they are asked for."""

from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.data.corpus import BETWEEN, parts_of
from mtx.data.encode import encoded_pairs
from mtx.data.pairs import SOURCE
from mtx.data.pipeline import Recipe, StageIds
from mtx.data.sampled import sampled_pairs
from mtx.data.sets import PREDICT
from mtx.data.store import Store
from mtx.data.tokenize.pair import TokenizerPair, load_pair
from mtx.errors import DataError
from mtx.identity import JSON, digest, identity
from mtx.infra.dataset.collate import BatchFormat
from mtx.infra.dataset.plan.base import Mask, Planner
from mtx.infra.dataset.plan.mixture import Mixing
from mtx.infra.dataset.sources.mixture import MixtureDownloader
from mtx.training.sampled import SampledEpochs
from mtx.training.split import OpenSplit, TooLong


class OpenData:
    """The data of a run. Picklable: what is mapped is mapped anew, rather than copied.

    Args:
        storage: where it lies.
        recipe: what it was made by.
        ids: under which names.
        layout: how a batch looks; the special ids are those of the tokenizers.
        too_long: what happens to a training pair above a maximum of the layout; text to translate is truncated in any
            case, and held-out pairs are served whole.
        eval_max_bytes: held-out pairs with more UTF-8 bytes on a side are left out; None: none are.
        seed: of the training order.
    """

    def __init__(
        self,
        storage: Store,
        recipe: Recipe,
        ids: StageIds,
        *,
        layout: BatchFormat,
        too_long: TooLong,
        seed: int,
        eval_max_bytes: int | None,
    ) -> None:
        self.ids = ids
        self._storage = storage
        self._recipe = recipe
        self._layout = layout
        self._too_long = too_long
        self._seed = seed
        self._eval_max_bytes = eval_max_bytes
        self._splits: dict[str, OpenSplit] = {}
        self._sampled: dict[Planner, SampledEpochs[OpenSplit]] = {}
        self._source_bytes: dict[str, NDArray[np.int64]] = {}

    @cached_property
    def tokenizers(self) -> TokenizerPair:
        """The tokenizers of both sides."""
        return load_pair(self._recipe.tokenizer, self._storage.tokenizers.open(self.ids.tokenizer))

    @cached_property
    def batch_format(self) -> BatchFormat:
        """What a batch looks like, with the special ids of the tokenizers."""
        return replace(self._layout, source=self.tokenizers.source_ids, target=self.tokenizers.target_ids)

    @property
    def names(self) -> list[str]:
        """The names of all splits and sets."""
        return [*self.ids.encoded, *self.ids.beside]

    def split(self, name: str) -> OpenSplit:
        """Return a split or a set, encoded without sampling. Raises DataError where there is none of that name."""
        if name not in self.names:
            raise DataError(f"there is no {name} split; there are: {', '.join(self.names)}")
        if name not in self._splits:
            dataset = self._storage.repo.get({**self.ids.encoded, **self.ids.beside}[name])
            pairs, num_bytes = encoded_pairs(dataset.rows), dataset.rows.table["num_target_bytes"].to_numpy()
            if name == "train":
                opened = OpenSplit(pairs, num_bytes, self.batch_format, self._too_long, self._mixing())
            elif name == PREDICT:
                opened = OpenSplit(pairs, num_bytes, self.batch_format, "truncate")
            else:
                opened = OpenSplit(
                    pairs, num_bytes, self._whole, "truncate", left_out=self._beyond_bytes(name, num_bytes)
                )
            self._splits[name] = opened
        return self._splits[name]

    @property
    def _whole(self) -> BatchFormat:
        """The form of a batch of held-out pairs: no maximum in tokens, which are others for each tokenizer."""
        return replace(self.batch_format, max_source_tokens=None, max_target_tokens=None)

    def _beyond_bytes(self, name: str, num_target_bytes: NDArray[np.int64]) -> Mask | None:
        """Return which held-out pairs are left out for their length in bytes: the same for any tokenizer."""
        if self._eval_max_bytes is None:
            return None
        most: Mask = np.maximum(self.num_source_bytes(name), num_target_bytes) > self._eval_max_bytes
        return most

    @property
    def source_names(self) -> list[str]:
        """The names of a mixture's sources, in order; empty: it is one source."""
        return list(parts_of(self._recipe.downloader))

    def sources(self, name: str) -> NDArray[np.uint16]:
        """Return the source of each pair of a split of a mixture, as a place in `source_names`: uint16 [n].

        Raises DataError where the corpus is one source, or there is no such split.
        """
        if not self.source_names or name not in self.ids.encoded:
            raise DataError(
                f"the pairs of {name} have no source each: only the splits of a mixture do, with downloader=mixture"
            )
        column = self._storage.repo.get(self.ids.encoded[name]).rows.table[SOURCE]
        sources: NDArray[np.uint16] = column.to_numpy()
        return sources

    def _mixing(self) -> Mixing | None:
        """Return what draws the epochs of a mixture with shares; None: an epoch has every pair once."""
        mixture = self._recipe.downloader
        if not isinstance(mixture, MixtureDownloader) or not mixture.is_weighted:
            return None
        names = tuple(mixture.parts)
        return Mixing(
            names=names,
            source=self.sources("train"),
            weights=None if mixture.weights is None else tuple(float(mixture.weights[name]) for name in names),
            temperature=mixture.temperature,
            epoch_pairs=mixture.epoch_pairs,
            seed=self._seed,
        )

    def num_source_bytes(self, name: str) -> NDArray[np.int64]:
        """Return the UTF-8 bytes of each source text of a split or a set, int64 [n]; counted when first asked for."""
        if name not in self._source_bytes:
            texts = self._storage.repo.get({**self.ids.filtered, **self.ids.beside_raw}[name]).rows.table["src"]
            self._source_bytes[name] = pc.cast(pc.binary_length(texts), pa.int64()).to_numpy()
        return self._source_bytes[name]

    def sampled(self, planner: Planner) -> SampledEpochs[OpenSplit] | None:
        """Return the epochs of the training split in the planner's batches; None where no subwords are sampled."""
        if self.ids.words is None:
            return None
        if planner not in self._sampled:
            rows = self._storage.repo.get(self.ids.encoded["train"]).rows
            mixing, whole = self._mixing(), self.split("train")
            opened = partial(
                OpenSplit,
                num_target_bytes=rows.table["num_target_bytes"].to_numpy(),
                layout=self.batch_format,
                too_long=self._too_long,
                # Drawn by the lengths without sampling: those of an epoch would change what others have served.
                drawing=mixing and mixing.servings(planner, whole.lengths, excluded=whole.excluded),
            )
            pairs = sampled_pairs(self._storage, self.ids.words, self.tokenizers, self._recipe.tokenizer)
            self._sampled = {planner: SampledEpochs(pairs, opened, planner, seed=self._seed)}
        return self._sampled[planner]

    def facts(self) -> dict[str, Any]:
        """Return what a model has to know: see `TranslationDataModule.facts`."""
        pair, layout = self.tokenizers, self.batch_format
        return {
            "source_vocab_size": pair.source.get_vocab_size(),
            "target_vocab_size": pair.target.get_vocab_size(),
            "joint_vocabulary": pair.joint,
            "pad_id": layout.target.pad,
            "bos_id": layout.target.bos,
            "eos_id": layout.target.eos,
            "source_pad_id": layout.source.pad,
            "max_source_tokens": self._longest("source"),
            "max_target_tokens": self._longest("target"),
        }

    def held_out(self) -> dict[str, JSON]:
        """Describe what runs are measured on: the same digest, the same pairs, whatever the filter or the tokenizer."""
        names = [name for name in (*self.ids.encoded, *self._recipe.validation_sets) if name not in ("train", "test")]
        named = {name: {**self.ids.filtered, **self.ids.beside_raw}[name] for name in names}
        opened = [self.split(name) for name in names]
        return {
            "digest": digest([named, self._eval_max_bytes]),
            "num_pairs": sum(len(split.pairs) - split.num_dropped for split in opened),
            "left_out": sum(split.num_dropped for split in opened),
        }

    def _longest(self, side: Literal["source", "target"]) -> int | None:
        """Return the positions that a side of any batch may take; None: any number."""
        limit = self._layout.max_source_tokens if side == "source" else self._layout.max_target_tokens
        if limit is None:
            return None
        longest = [limit]
        for name in self.names:
            if name not in ("train", PREDICT):
                split = self.split(name)
                of_side = getattr(split.lengths, side)
                longest.append(int((of_side if split.excluded is None else of_side[~split.excluded]).max(initial=0)))
        return max(longest)

    def what_decides_batches(self, planner: Planner) -> dict[str, JSON]:
        """Describe, in plain values, what the order of the training pairs depends on, beside the epoch."""
        sets = {name: self.ids.beside_raw[name] for name in self._recipe.validation_sets}
        tokenizer = self._recipe.tokenizer
        return {
            "downloader": self._downloader(),
            "held_out": identity(self._recipe.held_out),
            "kept_apart": dict(sets) if self._recipe.held_out.drop_leaks else {},
            "filter": identity(self._recipe.filter),
            "tokenizer": {**tokenizer.identity(), **tokenizer.sampling(), "joint": tokenizer.joint},
            "encoded": self.ids.encoded["train"],
            "sampler": identity(planner),
            "datamodule": {
                "seed": self._seed,
                "max_source_tokens": self._layout.max_source_tokens,
                "max_target_tokens": self._layout.max_target_tokens,
                "source_eos": self._layout.source_eos,
                "too_long": self._too_long,
            },
        }

    def _downloader(self) -> dict[str, JSON]:
        """Describe the source; of a mixture, each source and how they are mixed."""
        mixture, repo = self._recipe.downloader, self._storage.repo
        if not isinstance(mixture, MixtureDownloader):
            return dict(repo.manifest(self.ids.raw["train"]).provenance)
        parts = {name: dict(repo.manifest(self.ids.raw[f"{name}{BETWEEN}train"]).provenance) for name in mixture.parts}
        sources = {name: part["revision"] for name, part in parts.items()}
        return {"sources": sources, "caps": dict(mixture.caps or {}), **mixture.sampling}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_splits": {}, "_sampled": {}, "_source_bytes": {}}
