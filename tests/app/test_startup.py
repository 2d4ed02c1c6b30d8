"""Only what a task needs is imported."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtx.app.command import FOR_HYDRA, compose
from mtx.app.grid_check import _ConfigChecker
from mtx.app.help_text import KEYS
from mtx.components import allowed_targets
from mtx.components.option_reference import all_options
from mtx.experiment.run_context import LIGHTNING_DATAMODULE, PLAIN_DATAMODULE

HEAVY = {
    *("torch", "pytorch_lightning", "lightning", "lightning_fabric", "torchmetrics", "transformers", "matplotlib"),
}
ARROW = {"pyarrow", "numpy"}
DRIVER = """
import sys
from mtx.__main__ import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("IMPORTED", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""
# Counts how often Hydra composes a config.
COUNTING = """
from hydra._internal.config_loader_impl import ConfigLoaderImpl
counted = ConfigLoaderImpl.load_configuration
def load_configuration(*args, **options):
    print("COMPOSED", file=sys.stderr)
    return counted(*args, **options)
ConfigLoaderImpl.load_configuration = load_configuration
"""
SMALL = ["downloader.n=200", "tokenizer.vocab_size=300", "datamodule.validation=5", "datamodule.test=5"]


def run(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def imported(folder: Path, *arguments: str) -> tuple[set[str], str]:
    """Run a command in a process of its own; return the packages that it imported, and what it printed."""
    done = run(folder, DRIVER, *arguments)
    return set(done.stderr.split("IMPORTED ")[1].split()), done.stdout


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, set[str]]:
    """A store that is filled, and the packages that this took."""
    folder = tmp_path_factory.mktemp("prepared")
    modules, _ = imported(folder, "task=prepare", f"storage.root={folder / 'store'}", *SMALL)
    return f"storage.root={folder / 'store'}", modules


@pytest.mark.parametrize("task", ["show", "options", "verify", "gc"])
def test_tasks_that_only_read_import_nothing_heavy_and_leave_no_folder(
    tmp_path: Path, prepared: tuple[str, set[str]], task: str
) -> None:
    modules, out = imported(tmp_path, f"task={task}", prepared[0])
    assert modules & {*HEAVY, "pandas"} == set()
    assert modules & ARROW == set(), "none of these tasks opens rows"
    assert list(tmp_path.iterdir()) == []
    assert {"show": "filtered-train-", "options": "sampler=", "verify": "Checked 1", "gc": "unused"}[task] in out


@pytest.mark.parametrize("arguments", [["task=options"], ["task=options", "only=sampler", "hydra.run.dir=out"]])
def test_a_single_run_composes_its_config_once(tmp_path: Path, arguments: list[str]) -> None:
    assert run(tmp_path, "import sys\n" + COUNTING + DRIVER, *arguments).stderr.count("COMPOSED") == 1


@pytest.mark.parametrize("asks", ["hydra.mode=MULTIRUN", "+experiment=mine", "hydra.searchpath=[]", "hydra/output=a"])
def test_what_can_ask_for_a_sweep_is_left_to_hydra(asks: str) -> None:
    assert FOR_HYDRA.match(asks)
    assert FOR_HYDRA.match("--config-dir")
    assert not FOR_HYDRA.match("sampler=random")
    assert not FOR_HYDRA.match("hydra.run.dir=out")


def test_none_of_the_options_but_experiments_can_ask_for_a_sweep() -> None:
    conf = Path(__file__).parents[2] / "conf"
    asking = [path for path in conf.rglob("*.yaml") if "mode" in (read_yaml(path).get("hydra") or {})]
    assert {path.parent.name for path in asking} == {"experiment"}


def read_yaml(path: Path) -> dict[str, Any]:
    read = yaml.safe_load(path.read_text())
    return read if isinstance(read, dict) else {}


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_help_and_version_import_not_even_hydra(tmp_path: Path, arguments: list[str]) -> None:
    modules, out = imported(tmp_path, *arguments)
    assert modules & {*HEAVY, "hydra", "numpy", "pyarrow"} == set()
    assert "mtx" in out


def test_prepare_imports_nothing_heavy_and_measure_no_lightning(tmp_path: Path, prepared: tuple[str, set[str]]) -> None:
    root, modules = prepared
    assert modules & HEAVY == set()
    modules, _ = imported(tmp_path, "task=measure", root, *SMALL)
    assert modules & {"pytorch_lightning", "lightning", "lightning_fabric", "torchmetrics", "transformers"} == set()


def test_the_check_of_the_jobs_of_a_sweep_names_no_class_of_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []
    resolve = allowed_targets._named
    monkeypatch.setattr(allowed_targets, "_named", lambda path: named.append(path) or resolve(path))
    _ConfigChecker().check(compose(["datamodule.validation=5"]))
    assert PLAIN_DATAMODULE in named
    assert LIGHTNING_DATAMODULE not in named


def test_check_imports_nothing_heavy_for_what_mtx_comes_with(tmp_path: Path) -> None:
    changed = ["trainer=cpu", "sampler=random", "datamodule.validation=20"]
    modules, out = imported(tmp_path, "task=check", *changed)
    assert modules & HEAVY == set()
    assert "loaded   neither torch nor Lightning" in out


def test_importing_mtx_imports_nothing_heavy() -> None:
    code = "import sys, mtx; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {*HEAVY, "hydra", "numpy", "pyarrow"} == set()


def test_help_fits_a_screen_and_names_every_task_group_and_option(tmp_path: Path) -> None:
    conf = Path(__file__).parents[2] / "conf"
    _, out = imported(tmp_path, "--help")
    assert "\n  measure*   Prepares the data and measures one epoch of batches\n" in out
    assert (
        "\n  sampler    bucket, packed_rows, random, random_tokens, sequential, sorted,"
        "\n             static_shapes, token_budget*\n" in out
    )
    for task in conf.glob("task/*.yaml"):
        assert re.search(rf"^  {task.stem}\*? +[A-Z].{{20,}}$", out, re.MULTILINE), task.stem
    for option in conf.glob("*/*.yaml"):
        assert re.search(rf"\b{option.stem}\b", out), option
    lines = out.splitlines()
    assert len(lines) <= 42
    assert max(map(len, lines)) <= 80


def test_help_names_keys_that_exist_and_commands_that_explain_more(tmp_path: Path) -> None:
    known = {field.key for option in all_options() for field in option.fields}
    assert {key.partition("=")[0] for key, _ in KEYS} <= known
    assert len(KEYS) == 10
    _, out = imported(tmp_path, "--help")
    commands = re.findall(r"mtx task=\S+ \S+|mtx --cfg job", out.partition("More:")[2])
    assert commands == ["mtx task=options only=sampler", "mtx --cfg job"]
    for command in commands:
        done = subprocess.run([sys.executable, "-m", *command.split()], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), command


# What torchmetrics takes from transformers, and what it adds to scipy.signal, works once it is asked for. Runs behind a
# command that imports torchmetrics.
TRANSFORMERS = """
from torchmetrics.functional.text import bert
assert bert.AutoTokenizer.__name__ == "AutoTokenizer"
assert "transformers" not in sys.modules
bert.AutoTokenizer.from_pretrained
import transformers
assert transformers.__version__ and transformers.AutoTokenizer is not bert.AutoTokenizer
assert bert.AutoTokenizer.from_pretrained == transformers.AutoTokenizer.from_pretrained
assert "scipy.signal" not in sys.modules
import scipy.signal
assert scipy.signal.hamming is scipy.signal.windows.hamming
assert scipy.signal.__spec__.loader.__class__.__module__ != "mtx.training.deferred_transformers"
assert len(scipy.signal.find_peaks([0, 1, 0])[0]) == 1
print("TRANSFORMERS WORK", file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_check_and_fit_import_lightning_without_transformers_which_work_when_asked_for(
    tmp_path: Path, prepared: tuple[str, set[str]]
) -> None:
    """One process, which imports Lightning once: `task=check` loads it for a setting that is not on record."""
    pytest.importorskip("transformers")
    check = ["task=check", "+trainer.precision=bf16-mixed"]
    update = ["trainer.max_steps=1", "trainer.limit_val_batches=1", "model.d_model=32", "trainer.accelerator=cpu"]
    fit = f"sys.argv[1:] = {['task=fit', prepared[0], *SMALL, *update]!r}\n"
    done = run(tmp_path, DRIVER + fit + DRIVER + TRANSFORMERS, *check)
    checked, fitted = (set(part.splitlines()[0].split()) for part in done.stderr.split("IMPORTED ")[1:])
    assert "loaded   torch, pytorch_lightning\n" in done.stdout
    assert {"torch", "pytorch_lightning"} <= checked <= fitted
    assert "transformers" not in fitted
    assert list(tmp_path.glob("outputs/*/*/report.json"))
    assert "TRANSFORMERS WORK" in done.stderr
