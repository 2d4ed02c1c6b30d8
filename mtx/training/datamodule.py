"""The data module: what a Lightning Trainer takes, and what serves batches without one too."""

import logging
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtx.data.encode import encoded_pairs
from mtx.data.filter.base import PairFilter
from mtx.data.pipeline import Recipe, StageIds, prepare
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.base import Tokenization
from mtx.data.tokenize.pair import TokenizerPair, load_pair
from mtx.errors import ConfigError, DataError, EmptyDatasetError
from mtx.identity import JSON, identity
from mtx.infra.dataset.collate import BatchFormat, EncodedPairs, load_kernels, truncated
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.plan.base import Draft, Lengths, Planner
from mtx.infra.dataset.plan.token_budget import TokenBudgetPlanner
from mtx.training.loader import EncodedBatches, EpochBatches, PlanLoader
from mtx.training.resume import check_same_data, count_from_here

log = logging.getLogger(__name__)

TooLong = Literal["drop", "truncate"]


class TranslationDataModule(pl.LightningDataModule):
    """Serves a parallel corpus as batches of token ids.

    `prepare_data` builds what the store lacks; `setup` maps it into memory; the loaders serve it. With a Trainer
    all of that happens by itself, without one it reads
    `dm.prepare_data(); dm.setup("fit"); for batch in dm.train_dataloader(): …`.

    Args:
        storage: where everything is kept.
        downloader: where the pairs come from.
        filter: how they are cleaned.
        tokenizer: how texts become ids.
        sampler: forms the training batches.
        validation: pairs held out for validation where the source has no such split: a count, a fraction, or None.
        test: the same for test.
        held_out_seed: another one holds out other sentences.
        drop_leaks: leave out training pairs whose source sentence stands in the source's own held-out splits.
        max_source_tokens: positions a source may take, EOS included; None: any number.
        max_target_tokens: positions a target may take, BOS or EOS included; None: any number.
        too_long: what happens to a pair above a maximum: `drop` or `truncate`; both are counted.
        eval_max_tokens: padded tokens a side in a batch for validation, test and predict.
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
        max_source_tokens: int | None = 256,
        max_target_tokens: int | None = 256,
        too_long: TooLong = "drop",
        eval_max_tokens: int = 4096,
        batch_format: Literal["mtx", "huggingface"] = "mtx",
        label_pad_id: int | None = None,
        source_eos: bool = True,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if too_long not in ("drop", "truncate"):
            raise ConfigError(f"datamodule.too_long is drop or truncate, but is {too_long!r}")
        if num_workers < 0:
            raise ConfigError(f"datamodule.num_workers is at least 0, but is {num_workers}")
        held_out = HeldOut(validation=validation, test=test, seed=held_out_seed, drop_leaks=drop_leaks)
        self.storage = storage
        self.recipe = Recipe(downloader, held_out, filter, tokenizer)
        self.sampler = sampler
        self.eval_sampler = TokenBudgetPlanner(max_tokens=eval_max_tokens, too_long="alone", shuffle=False)
        self.too_long = too_long
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
        self._splits: dict[str, _Split] = {}
        self._resume: dict[str, Any] | None = None
        self._train_loader: PlanLoader | None = None

    def prepare_data(self) -> None:
        """Build what the store lacks, once: a Trainer asks again for each of its loops.

        Raises SourceError, DataError, StoreError.
        """
        if self.ids is None:
            self.ids = prepare(self.recipe, self.storage)

    def setup(self, stage: str | None = None) -> None:
        """Map the encoded datasets into memory and load the compiled kernels that read them, where numba is installed.

        `stage` is accepted, and all splits are opened, which costs nothing.
        """
        self._agree_on_ids()
        for split in self._stage_ids.encoded:
            load_kernels(self._opened(split).pairs)

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
        """Return the loader of the validation split, each pair once, in a fixed order; empty list without one."""
        return self._eval_loader("validation")

    def test_dataloader(self) -> PlanLoader | list[Any]:
        """Return the loader of the test split, each pair once, in a fixed order; empty list without one."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> PlanLoader | list[Any]:
        """Return the loader of the test split; `row_ids` say which pair of the dataset a prediction is for."""
        return self._eval_loader("test")

    def state_dict(self) -> dict[str, Any]:
        """Return, for a checkpoint, how far the training epoch is, and what decides its batches."""
        if self._train_loader is None:
            return {}
        return {"train_loader": self._train_loader.state_dict(), "data": self._what_decides_batches()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the training epoch behind what a checkpoint has seen, on any number of ranks.

        Raises ConfigError where the checkpoint comes from other data, and names the difference. A Trainer that only
        evaluates may do so on any data.
        """
        if not state_dict or (self.trainer is not None and self.trainer.state.fn != "fit"):
            return
        check_same_data(state_dict["data"], self._what_decides_batches())
        self._resume = state_dict["train_loader"]

    @cached_property
    def tokenizers(self) -> TokenizerPair:
        """The tokenizers of both sides."""
        return load_pair(self.recipe.tokenizer, self.storage.tokenizers / self._stage_ids.tokenizer)

    @cached_property
    def batch_format(self) -> BatchFormat:
        """What a batch looks like, with the special ids of the tokenizers."""
        return replace(self._format, source=self.tokenizers.source_ids, target=self.tokenizers.target_ids)

    def facts(self) -> dict[str, Any]:
        """Return what a model has to know of the data; parameters of a model with these names are filled from it."""
        pair, layout = self.tokenizers, self.batch_format
        return {
            "source_vocab_size": pair.source.get_vocab_size(),
            "target_vocab_size": pair.target.get_vocab_size(),
            "joint_vocabulary": pair.joint,
            "pad_id": layout.target.pad,
            "bos_id": layout.target.bos,
            "eos_id": layout.target.eos,
            "source_pad_id": layout.source.pad,
            "max_source_tokens": layout.max_source_tokens,
            "max_target_tokens": layout.max_target_tokens,
        }

    def num_target_bytes(self, row_ids: Tensor, split: str) -> Tensor:
        """Return the UTF-8 bytes of the target texts of `row_ids` (int64 [B]) as int64 [B], for bits per byte.

        A target that was truncated counts the share of its bytes that its share of kept tokens stands for.
        """
        num_bytes = self._opened(split).num_target_bytes[row_ids.cpu().numpy()]
        return torch.from_numpy(num_bytes).to(row_ids.device)

    def split_counts(self, split: str) -> dict[str, int]:
        """Return `num_pairs` of a split, and how many are too long: `dropped_length`, `truncated`."""
        opened = self._opened(split)
        return {
            "num_pairs": len(opened.pairs),
            "dropped_length": opened.num_dropped,
            "truncated": opened.num_truncated,
        }

    def lengths(self, split: str) -> Lengths:
        """Return the lengths of all pairs of a split, in positions of a batch, after truncation."""
        return self._opened(split).lengths

    @property
    def _stage_ids(self) -> StageIds:
        if self.ids is None:
            raise DataError("the data is not prepared: call prepare_data() and setup() first, or let a Trainer do it")
        return self.ids

    def _opened(self, split: str) -> "_Split":
        if split not in self._stage_ids.encoded:
            raise DataError(f"there is no {split} split; there are: {', '.join(self._stage_ids.encoded)}")
        if split not in self._splits:
            self._splits[split] = self._open(split)
        return self._splits[split]

    def _what_decides_batches(self) -> dict[str, JSON]:
        """Describe, in plain values, what the order of the training pairs depends on, beside seed and epoch."""
        raw = self.storage.repo.manifest(self._stage_ids.raw["train"])
        return {
            "downloader": dict(raw.provenance),
            "held_out": identity(self.recipe.held_out),
            "filter": identity(self.recipe.filter),
            "tokenizer": {**self.recipe.tokenizer.identity(), "joint": self.recipe.tokenizer.joint},
            "encoded": self._stage_ids.encoded["train"],
            "sampler": identity(self.sampler),
            "datamodule": {
                "seed": self.seed,
                "max_source_tokens": self._format.max_source_tokens,
                "max_target_tokens": self._format.max_target_tokens,
                "source_eos": self._format.source_eos,
                "too_long": self.too_long,
            },
        }

    def _agree_on_ids(self) -> None:
        """Let all ranks use what rank 0 prepared, even if the source has changed since."""
        if self.trainer is not None and self.trainer.world_size > 1:
            told = self.trainer.strategy.broadcast(asdict(self.ids) if self.ids is not None else {})
            self.ids = StageIds(**told)

    def _open(self, split: str) -> "_Split":
        dataset = self.storage.repo.get(self._stage_ids.encoded[split])
        return _Split(
            encoded_pairs(dataset.rows),
            dataset.rows.table["num_target_bytes"].to_numpy(),
            self.batch_format,
            self.too_long,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_splits": {}}  # mapped anew, rather than copied

    def _loader(self, split: str, planner: Planner) -> PlanLoader:
        opened = self._opened(split)
        if len(opened.pairs) == opened.num_dropped:
            raise EmptyDatasetError(self._why_empty(split, opened))
        draft = opened.draft(planner)
        if not len(draft):
            raise EmptyDatasetError(
                f"the sampler makes no batch of the {len(opened.pairs):,} pairs of the {split} split: they are fewer "
                "than a batch, or each is above its budget. Set sampler.drop_last=false, a smaller "
                "sampler.batch_size, or a larger sampler.max_tokens"
            )
        sharing = self.trainer.distributed_sampler_kwargs if self.trainer is not None else None
        batches = EpochBatches(
            draft,
            seed=self.seed,
            rank=sharing["rank"] if sharing else 0,
            world_size=sharing["num_replicas"] if sharing else 1,
            lengths=opened.lengths,
            join=split != "train",
            frozen=getattr(self.trainer, "overfit_batches", 0) > 0,
        )
        if not len(batches):
            raise EmptyDatasetError(
                f"the {split} split has {len(opened.pairs) - opened.num_dropped:,} pairs to serve, but there are "
                f"{batches.world_size} ranks, and each takes one at least. Use fewer with trainer.devices, or hold "
                "out more with datamodule.validation=COUNT"
            )
        return PlanLoader(
            EncodedBatches(opened.pairs, self.batch_format),
            batches,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
        )

    def _eval_loader(self, split: str) -> PlanLoader | list[Any]:
        return self._loader(split, self.eval_sampler) if split in self._splits else []

    def _why_empty(self, split: str, opened: "_Split") -> str:
        if opened.num_dropped:
            return (
                f"all {opened.num_dropped} pairs of the {split} split are longer than datamodule.max_source_tokens="
                f"{self._format.max_source_tokens} or datamodule.max_target_tokens={self._format.max_target_tokens}. "
                "Raise them, or set datamodule.too_long=truncate"
            )
        return (
            f"the {split} split came out empty. Hold out more with datamodule.{split}=COUNT, "
            f"none with datamodule.{split}=null, or see what the filter dropped: mtx task=show stage=filtered"
        )


class _Split:
    """One split, mapped into memory: its pairs, their lengths in a batch, and which of them are too long."""

    def __init__(
        self, pairs: EncodedPairs, num_target_bytes: NDArray[np.int64], layout: BatchFormat, too_long: TooLong
    ) -> None:
        self.pairs = pairs
        full = pairs.lengths(layout)
        self.lengths = truncated(full, layout)
        is_long = (self.lengths.source < full.source) | (self.lengths.target < full.target)
        num_long = int(np.count_nonzero(is_long))
        self.excluded = is_long if too_long == "drop" else None
        self.num_dropped = num_long if too_long == "drop" else 0
        self.num_truncated = num_long - self.num_dropped
        self._drafts: dict[Planner, Draft] = {}
        self.num_target_bytes = num_target_bytes * self.lengths.target // full.target if num_long else num_target_bytes

    def draft(self, planner: Planner) -> Draft:
        """Return the planner's work on the lengths, done once for all loaders of this split."""
        if planner not in self._drafts:
            self._drafts[planner] = planner.draft(self.lengths, excluded=self.excluded)
        return self._drafts[planner]
