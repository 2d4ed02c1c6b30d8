"""What a config may not name as `_target_`, wherever it stands and however it is written."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from mtx.app.command import compose
from mtx.components.allowed_targets import NESTED_CLASSES, allowed_target
from mtx.components.check_and_build import build, check_config
from mtx.components.groups import GROUPS
from mtx.errors import ConfigError

# Functions and classes that run code, load pickles, or make whatever else is named.
HOSTILE = [
    "os.system",
    "posix.system",
    "builtins.eval",
    "builtins.exec",
    "builtins.open",
    "builtins.__import__",
    "subprocess.Popen",
    "subprocess.run",
    "functools.partial",
    "pickle.loads",
    "pickle.Unpickler",
    "shutil.rmtree",
    "runpy.run_path",
    "importlib.import_module",
    "types.FunctionType",
    "torch.load",
    "torch.hub.load",
    "torch.nn.utils.rnn.torch.os.system",
    "torch.nn.modules.torch.load",
    "numpy.load",
    "pandas.read_pickle",
    "datasets.utils._dill.dill.loads",
    "datasets.load_dataset",
    "huggingface_hub.snapshot_download",
    "hydra.utils.instantiate",
    "hydra.utils.call",
    "hydra._internal.instantiate._instantiate2.instantiate",
    "omegaconf.OmegaConf.load",
    "logging.config.dictConfig",
    "pytorch_lightning.LightningModule.load_from_checkpoint",
    "pytorch_lightning.callbacks.model_checkpoint.os.system",
    "mtx.app.command.main",
    "mtx.app.command.os.system",
    "mtx.infra.dal.atomic_file.os:system",
    "mtx.infra.dal.atomic_file.atomic_file",
]
PLACES = [*GROUPS, "mine", "model.net", "trainer.callbacks[0]", "storage.files", "datamodule.sets.a"]


@pytest.mark.parametrize("path", HOSTILE)
def test_what_runs_code_is_refused_at_every_place(path: str) -> None:
    for place in PLACES:
        with pytest.raises(ConfigError, match=r"_target_ (must name|names)"):
            allowed_target(path, place)


def test_the_message_says_what_would_do_and_how_to_allow_it() -> None:
    with pytest.raises(ConfigError) as caught:
        allowed_target("torch.nn.utils.rnn.torch.load", "model.net")
    told = str(caught.value)
    assert told.startswith("model.net._target_ names 'torch.nn.utils.rnn.torch.load', which is not a class. A nested ")
    assert "Callback, " in told
    assert "Optimizer, " in told
    assert "Mark a function of your own with @mtx.rule, " in told
    assert told.endswith(
        "set the environment variable MTX_ALLOW_TARGETS=torch.serialization (several modules: separated by commas)"
    )


@pytest.mark.parametrize(
    "value",
    [
        {"_target_": "os.system", "command": "touch broken"},
        [{"_target_": "os.system", "command": "touch broken"}],
        {"a": [{"b": {"_target_": "os.system", "command": "touch broken"}}]},
        {"_target_": "torch.nn.Linear", "in_features": {"_target_": "os.system", "command": "touch broken"}},
        {"_target_": "os.system", "_partial_": True, "command": "touch broken"},
    ],
)
@pytest.mark.parametrize("group", ["trainer", "sampler", "storage", "datamodule"])
def test_a_nested_target_is_refused_at_any_depth_before_any_work(
    group: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose()
    field = next(name for name in config[group] if not name.startswith("_"))
    config[group][field] = value
    with pytest.raises(ConfigError, match=r"_target_ names 'os.system'"):
        check_config(config)
    with pytest.raises(ConfigError, match=r"_target_ names 'os.system'"):
        build(config, group)
    assert list(tmp_path.iterdir()) == []


def test_what_training_needs_is_made_inside_a_component() -> None:
    config = compose()
    config["trainer"]["callbacks"] = [
        {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "val/loss"},
        {"_target_": "mtx.training.callbacks.DataCosts"},
    ]
    config["trainer"]["profiler"] = {"_target_": "pytorch_lightning.profilers.SimpleProfiler"}
    config["mine"] = {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.1}
    check_config(config)
    trainer = build(config, "trainer", logger=False)
    assert {"EarlyStopping", "DataCosts"} <= {type(callback).__name__ for callback in trainer.callbacks}
    assert build(config, "mine").keywords == {"lr": 0.1}


def test_every_kind_that_may_stand_inside_is_there() -> None:
    for path in NESTED_CLASSES:
        assert isinstance(allowed_target(path, "mine"), type)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of a user's, which has also imported something that is not its own."""
    made = types.ModuleType("my_parts")
    exec("import os\nclass Part: pass\ndef made(): return Part()\nsystem = os.system", made.__dict__)
    monkeypatch.setitem(sys.modules, "my_parts", made)
    return made


def test_a_user_allows_a_module_knowingly_and_gets_what_is_its_own(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="MTX_ALLOW_TARGETS=my_parts"):
        allowed_target("my_parts.Part", "model.net")
    monkeypatch.setenv("MTX_ALLOW_TARGETS", "other, my_parts")
    assert allowed_target("my_parts.Part", "model.net") is module.Part
    assert allowed_target("my_parts.made", "task") is module.made
    for path in ("my_parts.system", "my_parts.os.system"):
        with pytest.raises(ConfigError, match="_target_ names"):
            allowed_target(path, "model.net")


def test_an_allowed_name_is_a_whole_module_not_the_beginning_of_one(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTX_ALLOW_TARGETS", "my_part,my,,my_parts.inner")
    with pytest.raises(ConfigError, match="which is a class of another kind"):
        allowed_target("my_parts.Part", "model.net")


def test_allowing_a_module_does_not_change_what_a_group_has_to_be(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTX_ALLOW_TARGETS", "my_parts")
    for name, group in GROUPS.items():
        if group.functions is None:
            with pytest.raises(ConfigError, match=f"{name}._target_ must name {group.noun}, but my_parts.Part"):
                allowed_target("my_parts.Part", name)


def test_no_config_can_widen_what_configs_may_do() -> None:
    config = {**compose(), "allow_targets": ["posix"], "MTX_ALLOW_TARGETS": "posix"}
    with pytest.raises(ConfigError, match="there is no group or key"):
        check_config(config)
