"""Format options of a batch (special ids, maximum lengths, tensor names).

This module uses numpy arrays only and does not import torch.
"""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from mtx.batches.causal_template import DEFAULT_TEMPLATE
from mtx.batches.plan.planner import NO_PADDING
from mtx.batches.schema import IGNORED_LABEL, UNPADDED_FORMATS, FormatName, supported_schema
from mtx.components.bounded_numbers import MAX_INTEGER
from mtx.components.checked_options import component
from mtx.data.token_rows import TRAINED_IDS, SpecialIds
from mtx.errors import ConfigError

MaxTokens = Annotated[int, Field(ge=2, le=MAX_INTEGER, description="room for one token and EOS")]
LanguageTokenPosition = Literal["prefix", "suffix"]


@component("datamodule")
class BatchFormat:
    """Options that decide how pairs are written into the tensors of a batch.

    Attributes:
        source: special ids of the source vocabulary.
        target: special ids of the target vocabulary.
        source_eos: whether each source ends with EOS.
        label_pad_id: value that fills labels after EOS; None: see `label_padding`.
        max_source_tokens: largest number of source positions of a pair, including EOS; None: no limit.
        max_target_tokens: largest number of target positions of a pair, including BOS or EOS; None: no limit.
        length_multiple: S and T are rounded up to a multiple of this number; 8 suits tensor cores. `NO_PADDING` (0)
            if batches are flat, or decoder-only batches of one row without padding, and only then.
        names: `mtx`; `flat` for batches without padding; `huggingface` for the tensor names that seq2seq models of
            `transformers` take; `huggingface_packed`, without padding, for models of `transformers` of both kinds; or
            `causal` for decoder-only models. With `huggingface`, labels are padded with -100 unless `label_pad_id` is
            set, and batches have no `row_ids`. `decoder_input_ids` begin with BOS in all formats but `causal`.
            Generation needs `decoder_start_token_id`: set it in the config of a `transformers` model to the BOS id.
            Published Marian and T5 models start with pad instead: use
            `tokenizer=pretrained "tokenizer.bos_token='<pad>'"`.
        template: the prompt of decoder-only batches; None: `{src}{eos}{tgt}`, or another format.
        forced_target_tokens: number of labels at the start of each target that are given, such as the token of the
            target language: 0 or 1. Generation begins with them, and likelihoods leave them out.
        language_token_position: `prefix` or `suffix`. With `suffix`, the first id of each row is a language token. It
            follows the EOS of a source, and replaces the BOS of a target. See `language_token_suffix`.
    """

    source: SpecialIds = TRAINED_IDS
    target: SpecialIds = TRAINED_IDS
    source_eos: bool = True
    label_pad_id: int | None = None
    max_source_tokens: MaxTokens | None = None
    max_target_tokens: MaxTokens | None = None
    length_multiple: int = 1
    names: Annotated[FormatName, Field(title="batch_format")] = "mtx"
    template: str | None = None
    forced_target_tokens: Annotated[int, Field(ge=0, le=1)] = 0
    language_token_position: LanguageTokenPosition = "prefix"

    def __post_init__(self) -> None:
        supported_schema(self.names)
        if self.is_causal and self.has_language_suffix:
            raise ConfigError(
                "datamodule.language_token_position=suffix starts a decoder of its own, which models with "
                "datamodule.batch_format=causal lack. Set datamodule.language_token_position=prefix, or another "
                "datamodule.batch_format"
            )

    @property
    def is_flat(self) -> bool:
        """Whether batches have no padding."""
        return self.names in UNPADDED_FORMATS

    @property
    def has_language_suffix(self) -> bool:
        """Whether language tokens end sources and start the decoder."""
        return self.language_token_position == "suffix"

    @property
    def is_causal(self) -> bool:
        """Whether prompt and target of a pair are one sequence, for decoder-only models."""
        return self.names == "causal"

    @property
    def is_unpadded(self) -> bool:
        """Whether the cost of a batch is the number of its real tokens."""
        return self.is_flat or (self.is_causal and self.length_multiple == NO_PADDING)

    @property
    def one_pair_a_row(self) -> "BatchFormat":
        """This format; of decoder-only batches without padding, the padded one, which evaluation uses."""
        return replace(self, length_multiple=1) if self.is_causal and self.is_unpadded else self

    def order_options(self) -> dict[str, int | bool | str | None]:
        """Return the options that decide, with the sampler, which pairs each rank gets in which step, as plain values.

        Ranks get batches of equal cost in each step, and the cost of a flat batch differs from that of a padded one.
        """
        return {
            "max_source_tokens": self.max_source_tokens,
            "max_target_tokens": self.max_target_tokens,
            **({} if self.is_causal else {"source_eos": self.source_eos}),
            **({"batch_format": self.names} if self.is_flat or self.is_causal else {}),
            **({"template": self.template or DEFAULT_TEMPLATE} if self.is_causal else {}),
            **({"language_token_position": "suffix"} if self.has_language_suffix else {}),
        }

    @property
    def label_padding(self) -> int:
        """Value that fills labels after EOS.

        It is -100 with `causal`, else `label_pad_id` if that is set, else -100 with `huggingface`, else the target's
        pad id.
        """
        if self.is_causal:
            return IGNORED_LABEL
        if self.label_pad_id is not None:
            return self.label_pad_id
        return IGNORED_LABEL if self.names == "huggingface" else self.target.pad

    @property
    def source_extra(self) -> int:
        """Number of positions that a source has in addition to its own ids: 1 for EOS, else 0."""
        return int(self.source_eos)

    @property
    def target_extra(self) -> int:
        """Number of positions that a target has in addition to its own ids: 1 for BOS or EOS, else 0."""
        return int(not self.has_language_suffix)
