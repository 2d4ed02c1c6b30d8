"""Benchmark: speed of beam search beside `generate` of transformers, and the time until one line is translated.

Both models have the same sizes and random weights, and each translation has the same number of tokens, since EOS is
excluded. The models take turns in one process, and times are CPU times, which other processes change less.
With `--ckpt`, a fresh process also translates one line; the time is compared with that of `import torch` and of reading
the file.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mtx.evaluation.beam_search import n_best_search
from mtx.training.reference.incremental_decoding import IncrementalDecoder
from mtx.training.reference.network import Transformer

PAD, BOS, EOS = 0, 1, 2
IMPORT = "import torch, sys; open(sys.argv[1], 'rb').read()"


def marian(sizes: argparse.Namespace) -> Any:
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=sizes.vocabulary,
        d_model=sizes.d_model,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=4 * sizes.d_model,
        decoder_ffn_dim=4 * sizes.d_model,
        activation_function="gelu",
        max_position_embeddings=512,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=BOS,
        forced_eos_token_id=None,
        share_encoder_decoder_embeddings=True,
    )
    return MarianMTModel(config).eval()


def reference(sizes: argparse.Namespace) -> Transformer:
    return Transformer(
        source_vocab_size=sizes.vocabulary,
        target_vocab_size=sizes.vocabulary,
        joint_vocabulary=True,
        d_model=sizes.d_model,
        num_heads=sizes.heads,
        num_encoder_layers=sizes.layers,
        num_decoder_layers=sizes.layers,
        dim_feedforward=4 * sizes.d_model,
        dropout=0.1,
        activation="gelu",
        max_positions=512,
    ).eval()


@torch.inference_mode()
def by_mtx(network: Transformer, ids: torch.Tensor, mask: torch.Tensor, tokens: int, beam: int) -> int:
    decoder = IncrementalDecoder(network, ids, mask)
    found = n_best_search(
        decoder.next_logits,
        max_tokens=torch.full((len(ids),), tokens),
        bos_id=BOS,
        eos_id=EOS,
        beam=beam,
        never=[PAD, BOS, EOS],
        reorder=decoder.reorder,
    )
    return sum(len(each[0].ids) for each in found)


@torch.inference_mode()
def by_transformers(model: Any, ids: torch.Tensor, mask: torch.Tensor, tokens: int, beam: int) -> int:
    found = model.generate(
        input_ids=ids,
        attention_mask=mask.long(),
        num_beams=beam,
        do_sample=False,
        min_new_tokens=tokens,
        max_new_tokens=tokens,
        use_cache=True,
    )
    return int((found.shape[1] - 1) * found.shape[0])


def cpu_s(work: Callable[[], int]) -> tuple[float, int]:
    started = time.process_time()
    num_tokens = work()
    return time.process_time() - started, num_tokens


def compare(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    ids = torch.randint(3, args.vocabulary, (args.sentences, args.tokens))
    lengths = torch.randint(args.tokens // 2, args.tokens + 1, (args.sentences, 1))
    mask = torch.arange(args.tokens) < lengths
    ids[~mask] = PAD
    network, model = reference(args), marian(args)
    for beam in args.beams:
        works: dict[str, Callable[[], int]] = {
            "mtx": lambda beam=beam: by_mtx(network, ids, mask, args.tokens, beam),  # type: ignore[misc]
            "transformers": lambda beam=beam: by_transformers(model, ids, mask, args.tokens, beam),  # type: ignore[misc]
        }
        times: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(args.rounds + 1):
            for name, work in works.items():
                seconds, num_tokens = cpu_s(work)
                assert num_tokens == args.sentences * args.tokens, (name, num_tokens)
                if turn:  # the first turn warms up
                    times[name].append(seconds)
        ratios = [theirs / ours for ours, theirs in zip(times["mtx"], times["transformers"], strict=True)]
        rates = {name: args.sentences * args.tokens / statistics.median(of) for name, of in times.items()}
        told = ", ".join(f"{name} {rate:,.0f} tokens/s of CPU time" for name, rate in rates.items())
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"beam {beam}: {told}; mtx is {statistics.median(ratios):.2f} x as fast {spread}")


def child_cpu_s(command: list[str], text: str = "") -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_line(ckpt: Path, rounds: int) -> None:
    mtx_command = [sys.executable, "-m", "mtx", "task=translate", f"ckpt={ckpt}"]
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for _ in range(rounds):
            least = child_cpu_s([sys.executable, "-c", IMPORT, str(ckpt)])
            whole = child_cpu_s(mtx_command, "A line.\n")
            ratios.append(whole / least)
            print(
                f"import torch and reading the file {least:.2f} s, mtx task=translate of one line {whole:.2f} s (CPU)"
            )
    print(f"ratio {statistics.median(ratios):.2f} (median of {rounds})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--d-model", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=30, help="tokens of each translation")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ckpt", type=Path, help="also translate one line with this checkpoint, in a fresh process")
    args = parser.parse_args()
    torch.set_num_threads(1)
    compare(args)
    if args.ckpt is not None:
        first_line(args.ckpt.absolute(), args.rounds)


if __name__ == "__main__":
    main()
