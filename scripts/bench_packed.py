"""Benchmark: transformers models on packed batches (`batch_format=huggingface_packed`), compared with padded batches.

The first table has, for each type of model, the largest difference of the loss and of its gradients. The models are
small, have random weights, and are built from a config without a download. The second table has the cost of a real
token in training a Marian model on the sample corpus, in CPU time of one thread. The arms take turns in each round,
from another arm on; a first round does not count.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import mtx
from mtx.batches.collate import Collator
from mtx.batches.plan.planner import NO_PADDING
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.errors import DataError, MtxError
from mtx.training.packed_batch_outputs import packed_outputs
from mtx.training.pair_leakage import EXACT, packed_batch

NUM_IDS, PAD, BOS, EOS = 40, 0, 1, 2
IDS = {"vocab_size": NUM_IDS, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
SIDES = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
BART = {**IDS, **SIDES, "d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "dropout": 0.0}
BART |= {"decoder_start_token_id": BOS, "forced_eos_token_id": None, "max_position_embeddings": 12}
T5 = {**IDS, "d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 32, "dropout_rate": 0.0}
T5 |= {"decoder_start_token_id": BOS}
LLAMA = {**IDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
LLAMA |= {"intermediate_size": 32, "head_dim": 8, "max_position_embeddings": 128}
OPT = {**IDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32, "dropout": 0.0}
OPT |= {"word_embed_proj_dim": 16, "max_position_embeddings": 128}
GPT2 = {**IDS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128}
GPT2 |= {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
LINEAR = {f"linear_{name}": 2 for name in ("num_key_heads", "num_value_heads")}
LINEAR |= {f"linear_{name}_head_dim": 8 for name in ("key", "value")}
QWEN3_NEXT = {**LLAMA, **LINEAR, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
QWEN3_NEXT |= {"shared_expert_intermediate_size": 16, "layer_types": ["linear_attention", "full_attention"]}
PROPHETNET = {**IDS, "hidden_size": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "decoder_start_token_id": BOS}
PROPHETNET |= {f"num_{name}": 2 for name in SIDES} | {"max_position_embeddings": 64}
NLLB_MOE = {**BART, "num_experts": 2, "encoder_sparse_step": 2, "decoder_sparse_step": 2}

# The class of each type of model without `Config`, its head, and its settings.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "T5": ("T5", "ForConditionalGeneration", T5),
    "mT5": ("MT5", "ForConditionalGeneration", T5),
    "BART": ("Bart", "ForConditionalGeneration", BART),
    "mBART": ("MBart", "ForConditionalGeneration", BART),
    "Marian": ("Marian", "MTModel", BART),
    "M2M-100, NLLB": ("M2M100", "ForConditionalGeneration", BART),
    "Pegasus": ("Pegasus", "ForConditionalGeneration", BART),
    "NLLB-MoE": ("NllbMoe", "ForConditionalGeneration", NLLB_MOE),
    "ProphetNet": ("ProphetNet", "ForConditionalGeneration", PROPHETNET),
    "Llama": ("Llama", "ForCausalLM", LLAMA),
    "Mistral": ("Mistral", "ForCausalLM", LLAMA),
    "Mixtral": ("Mixtral", "ForCausalLM", {**LLAMA, "num_local_experts": 4}),
    "Qwen2": ("Qwen2", "ForCausalLM", LLAMA),
    "Qwen3": ("Qwen3", "ForCausalLM", LLAMA),
    "Qwen3-Next": ("Qwen3Next", "ForCausalLM", QWEN3_NEXT),
    "Gemma": ("Gemma", "ForCausalLM", LLAMA),
    "Gemma 2": ("Gemma2", "ForCausalLM", LLAMA),
    "Gemma 3": ("Gemma3", "ForCausalLM", LLAMA),
    "GPT-2": ("GPT2", "LMHeadModel", GPT2),
    "OPT": ("OPT", "ForCausalLM", OPT),
    "BLOOM": ("Bloom", "ForCausalLM", {**IDS, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "Mamba": ("Mamba", "ForCausalLM", {**IDS, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}),
}
CONFIGS = {"Gemma3": "Gemma3TextConfig"}  # whose name is not that of the class
SMALL_GRADIENT = 1e-4  # below it, relative differences are rounding of larger terms that cancel
PAIRS = ((5, 4), (3, 7), (9, 2), (1, 6))  # source and target tokens of the pairs in the first table


class Difference(NamedTuple):
    """Largest difference between a packed and a padded batch, of the loss and of its gradients.

    Attributes:
        attention: the implementation of attention.
        loss: absolute.
        gradient: absolute.
        relative: of gradients: the largest of a parameter, divided by the largest gradient of this parameter.
    """

    attention: str
    loss: float
    gradient: float
    relative: float


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    import transformers

    transformers.logging.set_verbosity_error()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, float32")
    print_differences()
    if options.rounds:
        print_costs(options)
    print("load:", " ".join(f"{load:.1f}" for load in os.getloadavg()), "cores:", os.cpu_count())


def print_differences() -> None:
    """Print the table of differences, or why a type of model is refused."""
    print(f"{'model':16}{'attention':12}{'loss':>12}{'gradient':>12}{'relative':>12}  exact")
    for name in MODELS:
        try:
            for attention in ("sdpa", "eager"):
                if (found := difference(name, attention)) is not None:
                    is_exact = max(found[1:]) <= EXACT
                    row = f"{name:16}{attention:12}{found.loss:12.1e}{found.gradient:12.1e}{found.relative:12.1e}"
                    print(f"{row}  {'yes' if is_exact else 'no'}")
        except MtxError as error:
            print(f"{name:16}refused: {error}")


def difference(name: str, attention: str) -> Difference | None:
    """Return the differences of a type of model; None if it lacks this implementation of attention.

    Raises:
        ConfigError: the model would let pairs mix.
        DataError: only one of both batches gives a parameter a gradient.
    """
    model = built(name, attention)
    if model is None:
        return None
    random = torch.Generator().manual_seed(1)
    drawn = [[torch.randint(3, NUM_IDS, (size,), generator=random) for size in sizes] for sizes in PAIRS]
    pairs = [(source, target) for source, target in drawn]
    packed = packed_batch(pairs, torch.device("cpu"))
    packed["decoder_input_ids"][0, packed["decoder_offsets"][:-1].long()] = BOS
    losses = packed_outputs(model, packed).loss, model(**padded_arguments(model, pairs)).loss
    wanted = [each for each in model.parameters() if each.requires_grad]
    gradients = [torch.autograd.grad(loss, wanted, allow_unused=True) for loss in losses]
    loss = abs(float(losses[0].detach() - losses[1].detach()))
    return Difference(attention, loss, *gradient_differences(*gradients))


def gradient_differences(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> tuple[float, float]:
    """Return the largest absolute and the largest relative difference of the gradients of parameters."""
    apart, relative = [0.0], [0.0]
    for number, (one, other) in enumerate(zip(left, right, strict=True)):
        if (one is None) != (other is None):
            raise DataError(f"only one of both batches gives parameter {number} a gradient")
        if one is not None and other is not None:
            apart.append(float((one - other).abs().max()))
            relative.append(apart[-1] / max(float(other.abs().max()), SMALL_GRADIENT))
    return max(apart), max(relative)


def built(name: str, attention: str) -> Any:
    """Return a small model of a type, with random weights and without dropout; None without this attention."""
    import transformers

    base, head, settings = MODELS[name]
    config = getattr(transformers, CONFIGS.get(base, f"{base}Config"))(**settings)
    torch.manual_seed(0)
    try:
        return getattr(transformers, base + head)._from_config(config, attn_implementation=attention).eval()
    except ValueError:  # how transformers says that a class lacks an implementation
        return None


def padded_arguments(model: Any, pairs: list[tuple[Tensor, Tensor]]) -> Mapping[str, Tensor]:
    """Return the arguments of a model for the same pairs with padding."""
    bos, ignored = torch.tensor([BOS]), -100
    if model.config.is_encoder_decoder:
        sources, labels = ([pair[side] for pair in pairs] for side in (0, 1))
        inputs = [torch.cat([bos, target[:-1]]) for target in labels]
        return {
            "input_ids": _padded(sources, PAD),
            "attention_mask": _padded([torch.ones_like(each) for each in sources], 0),
            "decoder_input_ids": _padded(inputs, PAD),
            "decoder_attention_mask": _padded([torch.ones_like(each) for each in inputs], 0),
            "labels": _padded(labels, ignored),
        }
    sequences = [torch.cat([source, bos, target]) for source, target in pairs]
    labels = [torch.cat([torch.full((len(source) + 1,), ignored), target]) for source, target in pairs]
    return {
        "input_ids": _padded(sequences, PAD),
        "attention_mask": _padded([torch.ones_like(each) for each in sequences], 0),
        "labels": _padded(labels, ignored),
    }


def _padded(rows: list[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def print_costs(options: argparse.Namespace) -> None:
    """Print the CPU time of a real token in training steps of a Marian model."""
    with tempfile.TemporaryDirectory() as root:
        size = [f"downloader.n={options.pairs}", "tokenizer.vocab_size=4000", f"storage.root={root}"]
        dm = mtx.compose_datamodule([*size, "datamodule.batch_format=huggingface"])
        dm.prepare_data()
        dm.setup("fit")
        lengths, encoded, tokens = dm.lengths("train"), dm.train_dataloader().dataset.pairs, options.tokens
        packed = replace(dm.batch_format, names="huggingface_packed", length_multiple=NO_PADDING)
        real = (lengths.source + lengths.target).astype(np.int64)
        excluded = np.maximum(lengths.source, lengths.target) > (dm.batch_format.max_source_tokens or tokens)
        arms = {
            "token_budget, padded": (TokenBudgetPlanner(max_tokens=tokens // 2), dm.batch_format),
            "random, padded": (RandomPlanner(batch_size=max(1, round(tokens / real.mean()))), dm.batch_format),
            "random_tokens, packed": (RandomTokensPlanner(real_tokens=tokens), packed),
        }
        model = _marian(dm.facts()["target_vocab_size"], options.width)
        optimizer = torch.optim.AdamW(model.parameters())
        found: dict[str, list[float]] = {name: [] for name in arms}
        plans = {
            name: list(planner.plan(lengths, seed=0, epoch=0, excluded=excluded)) for name, (planner, _) in arms.items()
        }
        tokens_of = dict.fromkeys(arms, 0)
        for number in range(-1, options.rounds):  # the first round warms up
            for name, (_, layout) in sorted(
                arms.items(), key=lambda arm: (list(arms).index(arm[0]) + number) % len(arms)
            ):
                loss = (lambda batch: packed_outputs(model, batch).loss) if layout is packed else _padded_loss(model)
                rows = plans[name][number % len(plans[name])]
                batch = Collator(encoded, layout)([rows])[0]
                step_s, num_tokens = _step_s(loss, optimizer, batch), int(real[rows].sum())
                if number >= 0:
                    found[name].append(step_s / num_tokens * 1e6)
                    tokens_of[name] += num_tokens
    print(f"{'training, Marian':28}{'µs/real token':>16}{'× padded':>12}{'× random':>12}{'real tokens':>16}")
    for name, costs in found.items():
        ratios = [
            statistics.median(cost / base for cost, base in zip(costs, found[other], strict=True))
            for other in ("token_budget, padded", "random, padded")
        ]
        print(f"{name:28}{statistics.median(costs):16.0f}{ratios[0]:12.2f}{ratios[1]:12.2f}{tokens_of[name]:16,}")


def _step_s(loss: Callable[[Any], Tensor], optimizer: torch.optim.Optimizer, batch: Mapping[str, Tensor]) -> float:
    began = time.process_time()
    optimizer.zero_grad()
    loss(batch).backward()  # type: ignore[no-untyped-call]  # untyped in torch
    optimizer.step()
    return time.process_time() - began


def _padded_loss(model: Any) -> Callable[[Mapping[str, Tensor]], Tensor]:
    def loss(batch: Mapping[str, Tensor]) -> Tensor:
        found: Tensor = model(**batch, use_cache=False).loss
        return found

    return loss


def _marian(num_ids: int, width: int) -> Any:
    from transformers import MarianConfig, MarianMTModel

    sizes = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in SIZES.items()}
    settings = {**BART, **sizes, "vocab_size": num_ids, "d_model": width, "max_position_embeddings": 512}
    return MarianMTModel(MarianConfig(**settings | {f"{side}_ffn_dim": 4 * width for side in ("encoder", "decoder")}))


SIZES = {"layers": 3, "attention_heads": 4}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000, help="pairs of the sample corpus")
    parser.add_argument("--tokens", type=int, default=2048, help="real tokens in a batch, source and target together")
    parser.add_argument("--width", type=int, default=256, help="d_model of the Marian model")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the arms; 0: only differences")
    return parser.parse_args()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    main()
