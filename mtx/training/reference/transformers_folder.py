"""Write the reference model as a folder of transformers, which `AutoModelForSeq2SeqLM.from_pretrained` loads.

The class is Blenderbot's. Like the reference model, it has layer norms before the blocks and a last one after them. The
scaled embeddings are also the output layer, and positions are in a table. So the weights are copied as they are.
Marian's class has its layer norms after the blocks.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from mtx.batches.batch_format import BatchFormat
from mtx.data.tokenize.tokenizer_adapter import TokenizerAdapter
from mtx.errors import ConfigError
from mtx.training.reference.network import Transformer
from mtx.training.translation_state import TranslationState

SIDES = ("encoder", "decoder")
INSTALL = "pip install transformers"


def write_folder(network: Transformer, state: TranslationState, folder: Path) -> None:
    """Write weights, config, generation settings and tokenizer into an existing folder.

    Raises:
        ConfigError: transformers is not installed, or the tokenizer is not of the `tokenizers` library. It is also
            raised if the model has two vocabularies, which the class does not have, or several directions with other
            language tokens.
    """
    if isinstance(state.source, TokenizerAdapter):
        raise ConfigError(
            "the checkpoint has a SentencePiece model or a vocabulary file as its tokenizer, but format=transformers "
            "writes a tokenizer.json. Set format=onnx, or train with a tokenizer of the tokenizers library"
        )
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(f"a folder of transformers needs the transformers package. Type: {INSTALL}") from error
    layout, library = state.batch_format, cast(Any, transformers)  # which has few types
    if network.source_embedding is not network.target_embedding or layout.source != layout.target:
        raise ConfigError(
            "the model has a vocabulary for each side, but transformers' class of it has one for both. Train with "
            "datamodule.joint_vocabulary=true, or translate with mtx task=translate"
        )
    model = blenderbot_of(network, layout)
    ids, leading = layout.target, state.leading_ids
    first = None if leading is None else leading.target
    model.generation_config = library.GenerationConfig(
        pad_token_id=ids.pad,
        bos_token_id=ids.bos,
        eos_token_id=ids.eos,
        decoder_start_token_id=first if first is not None and layout.has_language_suffix else ids.bos,
        forced_bos_token_id=None if layout.has_language_suffix else first,
        suppress_tokens=[ids.pad, ids.bos],  # which mtx's search never generates
        max_length=network.max_positions,
        num_beams=4,
    )
    model.save_pretrained(folder)
    names = {f"{name}_token": str(state.target.id_to_token(getattr(ids, name))) for name in ids._fields}
    tokenizer = _with_special(state.source, state, names["eos_token"])
    library.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=network.max_positions, clean_up_tokenization_spaces=False, **names
    ).save_pretrained(folder)


def blenderbot_of(network: Transformer, layout: BatchFormat) -> Any:
    """Return transformers' model with the weights of a network, in evaluation mode."""
    import transformers

    library = cast(Any, transformers)
    first: Any = network.encoder.layers[0]
    config = library.BlenderbotConfig(
        vocab_size=network.target_embedding.num_embeddings,
        d_model=network.d_model,
        encoder_layers=len(network.encoder.layers),
        decoder_layers=len(network.decoder.layers),
        encoder_attention_heads=first.self_attn.num_heads,
        decoder_attention_heads=first.self_attn.num_heads,
        encoder_ffn_dim=first.linear1.out_features,
        decoder_ffn_dim=first.linear1.out_features,
        activation_function=first.activation.__name__,
        max_position_embeddings=network.max_positions,
        scale_embedding=True,
        tie_word_embeddings=True,
        pad_token_id=layout.target.pad,
        bos_token_id=layout.target.bos,
        eos_token_id=layout.target.eos,
        decoder_start_token_id=layout.target.bos,
        forced_eos_token_id=None,
        encoder_no_repeat_ngram_size=0,
    )
    model = library.BlenderbotForConditionalGeneration(config).eval()
    given = dict(_weights(network))
    found = model.load_state_dict(given, strict=False)
    tied = {"lm_head.weight", "final_logits_bias", *(f"model.{side}.embed_tokens.weight" for side in SIDES)}
    assert not found.unexpected_keys, found.unexpected_keys
    assert not set(found.missing_keys) - tied, found.missing_keys
    model.tie_weights()
    return model


def _weights(network: Transformer) -> Iterator[tuple[str, Tensor]]:
    yield "model.shared.weight", network.target_embedding.weight
    for side in SIDES:
        yield f"model.{side}.embed_tokens.weight", network.target_embedding.weight
        yield f"model.{side}.embed_positions.weight", network.positions
        stack: Any = getattr(network, side)
        yield from _renamed(stack.norm, f"model.{side}.layer_norm")
        for number, layer in enumerate(stack.layers):
            name = f"model.{side}.layers.{number}"
            attentions = {"self_attn": layer.self_attn}
            norms = {"self_attn_layer_norm": layer.norm1, "final_layer_norm": layer.norm2}
            if side == "decoder":
                attentions["encoder_attn"] = layer.multihead_attn
                norms |= {"encoder_attn_layer_norm": layer.norm2, "final_layer_norm": layer.norm3}
            for part, module in {**norms, "fc1": layer.linear1, "fc2": layer.linear2}.items():
                yield from _renamed(module, f"{name}.{part}")
            for part, attention in attentions.items():
                yield from _attention(attention, f"{name}.{part}")
    yield "lm_head.weight", network.target_embedding.weight


def _renamed(module: torch.nn.Module, name: str) -> Iterator[tuple[str, Tensor]]:
    for kind, weight in module.named_parameters():
        yield f"{name}.{kind}", weight


def _attention(attention: torch.nn.MultiheadAttention, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the projections of queries, keys and values, which torch stores as one matrix, and that of the output."""
    parts: Mapping[str, Any] = {"weight": attention.in_proj_weight, "bias": attention.in_proj_bias}
    for kind, joined in parts.items():
        for letter, part in zip("qkv", joined.chunk(3), strict=True):
            yield f"{name}.{letter}_proj.{kind}", part
    yield from _renamed(attention.out_proj, f"{name}.out_proj")


def _with_special(tokenizer: Tokenizer, state: TranslationState, eos: str) -> Tokenizer:
    """Return a tokenizer that adds EOS and the language token to each text, as batches of the training have them."""
    layout, leading = state.batch_format, state.leading_ids
    special = [(eos, layout.target.eos)] if layout.source_eos else []
    if leading is not None:
        language = str(tokenizer.id_to_token(leading.source)), leading.source
        special.insert(len(special) if layout.has_language_suffix else 0, language)
    if not special:
        return tokenizer
    ends = special if layout.has_language_suffix or leading is None else special[1:]
    begins = special[: len(special) - len(ends)]
    copy = Tokenizer.from_str(tokenizer.to_str())
    template = [*(token for token, _ in begins), "$A", *(token for token, _ in ends)]
    copy.post_processor = TemplateProcessing(single=template, special_tokens=special)
    return copy
