"""Training with the Lightning package that is asked for, for `test_lightning_package.py`.

    python package_runs.py FOLDER alone PACKAGE   the other package cannot be imported
    python package_runs.py FOLDER both            goes on from the checkpoints of two runs alone

Writes what it found into FOLDER/RUN.json.
"""

import contextlib
import importlib
import importlib.abc
import json
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = {"pytorch_lightning": "lightning", "lightning.pytorch": "pytorch_lightning"}  # with the other's top folder


class Hidden(importlib.abc.MetaPathFinder):
    """Finds a package missing."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def data(folder: Path) -> Any:
    from mtx import compose_datamodule

    mine = folder / sys.argv[-1]
    corpus = mine / "corpus.tsv"
    if not mine.exists():
        mine.mkdir()
        pairs = [f"sentence {i}\t{'z' * (i * 7 % 23)}{i}" for i in range(90)]
        corpus.write_text("\n".join(["src\ttgt", *pairs]) + "\n")
    settings = ["downloader=local", f"downloader.path={corpus}", "filter=none", "tokenizer=byte"]
    settings += ["sampler=random", "sampler.batch_size=8", "datamodule.validation=6", "datamodule.test=6"]
    return compose_datamodule([*settings, f"storage.root={mine / 'store'}"])


def module(pl: Any) -> Any:
    import torch

    class Recorder(pl.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.rows: dict[str, list[list[int]]] = {}

        def note(self, name: str, batch: Any) -> None:
            self.rows.setdefault(name, []).append(batch["row_ids"].tolist())

        def training_step(self, batch: Any, index: int) -> Any:
            self.note("train", batch)
            return self.weight * batch["labels"].float().mean()

        def validation_step(self, batch: Any, index: int) -> None:
            self.note("validation", batch)

        def predict_step(self, batch: Any, index: int) -> None:
            self.note("predict", batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    return Recorder()


def trainer(pl: Any, **options: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(**{**quiet, "enable_checkpointing": False, "max_epochs": 2, **options})


def stop_at(pl: Any, step: int, path: Path) -> Any:
    class StopAt(pl.Callback):  # type: ignore[misc, name-defined]
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == step:
                trainer.save_checkpoint(path)
                raise InterruptedError

    return StopAt()


def alone(folder: Path, package: str) -> dict[str, Any]:
    """Train once without a break, and once with one. What is imported already has done without the other package."""
    assert PACKAGES[package] not in sys.modules
    sys.meta_path.insert(0, Hidden(PACKAGES[package]))
    made = data(folder)
    pl = importlib.import_module(package)
    whole = module(pl)
    trainer(pl).fit(whole, made)  # by position, as people write it
    trainer(pl).predict(whole, datamodule=made)
    ckpt = folder / f"{package}.ckpt"
    begun, ended = module(pl), module(pl)
    with contextlib.suppress(InterruptedError):
        trainer(pl, callbacks=[stop_at(pl, 5, ckpt)]).fit(begun, data(folder))
    trainer(pl).fit(ended, data(folder), ckpt_path=ckpt)
    return {
        "whole": whole.rows,
        "in two": begun.rows["train"] + ended.rows["train"],
        "other imported": any(name.split(".")[0] == PACKAGES[package] for name in sys.modules),
    }


def both(folder: Path) -> dict[str, Any]:
    """Go on from each package's checkpoint with the other, the data module being made before the second is there."""
    import copy
    import pickle

    made = data(folder)

    class Own(type(made)):  # type: ignore[misc]  # what a user derives
        pass

    early = "lightning.pytorch" in sys.modules
    old, new = (importlib.import_module(name) for name in PACKAGES)
    found: dict[str, Any] = {"early": early}
    for name, pl, other in (("old", old, "lightning.pytorch"), ("new", new, "pytorch_lightning")):
        model = module(pl)
        trainer(pl).fit(model, made, ckpt_path=folder / f"{other}.ckpt")
        found[name] = model.rows["train"]
    made.trainer = None
    copies = [made, copy.copy(made), pickle.loads(pickle.dumps(made)), Own.__new__(Own)]
    found["kinds"] = [[isinstance(each, pl.LightningDataModule) for pl in (old, new)] for each in copies]
    found["types"] = [type(each) is type(made) for each in copies]
    found["name"] = made.__class__.__qualname__
    found["ids kept"] = copies[2].ids == made.ids
    return found


def main() -> None:
    warnings.filterwarnings("ignore")
    folder, what = Path(sys.argv[1]), sys.argv[2]
    found = alone(folder, sys.argv[3]) if what == "alone" else both(folder)
    (folder / f"{sys.argv[-1]}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
