"""Outputs of transformers models for batches with `batch_format=huggingface_packed`, in which pairs do not mix.

An encoder-decoder model gets block-diagonal 4-D attention masks: for the encoder, for the decoder, and between them. The
encoder is called apart, because a model has one argument for the masks of the encoder and of cross-attention. Position
embeddings are computed for each pair, see `packed_positions.py`.

A decoder-only model gets each source and its target as one sequence. Its `position_ids` restart with each pair, from
which transformers derives the attention mask. Flash attention gets the bounds of the sequences as `cu_seq_lens_q`.

Shapes: B pairs, N source and M target positions of all pairs, V ids of the target vocabulary.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtx.errors import ConfigError, DataError
from mtx.training.packed_positions import positions_of_pairs

FORMAT = "huggingface_packed"


def packed_outputs(model: Any, batch: Mapping[str, Tensor]) -> Any:
    """Return the output of a transformers model for a packed batch, with `loss` and `logits`.

    Args:
        model: a `PreTrainedModel` for conditional generation or causal language modelling.
        batch: a batch with `batch_format=huggingface_packed`, on the device of the model.

    Returns:
        The model's output. `logits` is float [1, M, V], at the positions of `batch["labels"]`; `loss` is the mean loss
        per target token, float [].

    Raises:
        ConfigError: the attention of an encoder-decoder model takes no 4-D masks.
        DataError: a batch for an encoder-decoder model has a source without tokens.
    """
    if model.config.is_encoder_decoder:
        return _encoder_decoder_outputs(model, batch)
    return model(**causal_arguments(batch, uses_flash=_uses_flash(model)), use_cache=False)


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
    dtype, encoder = model.dtype, model.get_encoder()
    with positions_of_pairs(encoder, sources, model.config.pad_token_id or 0):
        encoded = encoder(input_ids=batch["input_ids"], attention_mask=pair_mask(sources, sources, dtype))
    with positions_of_pairs(model.get_decoder(), targets, model.config.pad_token_id or 0):
        return model(
            encoder_outputs=encoded,
            attention_mask=pair_mask(targets, sources, dtype),
            decoder_input_ids=batch["decoder_input_ids"],
            decoder_attention_mask=pair_mask(targets, targets, dtype, is_causal=True),
            labels=batch["labels"],
            use_cache=False,
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
