"""The learning half of `scripts/bench_flat --bits`: held-out bits per byte by real tokens, with and without padding.

Each arm trains the default reference model on the same tokens of the same corpus, with about equally many real tokens
an update. An arm and a seed have the same first weights as other arms with that seed. CPU seconds count collate and
training, not validation. Results are lines of a file, so that a stopped run resumes, and several runs add up.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from scipy import stats

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Collator
from mtx.batches.plan.planner import NO_PADDING, Lengths, Planner
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.batches.plan.rank_assignment import assigned_batches
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.batches.schema import target_tokens
from mtx.data.token_rows import EncodedPairs
from mtx.evaluation.verdict import verdict
from mtx.training.datamodule import TranslationDataModule
from mtx.training.reference.transformer import TransformerTranslator

MODEL = Path(__file__).resolve().parents[1] / "conf/model/transformer.yaml"
FACTS = ("source_vocab_size", "target_vocab_size", "joint_vocabulary", "pad_id", "bos_id", "eos_id")
FLAT = "random_tokens, flat"
ACCUMULATED, NUM_RANKS = 4, 2  # batches an update, of the arms with accumulation and of those with ranks
SHARD_ROWS = 4096  # of the arm that plans as a stream does: each shard by itself
COMPARED = (  # arms between which a verdict is given
    (FLAT, "token_budget"),
    (f"mix_lengths, {ACCUMULATED} batches", "token_budget"),
    (f"mix_lengths, {ACCUMULATED} batches", f"token_budget, {ACCUMULATED} batches"),
    (f"mix_lengths, {NUM_RANKS} ranks", f"token_budget, {NUM_RANKS} ranks"),
    ("token_budget", f"token_budget, shards of {SHARD_ROWS:,}"),
)
ROUNDED_TO = 10_000  # tokens at which arms are compared; each training goes on until the end of an update

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Arm:
    """A sampler with a format, and the batches of an update: those that are accumulated, or one of each rank.

    The ranks of an update are computed one after another, which gives the gradient of ranks that work together.

    Attributes:
        planner: plans the batches of an epoch, or of a shard.
        layout: format of the batches.
        accumulated: batches of an update.
        num_ranks: number of ranks, each of which has one batch of an update.
        shard_rows: rows of each shard that is planned by itself, as with datamodule.stream=true; None: all pairs.
    """

    planner: Planner
    layout: BatchFormat
    accumulated: int = 1
    num_ranks: int = 1
    shard_rows: int | None = None


@dataclass
class Curve:
    """Held-out bits per byte of one arm and one seed, by real tokens seen and CPU seconds of training.

    Attributes:
        arm: name of the arm.
        seed: seed of the first weights and of the plan.
        tokens: real tokens of both sides at each validation.
        bits: bits per byte at each validation.
        cpu_s: CPU seconds at each validation.
    """

    arm: str
    seed: int
    tokens: list[int]
    bits: list[float]
    cpu_s: list[float]

    def bits_at(self, tokens: int) -> float:
        """Return the bits per byte after some real tokens, between two validations by interpolation."""
        return float(np.interp(tokens, self.tokens, self.bits))

    def cpu_s_at(self, tokens: int) -> float:
        """Return the CPU seconds after some real tokens."""
        return float(np.interp(tokens, self.tokens, self.cpu_s))

    def cpu_s_to(self, bits: float) -> float:
        """Return the CPU seconds to some bits per byte, or infinity if the curve does not reach it."""
        reached = next((number for number, each in enumerate(self.bits) if each <= bits), None)
        if reached is None:
            return float("inf")
        if not reached:
            return self.cpu_s[0]
        pair = slice(reached - 1, reached + 1)
        return float(np.interp(-bits, [-each for each in self.bits[pair]], self.cpu_s[pair]))


def arms_by_name(lengths: Lengths, padded: BatchFormat, tokens: int) -> dict[str, Arm]:
    """Return the arms, with about `tokens` real tokens an update, source and target together."""
    mean = float((lengths.source + lengths.target).mean())
    side = round(tokens / 1.79)  # a budget of one side leaves room on the other: 1,024 give 1,830 real tokens
    flat = replace(padded, names="flat", length_multiple=NO_PADDING)
    random = RandomPlanner(batch_size=round(tokens / mean))
    small, half = {"max_tokens": side // ACCUMULATED}, {"max_tokens": side // NUM_RANKS}
    return {
        "token_budget": Arm(TokenBudgetPlanner(max_tokens=side), padded),
        f"token_budget, shards of {SHARD_ROWS:,}": Arm(
            TokenBudgetPlanner(max_tokens=side), padded, shard_rows=SHARD_ROWS
        ),
        f"token_budget, {ACCUMULATED} batches": Arm(TokenBudgetPlanner(**small), padded, ACCUMULATED),
        f"mix_lengths, {ACCUMULATED} batches": Arm(TokenBudgetPlanner(**small, mix_lengths=True), padded, ACCUMULATED),
        f"token_budget, {NUM_RANKS} ranks": Arm(TokenBudgetPlanner(**half), padded, num_ranks=NUM_RANKS),
        f"mix_lengths, {NUM_RANKS} ranks": Arm(
            TokenBudgetPlanner(**half, mix_lengths=True), padded, num_ranks=NUM_RANKS
        ),
        FLAT: Arm(RandomTokensPlanner(real_tokens=tokens), flat),
        "random, padded": Arm(random, padded),
        "random, computed flat": Arm(random, flat),  # the gradients of padded random batches, at the cost of flat ones
    }


def print_bits(dm: TranslationDataModule, pairs: EncodedPairs, options: argparse.Namespace) -> None:
    """Train the arms that the results lack, then print all results."""
    lengths, padded = dm.lengths("train"), dm.batch_format
    arms = arms_by_name(lengths, padded, options.tokens)
    chosen = {name: arms[name] for name in options.arms or arms}
    found = list(read_curves(options.results)) if options.results.exists() else []
    for seed in range(1, options.seeds + 1):
        for name, arm in chosen.items():
            done = [each.tokens[-1] for each in found if (each.arm, each.seed) == (name, seed)]
            if max(done, default=0) >= options.budget:
                continue
            curve = trained_curve(dm, pairs, lengths, (name, arm), seed, options)
            found = [each for each in found if (each.arm, each.seed) != (name, seed)] + [curve]
            write_curves(options.results, found)
    print_curves(found)


def trained_curve(
    dm: TranslationDataModule,
    pairs: EncodedPairs,
    lengths: Lengths,
    named: tuple[str, Arm],
    seed: int,
    options: argparse.Namespace,
) -> Curve:
    """Train one arm until it has seen `options.budget` real tokens, and validate after each part of them."""
    name, arm = named
    torch.manual_seed(seed)
    settings: Any = OmegaConf.to_container(OmegaConf.load(MODEL))
    settings = {key: value for key, value in settings.items() if key != "_target_"}
    model = TransformerTranslator(**{key: dm.facts()[key] for key in FACTS}, **settings)
    configured: Any = model.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    collator, curve = Collator(pairs, arm.layout), Curve(name, seed, [], [], [])
    tokens, cpu_s = 0, 0.0
    for rows in updates(arm, lengths, seed):
        began = time.process_time()
        batches = collator(rows)
        num_labels = sum(int(found) for batch in batches if (found := target_tokens(batch)) is not None)
        optimizer.zero_grad()
        for batch in batches:
            (model.loss(batch) * (int(target_tokens(batch) or 0) / num_labels)).backward()
        optimizer.step()
        schedule.step()
        cpu_s += time.process_time() - began
        tokens += sum(int((lengths.source[each] + lengths.target[each]).sum()) for each in rows)
        if tokens >= min(options.budget, options.validate_every * (len(curve.tokens) + 1)):
            curve.tokens.append(tokens)
            curve.bits.append(held_out_bits(dm, model))
            curve.cpu_s.append(cpu_s)
            print(f"{name}, seed {seed}: {tokens:,} tokens, {curve.bits[-1]:.3f} bits, {cpu_s:.1f} CPU s", flush=True)
        if tokens >= options.budget:
            break
    return curve


def updates(arm: Arm, lengths: Lengths, seed: int) -> Iterator[list[Rows]]:
    """Yield the batches of each update, epoch after epoch."""
    epoch = 0
    while True:
        if arm.num_ranks > 1:
            assigned = assigned_batches(arm.planner.plan(lengths, seed=seed, epoch=epoch), arm.num_ranks)
            for items in zip(*(assigned.items(rank=rank) for rank in range(arm.num_ranks)), strict=True):
                yield [item[0] if isinstance(item, tuple) else item for item in items]
        else:
            batches = list(epoch_batches(arm, lengths, seed, epoch))
            for first in range(0, len(batches) - arm.accumulated + 1, arm.accumulated):
                yield batches[first : first + arm.accumulated]
        epoch += 1


def epoch_batches(arm: Arm, lengths: Lengths, seed: int, epoch: int) -> Iterator[Rows]:
    """Yield the batches of one shard after another; the first epoch takes shards in order, later ones at random.

    Without `shard_rows`, all pairs are one shard.
    """
    size = arm.shard_rows or len(lengths)
    starts = np.arange(0, len(lengths), size)
    if epoch:
        np.random.default_rng((seed, epoch)).shuffle(starts)
    for start in starts.tolist():
        rows = slice(start, start + size)
        shard = Lengths(lengths.source[rows], lengths.target[rows])
        for batch in arm.planner.plan(shard, seed=seed, epoch=epoch):
            yield batch + start


@torch.inference_mode()
def held_out_bits(dm: TranslationDataModule, model: TransformerTranslator) -> float:
    """Return the bits per byte of the validation split."""
    nats, num_bytes = 0.0, 0
    for batch in dm.val_dataloader():
        nats += float(model.target_nats(batch).sum())
        num_bytes += int(dm.num_target_bytes(batch["row_ids"], "validation").sum())
    return nats / np.log(2) / num_bytes


def read_curves(path: Path) -> Iterator[Curve]:
    """Yield the results of earlier runs."""
    for line in path.read_text().splitlines():
        yield Curve(**json.loads(line))


def write_curves(path: Path, curves: list[Curve]) -> None:
    """Replace the file of results."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text("".join(json.dumps(each.__dict__) + "\n" for each in curves))
    temporary.replace(path)


def print_curves(curves: list[Curve]) -> None:
    """Print each arm's bits and CPU seconds at equal tokens, to the same quality, and its difference to flat."""
    arms = {name: {each.seed: each for each in curves if each.arm == name} for name in {each.arm: 0 for each in curves}}
    ends = {min(each.tokens[-1] for each in of_seed.values()) for of_seed in arms.values()}
    for tokens in sorted({end // ROUNDED_TO * ROUNDED_TO or end for end in ends}):
        able = {name: found for name, of in arms.items() if (found := _reaching(of, tokens))}
        level = max(each.bits_at(tokens) for of_seed in able.values() for each in of_seed.values())
        print(
            f"\n{f'at {tokens:,} real tokens':32}{'seeds':>6}{'bits/byte':>16}{'to flat [90 %]':>26}{'CPU s':>8}",
            end="",
        )
        print(f"{f'CPU s to {level:.3f}':>18}{'× flat':>8}")
        for name, of_seed in able.items():
            print(_line(name, of_seed, able.get(FLAT, {}), tokens, level))
        for both in COMPARED:
            if set(both) <= set(able):
                values = {name: {seed: each.bits_at(tokens) for seed, each in able[name].items()} for name in both}
                print(f"{' and '.join(both)}: {verdict(values, direction='minimize', paired=True).reason}")


def _reaching(of_seed: dict[int, Curve], tokens: int) -> dict[int, Curve]:
    return {seed: each for seed, each in of_seed.items() if each.tokens[-1] >= tokens}


def _line(name: str, of_seed: dict[int, Curve], flat: dict[int, Curve], tokens: int, level: float) -> str:
    bits = [each.bits_at(tokens) for each in of_seed.values()]
    seconds = [each.cpu_s_to(level) for each in of_seed.values()]
    both = sorted(set(of_seed) & set(flat)) if name != FLAT else []
    differences = [of_seed[seed].bits_at(tokens) - flat[seed].bits_at(tokens) for seed in both]
    ratios = [of_seed[seed].cpu_s_to(level) / flat[seed].cpu_s_to(level) for seed in both]
    return (
        f"{name:32}{len(bits):6}{_mean(bits, 3):>16}{_interval(differences):>26}"
        f"{statistics.mean(each.cpu_s_at(tokens) for each in of_seed.values()):8.0f}{_mean(seconds, 1):>18}"
        f"{statistics.mean(ratios) if ratios else 1:8.2f}"
    )


def _mean(values: list[float], digits: int) -> str:
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def _interval(differences: list[float]) -> str:
    """Return the mean of paired differences with its 90 % interval by Student's t."""
    if len(differences) < 2:
        return f"{differences[0]:+.3f}" if differences else ""
    mean, error = statistics.mean(differences), statistics.stdev(differences) / len(differences) ** 0.5
    reach = float(stats.t.ppf(0.95, len(differences) - 1)) * error
    return f"{mean:+.3f} [{mean - reach:+.3f}, {mean + reach:+.3f}]"
