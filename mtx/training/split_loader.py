"""Build the loader of a split: the batches of this rank, or an error that says why there is no batch."""

from dataclasses import dataclass

from mtx.batches.plan.planner import Planner
from mtx.data.validation_sets import PREDICT_NAME
from mtx.errors import EmptyDatasetError
from mtx.training.batch_datasets import PromptBatches
from mtx.training.loader import EncodedBatches, EpochBatches, PlanLoader, SourceBatches
from mtx.training.sampled_epochs import SampledBatches, SampledEpochs
from mtx.training.split_data import SplitData
from mtx.training.tunable_batch_size import num_units

HELD_OUT = ("validation", "test")  # splits whose size is a key of the datamodule group


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """Settings that all loaders of a run share.

    Attributes:
        seed: seed of the training order.
        rank: rank of this process and number of ranks; None: those of `torch.distributed` when a pass begins.
        frozen: every epoch has the batches of epoch 0.
        num_workers: threads that build batches ahead of time.
        pin_memory: copy batches into pinned memory.
        is_sizing: `len(loader.dataset)` is not the number of pairs but the largest batch budget, with which Lightning's
            batch-size finder compares.
    """

    seed: int
    rank: tuple[int, int] | None
    frozen: bool
    num_workers: int
    pin_memory: bool
    is_sizing: bool = False

    def loader(
        self,
        name: str,
        split: SplitData,
        planner: Planner,
        *,
        sampled: SampledEpochs[SplitData] | None = None,
        for_writers: bool = False,
    ) -> PlanLoader:
        """Return the loader of a split.

        Args:
            name: name of the split. Only for `train`, a few rows may be dropped to give all ranks the same number of
                steps.
            split: the pairs of the split.
            planner: forms the batches.
            sampled: the epochs of a training split with subword sampling; None: the token ids are the same in every
                epoch.
            for_writers: let Lightning pass the row numbers of each batch to its prediction writers.

        Raises EmptyDatasetError if no pair is left, or if there are fewer pairs than ranks.
        """
        if len(split.pairs) == split.num_dropped:
            raise EmptyDatasetError(self._empty_message(name, split))
        draft = split.draft(planner) if sampled is None else sampled
        if not len(draft):
            raise EmptyDatasetError(
                f"the sampler forms no batch from the {len(split.pairs):,} pairs of the {name} split: they do not fill "
                "a batch, or each pair exceeds the budget. Set sampler.drop_last=false, a smaller "
                "sampler.batch_size, or a larger sampler.max_tokens"
            )
        batches = _batches_class(for_writers=for_writers)(
            draft,
            seed=self.seed,
            rank=None if self.rank is None else self.rank[0],
            world_size=None if self.rank is None else self.rank[1],
            lengths=split.lengths if sampled is None else sampled.lengths,
            join=name != "train",
            frozen=self.frozen,
            is_flat=split.layout.is_unpadded,
        )
        if not len(batches):
            more = f", or hold out more pairs with datamodule.{name}=COUNT" if name in HELD_OUT else ""
            raise EmptyDatasetError(
                f"the {name} split has {len(split.pairs) - split.num_dropped:,} usable pairs for {batches.world_size} "
                f"ranks, but each rank needs at least one. Use fewer ranks with trainer.devices{more}"
            )
        if sampled is not None:
            served: EncodedBatches = SampledBatches(split.pairs, split.layout, sampled, seed=self.seed)
        else:
            served = _served_class(name, is_prediction=for_writers, is_causal=split.layout.is_causal)(
                split.pairs, split.layout
            )
        if self.is_sizing:
            served.size = num_units(planner, split.lengths, split.excluded)
        return PlanLoader(served, batches, num_workers=self.num_workers, pin_memory=self.pin_memory)

    def _empty_message(self, name: str, split: SplitData) -> str:
        layout = split.layout
        if split.num_dropped and layout.max_source_tokens is None and layout.max_target_tokens is None:
            return (
                f"all {split.num_dropped} pairs of the {name} split have more UTF-8 bytes on a side than "
                "datamodule.eval_max_bytes allows. Raise datamodule.eval_max_bytes, or set it to null for no limit"
            )
        if split.num_dropped:
            return (
                f"all {split.num_dropped} pairs of the {name} split are longer than datamodule.max_source_tokens="
                f"{layout.max_source_tokens} or datamodule.max_target_tokens={layout.max_target_tokens}. "
                "Raise these maximums, or set datamodule.too_long=truncate"
            )
        return (
            f"the {name} split is empty. Hold out more pairs with datamodule.{name}=COUNT, "
            f"or none with datamodule.{name}=null. mtx task=show stage=filtered shows what the filter dropped"
        )


def _served_class(name: str, *, is_prediction: bool, is_causal: bool) -> type[EncodedBatches]:
    if is_causal and is_prediction:  # also of the test split: a model continues prompts without targets
        return PromptBatches
    return SourceBatches if name == PREDICT_NAME else EncodedBatches


def _batches_class(*, for_writers: bool) -> type[EpochBatches]:
    if not for_writers:
        return EpochBatches
    from mtx.training.prediction_row_numbers import PredictionBatches  # which imports Lightning

    return PredictionBatches
