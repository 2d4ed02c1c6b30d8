"""Benchmark: the time that the callback `DataCosts` adds to a training step.

Three Trainers run in turn: without a callback, with an idle callback, and with `DataCosts`. The model is a small
reference model, so that a step is short. The result of a run is the median over its steps.
"""

import argparse
import itertools
import logging
import os
import statistics
import time
import warnings

import pytorch_lightning as pl
import torch

import mtx
from mtx.training.callbacks import DataCosts
from mtx.training.datamodule import TranslationDataModule
from mtx.training.reference.transformer import TransformerTranslator

MAX_TOKENS = 256
SMALL = {"d_model": 32, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 64}
WARM_UP = 5  # steps that are not timed


class Idle(pl.Callback):
    """Callback with the hooks of `DataCosts`, which do nothing."""

    def on_train_start(self, *_: object) -> None: ...
    def on_train_batch_end(self, *_: object) -> None: ...
    def on_validation_start(self, *_: object) -> None: ...
    def on_validation_end(self, *_: object) -> None: ...


class Clocked(DataCosts):
    """`DataCosts` that also sums the time inside its batch hook, which noise between runs does not affect."""

    inside_s = 0.0
    num_batches = 0

    def on_train_batch_end(self, *arguments: object) -> None:
        started = time.perf_counter()
        super().on_train_batch_end(*arguments)
        Clocked.inside_s += time.perf_counter() - started
        Clocked.num_batches += 1


class Timed(TransformerTranslator):
    def on_train_batch_start(self, *_: object) -> None:
        self.times.append(time.perf_counter())


def step_s(dm: TranslationDataModule, steps: int, callbacks: list[pl.Callback]) -> float:
    pl.seed_everything(0, verbose=False)
    facts = dm.facts()
    names = ("source_vocab_size", "target_vocab_size", "pad_id", "bos_id", "eos_id", "joint_vocabulary")
    model = Timed(**{name: facts[name] for name in names}, **SMALL)
    model.times = []
    trainer = pl.Trainer(
        max_steps=WARM_UP + steps + 1,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    trainer.fit(model, datamodule=dm)
    moments = model.times[WARM_UP:]
    return statistics.median(after - before for before, after in itertools.pairwise(moments))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each Trainer")
    parser.add_argument("--steps", type=int, default=200, help="timed steps per run")
    parser.add_argument("--pairs", default="null", help="number of pairs, from the start of the sample corpus")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # step times vary less with one thread
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    dm = mtx.compose_datamodule([f"sampler.max_tokens={MAX_TOKENS}", f"downloader.n={options.pairs}"])
    dm.prepare_data()
    dm.setup("fit")
    kinds = {"no callback": lambda: [], "an idle callback": lambda: [Idle()], "DataCosts": lambda: [Clocked()]}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(options.rounds):
        for name, make in kinds.items():
            seconds[name].append(step_s(dm, options.steps, make()))
        print(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    bare = seconds["no callback"]
    print(f"\n{'':20}{'ms per step':>12}{'× none':>10}")
    for name, own in seconds.items():
        ratio = statistics.median(mine / none for mine, none in zip(own, bare, strict=True))
        print(f"{name:20}{statistics.median(own) * 1000:12.2f}{ratio:10.4f}")
    print("ms per step: median over all rounds; ratio: median of the ratios within each round")
    inside = Clocked.inside_s / Clocked.num_batches
    print(f"inside DataCosts: {inside * 1e6:.0f} µs per step, {inside / statistics.median(bare):.2%} of a step")


if __name__ == "__main__":
    main()
