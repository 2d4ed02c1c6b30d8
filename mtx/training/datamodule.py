"""The data module: what a Lightning Trainer takes, and what serves batches without one too."""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtx.data.filter.base import PairFilter
from mtx.data.pipeline import Recipe, StageIds, prepare
from mtx.data.sets import PREDICT, SetConfig, named_sets
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.base import Tokenization
from mtx.data.tokenize.pair import TokenizerPair
from mtx.errors import ConfigError, DataError
from mtx.identity import JSON
from mtx.infra.dataset.collate import BatchFormat, load_kernels
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.plan.base import Lengths, Planner
from mtx.infra.dataset.plan.token_budget import TokenBudgetPlanner
from mtx.infra.dataset.sources.mixture import MixtureDownloader
from mtx.infra.dataset.sources.source_only import SourceTextDownloader
from mtx.lightning import OfBothPackages, pl
from mtx.training.budget import budget, longest_pair, with_budget
from mtx.training.loader import PlanLoader
from mtx.training.opened import OpenData
from mtx.training.resume import check_same_data, count_from_here, mend, open_ends
from mtx.training.serving import Serving
from mtx.training.split import OpenSplit, TooLong

log = logging.getLogger(__name__)

EVALUATING = ("validate", "test", "predict")  # what Lightning calls these runs


class TranslationDataModule(OfBothPackages, pl.LightningDataModule):
    """Serves a parallel corpus as batches of token ids.

    `prepare_data` builds what the store lacks; `setup` maps it into memory; the loaders serve it. With a Trainer
    all of that happens by itself, without one it reads
    `dm.prepare_data(); dm.setup("fit"); for batch in dm.train_dataloader(): …`. Trainers of `pytorch_lightning` and
    of `lightning.pytorch` both take it.

    Args:
        storage: where everything is kept.
        downloader: where the pairs come from.
        filter: how they are cleaned.
        tokenizer: how texts become ids.
        sampler: forms the training batches.
        validation: pairs held out for validation where the source has no such split: a count, a fraction, or None.
        test: the same for test.
        held_out_seed: another one holds out other sentences.
        drop_leaks: leave out training pairs whose source sentence stands in the source's own held-out splits, or in
            `validation_sets`.
        validation_sets: further sets to validate on, by name: a file, the settings of a `LocalDownloader`, or a
            downloader, whose training split is taken. They are not filtered. `val_names` says which loader is which.
        predict_from: a file of text to translate, UTF-8, one sentence a line; None: predict the test split.
        max_source_tokens: positions a source may take in training, EOS included; None: any number.
        max_target_tokens: positions a target may take in training, BOS or EOS included; None: any number.
        too_long: what happens to a training pair above a maximum: `drop` or `truncate`; both are counted.
        eval_max_tokens: padded tokens a side in a batch for validation, test and predict.
        eval_max_bytes: held-out pairs with more UTF-8 bytes on a side are not measured on; all others are served whole,
            the same for any tokenizer and filter. None: all are.
        batch_format: `mtx`, or `huggingface` for the names that transformers' models take.
        label_pad_id: what fills labels behind EOS; None: the pad id, or -100 with `huggingface`.
        source_eos: whether EOS closes each source.
        num_workers: threads that build batches while the model works; 0: a batch is built when it is asked for.
        pin_memory: whether batches are put into pinned memory, for faster copies to a GPU.
        seed: of the training order.
    """

    def __init__(
        self,
        *,
        storage: Store,
        downloader: Downloader,
        filter: PairFilter,
        tokenizer: Tokenization,
        sampler: Planner,
        validation: int | float | None = 0.01,
        test: int | float | None = 0.01,
        held_out_seed: int = 0,
        drop_leaks: bool = True,
        validation_sets: Mapping[str, SetConfig] | None = None,
        predict_from: str | os.PathLike[str] | None = None,
        max_source_tokens: int | None = 256,
        max_target_tokens: int | None = 256,
        too_long: TooLong = "drop",
        eval_max_tokens: int = 4096,
        eval_max_bytes: int | None = 1000,
        batch_format: Literal["mtx", "huggingface"] = "mtx",
        label_pad_id: int | None = None,
        source_eos: bool = True,
        num_workers: int = 2,
        pin_memory: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if too_long not in ("drop", "truncate"):
            raise ConfigError(f"datamodule.too_long is drop or truncate, but is {too_long!r}")
        if num_workers < 0:
            raise ConfigError(f"datamodule.num_workers is at least 0, but is {num_workers}")
        if eval_max_bytes is not None and eval_max_bytes < 1:
            raise ConfigError(f"datamodule.eval_max_bytes is at least 1, or null, but is {eval_max_bytes}")
        if tokenizer.samples and sampler.keeps_shapes:
            raise ConfigError(
                "sampler=static_shapes promises the same shapes in every epoch, which lengths that change in each do "
                "not allow. Choose another sampler, as sampler=token_budget, or sample no subwords: "
                "tokenizer.dropout=0, tokenizer.alpha=null"
            )
        if sampler.keeps_shapes and isinstance(downloader, MixtureDownloader) and downloader.is_weighted:
            raise ConfigError(
                "sampler=static_shapes promises the same shapes in every epoch, which a mixture that draws other pairs "
                "for each does not allow. Choose another sampler, as sampler=token_budget, or serve every pair once: "
                "downloader.weights=null, downloader.temperature=null"
            )
        held_out = HeldOut(validation=validation, test=test, seed=held_out_seed, drop_leaks=drop_leaks)
        self.storage = storage
        text = None if predict_from is None else SourceTextDownloader(path=os.fspath(predict_from))
        self.recipe = Recipe(downloader, held_out, filter, tokenizer, named_sets(validation_sets), text)
        self.sampler = self._given_sampler = sampler
        self.eval_sampler = TokenBudgetPlanner(max_tokens=eval_max_tokens, too_long="alone", shuffle=False)
        self.too_long = too_long
        self.eval_max_bytes = eval_max_bytes
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.seed = seed
        self._format = BatchFormat(
            source_eos=source_eos,
            label_pad_id=label_pad_id,
            max_source_tokens=max_source_tokens,
            max_target_tokens=max_target_tokens,
            length_multiple=getattr(sampler, "length_multiple", 1),
            names=batch_format,
        )
        self.ids: StageIds | None = None
        self._data: OpenData | None = None
        self._resume: dict[str, Any] | None = None
        self._goes_on = False  # a run that a checkpoint began
        self._train_loader: PlanLoader | None = None

    def prepare_data(self) -> None:
        """Build what the store lacks, once: a Trainer asks again for each of its loops.

        Raises SourceError, DataError, StoreError.
        """
        if self.ids is None:
            self.ids = prepare(self.recipe, self.storage)

    def setup(self, stage: str | None = None) -> None:
        """Map the encoded datasets into memory and load the compiled kernels that read them, where numba is installed.

        All splits are opened, which costs nothing. `stage="fit"` begins a new run.
        """
        self._agree_on_ids()
        if stage == "fit":
            self._train_loader, self._goes_on = None, False
        for name in self._open.names:
            load_kernels(self._open.split(name).pairs)
        self._open.sampled(self.sampler)

    def train_dataloader(self) -> PlanLoader:
        """Return the loader of the training split; each pass is an epoch of its own order."""
        loader = self._loader("train", self.sampler)
        if self._train_loader is not None:  # a loop that asks for a loader in each epoch gets the next epoch too
            loader.batch_sampler.set_epoch(self._train_loader.batch_sampler.epoch)
        if self._resume is not None:
            loader.load_state_dict(self._resume)
            self._resume = None
        if self.trainer is not None:
            loader.batch_sampler.on_set_epoch = partial(count_from_here, self.trainer, loader.batch_sampler)
        self._train_loader = loader
        return loader

    def val_dataloader(self) -> PlanLoader | list[Any]:
        """Return the loader of the one validation set, or a list in the order of `val_names`; empty without any.

        Each has each pair once, in a fixed order.
        """
        loaders = [self._loader(name, self.eval_sampler) for name in self.val_names]
        return loaders[0] if len(loaders) == 1 else loaders

    def test_dataloader(self) -> PlanLoader | list[Any]:
        """Return the loader of the test split, each pair once, in a fixed order; empty list without one."""
        return self._loader("test", self.eval_sampler) if "test" in self._open.ids.encoded else []

    def predict_dataloader(self) -> PlanLoader | list[Any]:
        """Return the loader of `predict_from`, or else of the test split; empty list without either.

        Batches of `predict_from` have the source's side alone. `row_ids` are the numbers of its lines from 0: each
        line comes once over all ranks, in batches of similar length, so predictions are put into order by them. What
        is longer than `max_source_tokens` is cut, and counted as `split_counts("predict")["truncated"]`.
        """
        if PREDICT not in self._open.ids.beside:
            return self._loader("test", self.eval_sampler, for_writers=True) if "test" in self._open.ids.encoded else []
        if num_cut := self._open.split(PREDICT).num_truncated:
            log.warning(
                "%d of %d lines to translate are longer than datamodule.max_source_tokens=%d, and are cut there",
                num_cut,
                len(self._open.split(PREDICT).pairs),
                self._format.max_source_tokens,
            )
        return self._loader(PREDICT, self.eval_sampler, for_writers=True)

    @property
    def val_names(self) -> list[str]:
        """The names of the validation sets, by `dataloader_idx`: `validation`, if there is one, then the further ones.

        By them `lengths`, `split_counts` and `num_target_bytes` know a set, too.
        """
        return [*(name for name in self._open.ids.encoded if name == "validation"), *self.recipe.validation_sets]

    @property
    def batch_size(self) -> int:
        """The budget of a batch, as Lightning's batch-size finder turns it.

        It is the sampler's `max_tokens`, or its `batch_size`; in validate, test and predict it is `eval_max_tokens`.
        Setting it makes new batches. A budget of tokens is not set below what the longest pair takes, so no pair is
        lost to it, unless it was from the beginning. Raises ConfigError for a sampler that has neither, and in a run
        that goes on from a checkpoint.
        """
        return budget(self.eval_sampler if self._is_evaluating else self.sampler)

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        if self._is_evaluating:
            self.eval_sampler = cast(TokenBudgetPlanner, with_budget(self.eval_sampler, value))
            return
        if self._goes_on:
            raise ConfigError(
                "a run that goes on from a checkpoint keeps its batches, so the batch size cannot be changed. Leave "
                "the batch-size finder out, or start a new run without ckpt_path"
            )
        sampler = with_budget(self.sampler, value)
        if self._data is not None:
            opened = self._data.split("train")
            needed = min(budget(self._given_sampler), longest_pair(sampler, opened.lengths, opened.excluded))
            sampler = with_budget(sampler, max(value, needed))
        self.sampler, self._train_loader = sampler, None

    def state_dict(self) -> dict[str, Any]:
        """Return, for a checkpoint, how far the training epoch is, and what decides its batches."""
        if self._train_loader is None:
            return {}
        loader = self._train_loader.state_dict()
        ends = open_ends(self.trainer, loader) if self.trainer is not None else {}
        return {"loader": loader, **ends, "data": self._open.what_decides_batches(self.sampler)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the training epoch behind what a checkpoint has seen, on any number of ranks.

        Raises ConfigError where the checkpoint comes from other data, and names the difference. A Trainer that only
        evaluates may do so on any data.
        """
        if not state_dict or (self.trainer is not None and self.trainer.state.fn != "fit"):
            return
        check_same_data(state_dict["data"], self._open.what_decides_batches(self.sampler))
        self._goes_on = True
        self._resume = state_dict["loader"] if self.trainer is None else mend(self.trainer, state_dict)

    @property
    def tokenizers(self) -> TokenizerPair:
        """The tokenizers of both sides."""
        return self._open.tokenizers

    @property
    def batch_format(self) -> BatchFormat:
        """What a batch looks like, with the special ids of the tokenizers."""
        return self._open.batch_format

    def facts(self) -> dict[str, Any]:
        """Return what a model has to know of the data; parameters of a model with these names are filled from it.

        `source_vocab_size`, `target_vocab_size`, `joint_vocabulary`, `pad_id`, `bos_id` and `eos_id` of the target,
        `source_pad_id`, and `max_source_tokens` and `max_target_tokens`, the positions that any batch may take, those
        of held-out pairs too.
        """
        return self._open.facts()

    def held_out(self) -> dict[str, JSON]:
        """Describe what validation measures on: `digest`, `num_pairs`, and `left_out`.

        Where the digest is the same, so are the pairs, whatever the filter and the tokenizer; `left_out` are those with
        more bytes than `eval_max_bytes`.
        """
        return self._open.held_out()

    def num_target_bytes(self, row_ids: Tensor, split: str) -> Tensor:
        """Return the UTF-8 bytes of the target texts of `row_ids` (int64 [B]) as int64 [B], for bits per byte.

        A target that was truncated counts the share of its bytes that its share of kept tokens stands for; where
        training texts are sampled, as they are in the epoch that is served.
        """
        num_bytes = self._served(split).num_target_bytes(row_ids.cpu().numpy())
        return torch.from_numpy(num_bytes).to(row_ids.device)

    def num_source_bytes(self, row_ids: Tensor, split: str) -> Tensor:
        """Return the UTF-8 bytes of the source texts of `row_ids` (int64 [B]) as int64 [B], truncated or not."""
        return torch.from_numpy(self._open.num_source_bytes(split)[row_ids.cpu().numpy()]).to(row_ids.device)

    def split_counts(self, split: str, *, epoch: int | None = None) -> dict[str, int]:
        """Return `num_pairs` of a split, and how many are above a maximum: `dropped_length`, `truncated`.

        Both also by side: `…_source` and `…_target` are those whose source or target is too long, and `…_both` those
        that are in either number; so `dropped_length` is source + target - both. `epoch` as in `lengths`.
        """
        opened = self._served(split, epoch)
        return {"num_pairs": len(opened.pairs), **opened.num_too_long()}

    def lengths(self, split: str, *, epoch: int | None = None) -> Lengths:
        """Return the lengths of all pairs of a split, in positions of a batch, after truncation.

        `epoch` matters where training texts are sampled, so that it has lengths of its own; None: the one that the
        train loader serves.
        """
        return self._served(split, epoch).lengths

    @property
    def source_names(self) -> list[str]:
        """The names of a mixture's sources, in order; empty: the corpus is one source."""
        return self._open.source_names

    def sources(self, split: str) -> NDArray[np.uint16]:
        """Return the source of each pair of a mixture's split, by row, as a place in `source_names`: uint16 [n]."""
        return self._open.sources(split)

    @property
    def _open(self) -> OpenData:
        if self.ids is None:
            raise DataError("the data is not prepared: call prepare_data() and setup() first, or let a Trainer do it")
        if self._data is None or self._data.ids != self.ids:
            self._data = OpenData(
                self.storage,
                self.recipe,
                self.ids,
                layout=self._format,
                too_long=self.too_long,
                seed=self.seed,
                eval_max_bytes=self.eval_max_bytes,
            )
        return self._data

    @property
    def _is_evaluating(self) -> bool:
        return self.trainer is not None and self.trainer.state.fn in EVALUATING

    def _served(self, split: str, epoch: int | None = None) -> OpenSplit:
        """Return a split as it is in an epoch: another one in each where the training texts are sampled."""
        sampled = self._open.sampled(self.sampler) if split == "train" else None
        if sampled is None:
            return self._open.split(split)
        if epoch is None:
            epoch = self._train_loader.batch_sampler.planned_epoch if self._train_loader is not None else 0
        return sampled.split(seed=self.seed, epoch=epoch)

    def _agree_on_ids(self) -> None:
        """Let all ranks use what rank 0 prepared, even if the source has changed since."""
        if self.trainer is not None and self.trainer.world_size > 1:
            told = self.trainer.strategy.broadcast(asdict(self.ids) if self.ids is not None else {})
            self.ids = StageIds(**told)

    def _loader(self, name: str, planner: Planner, *, for_writers: bool = False) -> PlanLoader:
        share = self.trainer.distributed_sampler_kwargs if self.trainer is not None else None
        serving = Serving(
            seed=self.seed,
            rank=share["rank"] if share else 0,
            world_size=share["num_replicas"] if share else 1,
            frozen=getattr(self.trainer, "overfit_batches", 0) > 0,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
        )
        sampled = self._open.sampled(self.sampler) if name == "train" else None
        return serving.loader(name, self._open.split(name), planner, sampled=sampled, for_writers=for_writers)
