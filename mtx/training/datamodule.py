"""LightningDataModule that gives a Lightning Trainer batches of a parallel corpus; it also works without a Trainer."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from mtx.batches.plan.packed_rows import PackedRowsPlanner
from mtx.batches.plan.planner import Planner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.batches.schema import HUGGINGFACE_PACKED
from mtx.components.identity import JSON
from mtx.data.language_groups import dataset_languages, part_languages
from mtx.data.preparation import StageIds
from mtx.data.tokenize.language_tokens import LeadingIds, leading_ids
from mtx.errors import ConfigError
from mtx.training.causal_prompts import names_languages
from mtx.training.lightning_compat import LightningCompat, pl, twin_bases
from mtx.training.lightning_resume import check_same_data, continue_epoch, set_epoch_steps, unfinished_state
from mtx.training.loader import PlanLoader
from mtx.training.model_batch_formats import check_model_format, check_packed_split
from mtx.training.streamed_epoch_end import UNKNOWN_LENGTH, check_streamed_trainer, tell_epoch_end
from mtx.training.translation_data import TranslationData
from mtx.training.translation_state import STATE_KEY, stored_state
from mtx.training.tunable_batch_size import min_budget, planner_budget, planner_with_budget

EVALUATION_STAGES = ("validate", "test", "predict")  # Lightning's `trainer.state.fn` while a Trainer only evaluates


if TYPE_CHECKING:
    from mtx.training.shard_stream_loader import ShardStreamLoader

    LightningDataModule = pl.LightningDataModule
else:

    class LightningDataModule(*twin_bases(pl.LightningDataModule)):
        """Base class of both Lightning packages, if both are imported, as LightningCLI of either needs."""


class TranslationDataModule(TranslationData, LightningCompat, LightningDataModule):
    """LightningDataModule that prepares a parallel corpus and loads it as batches of token ids.

    Trainers of `pytorch_lightning` and of `lightning.pytorch` both accept this data module: `trainer.fit(model, dm)`.
    A run that resumes from a checkpoint starts with the next batch of the epoch, on any number of ranks.
    Without a Trainer, call `dm.prepare_data()`, `dm.setup("fit")`, and iterate over `dm.train_dataloader()`.

    The arguments are the same as those of `TranslationData`.
    """

    trainer: Any
    _resume: dict[str, Any] | None = None
    _stored_translation: dict[str, JSON] | None = None
    _is_resumed = False  # True in a run that started from a checkpoint

    def setup(self, stage: str | None = None) -> None:
        """Map the prepared data into memory, as `TranslationData.setup` does; `stage="fit"` starts a new run.

        Raises ConfigError if the Trainer's model does not take batches of this format, or mixes the pairs of a row.
        """
        self._agree_on_ids()
        self._is_sizing = False
        if stage == "fit":
            self._is_resumed = False
        if self.trainer is not None:
            check_model_format(self.trainer.lightning_module, self._format.names)
        super().setup(stage)
        if stage == "fit" and self.trainer is not None and self._format.is_causal and self._has_several_pairs_a_row:
            from mtx.training.causal_leakage import check_rows_keep_pairs_apart  # which imports torch

            num_ids, num_rows = self.facts()["target_vocab_size"], getattr(self.sampler, "num_rows", 1)
            check_rows_keep_pairs_apart(self.trainer.lightning_module, self.batch_format, num_ids, num_rows)

    def train_dataloader(self) -> "PlanLoader | ShardStreamLoader":
        """Return the loader of the training split; each pass is one epoch, with its own order of batches.

        Raises ConfigError if the data is streamed, and the Trainer does not end or needs the number of batches.
        """
        if self.trainer is not None and self._streamed is not None:
            check_streamed_trainer(self.trainer, self._streamed.num_rows)
        loader = super().train_dataloader()
        if self._resume is not None:
            loader.load_state_dict(self._resume)
            self._resume = None
        if self.trainer is None:
            return loader
        if not isinstance(loader, PlanLoader):
            loader.tell_end, loader.unknown_length = partial(tell_epoch_end, self.trainer), UNKNOWN_LENGTH
        else:
            loader.batch_sampler.on_set_epoch = partial(set_epoch_steps, self.trainer, loader.batch_sampler)
        return loader

    @property
    def batch_size(self) -> int:
        """The batch budget, which Lightning's batch-size finder reads and sets.

        In training, the budget is the sampler's `max_tokens`, `real_tokens`, `batch_size` or `num_rows`; in validate,
        test and predict, the budget is `eval_max_tokens`. A new value changes the plan of batches. In training, the
        finder cannot set a token budget below the length of the longest pair, unless the configured budget is already
        lower.

        Raises ConfigError if the sampler has none of these keys, or if the run resumes from a checkpoint or streams.
        """
        if self._streamed is not None and not self._is_evaluating:
            raise ConfigError(
                "the batch-size finder repeats the first batches, which datamodule.stream=true cannot. Remove the "
                "finder, or set datamodule.stream=false"
            )
        self._is_sizing = self.trainer is not None  # only the finder of a Trainer reads it
        return planner_budget(self.eval_sampler if self._is_evaluating else self.sampler)

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        if self._is_evaluating:
            self.eval_sampler = cast(TokenBudgetPlanner, planner_with_budget(self.eval_sampler, value))
            return
        if self._is_resumed:
            raise ConfigError(
                "a run that resumes from a checkpoint must keep its batches, so the batch size cannot change. Remove "
                "the batch-size finder, or start a new run without ckpt_path"
            )
        sampler = planner_with_budget(self.sampler, value)
        if self._data is not None:
            opened = self._data.split("train")
            needed = min(planner_budget(self._given_sampler), min_budget(sampler, opened.lengths, opened.excluded))
            sampler = planner_with_budget(sampler, max(value, needed))
        self.sampler, self._train_loader = sampler, None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores: the position in the training epoch, and what a translation needs.

        The latter are tokenizers, normaliser, batch format and languages, under the key `translation`.
        """
        if self._train_loader is None:
            return {}
        if self._stored_translation is None:
            self._stored_translation = self._translation_state()
        loader = self._train_loader.state_dict()
        ends = unfinished_state(self.trainer, loader) if self.trainer is not None else {}
        return {
            "loader": loader,
            **ends,
            "data": self._prepared_data.batch_identity(self.sampler),
            STATE_KEY: self._stored_translation,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training pass continue the epoch of a checkpoint with the next batch, on any number of ranks.

        If the Trainer only validates, tests or predicts, the state is ignored, so such a run may use other data.

        Raises ConfigError if the checkpoint comes from a run with other data; the message lists the differences.
        """
        if not state_dict or (self.trainer is not None and self.trainer.state.fn != "fit"):
            return
        check_same_data(state_dict["data"], self._prepared_data.batch_identity(self.sampler))
        self._is_resumed = True
        self._resume = state_dict["loader"] if self.trainer is None else continue_epoch(self.trainer, state_dict)

    @property
    def _has_several_pairs_a_row(self) -> bool:
        return isinstance(self.sampler, PackedRowsPlanner) or self._format.is_unpadded

    def _translation_state(self) -> dict[str, JSON]:
        """Return what a checkpoint stores besides weights, so that it can translate without the store."""
        assert self.ids is not None
        of_both = dataset_languages(self._repo, self.ids.filtered["train"])
        directions, given = self._prepared_data.directions, self.recipe.language_tokens
        ids: list[LeadingIds] = []
        if given is not None or names_languages(self.batch_format):  # a mixture may have several directions
            corpus = self.recipe.downloader.with_stored_parts(self.ids.parts)
            spoken = list(dict.fromkeys(part_languages(corpus, self.ids.raw, self._repo)))
            directions = spoken if len(spoken) > 1 else directions
            ids = [leading_ids(given, each, self.tokenizers) for each in spoken] if given is not None else []
        return stored_state(
            self.tokenizers,
            self.recipe.normalise,
            self.batch_format,
            of_both,
            self.eval_max_bytes,
            directions,
            ids,
        )

    @property
    def _is_evaluating(self) -> bool:
        return self.trainer is not None and self.trainer.state.fn in EVALUATION_STAGES

    def _loader(self, name: str, planner: Planner, *, for_writers: bool = False) -> PlanLoader:
        """Return the loader of a split, after a check of the model, which has been moved to its device by then."""
        if self.trainer is not None and self._format.names == HUGGINGFACE_PACKED.name and not for_writers:
            check_packed_split(self.trainer, self._prepared_data.split(name), self.facts, name)
        return super()._loader(name, planner, for_writers=for_writers)

    def _agree_on_ids(self) -> None:
        """Broadcast the stage ids of rank 0, so that all ranks load the same datasets even if the source changes."""
        if self.trainer is not None and self.trainer.world_size > 1:
            told = self.trainer.strategy.broadcast(asdict(self.ids) if self.ids is not None else {})
            self.ids = StageIds(**told)

    def _rank(self) -> tuple[int, int] | None:
        if self.trainer is None:
            return None
        share = self.trainer.distributed_sampler_kwargs
        return (share["rank"], share["num_replicas"]) if share else (0, 1)

    @property
    def _is_frozen(self) -> bool:
        return getattr(self.trainer, "overfit_batches", 0) > 0
