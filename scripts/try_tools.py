"""Try mtx in other tools: its loader (every pair once an epoch, disjoint ranks, exact resume), loggers, and exports.

scripts/try_tools installs what the trials need, and runs this module.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Truncated, so that each pair is served: longer ones would be dropped from each epoch.
SMALL = [
    "downloader.n=300",
    "tokenizer=byte",
    "sampler.max_tokens=512",
    "datamodule.validation=20",
    "datamodule.too_long=truncate",
]
RANKS_SCRIPT = Path(__file__).with_name("try_transformers_ranks.py")
TIMEOUT_S = 300
STEPS, SAVED_AT = 50, 20  # of transformers' Trainer; an epoch has 37 steps on two ranks

CELLS = (
    """
import mtx
dm = mtx.compose_datamodule(OVERRIDES)
dm.prepare_data()
dm.setup("fit")
loader = dm.train_dataloader()
epochs = [[row for batch in loader for row in batch["row_ids"].tolist()] for _ in range(2)]
assert sorted(epochs[0]) == sorted(epochs[1]) and epochs[0] != epochs[1]
assert len(epochs[0]) == len(set(epochs[0])) == len(loader.dataset)
""",
    """
from torch.utils.data import DataLoader
for context in ("fork", "spawn", "forkserver"):
    workers = {"num_workers": 2, "multiprocessing_context": context}
    served = DataLoader(loader.dataset, sampler=loader.batch_sampler, batch_size=None, **workers)
    assert sorted(row for batch in served for row in batch["row_ids"].tolist()) == sorted(epochs[0]), context
""",
    """
from dataclasses import dataclass
from mtx.data.filter.default import DefaultFilter
@dataclass(frozen=True, kw_only=True)
class OwnFilter(DefaultFilter):
    version = 1
own = mtx.compose_datamodule([*OVERRIDES, "filter._target_=__main__.OwnFilter"])
own.prepare_data()
own.setup("fit")
loader = own.train_dataloader()
workers = {"num_workers": 2, "multiprocessing_context": "spawn"}
served = DataLoader(loader.dataset, sampler=loader.batch_sampler, batch_size=None, **workers)
assert sum(len(batch["row_ids"]) for batch in served) == len(loader.dataset)
""",
    """
import json
import pytorch_lightning as pl
import torch
class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.vectors = torch.nn.Embedding(300, 2)
    def training_step(self, batch, index):
        with open(f"rank{self.trainer.global_rank}.jsonl", "a") as file:
            file.write(json.dumps([self.current_epoch, batch["row_ids"].tolist()]) + "\\n")
        return self.vectors(batch["decoder_input_ids"]).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
quiet = {"logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
pl.Trainer(max_epochs=1, **quiet).fit(Model(), dm)
import os; os.remove("rank0.jsonl")
pl.Trainer(max_epochs=2, devices=2, strategy="ddp_notebook", **quiet).fit(Model(), dm)
""",
    """
from pathlib import Path
noted = [[json.loads(line) for line in Path(f"rank{rank}.jsonl").read_text().splitlines()] for rank in (0, 1)]
shares = [[row for _, rows in some for row in rows] for some in noted]
for epoch in (0, 1):
    ranks = [[row for number, rows in some if number == epoch for row in rows] for some in noted]
    assert not set(ranks[0]) & set(ranks[1])
    assert sorted(ranks[0] + ranks[1]) == sorted(epochs[0])
""",
)


def notebook() -> str:
    """Run a notebook: passes, worker processes, a class of the notebook, Lightning with one and with two processes."""
    import nbclient
    import nbformat

    cells = [f"OVERRIDES = {SMALL!r}", *CELLS]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(made, timeout=TIMEOUT_S, kernel_name="python3").execute()  # raises what a cell raises
    return f"{len(cells)} cells with nbclient {version('nbclient')}, ipykernel {version('ipykernel')}"


def hydra_zen() -> str:
    """Compose and build the data module by hydra-zen, in one job and in a sweep."""
    from hydra_zen import builds, instantiate, launch, make_config

    import mtx

    config = make_config(dm=builds(mtx.compose_datamodule, overrides=SMALL), seed=0)

    def task(cfg: Any) -> int:
        dm = instantiate(cfg.dm)
        return _check_epochs(dm)

    one = launch(config, task, version_base="1.3").return_value
    (jobs,) = launch(config, task, overrides=["seed=1,2"], multirun=True, version_base="1.3")
    assert [job.return_value for job in jobs] == [one, one]
    return f"one job and a sweep of two, {one} batches each, hydra-zen {version('hydra-zen')}"


def transformers_ranks() -> str:
    """Train on two ranks by transformers' Trainer, without a stop and with one."""
    whole, first, rest = Path("whole"), Path("first"), Path("rest")
    _run_ranks(whole, STEPS, "new")
    _run_ranks(first, SAVED_AT, "new")
    _run_ranks(rest, STEPS, str(first / f"checkpoint-{SAVED_AT}"))
    expected = [_batches(whole, rank) for rank in (0, 1)]
    for rank in (0, 1):
        assert _batches(first, rank) + _batches(rest, rank) == expected[rank], f"rank {rank} resumed elsewhere"
    facts = json.loads((whole / "facts.json").read_text())
    length, pairs = facts["length"], facts["pairs"]
    served = [[pair for batch in some[:length] for pair in batch] for some in expected]
    assert not set(served[0]) & set(served[1]), "the ranks share pairs"
    assert sorted(served[0] + served[1]) == pairs, "an epoch is not every pair once"
    assert expected[0][:5] != expected[0][length : length + 5], "the second epoch is the first again"
    return f"{STEPS} steps of {length} an epoch, stopped at {SAVED_AT}, transformers {version('transformers')}"


def optuna() -> str:
    """Call mtx in the objective of a study, in one thread and in several."""
    import optuna as library

    import mtx

    library.logging.set_verbosity(library.logging.WARNING)

    def objective(trial: Any) -> int:
        tokens = trial.suggest_int("max_tokens", 256, 2048, step=256)
        sampler = trial.suggest_categorical("sampler", ["token_budget", "static_shapes"])
        dm = mtx.compose_datamodule([*SMALL, f"sampler={sampler}", f"sampler.max_tokens={tokens}"])
        return _check_epochs(dm)

    for num_threads in (1, 4):
        study = library.create_study()
        study.optimize(objective, n_trials=8, n_jobs=num_threads)
        assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 8
    return f"8 trials in one thread and in 4, optuna {version('optuna')}"


def loggers() -> str:
    """Train with all loggers: W&B writes an offline run, MLflow its SQLite store; both get all that mtx logs."""
    small = [*SMALL, "model.d_model=16", "trainer.max_steps=2", "task.scored_sentences=2", "task.contrastive_pairs=0"]
    chosen = ["logger=[csv,tensorboard,wandb,mlflow]", "logger.wandb.offline=true", "hydra.run.dir=run"]
    _run_command("task=fit", *small, *chosen)
    from mlflow import MlflowClient

    report = json.loads(Path("run/report.json").read_text())
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    experiment = client.get_experiment_by_name("mtx")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["model.d_model"] == "16"
    assert run.data.params["ids.raw.train"] == report["ids"]["raw"]["train"]
    assert abs(run.data.metrics["report/bits_per_byte"] - report["bits_per_byte"]) < 1e-6
    stored = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert stored == {"report.html", "report.json", "config.json"}, stored
    (written,) = Path("run/wandb").glob("offline-run-*/*.wandb")
    content = written.read_bytes()
    for wanted in ("model.d_model", report["ids"]["raw"]["train"], "report/bits_per_byte", "report.html"):
        assert wanted.encode() in content, wanted
    assert list(Path("run/tensorboard").glob("events.*"))
    _run_command("-m", "task=fit", *small, "logger=mlflow", "seed=1,2", "hydra.sweep.dir=many/sweep")
    runs = client.search_runs([experiment.experiment_id], "tags.`mtx.sweep` = 'many/sweep'")
    assert len(runs) == 2, len(runs)
    return f"wandb {version('wandb')}, mlflow-skinny {version('mlflow-skinny')}, tensorboard {version('tensorboard')}"


def megatron() -> str:
    """Export token ids, and read them by Megatron Core's own class."""
    _run_command("task=prepare", *SMALL, "hydra.run.dir=run")
    from mtx.app.command import compose
    from mtx.components.check_and_build import build

    repo = build(compose([]), "storage").repo
    name = repo.show(stage="encoded", split="train")["id"].values[0]
    _run_command("task=export", f"dataset={name}", "to=ids", "format=megatron")
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    table = repo.get(dataset_id=name).rows.table
    for side in ("source", "target"):
        read = IndexedDataset(f"ids/{side}")
        assert [ids.tolist() for ids in read] == table[f"{side}_ids"].to_pylist()
    return f"{len(table)} pairs, megatron-core {version('megatron-core')}"


def onnx() -> str:
    """Export the reference model, and compare its logits with those of the file, also for other lengths."""
    import torch
    from onnx.reference import ReferenceEvaluator

    from mtx.training.checkpoint_translator import load_translator

    model = ("model.d_model=16", "model.num_heads=2", "model.dim_feedforward=16", "trainer.max_steps=1")
    _run_command("task=fit", *SMALL, *model, "hydra.run.dir=fitted")
    _run_command("task=export", "ckpt=fitted/checkpoints/last.ckpt", "to=exported", "format=onnx")
    file, network = (
        ReferenceEvaluator("exported/model.onnx"),
        load_translator("fitted/checkpoints/last.ckpt").generator.network,
    )
    names, largest = ("encoder_input_ids", "encoder_attn_mask", "decoder_input_ids"), 0.0
    for pairs, source, target in ((2, 3, 4), (1, 1, 1), (5, 9, 6)):
        mask = torch.arange(source) < torch.arange(1, pairs + 1)[:, None]
        ids = [
            torch.randint(4, 60, (pairs, size), generator=torch.Generator().manual_seed(0)) for size in (source, target)
        ]
        inputs = (ids[0], mask, ids[1])
        (found,) = file.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
        with torch.inference_mode():
            largest = max(largest, float((torch.from_numpy(found) - network.logits(network(*inputs))).abs().max()))
    assert largest < 1e-4, largest
    return f"logits differ by at most {largest:.0e}, onnx {version('onnx')}"


def _run_command(*arguments: str) -> None:
    command = [sys.executable, "-m", "mtx", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def _check_epochs(dm: Any) -> int:
    """Check two epochs of a data module, and return the number of batches of each."""
    dm.prepare_data()
    dm.setup("fit")
    loader = dm.train_dataloader()
    epochs = [[batch["row_ids"].tolist() for batch in loader] for _ in range(2)]
    assert {len(epoch) for epoch in epochs} == {len(loader)}
    rows = [[row for some in epoch for row in some] for epoch in epochs]
    assert sorted(rows[0]) == sorted(rows[1]) == sorted(set(rows[0]))
    assert len(rows[0]) == len(loader.dataset)
    assert rows[0] != rows[1]
    return len(loader)


def _run_ranks(folder: Path, steps: int, resume: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(RANKS_SCRIPT)]
    told = [json.dumps(SMALL), str(folder), str(steps), str(SAVED_AT), resume]
    done = subprocess.run([*command, *told], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def _batches(folder: Path, rank: int) -> list[list[str]]:
    return [json.loads(line) for line in (folder / f"rank{rank}.jsonl").read_text().splitlines()]


TRIALS: dict[str, Callable[[], str]] = {
    each.__name__: each for each in (hydra_zen, notebook, transformers_ranks, optuna, loggers, megatron, onnx)
}


def main(names: Sequence[str]) -> int:
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    num_failed = 0
    for name in names or TRIALS:
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            os.environ["MTX_STORE"] = f"{folder}/store"
            try:
                print(f"{name}: {TRIALS[name]()}", flush=True)
            except Exception as error:  # each trial is reported
                num_failed += 1
                print(f"{name}: FAILED: {type(error).__name__}: {error}", flush=True)
    return 1 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
