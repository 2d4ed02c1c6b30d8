"""Run a sweep of two jobs as Ray tasks, and check that both complete and share the prepared data.

scripts/try_ray installs Ray in a separate environment and runs this module there.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("ray", "hydra-ray-launcher", "cloudpickle", "hydra-core", "torch")
SWEEP = [
    "-m",
    "launcher=ray",
    "sampler=random,bucket",
    "downloader.n=300",
    "tokenizer=byte",
    "datamodule.num_workers=0",
]
TIMEOUT_S = 300


def main() -> None:
    print("versions: " + ", ".join(f"{name} {version(name)}" for name in PACKAGES), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.monotonic()
        sweep = subprocess.Popen(
            [sys.executable, "-m", "mtx", *SWEEP, "hydra.sweep.dir=sweep", "storage.root=store"],
            cwd=folder,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            told, _ = sweep.communicate(timeout=TIMEOUT_S)
        finally:
            sweep.kill()
        seconds = time.monotonic() - started
        print(told)
        problems = _problems(folder / "sweep", sweep.returncode, sweep.pid)
    print(f"the sweep took {seconds:.1f} s; load {Path('/proc/loadavg').read_text().split()[0]}")
    for problem in problems:
        print(f"FAILED: {problem}")
    if problems:
        sys.exit(1)
    print("launcher=ray works: both jobs completed in processes of Ray, and no stage was built twice")


def _problems(sweep: Path, exit_code: int, pid: int) -> list[str]:
    """Return the list of failed checks; `pid` is the id of the process that started the sweep."""
    if exit_code:
        return [f"the exit code is {exit_code}"]
    statuses = [_read(path) for path in sorted(sweep.glob("*/status.json"))]
    reports = [_read(path) for path in sorted(sweep.glob("*/report.json"))]
    built = [str(name) for report in reports for name in report["built"]]
    ids = {json.dumps(report["ids"], sort_keys=True) for report in reports}
    found = {
        "both jobs are completed": [status["state"] for status in statuses] == ["completed"] * 2,
        "the jobs ran in processes of Ray": not {status["pid"] for status in statuses} & {pid, os.getpid()},
        "both jobs have the same data": len(reports) == 2 and len(ids) == 1,
        "each stage was built by one job": bool(built) and len(built) == len(set(built)),
        "the sweep has report.html and results.csv": all((sweep / f).exists() for f in ("report.html", "results.csv")),
    }
    return [f"this check does not hold: {what}" for what, holds in found.items() if not holds]


def _read(path: Path) -> dict[str, Any]:
    read = json.loads(path.read_text())
    assert isinstance(read, dict)
    return read


if __name__ == "__main__":
    main()
