"""Data of a run without Lightning: prepares a corpus, maps the result into memory, and loads batches.

`TranslationDataModule` adds what a Lightning Trainer needs. Importing this module imports neither Lightning nor torch;
only loading batches imports torch.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtx.batches.batch_format import BatchFormat, LanguageTokenPosition, MaxTokens
from mtx.batches.plan.packed_rows import PackedRowsPlanner
from mtx.batches.plan.planner import Lengths, Planner
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.batches.schema import FormatName
from mtx.components.checked_options import Count, Natural, checked
from mtx.components.identity import JSON
from mtx.data.direction_tags import directed_recipe
from mtx.data.engine_protocol import Engine
from mtx.data.filter.filter_protocol import PairFilter
from mtx.data.filter.none import NoFilter
from mtx.data.normalise import DefaultNormaliser, Normaliser
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.repo_read_cache import RepoSession
from mtx.data.score.scorer import Scorer
from mtx.data.split import DropContaminated, DropLeaks, HashSeed, HeldOut, HeldOutSize, SplitBy
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.data.streaming_refusals import check_streamable
from mtx.data.tokenize.language_tokens import LanguageTokens, check_position
from mtx.data.tokenize.tokenization import Tokenization
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.data.training_share import Share
from mtx.data.validation_sets import PREDICT_NAME, SetConfig, validation_downloaders
from mtx.errors import DataError
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.sources.prediction_text import SourceTextDownloader
from mtx.infra.dataset.sources.translation_directions import Directions
from mtx.training.causal_format_conflicts import batch_length_multiple, check_causal
from mtx.training.pair_weights import QuantileWeights, pair_weighting
from mtx.training.split_data import SplitData, TooLong
from mtx.training.static_shapes_conflicts import check_shapes
from mtx.training.streamed_training import StreamedTraining
from mtx.training.weighted_pair_groups import GroupWeights, PairGroups, Positive, grouping

if TYPE_CHECKING:
    from torch import Tensor

    from mtx.training.loader import PlanLoader
    from mtx.training.prepared_data import PreparedData
    from mtx.training.shard_stream_loader import ShardStreamLoader
    from mtx.training.split_loader import LoaderSettings

log = logging.getLogger(__name__)


class TranslationData:
    """Prepare a parallel corpus and load it as batches of token ids, without a Trainer.

    `prepare_data` builds the datasets that the store lacks, `setup` maps them into memory, and the loaders yield
    batches. Call `dm.prepare_data()` and `dm.setup("fit")`, then iterate over `dm.train_dataloader()`. For a Trainer,
    use `TranslationDataModule`.

    Args:
        storage: the store for all datasets and tokenizers.
        downloader: the source of the pairs.
        filter: the rules by which pairs are dropped.
        tokenizer: how texts are converted to token ids.
        normalise: how texts are changed before all other stages; None: white space at both ends is removed.
        score: scorers by name, whose columns a filter can use; None: none.
        sampler: forms the training batches.
        engine: runs the tasks of long stages; None: they run one after the other in this process.
        directions: directions of translation, such as `en-de` and `de-en`, in which each pair of the corpus is served.
            With opposite directions, `drop_leaks` of True means `either_side`. None: the direction of the corpus.
        target_tag: text before each source, with `directions` of several target languages, unless `normalise` has
            prefixes: `{target}` and `{source}` stand for the codes. The tags are symbols of a vocabulary that mtx
            trains. None: none.
        language_tokens: the tokens of a pretrained vocabulary that come first in each source and target and name its
            language, as mBART-50 and NLLB expect them: `auto`, or the token of each language. Generation is forced to
            begin with that of the target, which does not count in bits per byte. None: none.
        language_token_position: `prefix`; or `suffix` for the first mBART, whose token follows the EOS of a source,
            and starts the decoder instead of BOS.
        validation: pairs held out for validation if the source has no validation split: a count, a fraction, or None.
        test: pairs held out for test if the source has no test split: a count, a fraction, or None.
        held_out_seed: another seed holds out other sentences.
        drop_leaks: drop training pairs whose source sentence is also in a held-out split of the source, or in
            `validation_sets`. `either_side` also drops those that share a sentence of any side with any held-out
            pair, such as the same pair in the other direction.
        held_out_filter: the rules by which pairs of validation and test are dropped, apart from the rules of `filter`.
            So runs with other filters are measured on the same pairs. None: these pairs are neither filtered nor
            deduplicated.
        split_by: a column of the corpus, such as a document, or `cluster`: pairs with one value, or near-duplicates,
            are held out together. None: pairs with one source sentence are.
        drop_contaminated: drop training pairs whose source or target equals a held-out one up to case, white space and
            punctuation. `ngram` also drops those of which a side shares an 8-gram of words with a held-out one.
        validation_sets: additional validation sets, by name. A set is a file, the settings of a `LocalDownloader`, or a
            downloader whose training split is used. Validation sets are not filtered. `val_names` lists them in the
            order of the loaders.
        predict_from: a file of text to translate, UTF-8, one sentence per line; None: the test split is translated.
        share: the share of the filtered training pairs that is trained on, above 0 and at most 1. A source sentence is
            in a share by its hash, so a smaller share is a subset of each larger one. The other pairs are counted as
            `outside_share`.
        max_source_tokens: maximal length of a training source in positions, EOS included; None: no limit.
        max_target_tokens: maximal length of a training target in positions, BOS or EOS included; None: no limit.
        too_long: what happens to a training pair that exceeds a maximum: `drop` or `truncate`. Both are counted.
        eval_max_tokens: padded tokens per side of a batch in validation, test and predict.
        eval_max_bytes: held-out pairs with more UTF-8 bytes on a side are not used for validation or test. The limit is
            in bytes so that every tokenizer is measured on the same pairs. None: no limit.
        batch_format: `mtx`; `flat` for batches without padding; `huggingface` for the tensor names that models of
            transformers expect; `huggingface_packed` for models of transformers without padding; or `causal` for
            decoder-only models, with prompt and target in one sequence.
        template: the prompt of `causal`: text with `{src}`, and `{tgt}` at its end. `{eos}`, `{source_language}`,
            `{target_language}` and columns of the corpus are fields, too. None: `{src}{eos}{tgt}`.
        label_pad_id: the id after EOS in labels; None: the pad id, or -100 with `huggingface`.
        source_eos: true: EOS is appended to each source.
        group_by: the column whose values group the training pairs, such as a domain: the report has a ledger of each
            group. The column comes with the source (`downloader.columns`). None: no groups.
        group_weights: the weight of each group in an epoch, by value of the column; only the ratios count. An epoch has
            as many draws as there are pairs. None: see `group_temperature`.
        group_temperature: shares in proportion to (pairs of the group)^(1/temperature); 1 keeps the proportions, a
            higher temperature makes the shares more equal. None, and no weights: an epoch has every pair once.
        weight_by: the column by which an epoch draws training pairs more or less often, such as a score. An epoch has
            as many draws as there are pairs. None: all pairs have equal weights.
        quantile_weights: the weights of pairs by ranges of `weight_by` with equally many pairs, for the lowest values
            first; [1, 2, 4] draws the highest third four times as often as the lowest. None: the values are weights.
        document_column: the column that names the document of each held-out pair. Intervals of verdicts over held-out
            sentences then resample whole documents. None: `document`, if the pairs have such a column.
        num_workers: threads that build batches while the model works; 0: each batch is built when it is requested.
        pin_memory: true copies batches into pinned memory, which makes the transfer to a GPU faster.
        stream: true: training begins with the first rows of the source, while later rows are still read and prepared.
            Validation and test pairs are held out from the first shard. All settings must need one pair at a time.
        stream_shard_rows: rows of the source in a shard of a stream, within which batches are planned. A larger shard
            means less padding, a better mixed order, and a later start.
        seed: seed of the training order.
    """

    trainer: Any = None  # `TranslationDataModule` has Lightning's Trainer here

    _is_sizing = False  # True while Lightning's batch-size finder is at work

    @checked("datamodule")
    def __init__(
        self,
        *,
        storage: Store,
        downloader: Downloader,
        filter: PairFilter,
        tokenizer: Tokenization,
        sampler: Planner,
        engine: Engine | None = None,
        normalise: Normaliser | None = None,
        score: Mapping[str, Scorer] | None = None,
        directions: Directions | None = None,
        target_tag: str | None = ">>{target}<< ",
        language_tokens: LanguageTokens | None = None,
        language_token_position: LanguageTokenPosition = "prefix",
        validation: HeldOutSize = 0.01,
        test: HeldOutSize = 0.01,
        held_out_seed: HashSeed = 0,
        drop_leaks: DropLeaks = True,
        held_out_filter: PairFilter | None = None,
        split_by: SplitBy = None,
        drop_contaminated: DropContaminated = False,
        validation_sets: Mapping[str, SetConfig] | None = None,
        predict_from: str | os.PathLike[str] | None = None,
        share: Share = 1.0,
        max_source_tokens: MaxTokens | None = 256,
        max_target_tokens: MaxTokens | None = 256,
        too_long: TooLong = "drop",
        eval_max_tokens: Count = 4096,
        eval_max_bytes: Count | None = 1000,
        batch_format: FormatName = "mtx",
        template: str | None = None,
        label_pad_id: int | None = None,
        source_eos: bool = True,
        group_by: str | None = None,
        group_weights: GroupWeights | None = None,
        group_temperature: Positive | None = None,
        weight_by: str | None = None,
        quantile_weights: QuantileWeights | None = None,
        document_column: str | None = None,
        num_workers: Natural = 2,
        pin_memory: bool = False,
        stream: bool = False,
        stream_shard_rows: Count = 65_536,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._streamed = StreamedTraining(storage, downloader, stream_shard_rows, seed=seed) if stream else None
        if self._streamed is not None:
            of_pairs = {"directions": directions, "split_by": split_by, "group_by": group_by, "weight_by": weight_by}
            check_streamable(downloader, filter, tokenizer, score or {}, of_pairs)
            downloader = self._streamed.first_shard
        self._grouping = grouping(
            group_by, group_weights, group_temperature, mixture_is_weighted=downloader.is_weighted
        )
        self._weighting = pair_weighting(weight_by, quantile_weights)
        check_shapes(sampler, tokenizer, downloader, self._grouping, self._weighting, batch_format)
        check_position(language_token_position, language_tokens)
        columns = getattr(downloader, "columns", "all")
        check_causal(batch_format, sampler, tokenizer, template, label_pad_id, columns)
        held_out = HeldOut(
            validation=validation,
            test=test,
            seed=held_out_seed,
            drop_leaks=drop_leaks,
            by=split_by,
            drop_contaminated=drop_contaminated,
        )
        self.storage = storage
        self.engine = engine
        self._repo = RepoSession(storage.repo)
        text = None if predict_from is None else SourceTextDownloader(path=os.fspath(predict_from))
        recipe = Recipe(
            downloader,
            held_out,
            filter,
            tokenizer,
            validation_downloaders(validation_sets),
            text,
            normalise or DefaultNormaliser(),
            score or {},
            held_out_filter or NoFilter(),
            share,
            language_tokens,
            language_token_position,
        )
        self.recipe = directed_recipe(recipe, directions, target_tag)
        self.sampler = self._given_sampler = sampler
        self.eval_sampler = TokenBudgetPlanner(max_tokens=eval_max_tokens, too_long="alone", shuffle=False)
        self.too_long = too_long
        self.eval_max_bytes = eval_max_bytes
        self.document_column = document_column
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.seed = seed
        self._format = BatchFormat(
            source_eos=source_eos,
            label_pad_id=label_pad_id,
            max_source_tokens=max_source_tokens,
            max_target_tokens=max_target_tokens,
            length_multiple=batch_length_multiple(batch_format, sampler),
            names=batch_format,
            template=template,
            forced_target_tokens=int(language_tokens is not None and language_token_position == "prefix"),
            language_token_position=language_token_position,
        )
        self.ids: StageIds | None = None
        self._data: PreparedData | None = None
        self._train_loader: PlanLoader | ShardStreamLoader | None = None

    def prepare_data(self) -> None:
        """Build the datasets that the store lacks; later calls, such as those of a Trainer for each loop, do nothing.

        Raises SourceError, DataError, StoreError.
        """
        if self.ids is None:
            runner = StageRunner(self.storage, repo=self._repo, engine=self.engine)
            weight_by = None if self._weighting is None else self._weighting.column
            self.ids = prepare(self.recipe, self.storage, runner, weight_by=weight_by)

    def setup(self, stage: str | None = None) -> None:
        """Map the encoded datasets into memory, and load the compiled functions that read them if numba is installed.

        All splits are opened, whatever `stage` is, because this takes no time. `stage="fit"` starts a new run.
        """
        if stage == "fit":
            self._train_loader = None

        from mtx.batches.collate import load_kernels  # which imports torch

        for name in self._prepared_data.names:
            load_kernels(self._prepared_data.split(name).pairs, self._format)
        train = self._prepared_data.split("train") if "train" in self._prepared_data.names else None
        if train is not None and isinstance(self.sampler, RandomTokensPlanner | PackedRowsPlanner):
            self.sampler.check_lengths(train.lengths, excluded=train.excluded)
        self._prepared_data.sampled(self.sampler)

    def train_dataloader(self) -> "PlanLoader | ShardStreamLoader":
        """Return the loader of the training split; each pass is one epoch, with its own order of batches.

        With `stream`, a pass serves one shard of the source after another.
        """
        loader: PlanLoader | ShardStreamLoader = self._loader("train", self.sampler)
        if self._streamed is not None:
            loader = self._streamed.loader(self._prepared_data, self.recipe, self.sampler, self._serving())
        if self._train_loader is not None:  # a loop may request a new loader in each epoch; it continues the epochs
            loader.batch_sampler.set_epoch(self._train_loader.batch_sampler.epoch)
        self._train_loader = loader
        return loader

    def val_dataloader(self) -> "PlanLoader | list[Any]":
        """Return the loader of the only validation set, or a list of loaders in the order of `val_names`.

        Each loader yields each pair once, in a fixed order. The list is empty if there is no validation set.
        """
        loaders = [self._loader(name, self.eval_sampler) for name in self.val_names]
        return loaders[0] if len(loaders) == 1 else loaders

    def test_dataloader(self) -> "PlanLoader | list[Any]":
        """Return the loader of the test split: each pair once, in a fixed order; an empty list without a test split."""
        return self._loader("test", self.eval_sampler) if "test" in self._prepared_data.ids.encoded else []

    def predict_dataloader(self) -> "PlanLoader | list[Any]":
        """Return the loader of `predict_from`, or of the test split if that is None; an empty list without either.

        Batches of `predict_from` contain only the source side. `row_ids` are the line numbers of the file from 0. Each
        line is in one batch of one rank. Lines of similar length share a batch, so predictions must be sorted by
        `row_ids`. A line longer than `max_source_tokens` is truncated; `split_counts("predict")["truncated"]` is the
        number of truncated lines.
        """
        if PREDICT_NAME not in self._prepared_data.ids.beside:
            return (
                self._loader("test", self.eval_sampler, for_writers=True)
                if "test" in self._prepared_data.ids.encoded
                else []
            )
        if num_cut := self._prepared_data.split(PREDICT_NAME).num_truncated:
            log.warning(
                "%d of %d lines to translate are longer than datamodule.max_source_tokens=%d and are truncated",
                num_cut,
                len(self._prepared_data.split(PREDICT_NAME).pairs),
                self._format.max_source_tokens,
            )
        return self._loader(PREDICT_NAME, self.eval_sampler, for_writers=True)

    @property
    def val_names(self) -> list[str]:
        """The names of the validation sets by `dataloader_idx`: `validation`, if there is one, then `validation_sets`.

        `lengths`, `split_counts` and `num_target_bytes` accept these names too.
        """
        return [
            *(name for name in self._prepared_data.ids.encoded if name == "validation"),
            *self.recipe.validation_sets,
        ]

    @property
    def tokenizers(self) -> TokenizerPair:
        """The tokenizers of both sides."""
        return self._prepared_data.tokenizers

    @property
    def batch_format(self) -> BatchFormat:
        """The format of a batch, with the special ids of the tokenizers."""
        return self._prepared_data.batch_format

    def facts(self) -> dict[str, Any]:
        """Return the facts about the data that a model needs; `task=fit` passes them to arguments of the same names.

        The keys are `source_vocab_size`, `target_vocab_size`, `joint_vocabulary`; `pad_id`, `bos_id` and `eos_id` of
        the target; `source_pad_id`; `forced_target_tokens`, 1 with `language_tokens` as a prefix, else 0; and
        `max_source_tokens` and `max_target_tokens`. The last two are the largest numbers of positions in any batch,
        held-out pairs included; None: no limit.
        """
        return self._prepared_data.facts()

    def held_out(self) -> dict[str, JSON]:
        """Return the `digest` and the number (`num_pairs`) of the validation pairs, and how many are `left_out`.

        Two runs with the same digest validate on the same pairs, whatever their filters and tokenizers. `left_out`
        counts the pairs with more bytes than `eval_max_bytes`.
        """
        return self._prepared_data.held_out()

    def documents(self, split: str) -> NDArray[np.int64] | None:
        """Return the number of the document of each pair of a held-out split or set, -1 without one: int64 [n].

        The column `document_column` names the documents. Returns None if documents are not known.
        """
        return self._prepared_data.documents(split)

    def token_counts(self) -> dict[str, int]:
        """Count the texts and tokens of all training pairs by side, encoded without subword sampling.

        The keys end in `_tokens`, `_unknown`, `_unused` (see `mtx.data.encoding_stage.token_counts`), `_chars`,
        `_bytes`, and `_words` (words are separated by white space).
        """
        return self._prepared_data.token_counts()

    def num_target_bytes(self, row_ids: "Tensor", split: str) -> "Tensor":
        """Return the UTF-8 bytes of the target texts of `row_ids` (int64 [B]) as int64 [B], to compute bits per byte.

        For a truncated target, the bytes are multiplied by the share of tokens that is kept. With subword sampling, the
        lengths of training texts are those of the current epoch.
        """
        import torch

        opened, rows = self._split_of_epoch(split), row_ids.cpu().numpy()
        if self._streamed is not None and split == "train":
            shard, rows = self._streamed.rows_of(rows)
            opened = shard.split
        num_bytes = opened.num_target_bytes(rows)
        return torch.from_numpy(num_bytes).to(row_ids.device)

    def num_source_bytes(self, row_ids: "Tensor", split: str) -> "Tensor":
        """Return the UTF-8 bytes of the full source texts of `row_ids` (int64 [B]) as int64 [B]."""
        import torch

        num_bytes, rows = self._prepared_data.num_source_bytes(split), row_ids.cpu().numpy()
        if self._streamed is not None and split == "train":
            shard, rows = self._streamed.rows_of(rows)
            num_bytes = shard.num_source_bytes
        return torch.from_numpy(num_bytes[rows]).to(row_ids.device)

    def stream_ledger(self) -> dict[str, Any] | None:
        """Return what became of each row of the shards that were begun; None without `stream`.

        The keys are those of `stream` in `report.json`.
        """
        return None if self._streamed is None else self._streamed.ledger()

    def split_counts(self, split: str, *, epoch: int | None = None) -> dict[str, int]:
        """Return `num_pairs` of a split, and how many pairs exceed a maximum: `dropped_length` and `truncated`.

        Both counts are also given by side. `…_source` and `…_target` count pairs whose source or target is too long;
        `…_both` counts pairs where both sides are too long. In the training split, `dropped_length` = source + target -
        both. `epoch` has the same meaning as in `lengths`.
        """
        opened = self._split_of_epoch(split, epoch)
        return {"num_pairs": len(opened.pairs), **opened.num_too_long()}

    def lengths(self, split: str, *, epoch: int | None = None) -> Lengths:
        """Return the lengths of all pairs of a split in positions of a batch, after truncation.

        `epoch` selects the epoch whose lengths are returned, because subword sampling changes the lengths of training
        texts in each epoch. None: the current epoch of the train loader.
        """
        return self._split_of_epoch(split, epoch).lengths

    @property
    def source_names(self) -> list[str]:
        """The names of a mixture's sources, in order; empty if the corpus is a single source."""
        return self._prepared_data.source_names

    def sources(self, split: str) -> NDArray[np.uint16]:
        """Return the source of each pair in a split of a mixture, as an index into `source_names`: uint16 [n]."""
        return self._prepared_data.sources(split)

    @property
    def groups(self) -> PairGroups | None:
        """The groups of the training pairs by `group_by`, else by `weight_by`; None without both.

        Raises ConfigError for an unfit column.
        """
        return self._prepared_data.groups

    @property
    def _prepared_data(self) -> "PreparedData":
        from mtx.training.prepared_data import PreparedData

        if self.ids is None:
            raise DataError(
                "the data is not prepared: call prepare_data() and setup() first, or pass the data module to a Trainer"
            )
        if self._data is None or self._data.ids != self.ids:
            self._data = PreparedData(
                self.storage,
                replace(self.recipe, downloader=self.recipe.downloader.with_stored_parts(self.ids.parts)),
                self.ids,
                layout=self._format,
                too_long=self.too_long,
                seed=self.seed,
                eval_max_bytes=self.eval_max_bytes,
                grouping=self._grouping,
                weighting=self._weighting,
                document_column=self.document_column,
                repo=self._repo,
            )
        return self._data

    def _split_of_epoch(self, split: str, epoch: int | None = None) -> "SplitData":
        """Return a split as encoded in an epoch; subword sampling encodes training texts differently in each epoch."""
        sampled = self._prepared_data.sampled(self.sampler) if split == "train" else None
        if sampled is None:
            return self._prepared_data.split(split)
        if epoch is None:
            epoch = self._train_loader.batch_sampler.planned_epoch if self._train_loader is not None else 0
        return sampled.split(seed=self.seed, epoch=epoch)

    def _rank(self) -> tuple[int, int] | None:
        """Return the rank of this process and the number of ranks; None: `torch.distributed` knows them."""
        return None

    @property
    def _is_frozen(self) -> bool:
        """Whether every epoch has the batches of epoch 0."""
        return False

    def _loader(self, name: str, planner: Planner, *, for_writers: bool = False) -> "PlanLoader":
        sampled = self._prepared_data.sampled(self.sampler) if name == "train" else None
        split = self._prepared_data.split(name)
        return self._serving().loader(name, split, planner, sampled=sampled, for_writers=for_writers)

    def _serving(self) -> "LoaderSettings":
        from mtx.training.split_loader import LoaderSettings

        return LoaderSettings(
            seed=self.seed,
            rank=self._rank(),
            frozen=self._is_frozen,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            is_sizing=self._is_sizing,
        )
