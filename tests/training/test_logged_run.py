"""Loggers of a run: which are built, what they get, and that their failures cost nothing."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml
from pytorch_lightning.loggers import CSVLogger, WandbLogger

from mtx.components.check_and_build import build_multiple
from mtx.errors import ConfigError
from mtx.records.page_recipients import has_recipients, send_files, send_files_to
from mtx.training import loggers
from mtx.training.lightning_resume import flat_mapping
from mtx.training.logged_run import LoggedRun


class Kept(pl.loggers.Logger):
    """Keeps what it gets; fails at metrics if it is told to."""

    name = version = "kept"  # type: ignore[assignment]

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails
        self.params: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        self.params |= params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self.fails:
            raise OSError("the server\nis away")
        self.metrics |= {f"{name}@{step}": value for name, value in metrics.items()}


def test_every_logger_gets_settings_ids_and_figures() -> None:
    told: list[str] = []
    kept, broken = Kept(), Kept(fails=True)
    logged = LoggedRun([broken, kept], told.append)
    logged.begin({"model.d_model": 8, "seed": 0}, flat_mapping({"raw": {"train": "raw-1"}, "tokenizer": "t-1"}))
    expected = {"model.d_model": 8, "seed": 0, "ids.raw.train": "raw-1", "ids.tokenizer": "t-1"}
    assert kept.params == broken.params == expected
    logged.figures({"bits_per_byte": 1.5, "slices.a[b]": 2.0, "ter": float("inf")}, 7)
    assert kept.metrics == {"report/bits_per_byte@7": 1.5, "report/slices.a_b_@7": 2.0}
    assert told == ["Kept did not take the figures of its report: OSError: the server"]
    assert not logged.takes_files


def test_the_trace_of_a_logger_that_fails_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    handler = logging.FileHandler(tmp_path / "mtx.log")
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    LoggedRun([Kept(fails=True)], told.append).figures({"ter": 1.0}, 7)
    handler.close()
    assert told[0].endswith(f": OSError: the server; {tmp_path / 'mtx.log'} has the trace")
    assert "in log_metrics" in (tmp_path / "mtx.log").read_text(encoding="utf-8")


class Wandb(WandbLogger):
    """Keeps how its run ended; fails if it is given files."""

    def __init__(self) -> None:
        self.ends: list[int] = []

    @property
    def experiment(self) -> Any:
        return SimpleNamespace(finish=lambda exit_code: self.ends.append(exit_code))


def test_a_failed_run_ends_as_failed_without_an_empty_artifact(tmp_path: Path) -> None:
    logger, told = Wandb(), list[str]()
    LoggedRun([logger], told.append).files([tmp_path / "report.html"], has_failed=True)
    LoggedRun([logger], told.append).files([])
    assert logger.ends == [1, 0]
    assert told == []


def test_files_go_to_each_recipient_once() -> None:
    found: list[Any] = []
    send_files_to(lambda *given: found.append(given))
    assert has_recipients()
    send_files([Path("report.html")])
    send_files([Path("other.html")])
    assert found == [([Path("report.html")], False)]
    assert not has_recipients()


def test_several_loggers_are_built_and_none_is_no_logger(tmp_path: Path) -> None:
    csv = {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": None, "name": ""}
    none = {"_target_": "mtx.training.loggers.none"}
    config = {"logger": {"csv": csv, "other": {**csv, "version": "b"}, "none": none}}
    built = loggers.given_loggers(build_multiple(config, "logger", save_dir=str(tmp_path), run_group="s"))
    assert isinstance(built, list)
    assert [type(each) for each in built] == [CSVLogger, CSVLogger]
    assert {each.save_dir for each in built} == {str(tmp_path)}
    assert loggers.given_loggers({"none": False}) is False
    assert loggers.given_loggers({}) is False


@pytest.mark.parametrize(
    ("name", "replaced"), [("wandb", "WandbLogger"), ("mlflow", "MLFlowLogger"), ("tensorboard", "TensorBoardLogger")]
)
def test_a_missing_package_is_told_with_its_extra(
    name: str, replaced: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError(f"no {name}")

    monkeypatch.setattr(loggers, replaced, missing)
    monkeypatch.chdir(tmp_path)
    needed = rf"logger={name} needs the {name} package, .* pip install \"mtx\[{name}\]\", or set logger=csv"
    with pytest.raises(ConfigError, match=needed):
        getattr(loggers, name)(save_dir=tmp_path)


def test_the_group_of_a_sweep_reaches_wandb_and_mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: dict[str, Any] = {}

    class Stand:
        experiment = None

        def __init__(self, **options: Any) -> None:
            given.update(options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(loggers.MLFLOW_VARIABLE, raising=False)
    monkeypatch.setattr(loggers, "WandbLogger", Stand)
    monkeypatch.setattr(loggers, "MLFlowLogger", Stand)
    loggers.wandb(save_dir=tmp_path, run_group="day/time", entity="team")
    assert given["group"] == "day/time"
    assert given["entity"] == "team"
    loggers.mlflow(run_group="day/time", tags={"a": "b"})
    assert given["tags"] == {"a": "b", loggers.SWEEP_TAG: "day/time"}
    assert given["tracking_uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert given["artifact_location"] == f"file://{tmp_path}/mlruns"


def test_packaged_options_of_loggers_have_a_package_of_their_own() -> None:
    folder = Path(__file__).parents[2] / "conf" / "logger"
    for path in folder.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# @package logger.{path.stem}\n")
        assert "_target_" in yaml.safe_load(text)
