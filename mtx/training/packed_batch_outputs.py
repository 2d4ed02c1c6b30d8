"""Outputs of transformers models for batches with `batch_format=huggingface_packed`, in which pairs do not mix.

An encoder-decoder model gets block-diagonal 4-D attention masks: for the encoder, for the decoder, and between them.
The encoder is called apart, because a model has one argument for the masks of the encoder and of cross-attention.
Position embeddings are computed for each pair, see `packed_positions.py`.

A decoder-only model gets each source and its target as one sequence. Its `position_ids` restart with each pair, from
which transformers derives the attention mask. Flash attention gets the bounds of the sequences as `cu_seq_lens_q`.

Shapes: B pairs, N source and M target positions of all pairs, V ids of the target vocabulary.
"""

import logging
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mtx.batches.schema import HUGGINGFACE_PACKED
from mtx.errors import ConfigError, DataError
from mtx.evaluation.likelihood import sums_by_pair
from mtx.training.packed_positions import positions_of_pairs
from mtx.training.pair_leakage import (
    HELP,
    autocast_dtype,
    check_batch_is_apart,
    check_pairs_are_apart,
    largest_rounding,
)

log = logging.getLogger(__name__)

FORMAT = HUGGINGFACE_PACKED.name
LARGE_MASKS_BYTES = 2_000_000_000  # a tenth or more of the memory of most GPUs


def packed_outputs(model: Any, batch: Mapping[str, Tensor]) -> Any:
    """Return the output of a transformers model for a packed batch, with `loss` and `logits`.

    The first call for a model checks that pairs do not mix, see `check_packed_model`. The first call with gradients
    also compares the losses of two pairs of the batch with their losses alone.

    Args:
        model: a `PreTrainedModel` for conditional generation or causal language modelling.
        batch: a batch with `batch_format=huggingface_packed`, on the device of the model.

    Returns:
        The model's output. `logits` is float [1, M, V], at the positions of `batch["labels"]`; `loss` is the mean loss
        per target token, float [].

    Raises:
        ConfigError: the model would let pairs mix.
        DataError: the batch is not packed; or it has a source without tokens, and the model has an encoder.
    """
    if missing := [field.name for field in HUGGINGFACE_PACKED.fields if field.name not in (*batch, "row_ids")]:
        raise DataError(
            f"packed_outputs takes batches with datamodule.batch_format={FORMAT}, but a batch lacks "
            f"{', '.join(missing)} and has {', '.join(batch)}. Set datamodule.batch_format={FORMAT}"
        )
    check_packed_model(model)
    if torch.is_grad_enabled():
        check_batch_is_apart(partial(_pair_nats, model), model, batch)
    return _outputs(model, batch)


def check_packed_model(model: Any) -> None:
    """Check that the loss of each pair of a packed batch depends on that pair alone, and that `loss` is their mean.

    Only the first call for a model computes something.

    Args:
        model: a `PreTrainedModel` for conditional generation or causal language modelling.

    Raises:
        ConfigError: the model mixes pairs, gives a pair another loss than it has alone, or does not take the batch.
    """
    config, embeddings = model.config, model.get_input_embeddings()
    if getattr(config, "attention_type", None) == "block_sparse":  # which a short batch turns off for good
        raise ConfigError(
            f"datamodule.batch_format={FORMAT} needs attention masks of pairs, which attention_type=block_sparse of "
            f'{type(model).__name__} does not take. Create the model with attention_type="original_full", or set '
            "datamodule.batch_format=huggingface"
        )
    num_ids = int(embeddings.weight.shape[0])
    num_target_ids = int(getattr(config, "decoder_vocab_size", None) or num_ids)
    check_pairs_are_apart(
        partial(_pair_nats, model),
        model,
        num_source_ids=num_ids,
        num_target_ids=num_target_ids,
    )


def packed_pair_nats(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the negative log-likelihood of each target of a packed batch in nats, float64 [B] on the CPU.

    Args:
        logits: the logits of `packed_outputs`, float [1, M, V].
        batch: the batch.
    """
    nats = torch.nn.functional.cross_entropy(logits[0].float(), batch["labels"][0], reduction="none")
    return sums_by_pair(nats, batch["decoder_offsets"].long().diff())


def _pair_nats(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    output = _outputs(model, batch)
    nats = packed_pair_nats(output.logits, batch)
    loss, mean = float(output.loss), float(nats.sum()) / batch["labels"].numel()
    # A mixture of experts can add the loss of its router. A mean that is not finite is reported elsewhere.
    is_mean = not getattr(model.config, "output_router_logits", False) and math.isfinite(mean)
    if is_mean and not abs(loss - mean) <= largest_rounding(model) * max(1, abs(mean)):
        raise ConfigError(
            f"the loss of {type(model).__name__} for a batch with datamodule.batch_format={FORMAT} is {loss:.7g}, but "
            f"the mean over the target tokens is {mean:.7g}. {HELP}"
        )
    return nats


def _outputs(model: Any, batch: Mapping[str, Tensor]) -> Any:
    if model.config.is_encoder_decoder:
        return _encoder_decoder_outputs(model, batch)
    return model(**causal_arguments(batch, uses_flash=_uses_flash(model)), use_cache=False, return_dict=True)


def causal_arguments(batch: Mapping[str, Tensor], *, uses_flash: bool = False) -> dict[str, Any]:
    """Return the arguments of a decoder-only model for a packed batch: each source, then its target, as one sequence.

    Args:
        batch: a batch with `batch_format=huggingface_packed`.
        uses_flash: whether to add the arguments of flash attention: `cu_seq_lens_q` and three others.

    Returns:
        `input_ids` and `position_ids` int64 [1, N + M]; `logits_to_keep`, the M positions of targets; and `labels` and
        `shift_labels` int64 [1, M], the label of each of these positions. transformers shifts `labels` alone.
    """
    sources, targets = batch["encoder_offsets"].long(), batch["decoder_offsets"].long()
    source_places = _places(sources, targets[:-1])
    target_places = _places(targets, sources[1:])
    found: dict[str, Any] = {}
    source_lengths = torch.repeat_interleave(sources.diff(), targets.diff())
    for name, of_source, of_target in (
        ("input_ids", batch["input_ids"][0], batch["decoder_input_ids"][0]),
        ("position_ids", batch["position_ids"][0], batch["decoder_position_ids"][0] + source_lengths),
    ):
        joined = of_source.new_empty(len(of_source) + len(of_target))
        joined[source_places], joined[target_places] = of_source, of_target
        found[name] = joined[None]
    if uses_flash:
        bounds = (sources + targets).int()
        longest = int(bounds.diff().max()) if len(bounds) > 1 else 0
        found |= {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}
    return {**found, "labels": batch["labels"], "shift_labels": batch["labels"], "logits_to_keep": target_places}


def pair_mask(queries: Tensor, keys: Tensor, dtype: torch.dtype, *, is_causal: bool = False) -> Tensor:
    """Return a mask with which positions attend to positions of their own pair alone, to be added to the scores.

    Args:
        queries: offsets of the queries' pairs, int [B + 1].
        keys: offsets of the keys' pairs, int [B + 1].
        dtype: the dtype of the mask, that of the model.
        is_causal: whether a position attends to no later position; queries and keys are then the same.

    Returns:
        The mask [1, 1, query positions, key positions]: 0, or the lowest number of `dtype`.
    """
    of_query, of_key = _pair_numbers(queries), _pair_numbers(keys)
    is_seen = of_query[:, None] == of_key
    if is_causal:
        is_seen = is_seen.tril()
    mask = torch.full(is_seen.shape, torch.finfo(dtype).min, dtype=dtype, device=queries.device)
    return mask.masked_fill_(is_seen, 0)[None, None]


def _encoder_decoder_outputs(model: Any, batch: Mapping[str, Tensor]) -> Any:
    if _uses_flash(model):
        raise ConfigError(
            f"datamodule.batch_format={FORMAT} needs 4-D attention masks, which "
            f"attn_implementation={model.config._attn_implementation} of {type(model).__name__} does not take. "
            'Create the model with attn_implementation="sdpa", or set datamodule.batch_format=huggingface'
        )
    sources, targets = batch["encoder_offsets"], batch["decoder_offsets"]
    if len(sources) > 1 and not bool((sources.diff() > 0).all()):
        raise DataError(
            f"with datamodule.batch_format={FORMAT}, an encoder-decoder model needs at least one token in each source, "
            "but a pair has none. Set datamodule.source_eos=true"
        )
    # A mask of another dtype would be copied in each layer, as a bool mask would be.
    dtype, encoder = autocast_dtype(sources.device) or model.dtype, model.get_encoder()
    _warn_of_large_masks(batch["input_ids"].numel(), batch["labels"].numel(), dtype.itemsize)
    with positions_of_pairs(encoder, sources, model.config.pad_token_id or 0):
        encoded = encoder(
            input_ids=batch["input_ids"], attention_mask=pair_mask(sources, sources, dtype), return_dict=True
        )
    with positions_of_pairs(model.get_decoder(), targets, model.config.pad_token_id or 0):
        return model(
            encoder_outputs=encoded,
            attention_mask=pair_mask(targets, sources, dtype),
            decoder_input_ids=batch["decoder_input_ids"],
            decoder_attention_mask=pair_mask(targets, targets, dtype, is_causal=True),
            labels=batch["labels"],
            use_cache=False,
            return_dict=True,
        )


def _warn_of_large_masks(num_source: int, num_target: int, itemsize: int) -> None:
    num_bytes = itemsize * (num_source**2 + num_source * num_target + num_target**2)
    if num_bytes > LARGE_MASKS_BYTES:
        log.warning(
            "the attention masks of a batch take %.1f GB, since they grow with the square of its %d tokens. "
            "Set a smaller sampler.real_tokens or datamodule.eval_max_tokens",
            num_bytes / 1e9,
            num_source + num_target,
        )


def _uses_flash(model: Any) -> bool:
    return "flash" in str(getattr(model.config, "_attn_implementation", ""))


def _places(offsets: Tensor, shifts: Tensor) -> Tensor:
    """Return the position of each token after the tokens of pair i have moved by `shifts[i]`, int64 [N]."""
    numbers = torch.arange(int(offsets[-1]), device=offsets.device)
    return numbers + torch.repeat_interleave(shifts, offsets.diff())


def _pair_numbers(offsets: Tensor) -> Tensor:
    lengths = offsets.diff()
    return torch.repeat_interleave(torch.arange(len(lengths), device=offsets.device), lengths)
