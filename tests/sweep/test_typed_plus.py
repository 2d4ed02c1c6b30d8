"""Settings that messages propose have the + with which their keys were typed."""

from pathlib import Path

import pytest

from mtx.errors import ConfigError
from mtx.records.job_status import read_status
from mtx.sweep.job import run_job
from mtx.sweep.job_spec import Job
from mtx.sweep.typed_plus import with_typed_plus

PROPOSALS = [
    ("+trainer.strategy=dp", "Set trainer.strategy=ddp", "Set +trainer.strategy=ddp"),
    ("++trainer.strategy=dp", "Set trainer.strategy=ddp", "Set ++trainer.strategy=ddp"),
    ("trainer.strategy=dp", "Set trainer.strategy=ddp", "Set trainer.strategy=ddp"),
    ("+trainer.num_nodes=0", "Set trainer.num_nodes=1 or more", "Set +trainer.num_nodes=1 or more"),
    ("+trainer.a=1", "trainer.a=1 is 1. Set trainer.a=true or trainer.a=false", None),
    ("+trainer.a=1", "type mtx +trainer.a=2", "type mtx +trainer.a=2"),
    ("+trainer.a=1", "Set trainer.ab=2", "Set trainer.ab=2"),
    ("+trainer.a=1", "or type trainer.b=2 trainer.a=0 x=[]", "or type trainer.b=2 +trainer.a=0 x=[]"),
    ("+trainer.a=1", 'Set "b=[x y]" trainer.a=2', 'Set "b=[x y]" +trainer.a=2'),
    ("+trainer.a=1", "Set b=2. trainer.a=1 is wrong", "Set b=2. trainer.a=1 is wrong"),
    ("+trainer.a=1", "excludes trainer.b=2 trainer.a=1", "excludes trainer.b=2 trainer.a=1"),
    ("+trainer.a=1", "Set trainer.b=2 +trainer.a=3", "Set trainer.b=2 +trainer.a=3"),
    ("+trainer.a.b=1", 'Set "trainer.a.b=[x]"', 'Set "+trainer.a.b=[x]"'),
]


@pytest.mark.parametrize(("typed", "message", "expected"), PROPOSALS)
def test_a_key_that_was_typed_with_a_plus_is_proposed_with_it(typed: str, message: str, expected: str | None) -> None:
    expected = expected or "trainer.a=1 is 1. Set +trainer.a=true or +trainer.a=false"
    assert with_typed_plus(message, ["task=fit", typed]) == expected


def test_the_status_of_a_job_proposes_keys_as_they_were_typed(tmp_path: Path) -> None:
    folder = tmp_path / "sweep" / "0"
    folder.mkdir(parents=True)
    job = Job({"seed": 0}, folder, overrides=("+trainer.strategy=dp",), sweep_dir=tmp_path / "sweep")

    def fails() -> None:
        raise ConfigError("trainer.strategy is one of auto, ddp, but is 'dp'. Set trainer.strategy=ddp")

    with pytest.raises(ConfigError):
        run_job(job, fails)
    status = read_status(folder)
    assert status is not None
    assert (status.error or "").endswith("Set +trainer.strategy=ddp")
