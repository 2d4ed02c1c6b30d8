"""What `DataCosts` adds to a training step, in turns with no callback and an idle one.

The reference model, small, so that a step is a short one; a turn's figure is the median of its steps.
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
from mtx.callbacks import DataCosts
from mtx.training.datamodule import TranslationDataModule
from mtx.training.model import TransformerTranslator

MAX_TOKENS = 256
SMALL = {"d_model": 32, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 64}
WARM_UP = 5  # steps


class Idle(pl.Callback):
    """Has the hooks of DataCosts, and does nothing in them."""

    def on_train_start(self, *_: object) -> None: ...
    def on_train_batch_end(self, *_: object) -> None: ...
    def on_validation_start(self, *_: object) -> None: ...
    def on_validation_end(self, *_: object) -> None: ...


class Clocked(DataCosts):
    """Adds up the time inside its own hook of each batch, which noise between runs does not hide."""

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
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # steps are steadier
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    dm = mtx.compose_datamodule([f"sampler.max_tokens={MAX_TOKENS}"])
    dm.prepare_data()
    dm.setup("fit")
    kinds = {"no callback": lambda: [], "an idle callback": lambda: [Idle()], "DataCosts": lambda: [Clocked()]}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(options.rounds):
        for name, make in kinds.items():
            seconds[name].append(step_s(dm, options.steps, make()))
        print(f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    bare = seconds["no callback"]
    print(f"\n{'':20}{'ms a step':>12}{'× none':>10}")
    for name, own in seconds.items():
        ratio = statistics.median(mine / none for mine, none in zip(own, bare, strict=True))
        print(f"{name:20}{statistics.median(own) * 1000:12.2f}{ratio:10.4f}")
    print("medians of all rounds; ratios are medians of the ratios of each round")
    inside = Clocked.inside_s / Clocked.num_batches
    print(f"inside DataCosts: {inside * 1e6:.0f} µs a step, {inside / statistics.median(bare):.2%} of it")


if __name__ == "__main__":
    main()
