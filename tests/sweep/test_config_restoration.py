"""The config of a completed job is written again where it is lost, and no resume fails by it."""

from pathlib import Path

import pytest

from mtx.records.config_record import JobConfig
from mtx.sweep.job import _restore_config
from mtx.sweep.job_spec import Job

CONFIG = {"seed": 1, "password": "hidden"}


@pytest.mark.parametrize("lost", [None, "{", "3"])
def test_a_lost_config_is_written_again_without_secrets(lost: str | None, tmp_path: Path) -> None:
    if lost is not None:
        (tmp_path / "config.json").write_text(lost)
    _restore_config(Job(CONFIG, tmp_path))
    assert JobConfig.read(tmp_path) == JobConfig({"seed": 1, "password": "***"})


def test_a_config_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"seed":  2}')
    _restore_config(Job(CONFIG, tmp_path))
    assert (tmp_path / "config.json").read_text() == '{"seed":  2}'


def test_a_config_that_cannot_be_read_now_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "config.json").mkdir()
    _restore_config(Job(CONFIG, tmp_path))
    assert [each.name for each in tmp_path.iterdir()] == ["config.json"]
    assert "config.json cannot be read: Is a directory" in caplog.text


def test_a_folder_that_refuses_the_file_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _restore_config(Job(CONFIG, tmp_path / "gone"))
    assert "config.json cannot be written: No such file or directory" in caplog.text
