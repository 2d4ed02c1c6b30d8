"""One description of each format of batches: complete, and true of the batches that are made."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import collate_rows
from mtx.batches.prompted_pairs import PromptedPairs, PromptVariants
from mtx.batches.schema import (
    MTX,
    SCHEMAS,
    UNPADDED_FORMATS,
    BatchSchema,
    FormatName,
    batch_masks,
    batch_tensor,
    flat_token_counts,
    is_flat,
    supported_schema,
    target_tokens,
)
from mtx.data.token_rows import EncodedPairs, SpecialIds, TokenRows
from mtx.errors import ConfigError, DataError

PAIRS = EncodedPairs(TokenRows.of([[10, 11], [20], []]), TokenRows.of([[50], [60, 61, 62], [70]]))
each_schema = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=list(SCHEMAS))


def test_all_formats_of_the_design_are_described() -> None:
    assert list(SCHEMAS) == ["mtx", "huggingface", "flat", "causal", "huggingface_packed"]
    assert list(get_args(FormatName)) == list(SCHEMAS)


@each_schema
def test_a_schema_is_complete_and_names_each_field_and_role_once(schema: BatchSchema) -> None:
    names, roles = [field.name for field in schema.fields], [field.role for field in schema.fields]
    assert len(set(names)) == len(names)
    assert len(set(roles)) == len(roles)
    assert {"decoder_input", "labels"} <= set(roles)
    for field in schema.fields:
        assert isinstance(getattr(torch, field.dtype), torch.dtype)
        assert field.shape
        is_padded = len(field.shape) == 2 and field.shape[0] in ("B", "R")
        assert (field.padding not in (None, "ignored")) == is_padded or field.padding == "ignored", field.name
    one_side = schema.field("source_ids") is None
    assert one_side == (schema.name == "causal")
    offsets = {role for role in roles if role.endswith("_offsets")}
    assert offsets == ({"source_offsets", "target_offsets"} if schema.name in UNPADDED_FORMATS else set())


@each_schema
@pytest.mark.parametrize("compiled", [None, False])
@pytest.mark.parametrize("selection", [None, np.array([0, 1, 2], dtype=np.uint32)], ids=["all", "selected"])
def test_batches_are_as_their_schema_says(
    schema: BatchSchema, compiled: bool | None, selection: np.ndarray | None
) -> None:
    pairs = EncodedPairs(PAIRS.source, PAIRS.target, selection)
    if schema.name == "causal":  # [BOS, source, 9, target, EOS]: 7 positions, and 6 of the other pair
        prompts = PromptVariants(TokenRows.of([[1]]), TokenRows.of([[9]]))
        pairs = PromptedPairs(PAIRS.source, PAIRS.target, selection, prompts=prompts)
    layout = BatchFormat(names=schema.name, target=SpecialIds(pad=7))  # type: ignore[arg-type]
    batch = collate_rows(pairs, np.array([1, 0]), layout, compiled=compiled)
    assert list(batch) == [field.name for field in schema.fields]
    sizes = {"1": 1, "B": 2, "S": 3, "T": 4, "B+1": 3, "ΣS": 5, "ΣT": 6, "R": 2, "L": 7}
    paddings = {"pad_id": {"source_ids": 0, "decoder_input": 7}, "label_pad_id": layout.label_padding, "false": 0}
    paddings |= {"ignored": -100, "zero": 0}
    for field in schema.fields:
        tensor = batch[field.name]
        assert tensor.dtype == getattr(torch, field.dtype)
        assert list(tensor.shape) == [sizes[letter] for letter in field.shape]
        if field.padding is not None:
            expected = paddings[field.padding]
            expected = expected[field.role] if isinstance(expected, dict) else expected
            row = 0 if field.shape[1] == "S" else 1  # the shorter one of the side
            assert tensor[row, -1].item() == expected, field.name


def test_tensors_are_found_by_role_in_any_built_format_and_in_parts_of_one() -> None:
    mask = torch.ones(2, 3)
    assert batch_tensor({"attention_mask": mask}, "source_mask") is mask
    assert batch_tensor({"decoder_attn_mask": mask}, "target_mask") is mask
    assert batch_tensor([mask], "target_mask") is None
    assert batch_masks({"encoder_attn_mask": mask, "decoder_attn_mask": 2 * mask})[1].sum() == 12
    assert batch_masks({"x": mask}) == []


def test_tokens_are_counted_in_padded_and_flat_batches() -> None:
    flat = collate_rows(PAIRS, np.array([1, 0]), BatchFormat(names="flat"))
    padded = collate_rows(PAIRS, np.array([1, 0]), BatchFormat())
    assert is_flat(flat)
    assert not is_flat(padded)
    assert flat_token_counts(flat) == (5, 6)
    assert target_tokens(flat) == target_tokens(padded) == 6
    assert target_tokens({"x": 1}) is None
    packed = collate_rows(PAIRS, np.array([1, 0]), BatchFormat(names="huggingface_packed"))
    assert is_flat(packed)
    assert flat_token_counts(packed) == (5, 6)
    assert target_tokens(packed) == 6
    with pytest.raises(DataError, match=r"flat or huggingface_packed has no padding and no masks.*set datamodule"):
        batch_masks(flat)


def test_a_name_of_no_format_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"batch_format is one of .*mtx.*, but is 'mxt'"):
        supported_schema("mxt")
    assert supported_schema("mtx") is MTX


def test_the_network_and_batches_import_no_lightning(tmp_path: Path) -> None:
    code = "import sys, mtx.training.reference.network, mtx.batches.collate, mtx.batches.schema; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert not {"pytorch_lightning", "lightning", "lightning_fabric"} & set(done.stdout.split())
