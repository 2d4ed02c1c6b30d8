"""Trainers of `pytorch_lightning` and `lightning.pytorch` take the same data module, and each other's checkpoints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning
import warm_process

from mtx.training.datamodule import TranslationDataModule
from mtx.training.lightning_compat import LightningCompat

SCRIPT = Path(__file__).parent / "package_runs.py"
PACKAGES = ("pytorch_lightning", "lightning.pytorch")
pytestmark = pytest.mark.timeout(600)  # on a machine that others use, too


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each package did with the other one hidden, and then both with each other's checkpoints.

    `lightning` alone runs in a process of its own, since the others start with `pytorch_lightning` imported.
    """
    folder = tmp_path_factory.mktemp("packages")
    for package, run in (("pytorch_lightning", warm_process.run), ("lightning.pytorch", cold)):
        check(run(SCRIPT, folder, "alone", package, timeout=240))
    check(warm_process.run(SCRIPT, folder, "both", timeout=240))
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in (*PACKAGES, "both")}


def cold(*command: str | Path, timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], timeout=timeout, capture_output=True, text=True, check=False
    )


def check(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_alone_is_enough_and_resumes(found: dict[str, dict[str, Any]], package: str) -> None:
    runs = found[package]
    assert runs["other imported"] is False
    train = runs["whole"]["train"]
    epochs = [sorted(row for rows in train[i : i + 10] for row in rows) for i in (0, 10)]
    assert epochs == [list(range(78)), list(range(78))]  # 90 pairs, of which 6 and 6 are held out, in batches of 8
    assert runs["in two"] == train
    assert sorted(row for rows in runs["whole"]["predict"] for row in rows) == list(range(6))


def test_both_packages_serve_the_same(found: dict[str, dict[str, Any]]) -> None:
    assert found["pytorch_lightning"]["whole"] == found["lightning.pytorch"]["whole"]


def test_each_goes_on_from_the_others_checkpoint(found: dict[str, dict[str, Any]]) -> None:
    rest = found["pytorch_lightning"]["whole"]["train"][5:]
    assert found["both"]["old"] == found["both"]["new"] == rest


def test_a_data_module_made_before_the_package_was_imported_is_taken_and_copied(
    found: dict[str, dict[str, Any]],
) -> None:
    both = found["both"]
    assert both["early"] is False
    assert both["kinds"] == [[True, True]] * 4
    assert both["types"] == [True, True, True, False]  # the last is of a class that a user derived
    assert both["name"] == "TranslationDataModule"
    assert both["ids kept"] is True


def test_an_object_says_yes_to_the_twins_of_its_own_bases_alone() -> None:
    class Mine(LightningCompat, pytorch_lightning.Callback):
        pass

    class Theirs(LightningCompat, lightning.pytorch.Callback):
        pass

    for made in (Mine(), Theirs()):
        assert isinstance(made, pytorch_lightning.Callback)
        assert isinstance(made, lightning.pytorch.Callback)
        assert not isinstance(made, pytorch_lightning.LightningDataModule)
        assert made.__class__ is made.__class__
        assert made.__class__.__name__ == type(made).__name__
    assert LightningCompat().__class__ is LightningCompat


@pytest.mark.parametrize("pl", [pytorch_lightning, lightning.pytorch])
def test_hooks_that_the_data_module_leaves_alone_stay_the_models(pl: Any) -> None:
    """Lightning calls a hook on the data module instead of the model where the data module has one of its own."""
    is_overridden = sys.modules[f"{pl.__name__}.utilities.model_helpers"].is_overridden
    made = TranslationDataModule.__new__(TranslationDataModule)
    own = {"prepare_data", "setup", "train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader"}
    left_alone = {"transfer_batch_to_device", "on_before_batch_transfer", "on_after_batch_transfer", "teardown"}
    assert all(is_overridden(hook, made) for hook in own)
    assert not any(is_overridden(hook, made) for hook in left_alone | {"on_exception"})
