"""All that runs and sweeps write, searched for credentials that stood in addresses, variables and config files."""

from pathlib import Path

import pytest
from command_line import Mtx

IN_ADDRESS = "s3cr/et-in-address"
IN_VARIABLE = "s3cret-in-variable"
IN_FILE = "s3cret-in-file"
EXPERIMENT = f"""# @package _global_
hydra:
  job:
    env_set:
      SERVICE_PASSWORD: {IN_FILE}
task:
  _target_: tasks.fail
  token: {IN_FILE}
  place: ${{oc.env:SERVICE_URL}}
"""
TASK = """
import logging, os

def fail(run, *, token, place, epoch=0, world_size=1):
    logging.getLogger("mtx.tasks").warning("signing in with %s, %s at %s", token, os.environ["HF_TOKEN"], place)
    run.write_report({"place": place, "token": token, "n": 1})
    raise RuntimeError(f"{place} does not take {token} or {os.environ['HF_TOKEN']}")
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_secrets_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SERVICE_URL", f"https://me:{IN_ADDRESS}@host/x")
    monkeypatch.setenv("MTX_ALLOW_TARGETS", "tasks")
    monkeypatch.setenv("HF_TOKEN", IN_VARIABLE)
    monkeypatch.setenv("SERVICE_PASSWORD", "")  # undone after the test, whatever Hydra sets
    (tmp_path / "tasks.py").write_text(TASK)
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "secret.yaml").write_text(EXPERIMENT)


def with_secrets(folder: Path) -> list[tuple[str, str]]:
    """Return each file below `folder` with a secret in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    secrets = (IN_ADDRESS, IN_ADDRESS.partition("/")[2], IN_VARIABLE, IN_FILE)
    return [(str(path), secret) for path in files for secret in secrets if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=1,2"]], ids=["run", "sweep"])
def test_what_a_failed_run_and_a_sweep_write_holds_no_credential(mtx: Mtx, tmp_path: Path, sweep: list[str]) -> None:
    if sweep:
        told = mtx("--config-dir", "own", *sweep, "experiment=secret")
        assert told.code == 1, told.err
        for secret in (IN_ADDRESS, IN_VARIABLE, IN_FILE):
            assert secret not in told.out + told.err
    else:
        with pytest.raises(RuntimeError):  # shown by Python with its stack trace, as docs/security.md says
            mtx("--config-dir", "own", "experiment=secret")
    written = tmp_path / ("multirun" if sweep else "outputs")
    names = {path.name for path in written.rglob("*")}
    assert {"hydra.yaml", "config.yaml", "overrides.yaml", "status.json", "config.json", "mtx.log"} <= names
    if sweep:
        assert "sweep.json" in names
    assert "does not take ***" in "".join(path.read_text() for path in written.rglob("status.json"))
    assert with_secrets(written) == []


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=1,2"]], ids=["run", "sweep"])
@pytest.mark.parametrize(
    "override",
    [
        f"storage.root=s3://KEY:{IN_ADDRESS}@bucket/mtx",
        f"storage.root=s3://bucket/mtx?token={IN_ADDRESS}",
        f"+downloader.url=https://me:{IN_ADDRESS}@host/x",
        f"+downloader.token={IN_ADDRESS}",
        f"+downloader.options={{user: me, password: {IN_ADDRESS}}}",
        f"+storage.options.aws_secret_access_key={IN_ADDRESS}",
        f"downloader.name={IN_VARIABLE}",
    ],
)
def test_a_credential_in_an_override_is_refused_before_anything_is_written(
    mtx: Mtx, tmp_path: Path, override: str, sweep: list[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    told = mtx(*sweep, "task=show", override)
    assert told.code == 1, told.err
    assert "redential" in told.err
    assert IN_ADDRESS not in told.out + told.err
    assert IN_VARIABLE not in told.out + told.err
    assert sorted(tmp_path.rglob("*")) == before
