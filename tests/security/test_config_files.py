"""Config files as attacks: YAML that makes objects, and what Hydra does with it."""

import sys
from pathlib import Path

import pytest

from mtx.app import command
from mtx.components.check_and_build import check_config
from mtx.errors import ConfigError

OBJECTS = [
    "!!python/object/apply:os.system ['touch was-run']",
    "!!python/object/new:os.system ['touch was-run']",
    "!!python/object/apply:pathlib.Path.touch [was-run]",
    "!!python/name:os.system",
    "!!python/module:os",
    '!!python/object/apply:builtins.eval [\'open("was-run", "w")\']',
]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mtx", *arguments])
    for name in ("HYDRA_FULL_ERROR", command.FULL_ERROR_VARIABLE):
        monkeypatch.setenv(name, "0")
    try:
        command.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of options for the command line, with a sampler that a test writes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_conf" / "sampler").mkdir(parents=True)
    return tmp_path / "my_conf" / "sampler" / "mine.yaml"


@pytest.mark.parametrize("tag", OBJECTS)
def test_yaml_makes_no_objects(
    sampler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tag: str
) -> None:
    sampler.write_text(f"_target_: mtx.batches.plan.bucket.BucketPlanner\nbatch_size: {tag}\n")
    assert run(monkeypatch, "--config-dir", "my_conf", "sampler=mine", "task=check") == 1
    assert "mtx: " in capfd.readouterr().err
    assert not (tmp_path / "was-run").exists()


def test_a_target_in_a_config_file_of_ones_own_is_judged_as_on_the_command_line(
    sampler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sampler.write_text("_target_: os.system\ncommand: touch was-run\n")
    assert run(monkeypatch, "--config-dir", "my_conf", "sampler=mine") == 1
    assert "sampler._target_ must name a Planner, but os.system is not one" in capfd.readouterr().err
    sampler.write_text(
        "_target_: mtx.batches.plan.bucket.BucketPlanner\nbatch_size: {_target_: os.system, command: touch was-run}\n"
    )
    assert run(monkeypatch, "--config-dir", "my_conf", "sampler=mine") == 1
    assert "sampler.batch_size._target_ names 'os.system'" in capfd.readouterr().err
    assert not (tmp_path / "was-run").exists()


def test_what_hydra_would_make_by_itself_from_a_run_is_still_only_a_launcher(tmp_path: Path) -> None:
    """`hydra.*` is Hydra's own part of the config; mtx's part takes no key of that name."""
    with pytest.raises(ConfigError, match="there is no group or key"):
        check_config({"seed": 0, "hydra": {"callbacks": {}}})
