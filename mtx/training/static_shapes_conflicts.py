"""Checks, before any work, that the sampler, the tokenizer and the downloader of a data module fit together."""

from mtx.batches.plan.planner import Planner
from mtx.batches.schema import UNPADDED_FORMATS
from mtx.data.tokenize.tokenization import Tokenization
from mtx.errors import ConfigError
from mtx.infra.dataset.download import Downloader
from mtx.training.pair_weights import PairWeighting
from mtx.training.weighted_pair_groups import Grouping


def check_shapes(
    sampler: Planner,
    tokenizer: Tokenization,
    downloader: Downloader,
    grouping: Grouping | None = None,
    weighting: PairWeighting | None = None,
    batch_format: str = "mtx",
) -> None:
    """Check that every epoch can have the same batch shapes if the sampler needs fixed shapes (`static_shapes`).

    Raises ConfigError if the tokenizer samples subwords, or if batches have no padding. The same holds if an epoch
    draws pairs by weights or a temperature of a mixture or of groups, or by weights of pairs.
    """
    if batch_format in UNPADDED_FORMATS and sampler.has_fixed_shapes:
        raise ConfigError(
            "sampler=static_shapes pads batches to a few shapes, but batches with "
            f"datamodule.batch_format={batch_format} have no padding. Choose sampler=random_tokens, or "
            "set datamodule.batch_format=mtx"
        )
    if tokenizer.is_sampled and sampler.has_fixed_shapes:
        raise ConfigError(
            "sampler=static_shapes needs the same lengths in every epoch, but subword sampling changes the lengths in "
            "each epoch. Choose another sampler, such as sampler=token_budget, or turn subword sampling off with "
            "tokenizer.dropout=0 (bpe) or tokenizer.alpha=null (unigram)"
        )
    if sampler.has_fixed_shapes and downloader.is_weighted:
        raise ConfigError(
            "sampler=static_shapes needs the same pairs in every epoch, but a mixture with weights or a temperature "
            "draws different pairs for each epoch. Choose another sampler, such as sampler=token_budget, or use every "
            "pair once per epoch with downloader.weights=null downloader.temperature=null"
        )
    if sampler.has_fixed_shapes and grouping is not None and grouping.is_weighted:
        raise ConfigError(
            "sampler=static_shapes needs the same pairs in every epoch, but datamodule.group_weights and "
            "datamodule.group_temperature draw different pairs for each epoch. Choose another sampler, such as "
            "sampler=token_budget, or set both to null"
        )
    if sampler.has_fixed_shapes and weighting is not None:
        raise ConfigError(
            "sampler=static_shapes needs the same pairs in every epoch, but datamodule.weight_by draws different pairs "
            "for each epoch. Choose another sampler, such as sampler=token_budget, or leave out datamodule.weight_by"
        )
