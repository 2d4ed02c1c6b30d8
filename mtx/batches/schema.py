"""Schemas of batch formats: names, shapes, dtypes and padding of the tensors in a batch.

Collate functions, callbacks, models and tests read the schemas. Shapes are written with letters: B pairs, S source
positions, T target positions, L source and target positions together, R rows of a decoder-only batch. Such a row may
hold several pairs. ΣS, ΣT and ΣL are the sums of real positions over all pairs. A dimension of 1 is written 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mtx.errors import ConfigError, DataError, choices

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal[
    "source_ids",
    "source_mask",
    "source_offsets",
    "source_positions",
    "decoder_input",
    "labels",
    "target_mask",
    "target_offsets",
    "target_positions",
    "segments",
    "row_ids",
]
Padding = Literal["pad_id", "label_pad_id", "ignored", "false", "zero"] | None


@dataclass(frozen=True)
class BatchField:
    """One tensor of a batch format.

    Attributes:
        name: key of the tensor in the batch.
        role: meaning of the tensor, which is the same in all formats.
        shape: dimensions, as letters (see the module).
        dtype: name of the torch dtype.
        padding: value that fills the tensor behind real tokens: the vocabulary's pad id, `label_pad_id`, -100
            (`ignored`), False, or 0 (`zero`). None: the tensor has no padding.
    """

    name: str
    role: Role
    shape: tuple[str, ...]
    dtype: str
    padding: Padding = None


@dataclass(frozen=True)
class BatchSchema:
    """One batch format: its name and its tensors.

    Attributes:
        name: value of `datamodule.batch_format` that chooses the format.
        fields: the tensors, in the order in which a batch holds them.
    """

    name: str
    fields: tuple[BatchField, ...]

    def field(self, role: Role) -> BatchField | None:
        """Return the field with this role, or None if the format has none."""
        return next((field for field in self.fields if field.role == role), None)

    def tensor(self, batch: Mapping[str, Any], role: Role) -> "Tensor | None":
        """Return the tensor of `batch` with this role, or None if the batch has none."""
        field = self.field(role)
        found: Tensor | None = batch.get(field.name) if field is not None else None
        return found

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the source-side tensors, which are all that batches of text to translate contain."""
        return tuple(field.name for field in self.fields if field.role.startswith("source_"))


IGNORED_LABEL = -100  # label that torch's cross entropy ignores by default
INT64, BOOL, INT32 = "int64", "bool", "int32"
BY_SOURCE, BY_TARGET, ROWS = ("B", "S"), ("B", "T"), ("B",)

MTX = BatchSchema(
    "mtx",
    (
        BatchField("encoder_input_ids", "source_ids", BY_SOURCE, INT64, "pad_id"),
        BatchField("encoder_attn_mask", "source_mask", BY_SOURCE, BOOL, "false"),
        BatchField("decoder_input_ids", "decoder_input", BY_TARGET, INT64, "pad_id"),
        BatchField("labels", "labels", BY_TARGET, INT64, "label_pad_id"),
        BatchField("decoder_attn_mask", "target_mask", BY_TARGET, BOOL, "false"),
        BatchField("row_ids", "row_ids", ROWS, INT64),
    ),
)
HUGGINGFACE = BatchSchema(
    "huggingface",
    (
        BatchField("input_ids", "source_ids", BY_SOURCE, INT64, "pad_id"),
        BatchField("attention_mask", "source_mask", BY_SOURCE, INT64, "false"),
        BatchField("decoder_input_ids", "decoder_input", BY_TARGET, INT64, "pad_id"),
        BatchField("decoder_attention_mask", "target_mask", BY_TARGET, INT64, "false"),
        BatchField("labels", "labels", BY_TARGET, INT64, "label_pad_id"),
    ),
)
FLAT = BatchSchema(
    "flat",
    (
        BatchField("encoder_input_ids", "source_ids", ("ΣS",), INT64),
        BatchField("encoder_offsets", "source_offsets", ("B+1",), INT32),
        BatchField("encoder_positions", "source_positions", ("ΣS",), INT32),
        BatchField("decoder_input_ids", "decoder_input", ("ΣT",), INT64),
        BatchField("labels", "labels", ("ΣT",), INT64),
        BatchField("decoder_offsets", "target_offsets", ("B+1",), INT32),
        BatchField("decoder_positions", "target_positions", ("ΣT",), INT32),
        BatchField("row_ids", "row_ids", ROWS, INT64),
    ),
)
CAUSAL = BatchSchema(
    "causal",
    (
        BatchField("input_ids", "decoder_input", ("R", "L"), INT64, "pad_id"),
        BatchField("position_ids", "target_positions", ("R", "L"), INT64, "zero"),
        BatchField("labels", "labels", ("R", "L"), INT64, "ignored"),
        BatchField("segment_ids", "segments", ("R", "L"), INT64, "zero"),
        BatchField("row_ids", "row_ids", ROWS, INT64),
    ),
)
HUGGINGFACE_PACKED = BatchSchema(
    "huggingface_packed",
    (
        BatchField("input_ids", "source_ids", ("1", "ΣS"), INT64),
        BatchField("position_ids", "source_positions", ("1", "ΣS"), INT64),
        BatchField("encoder_offsets", "source_offsets", ("B+1",), INT32),
        BatchField("decoder_input_ids", "decoder_input", ("1", "ΣT"), INT64),
        BatchField("decoder_position_ids", "target_positions", ("1", "ΣT"), INT64),
        BatchField("labels", "labels", ("1", "ΣT"), INT64),
        BatchField("decoder_offsets", "target_offsets", ("B+1",), INT32),
        BatchField("row_ids", "row_ids", ROWS, INT64),
    ),
)
SCHEMAS = {schema.name: schema for schema in (MTX, HUGGINGFACE, FLAT, CAUSAL, HUGGINGFACE_PACKED)}
FormatName = Literal["mtx", "huggingface", "flat", "causal", "huggingface_packed"]  # of datamodule.batch_format
UNPADDED_FORMATS = (FLAT.name, HUGGINGFACE_PACKED.name)


def supported_schema(name: str) -> BatchSchema:
    """Return the schema of a format name.

    Raises:
        ConfigError: no format has this name.
    """
    if name not in SCHEMAS:
        raise ConfigError(f"datamodule.batch_format is one of {choices(str(name), list(SCHEMAS))}, but is {name!r}")
    return SCHEMAS[name]


def batch_tensor(batch: Any, role: Role) -> "Tensor | None":
    """Return the tensor of `batch` with this role, in any format, or None if the batch has none.

    A user's own batch may contain only some of the fields of a format.
    """
    if not isinstance(batch, Mapping):
        return None
    for schema in SCHEMAS.values():
        if (found := schema.tensor(batch, role)) is not None:
            return found
    return None


def is_flat(batch: Any) -> bool:
    """Return True if a batch has offsets instead of padding and masks: formats `flat` and `huggingface_packed`."""
    return isinstance(batch, Mapping) and ("encoder_offsets" in batch or "decoder_offsets" in batch)


def is_causal(batch: Any) -> bool:
    """Return True if a batch has segments, as `batch_format=causal` has: source and target are one sequence."""
    return isinstance(batch, Mapping) and "segment_ids" in batch


def flat_token_counts(batch: Any) -> tuple[int, ...]:
    """Return the numbers of source and target tokens of a flat batch, as far as it has these sides."""
    found = batch_tensor(batch, "source_ids"), batch_tensor(batch, "labels")
    return tuple(ids.numel() for ids in found if ids is not None)


def num_pairs(batch: Mapping[str, Any]) -> int:
    """Return the number of pairs in a batch of any format that mtx builds."""
    if (offsets := batch_tensor(batch, "target_offsets")) is not None:
        return len(offsets) - 1
    return len(batch["row_ids"] if is_causal(batch) else batch["labels"])


def longest_source(batch: Mapping[str, Any]) -> int:
    """Return the source positions of the longest pair in a batch, or of the padded batch.

    If a padded batch has no source ids under a known key, its first tensor counts as such.
    """
    if is_causal(batch):  # the prompt is the source
        prompts = batch["segment_ids"][batch["labels"] == IGNORED_LABEL]
        return int(prompts[prompts > 0].bincount().max()) if prompts.any() else 0
    if (offsets := batch_tensor(batch, "source_offsets")) is not None:
        return int(offsets.diff().max()) if len(offsets) > 1 else 0
    ids = batch_tensor(batch, "source_ids")
    return int((next(iter(batch.values())) if ids is None else ids).shape[1])


def target_tokens(batch: Any) -> "Tensor | None":
    """Return the number of real target tokens, a tensor [] on the batch's device; None if it cannot be counted."""
    labels = batch_tensor(batch, "labels")
    if is_flat(batch) and labels is not None:
        return labels.new_tensor(labels.numel())
    if is_causal(batch) and labels is not None:
        return (labels != IGNORED_LABEL).count_nonzero()
    mask = batch_tensor(batch, "target_mask")
    return None if mask is None else mask.count_nonzero()


def batch_masks(batch: Any) -> "list[Tensor]":
    """Return the attention masks of a batch, source before target; masks that the batch lacks are left out.

    Masks are nonzero at real tokens. A decoder-only batch has one: its segments.

    Raises:
        DataError: the batch is flat, so it has no padding and no masks.
    """
    if is_flat(batch):
        raise DataError(
            f"attention masks are needed here, but a batch with batch_format={' or '.join(UNPADDED_FORMATS)} has no "
            "padding and no masks: every position is a real token. Count tokens with "
            "mtx.batches.schema.flat_token_counts, or set datamodule.batch_format=mtx"
        )
    if is_causal(batch):
        return [batch["segment_ids"]]
    found = batch_tensor(batch, "source_mask"), batch_tensor(batch, "target_mask")
    return [mask for mask in found if mask is not None]
