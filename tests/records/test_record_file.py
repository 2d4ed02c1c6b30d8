"""What all records have in common: one file, one version, whole or not at all."""

import json
from pathlib import Path

import pytest

from mtx.errors import DamagedError, NewerFormatError, StoreError
from mtx.records.config_record import JobConfig
from mtx.records.job_status import JobStatus, read_status, write_status
from mtx.records.plot_data_record import RunProfile
from mtx.records.record_file import FileRecord
from mtx.records.report_record import Report
from mtx.records.sweep_record import PlannedJob, SweepRecord, read_sweep

RECORDS: tuple[type[FileRecord], ...] = (JobStatus, Report, RunProfile, SweepRecord)
STATUS = JobStatus.begin("h", overrides=["a=1"], choices={"sampler": "bucket"})


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_of_a_newer_mtx_is_refused_with_both_versions_and_left(tmp_path: Path, kind: type[FileRecord]) -> None:
    path = tmp_path / kind.FILE
    path.write_text(json.dumps({kind.VERSION_KEY: kind.VERSION + 1, "state": "completed", "config_hash": "h"}))
    before = path.read_bytes()
    newer = kind.VERSION + 1
    told = rf"{kind.FILE} has {kind.VERSION_KEY}={newer}, but this mtx reads versions up to {kind.VERSION}: a newer"
    with pytest.raises(NewerFormatError, match=told):
        kind.read(tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", RECORDS)
def test_a_file_of_another_program_is_refused_by_name(tmp_path: Path, kind: type[FileRecord]) -> None:
    (tmp_path / kind.FILE).write_text('{"weather": "fine"}')
    with pytest.raises(DamagedError, match=f"{kind.FILE} is no {kind.WHAT}: it has neither {kind.VERSION_KEY} nor"):
        kind.read(tmp_path)


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_that_was_cut_short_at_any_byte_is_refused(tmp_path: Path, kind: type[FileRecord]) -> None:
    written = {
        JobStatus: STATUS,
        Report: Report.of({"padding_ratio": 0.5, "dropped": {"x": 1}}),
        RunProfile: RunProfile(train_loss=((1, 2.5),)),
        SweepRecord: SweepRecord(command=("-m",), key="k", started="now", jobs=(PlannedJob(folder="0"),)),
    }[kind]
    path = written.write(tmp_path)
    assert kind.read(tmp_path) == written
    whole = path.read_bytes().rstrip()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError, match="are no complete JSON"):
            kind.read(tmp_path)


def test_a_status_that_is_written_has_all_its_fields(tmp_path: Path) -> None:
    write_status(tmp_path, STATUS)
    written = json.loads((tmp_path / "status.json").read_text())
    assert set(written) == {*JobStatus.model_fields, "status_version"}
    assert (written["status_version"], written["state"], written["ended"]) == (1, "running", None)
    ended = STATUS.end("completed", seconds=2.5, objectives={"padding_ratio": 0.25})
    write_status(tmp_path, ended)
    assert read_status(tmp_path) == ended


def test_a_sweep_that_is_written_has_the_keys_of_its_documentation(tmp_path: Path) -> None:
    job = PlannedJob(folder="0", overrides=("seed=1",), config_hash="h")
    SweepRecord(command=("-m", "seed=1,2"), key="k", started="now", attempt=2, jobs=(job,), done={"h": "0"}).write(
        tmp_path
    )
    assert json.loads((tmp_path / "sweep.json").read_text()) == {
        "sweep_version": 1,
        "command": ["-m", "seed=1,2"],
        "key": "k",
        "started": "now",
        **{"attempt_started": None, "num_jobs": None, "num_done": 0, "varied": []},
        "attempt": 2,
        "jobs": [{"folder": "0", "overrides": ["seed=1"], "config_hash": "h"}],
        "done": {"h": "0"},
        "confirm_folders": [],
        "assumptions": [],
    }
    read = read_sweep(tmp_path)
    assert read is not None
    assert read.jobs == (job,)


def test_a_sweep_that_cannot_be_read_says_where_to_sweep_instead(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"jobs": [3]}')
    with pytest.raises(DamagedError, match=r"is no record of a sweep: jobs\.0 .*Sweep into another folder with hydra"):
        read_sweep(tmp_path)


def test_a_config_is_written_as_it_is(tmp_path: Path) -> None:
    config = JobConfig({"sampler": {"max_tokens": 512, "by": ["a", 1]}, "hydra": {"x": 1}})
    config.write(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == config.values
    assert JobConfig.read(tmp_path) == config
    assert config.settings() == {"sampler.max_tokens": 512, "sampler.by": '["a", 1]'}
    former = JobConfig({"budget": {"_target_": "mtx.callbacks.TrainingBudget"}, "model": {"_target_": "my.Model"}})
    assert former.settings() == {
        "budget._target_": "mtx.training.callbacks.TrainingBudget",
        "model._target_": "my.Model",
    }
    (tmp_path / "config.json").write_text("3")
    with pytest.raises(StoreError, match=r"config\.json is no config of a job: it holds a number, no JSON object"):
        JobConfig.read(tmp_path)
