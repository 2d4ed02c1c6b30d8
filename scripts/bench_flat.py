"""Benchmark: cost of a real token in training and collate, without padding and with padding.

The reference model trains on one thread. The arms take turns in each round, so that a busy machine slows all of them.
All arms get about the same number of real tokens in a batch. Times are CPU seconds.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import mtx
from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Collator
from mtx.batches.plan.planner import NO_PADDING, Lengths, Planner
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.batches.prompted_pairs import PromptedPairs, PromptVariants
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.training.datamodule import TranslationDataModule
from mtx.training.reference.transformer import TransformerTranslator

CORPUS = Path(__file__).resolve().parents[2] / "shared/data/corpus.en-de.jsonl.gz"
PADDED = "token_budget, padded"
RANDOM = "random, padded"
NUM_ACCUMULATED = 4
ACCUMULATED = f"token_budget, {NUM_ACCUMULATED} batches"  # smaller ones, whose gradients are added
FLAT = "random_tokens, flat"
SAME_ROWS = "random_tokens, padded"  # the batches of FLAT with padding, in collate alone
CAUSAL = "random_tokens, causal"
COLLATE_ROUNDS = 9
COLLATED_AT_ONCE = 8  # batches in one call of a collator, as the loader asks for them


@dataclass
class Arm:
    """One sampler with one format: batches in training order, how far training has come, and batches of an update."""

    collator: Collator
    batches: list[NDArray[np.int64]]
    done: int = 0
    accumulated: int = 1


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    path = options.corpus or (CORPUS if CORPUS.exists() and not options.sample else None)
    if path is None:
        print("NOT THE CORPUS OF THE PUBLISHED TABLE: the corpus is missing, or --sample was given.")
    source = ["downloader=sample"] if path is None else ["downloader=local", f"downloader.path={path}"]
    with tempfile.TemporaryDirectory() as temporary:
        root = options.store or temporary
        size = [f"downloader.n={options.pairs}", f"tokenizer.vocab_size={options.vocab_size}"]
        held_out = ["datamodule.validation=1000"] if options.bits else []
        budget = f"sampler.max_tokens={options.tokens}"
        dm = mtx.compose_datamodule([*source, *size, *held_out, f"storage.root={root}", budget])
        dm.prepare_data()
        dm.setup("fit")
        lengths, pairs = dm.lengths("train"), dm.train_dataloader().dataset.pairs
        if options.bits:
            from bench_flat_bits import print_bits  # beside this script

            print_bits(dm, pairs, options)
        else:
            arms = all_arms(pairs, lengths, dm.batch_format, options.tokens)
            print_training(dm, arms, lengths, options)
            print_collate(pairs, arms, lengths)
    print("load:", " ".join(f"{load:.1f}" for load in os.getloadavg()), "cores:", os.cpu_count())


def all_arms(pairs: EncodedPairs, lengths: Lengths, padded: BatchFormat, tokens: int) -> dict[str, Arm]:
    """Return the arms, with `tokens` real tokens in the mean batch, source and target together."""
    usable = np.minimum(lengths.source, lengths.target) > 0
    excluded = np.maximum(lengths.source, lengths.target) > (padded.max_source_tokens or tokens)
    both = lengths.source + lengths.target

    def batches(planner: Planner) -> list[NDArray[np.int64]]:
        return list(planner.plan(lengths, seed=0, epoch=0, excluded=excluded))

    side = tokens // 2  # leaves room on the shorter side, so batches have fewer real tokens than the budget of both
    for _ in range(2):
        planned = batches(TokenBudgetPlanner(max_tokens=side))
        side = round(side * tokens / statistics.mean(int(both[rows].sum()) for rows in planned))
    mean = float(both[usable & ~excluded].mean())
    flat = replace(padded, names="flat", length_multiple=NO_PADDING)
    samplers: dict[str, tuple[Planner, BatchFormat]] = {
        PADDED: (TokenBudgetPlanner(max_tokens=side), padded),
        ACCUMULATED: (TokenBudgetPlanner(max_tokens=side // NUM_ACCUMULATED), padded),
        RANDOM: (RandomPlanner(batch_size=max(1, round(tokens / mean))), padded),
        FLAT: (RandomTokensPlanner(real_tokens=tokens), flat),
    }
    made = {name: Arm(Collator(pairs, layout), batches(planner)) for name, (planner, layout) in samplers.items()}
    made[ACCUMULATED].accumulated = NUM_ACCUMULATED
    return made


def print_training(
    dm: TranslationDataModule, arms: dict[str, Arm], lengths: Lengths, options: argparse.Namespace
) -> None:
    """Print the CPU time of a real token in training steps, and the peak memory of a process that trains."""
    facts = {key: value for key, value in dm.facts().items() if key in FACTS}
    peaks = {name: peak_mb(facts, arm, measured_for_peak(name, arm, lengths, options)) for name, arm in arms.items()}
    torch.manual_seed(0)
    model = TransformerTranslator(**facts)
    optimizer = torch.optim.AdamW(model.parameters())
    found: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(options.rounds):
        for name, arm in arms.items():
            found[name].append(cost_of_updates(model, optimizer, arm, lengths, options.steps))
    print(f"{'training':28}{'µs/real token':>16}{'× padded':>12}{'× random':>12}{'peak MB':>10}{'batches':>10}")
    for name, costs in found.items():
        by_round = [
            statistics.median([cost / base for cost, base in zip(costs, found[other], strict=True)])
            for other in (PADDED, RANDOM)
        ]
        median = statistics.median(costs)
        print(
            f"{name:28}{median:16.0f}{by_round[0]:12.2f}{by_round[1]:12.2f}{peaks[name]:10.0f}"
            f"{len(arms[name].batches):10,}"
        )


FACTS = ("source_vocab_size", "target_vocab_size", "joint_vocabulary", "pad_id", "bos_id", "eos_id")


def cost_of_updates(
    model: TransformerTranslator, optimizer: torch.optim.Optimizer, arm: Arm, lengths: Lengths, updates: int
) -> float:
    """Return the CPU time of a real token in the next `updates` updates of the weights, in µs."""
    tokens, cpu_s = 0, 0.0
    for _ in range(updates):
        rows = [arm.batches[(arm.done + number) % len(arm.batches)] for number in range(arm.accumulated)]
        arm.done += arm.accumulated
        batches = arm.collator(rows)
        began = time.process_time()
        optimizer.zero_grad()
        for batch in batches:
            model.loss(batch).backward()
        optimizer.step()
        cpu_s += time.process_time() - began
        tokens += sum(int((lengths.source[each] + lengths.target[each]).sum()) for each in rows)
    return cpu_s / tokens * 1e6


def measured_for_peak(name: str, arm: Arm, lengths: Lengths, options: argparse.Namespace) -> list[NDArray[np.int64]]:
    """Return the first batches, and the one with the most products of positions, which needs most memory.

    Padded random batches have no such last batch, since it takes several times as much memory as the first ones.
    """
    first = arm.batches[: options.steps + 1]
    if name == RANDOM:
        return first
    products = (lengths.source + lengths.target).astype(np.float64) ** 2
    return [*first, max(arm.batches, key=lambda rows: float(products[rows].sum()))]


def peak_mb(facts: dict[str, int], arm: Arm, batches: list[NDArray[np.int64]]) -> float:
    """Return the peak memory of a process that trains on these batches, in MB."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_trained_peak, (facts, arm, batches))


def _trained_peak(facts: dict[str, int], arm: Arm, batches: list[NDArray[np.int64]]) -> float:
    torch.set_num_threads(1)
    model = TransformerTranslator(**facts)
    for rows in batches:
        model.zero_grad()
        model.loss(arm.collator([rows])[0]).backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def print_collate(pairs: EncodedPairs, arms: dict[str, Arm], lengths: Lengths) -> None:
    """Print the real tokens per CPU second of collate, with compiled kernels and with numpy: medians of nine rounds."""
    print(f"{'collate':34}{'M tokens/s':>10}{'× padded':>12}{'× same rows':>14}")
    same_rows = Arm(arms[PADDED].collator, arms[FLAT].batches)
    collated = {**arms, SAME_ROWS: same_rows, CAUSAL: causal_arm(pairs, arms[FLAT])}
    del collated[ACCUMULATED]
    tokens = {
        name: sum(int((lengths.source[rows] + lengths.target[rows]).sum()) for rows in arm.batches)
        for name, arm in collated.items()
    }
    for title, compiled in (("compiled", None), ("numpy", False)):
        rates: dict[str, list[float]] = {name: [] for name in collated}
        for _ in range(COLLATE_ROUNDS):
            for name, arm in collated.items():
                collator = Collator(arm.collator.pairs, arm.collator.batch_format, compiled=compiled)
                collator(arm.batches[:COLLATED_AT_ONCE])
                rates[name].append(tokens[name] / collate_s(collator, arm.batches))
        for name, found in rates.items():
            to_padded, to_same_rows = (
                statistics.median([rate / base for rate, base in zip(found, rates[other], strict=True)])
                for other in (PADDED, SAME_ROWS)
            )
            median = statistics.median(found) / 1e6
            print(f"{name + ', ' + title:34}{median:10.1f}{to_padded:12.2f}{to_same_rows:14.2f}")


def causal_arm(pairs: EncodedPairs, flat: Arm) -> Arm:
    """Return decoder-only batches without padding of the pairs of flat batches, with a prompt of BOS and one token."""
    special = flat.collator.batch_format.target
    prompts = PromptVariants(TokenRows.of([[special.bos]]), TokenRows.of([[special.eos]]))
    prompted = PromptedPairs(pairs.source, pairs.target, pairs.selection, prompts=prompts)
    layout = replace(flat.collator.batch_format, names="causal")
    return Arm(Collator(prompted, layout), flat.batches)


def collate_s(collator: Callable[[list[NDArray[np.int64]]], object], batches: list[NDArray[np.int64]]) -> float:
    """Return the CPU seconds to collate all batches, but at least the resolution of the clock."""
    began = time.process_time()
    for first in range(0, len(batches), COLLATED_AT_ONCE):
        collator(batches[first : first + COLLATED_AT_ONCE])
    return max(time.process_time() - began, 1e-6)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="JSON Lines file of pairs; default: the corpus of the tables")
    parser.add_argument("--sample", action="store_true", help="use the sample corpus")
    parser.add_argument("--pairs", type=int, default=20_000, help="pairs of the corpus")
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument(
        "--tokens", type=int, default=1024, help="real tokens in a batch; random padded batches of 4096 take 10 GB"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which all arms take turns")
    parser.add_argument("--steps", type=int, default=2, help="updates of the weights of each arm in a round")
    bits = parser.add_argument_group("--bits, which measures learning; set --tokens 1830 and --vocab-size 2000")
    bits.add_argument("--bits", action="store_true", help="measure held-out bits per byte instead of costs")
    bits.add_argument("--seeds", type=int, default=3)
    bits.add_argument("--budget", type=int, default=1_000_000, help="real tokens of each training")
    bits.add_argument("--validate-every", type=int, default=50_000, help="real tokens between validations")
    bits.add_argument("--arms", nargs="+", help="names of arms, as the table has them; default: all")
    bits.add_argument("--results", type=Path, default=Path("bench_flat_bits.jsonl"), help="file of the results")
    parser.add_argument("--store", type=Path, help="folder for prepared data; default: a temporary one")
    return parser.parse_args()


if __name__ == "__main__":
    main()
