"""What is installed: a wheel that works from any folder."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_package_is_packaged() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "mtx").rglob("__init__.py")}
    there |= {".".join(("mtx", *p.parent.relative_to(ROOT).parts)) for p in (ROOT / "conf").rglob("*.yaml")}
    there |= {
        "hydra_plugins",
        *(f"hydra_plugins.{p.parent.name}" for p in (ROOT / "hydra_plugins").glob("*/__init__.py")),
    }
    assert listed == there


def test_what_is_constrained_is_what_is_required() -> None:
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {name.split(">")[0].split("=")[0].split("[")[0].lower() for name in wanted}
    assert names <= pinned


@pytest.mark.slow
def test_the_wheel_finds_its_configs_from_any_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        if name.startswith(("mtx/", "conf/", "hydra_plugins/")) or name in ("pyproject.toml", "README.md", "LICENSE"):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source], check=True, env=quiet
    )
    (wheel,) = tmp_path.glob("mtx-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True, env=quiet)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**quiet, "PYTHONPATH": str(tmp_path / "site")}
    where = subprocess.run(
        [sys.executable, "-c", "import mtx, mtx.conf; print(mtx.__file__, mtx.conf.__path__[0])"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert where.count(str(tmp_path / "site")) == 2
    found = "from hydra.core.plugins import Plugins as P; from hydra.plugins.sweeper import Sweeper as S; import sys; "
    found += "print(*(sys.modules[one.__module__].__file__ for one in P.instance().discover(S)))"
    plug_ins = subprocess.run(
        [sys.executable, "-c", found], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert str(tmp_path / "site/hydra_plugins/mtx_sweeper/__init__.py") in plug_ins
    done = subprocess.run(
        [sys.executable, "-m", "mtx", "task=check", "sampler=bucket"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "The config is valid." in done.stdout
