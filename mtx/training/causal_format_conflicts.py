"""Checks, before any work, that sampler, tokenizer and template fit `datamodule.batch_format`, if it is `causal`."""

from mtx.batches.causal_template import CONFIG_KEY, DEFAULT_TEMPLATE, LANGUAGE_FIELDS, parsed_template
from mtx.batches.plan.packed_rows import PackedRowsPlanner
from mtx.batches.plan.planner import NO_PADDING, Planner
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.batches.schema import UNPADDED_FORMATS
from mtx.data.tokenize.tokenization import Tokenization
from mtx.errors import ConfigError, choices
from mtx.infra.dal.row_views import ROW_COLUMN, SOURCE_COLUMN
from mtx.infra.dataset.extra_columns import ExtraColumns

KNOWN_FIELDS = (*LANGUAGE_FIELDS, ROW_COLUMN, SOURCE_COLUMN)  # fields of a template that are in every corpus


def check_causal(
    batch_format: str,
    sampler: Planner,
    tokenizer: Tokenization,
    template: str | None,
    label_pad_id: int | None,
    columns: ExtraColumns = "all",
) -> None:
    """Check the options that `batch_format=causal` needs, and those that only it has; see `TranslationData`.

    `columns` are those that the downloader keeps, by name, or a word for those that only the source knows.

    Raises:
        ConfigError: options do not go together, or the template is not valid.
    """
    if batch_format != "causal":
        if isinstance(sampler, PackedRowsPlanner):
            raise ConfigError(
                "sampler=packed_rows puts several pairs into a row, which only batches with "
                f"datamodule.batch_format=causal have, but it is {batch_format}. Set datamodule.batch_format=causal, "
                "or choose another sampler, such as sampler=token_budget"
            )
        if template is not None:
            raise ConfigError(
                f"{CONFIG_KEY} is the prompt of decoder-only batches, but datamodule.batch_format is {batch_format}. "
                f"Set datamodule.batch_format=causal, or {CONFIG_KEY}=null"
            )
        return
    if not tokenizer.joint:
        raise ConfigError(
            "datamodule.batch_format=causal puts source and target into one sequence, which needs one vocabulary, but "
            "tokenizer.joint is false. Set tokenizer.joint=true"
        )
    if sampler.has_fixed_shapes:
        raise ConfigError(
            "sampler=static_shapes pads source and target apart, but datamodule.batch_format=causal has both in one "
            "sequence. Choose sampler=packed_rows, whose batches all have one shape"
        )
    if getattr(sampler, "by", None) == "target":
        raise ConfigError(
            "sampler.by=target sorts pairs by the length of their targets, but rows with "
            "datamodule.batch_format=causal hold prompt and target, whose sum counts as source. Set sampler.by=max"
        )
    if label_pad_id is not None:
        raise ConfigError(
            "labels of datamodule.batch_format=causal are -100 at the prompt and at padding, but "
            f"datamodule.label_pad_id is {label_pad_id}. Set datamodule.label_pad_id=null"
        )
    fields = parsed_template(template or DEFAULT_TEMPLATE).fields
    if not isinstance(columns, str) and (missing := [name for name in fields if name not in (*KNOWN_FIELDS, *columns)]):
        raise ConfigError(
            f"{CONFIG_KEY} has the field {{{missing[0]}}}, but downloader.columns is {list(columns)}. Choose one of "
            f"{choices(missing[0], [*columns, *LANGUAGE_FIELDS])}, or add the column to downloader.columns"
        )


def batch_length_multiple(batch_format: str, sampler: Planner) -> int:
    """Return the number to whose multiple positions are rounded up; `NO_PADDING` for batches without padding.

    A decoder-only batch of a sampler by real tokens is one row without padding.
    """
    if batch_format in UNPADDED_FORMATS or (batch_format == "causal" and isinstance(sampler, RandomTokensPlanner)):
        return NO_PADDING
    multiple: int = getattr(sampler, "length_multiple", 1)
    return multiple
