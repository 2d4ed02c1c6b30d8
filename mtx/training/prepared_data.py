"""Memory-mapped datasets and tokenizers of a prepared run, with the plans and facts derived from them."""

from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from mtx.batches.batch_format import BatchFormat
from mtx.batches.plan.mixture_options import MixtureSampling
from mtx.batches.plan.planner import Mask, Planner
from mtx.components.identity import JSON, class_identity, digest, identity, plain_value
from mtx.data.concatenated_corpus import part_names, source_identity
from mtx.data.encoding_stage import encoded_pairs, token_counts
from mtx.data.preparation import Recipe, StageIds
from mtx.data.repo_read_cache import RepoSession
from mtx.data.sampled_encoding import sampled_pairs
from mtx.data.store import Store
from mtx.data.tokenize.tokenization import vocabulary_size
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair, load_pair
from mtx.data.validation_sets import PREDICT_NAME
from mtx.errors import DataError
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.row_views import SOURCE_COLUMN, row_numbers
from mtx.infra.dataset.sources.translation_directions import Direction
from mtx.training.causal_prompts import split_prompts
from mtx.training.held_out_documents import document_numbers
from mtx.training.pair_weights import PairWeighting, equal_sampling, mixture_sampling
from mtx.training.split_data import SplitData, TooLong
from mtx.training.training_pair_columns import TrainingColumns
from mtx.training.weighted_pair_groups import Grouping, PairGroups

if TYPE_CHECKING:
    from mtx.training.sampled_epochs import SampledEpochs


class PreparedData:
    """The prepared data of a run: tokenizers and splits, which are opened when they are first used.

    Picklable: a process that unpickles the object maps the files into memory again.

    Args:
        storage: the store that holds the datasets and tokenizers.
        recipe: the settings of all stages that built the data.
        ids: the ids of the stored datasets and tokenizers.
        layout: the format of a batch; its special ids are replaced by those of the tokenizers.
        too_long: what happens to a training pair above a maximum of the layout; held-out pairs are never truncated.
        eval_max_bytes: held-out pairs with more UTF-8 bytes on a side are dropped; None: no pair is dropped.
        seed: seed of the training order.
        grouping: the groups of the training pairs, and their weights; None: there are no groups.
        weighting: the weights of the training pairs by a column; None: all are equal.
        document_column: the column that names the document of a held-out pair; None: `document`, if there is one.
        repo: the repository session that this run uses; None: a new session.
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
        grouping: Grouping | None = None,
        weighting: PairWeighting | None = None,
        document_column: str | None = None,
        repo: RepoSession | None = None,
    ) -> None:
        self.ids = ids
        self._storage = storage
        self._repo = repo or RepoSession(storage.repo)
        self._recipe = recipe
        self._layout = layout
        self.too_long = too_long
        self._seed = seed
        self._eval_max_bytes = eval_max_bytes
        self._grouping = grouping
        self._weighting = weighting
        self._document_column = document_column
        self._splits: dict[str, SplitData] = {}
        self._sampled: dict[Planner, SampledEpochs[SplitData]] = {}
        self._source_bytes: dict[str, NDArray[np.int64]] = {}
        self._token_counts: dict[str, int] | None = None

    @cached_property
    def tokenizers(self) -> TokenizerPair:
        """The tokenizers of both sides, loaded on first use."""
        return load_pair(self._recipe.tokenizer, self._storage.tokenizers.open(self.ids.tokenizer))

    @cached_property
    def batch_format(self) -> BatchFormat:
        """The format of a batch, with the special ids of the tokenizers."""
        return replace(self._layout, source=self.tokenizers.source_ids, target=self.tokenizers.target_ids)

    @property
    def names(self) -> list[str]:
        """The names of all splits, validation sets and texts to translate."""
        return [*self.ids.encoded, *self.ids.beside]

    def split(self, name: str) -> SplitData:
        """Return the split or validation set called `name`, encoded without subword sampling.

        Raises DataError if there is no split or set of that name.
        """
        if name not in self.names:
            raise DataError(f"there is no {name} split; there are: {', '.join(self.names)}")
        if name not in self._splits:
            rows = self._encoded_rows(name)
            pairs, num_bytes = encoded_pairs(rows, self._selection(name)), rows.column("num_target_bytes").to_numpy()
            layout = self.batch_format.one_pair_a_row
            prompts = split_prompts(name, layout, self.tokenizers, self._recipe, self.ids, self._repo)
            if name == "train":
                drawing = self._mixture_sampling()
                opened = SplitData(pairs, num_bytes, self.batch_format, self.too_long, drawing, prompts=prompts)
            elif name == PREDICT_NAME:
                opened = SplitData(pairs, num_bytes, layout, "truncate", prompts=prompts)
            else:  # without a maximum in tokens, as token counts depend on the tokenizer
                layout = replace(layout, max_source_tokens=None, max_target_tokens=None)
                left_out = self._too_long_mask(name)
                opened = SplitData(pairs, num_bytes, layout, "truncate", left_out=left_out, prompts=prompts)
            self._splits[name] = opened
        return self._splits[name]

    def _encoded_rows(self, name: str) -> Rows:
        return self._repo.get({**self.ids.encoded, **self.ids.beside}[name]).rows

    def _selection(self, name: str) -> NDArray[Any] | None:
        """Return the row numbers of the encoded dataset that belong to a split; None if all rows do."""
        if name not in self.ids.filtered:
            return None
        stored = self._repo.stored_rows(self._repo.manifest(self.ids.filtered[name]))
        numbers: NDArray[Any] = row_numbers(stored)  # without the texts, which a bucket would send
        return numbers

    def _too_long_mask(self, name: str) -> Mask | None:
        """Return the mask of held-out pairs above `eval_max_bytes`, the same for any tokenizer; None: no limit."""
        if self._eval_max_bytes is None:
            return None
        num_target_bytes = self._pair_column(name, "num_target_bytes")
        most: Mask = np.maximum(self.num_source_bytes(name), num_target_bytes) > self._eval_max_bytes
        return most

    def _pair_column(self, name: str, column: str) -> NDArray[np.int64]:
        """Return a column of the encoded dataset for the pairs of a split or validation set, int64 [n]."""
        values, selection = self._encoded_rows(name).column(column).to_numpy(), self._selection(name)
        chosen: NDArray[np.int64] = values if selection is None else values[selection]
        return chosen

    @property
    def source_names(self) -> list[str]:
        """The names of a mixture's sources, in order; empty if the corpus is a single source."""
        return part_names(self._recipe.downloader)

    @property
    def directions(self) -> list[Direction]:
        """The directions of `datamodule.directions` that the corpus has, in order; empty without them."""
        return list(dict.fromkeys(self._recipe.downloader.part_directions.values()))

    def sources(self, name: str) -> NDArray[np.uint16]:
        """Return the source of each pair in a split of a mixture, as an index into `source_names`: uint16 [n].

        Raises DataError if the corpus is a single source, or if there is no split of that name.
        """
        if not self.source_names or name not in self.ids.encoded:
            raise DataError(
                f"the pairs of {name} have no known source: only splits of a mixture have one, with downloader=mixture"
            )
        sources: NDArray[np.uint16] = self._repo.get(self.ids.filtered[name]).rows.column(SOURCE_COLUMN).to_numpy()
        return sources

    @cached_property
    def groups(self) -> PairGroups | None:
        """The groups of the training pairs by `group_by`, else the ranges of `weight_by`; None without both."""
        if self._grouping is not None:
            return self._grouping.groups(self._repo.get(self.ids.filtered["train"]).rows)
        return None if self._weights is None else self._weights[1]

    @cached_property
    def _weights(self) -> tuple[NDArray[np.float64], PairGroups] | None:
        """The weight of each training pair, and the ranges of the weights as groups; None without `weight_by`."""
        if self._weighting is None:
            return None
        column = self._training_columns().column("datamodule.weight_by", self._weighting.column)
        return self._weighting.weights(column)

    def _training_columns(self) -> TrainingColumns:
        return TrainingColumns(self._repo, self.ids.filtered["train"], self._recipe.scorers, self.ids.scores)

    def _mixture_sampling(self) -> MixtureSampling | None:
        """Return how an epoch draws from sources, groups or pairs by weight; None if an epoch has every pair once."""
        weights = None if self._weights is None else self._weights[0]
        if self._grouping is not None and self.groups is not None and self._grouping.is_weighted:
            return replace(self._grouping.sampling(self.groups, seed=self._seed), row_weights=weights)
        if self._recipe.downloader.is_weighted:
            sampling = mixture_sampling(self._recipe.downloader, self.sources("train"), seed=self._seed)
            return replace(sampling, row_weights=weights)
        return None if weights is None else equal_sampling(weights, seed=self._seed)

    def num_source_bytes(self, name: str) -> NDArray[np.int64]:
        """Return the UTF-8 bytes of each source text of a split or validation set, int64 [n]; computed on first use."""
        if name not in self._source_bytes:
            self._source_bytes[name] = self._pair_column(name, "num_source_bytes")
        return self._source_bytes[name]

    def sampled(self, planner: Planner) -> "SampledEpochs[SplitData] | None":
        """Return the subword-sampled epochs of the training split for a planner; None if subwords are not sampled."""
        if self.ids.words is None:
            return None
        from mtx.training.sampled_epochs import SampledEpochs  # which imports torch

        if planner not in self._sampled:
            mixing, whole = self._mixture_sampling(), self.split("train")
            opened = partial(
                SplitData,
                num_target_bytes=self._pair_column("train", "num_target_bytes"),
                layout=self.batch_format,
                too_long=self.too_long,
                prompts=whole.prompts,
                # Quotas use lengths without subword sampling: with an epoch's lengths, earlier draws would change.
                drawing=mixing and mixing.epoch_quotas(planner, whole.lengths, excluded=whole.excluded),
            )
            pairs = sampled_pairs(self._storage, self.ids.words, self.tokenizers, self._recipe.tokenizer)
            self._sampled = {planner: SampledEpochs(pairs, opened, planner, seed=self._seed)}
        return self._sampled[planner]

    def token_counts(self) -> dict[str, int]:
        """Return the counts of `TranslationDataModule.token_counts`; computed on first use."""
        if self._token_counts is None:
            text = cast(dict[str, int], self._repo.manifest(self.ids.filtered["train"]).metrics["text"])
            self._token_counts = {**text, **token_counts(self.split("train").pairs, self.tokenizers)}
        return self._token_counts

    def facts(self) -> dict[str, Any]:
        """Return vocabulary sizes, special ids and maximal lengths for a model; see `TranslationDataModule.facts`."""
        pair, layout = self.tokenizers, self.batch_format
        return {
            "source_vocab_size": vocabulary_size(pair.source),
            "target_vocab_size": vocabulary_size(pair.target),
            "joint_vocabulary": pair.joint,
            "pad_id": layout.target.pad,
            "bos_id": layout.target.bos,
            "eos_id": layout.target.eos,
            "source_pad_id": layout.source.pad,
            "forced_target_tokens": layout.forced_target_tokens,
            "max_source_tokens": self._longest("source"),
            "max_target_tokens": self._longest("target"),
        }

    def held_out(self) -> dict[str, JSON]:
        """Describe the held-out pairs; an equal digest means equal pairs, whatever the filter and the tokenizer."""
        names = [name for name in (*self.ids.encoded, *self._recipe.validation_sets) if name not in ("train", "test")]
        named = {name: {**self.ids.filtered, **self.ids.beside_text}[name] for name in names}
        opened = [self.split(name) for name in names]
        return {
            "digest": digest([named, self._eval_max_bytes]),
            "num_pairs": sum(len(split.pairs) - split.num_dropped for split in opened),
            "left_out": sum(split.num_dropped for split in opened),
            "filter": cast(str, class_identity(type(self._recipe.held_out_filter))["kind"]),
        }

    def documents(self, name: str) -> NDArray[np.int64] | None:
        """Return the number of the document of each pair of a split or validation set; None if it is not known."""
        dataset_id = {**self.ids.filtered, **self.ids.beside_text}[name]
        return document_numbers(self._repo.get(dataset_id).rows, self._document_column)

    def _longest(self, side: Literal["source", "target"]) -> int | None:
        """Return the largest number of positions of a side in any batch; None if there is no limit."""
        limit = self._layout.max_source_tokens if side == "source" else self._layout.max_target_tokens
        if limit is None:
            return None
        longest = [limit]
        for name in self.names:
            if name not in ("train", PREDICT_NAME):
                split = self.split(name)
                of_side = getattr(split.side_lengths, side)
                longest.append(int((of_side if split.excluded is None else of_side[~split.excluded]).max(initial=0)))
        return max(longest)

    def batch_identity(self, planner: Planner) -> dict[str, JSON]:
        """Return as plain values all settings and ids that, with the epoch, decide the order of the training pairs."""
        sets = {name: self.ids.beside_raw[name] for name in self._recipe.validation_sets}
        tokenizer, scorers, held_out = self._recipe.tokenizer, self._recipe.scorers, self._recipe.held_out
        return {
            "downloader": source_identity(self._recipe.downloader, self.ids.raw, self._repo),
            "held_out": held_out.described(),
            "kept_apart": dict(sets) if held_out.drop_leaks or held_out.drop_contaminated else {},
            "normalise": identity(self._recipe.normalise),
            "filter": identity(self._recipe.filter),
            **({} if (given := self._recipe.language_tokens) is None else {"language_tokens": plain_value(given)}),
            **({"score": {name: identity(scorer) for name, scorer in scorers.items()}} if scorers else {}),
            "tokenizer": {
                **tokenizer.identity(),
                **tokenizer.sampling(),
                "joint": tokenizer.joint,
                "train_on": tokenizer.train_on,
            },
            "filtered": self.ids.filtered["train"],
            "encoded": self.ids.encoded["train"],
            "sampler": identity(planner),
            "datamodule": {
                "seed": self._seed,
                **self._layout.order_options(),
                "too_long": self.too_long,
                **({"share": self._recipe.share} if self._recipe.share < 1 else {}),
                **({} if self._grouping is None else self._grouping.plain()),
                **({} if self._weighting is None else self._training_columns().identity(self._weighting)),
            },
        }

    def __getstate__(self) -> dict[str, Any]:
        derived = {"_weights", "groups"}  # cached arrays with a value for each training pair
        kept = {key: value for key, value in self.__dict__.items() if key not in derived}
        return {**kept, "_splits": {}, "_sampled": {}, "_source_bytes": {}}
