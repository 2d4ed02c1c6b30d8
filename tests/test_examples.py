"""The examples run as their docstrings say, and what they train learns something."""

import math
import re
from pathlib import Path

import pytest
import warm_process

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = ("downloader.n=1500", "tokenizer.vocab_size=1000")
UNIFORM = math.log(1000)  # loss of a model that knows nothing of the vocabulary, in nats per token


def run(name: str, *arguments: str) -> str:
    done = warm_process.run(EXAMPLES / name, *arguments, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def test_every_example_is_tried() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == [
        "accelerate_loop.py",
        "huggingface.py",
        "lightning_cli.py",
        "lora.py",  # test_own_model_examples.py
        "marian.py",  # test_own_model_examples.py
        "own_downloader.py",
        "own_model.py",
        "own_scorer.py",
        "packed_transformers.py",  # test_own_model_examples.py
        "plain_torch.py",
        "torchrun_loop.py",
        "transformers_trainer.py",
    ]


def test_own_model() -> None:
    told = run("own_model.py", "60", *SMALL)
    assert number(r"validation loss, nats a token: ([0-9.]+)", told) < UNIFORM - 0.5


def test_huggingface() -> None:
    pytest.importorskip("transformers")
    told = run("huggingface.py", "30", *SMALL)
    assert number(r"steps, nats a token: ([0-9.]+)", told) < UNIFORM - 0.5


def test_plain_torch() -> None:
    told = run("plain_torch.py", "40")
    assert number(r"([0-9.]+) after", told) < number(r"token: ([0-9.]+) at first", told) - 0.5


def test_own_downloader(tmp_path: Path) -> None:
    told = run("own_downloader.py", str(tmp_path))
    assert "the contract holds: 2,000 pairs, left out: {'missing_text': 1}" in told
    assert re.search(r"the first batch: \[\d+, \d+\] source ids", told)


def test_accelerate_loop() -> None:
    pytest.importorskip("accelerate")
    told = run("accelerate_loop.py", "2", *SMALL)
    found = re.search(r"(\d+) updates from (\d+) batches in each of 2 epochs", told)
    assert found
    assert int(found[1]) == 2 * -(-int(found[2]) // 4)  # the last window of each epoch is applied


def test_transformers_trainer(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    first = run("transformers_trainer.py", "5", str(tmp_path), *SMALL)
    rest = run("transformers_trainer.py", "8", str(tmp_path), "resume", *SMALL)
    assert "until step 5" in first
    assert "until step 8" in rest


def test_lightning_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jsonargparse")
    monkeypatch.chdir(tmp_path)
    overrides = "[" + ", ".join(f'"{one}"' for one in SMALL) + "]"
    options = ["--trainer.max_steps=2", "--trainer.accelerator=cpu", f"--data.overrides={overrides}"]
    run("lightning_cli.py", "fit", *options, "--trainer.logger=false", "--trainer.enable_checkpointing=false")
    told = run("lightning_cli.py", "fit", "--print_config", f"--data.overrides={overrides}")
    assert "downloader.n=1500" in told


# Ranks are forks of a process that has imported torch and Lightning. The rest is what `torchrun` does.
TORCHRUN = """
import runpy, sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

def rank(script, *arguments):
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")

settings = LaunchConfig(
    min_nodes=1, max_nodes=1, nproc_per_node=2, start_method="fork", max_restarts=0,
    rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0",
)
elastic_launch(settings, rank)(*sys.argv[1:])
"""


def test_torchrun_loop() -> None:
    done = warm_process.run("-c", TORCHRUN, EXAMPLES / "torchrun_loop.py", "1", *SMALL, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.search(r"epoch 0: (\d+) pairs, (\d+) different ones", done.stdout)
    assert found
    assert found[1] == found[2]


def test_own_scorer(tmp_path: Path) -> None:
    told = run("own_scorer.py", "downloader.n=1500", f"storage.root={tmp_path}")
    judged, kept = number(r"judged (\d+) pairs", told), number(r"kept (\d+)", told)
    dropped = number(r"frequent_words: (\d+) alone", told)
    assert 0 < dropped <= 0.1 * judged
    assert kept == judged - dropped - number(r"longest: \d+ alone, (\d+) only here", told)
